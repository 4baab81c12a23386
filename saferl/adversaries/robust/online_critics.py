"""OnlineCritics: Q_r and Q_c of a policy that is still learning, by temporal differences on its recent true steps."""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saferl.adversaries.critics import Critics, FittedCritics, OnlineCriticConfig, Transitions, twin_loss
from saferl.adversaries.robust.observing import TrueSteps
from saferl.adversaries.threat import Units
from saferl.adversaries.victim import Victim
from saferl.nn.averaging import average_into
from saferl.offline_data.collection.files import write_atomically

RECENT = 10  # rollouts that are kept


class OnlineCritics:
    """Twins of both, followed through training.

    Args:
        units: of the observations.
        victim: the policy that learns.
        config: sizes and rates; ``updates`` is that of one rollout.
        seed: of weights and batches.
    """

    def __init__(self, units: Units, victim: Victim, config: OnlineCriticConfig, seed: int) -> None:
        self._victim, self._config = victim, config
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = FittedCritics(units, victim.act_dim, config.hidden)
        self._target = copy.deepcopy(self.network).requires_grad_(False)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=config.lr)
        self._rollouts: list[TrueSteps] = []

    def critics(self) -> Critics:
        """What attacks ask; it changes with every update."""
        return self.network.as_critics("of the policy that learns")

    def update(self, steps: TrueSteps) -> None:
        """Take in a rollout and follow the policy of now."""
        self._rollouts = [*self._rollouts, steps][-RECENT:]
        data = self._transitions()
        gains = data.gains / data.sizes[:, None]
        for _ in range(self._config.updates):
            rows = torch.randint(len(data.terminals), (self._config.batch,), generator=self._generator)
            loss = twin_loss(self.network, self._target, data, gains, rows, self._config)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            average_into(self._target, self.network, self._config.target_rate)

    def save(self, path: Path) -> None:
        """Write both networks (safetensors); recent rollouts and Adam's moments begin anew behind ``load``."""
        parts = {"network": self.network, "target": self._target}
        tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
        write_atomically(path, lambda temporary: save_file(tensors, temporary))

    def load(self, path: Path) -> None:
        """Take up what ``save`` wrote. Raises: ValueError naming a file that is missing, damaged or of other sizes."""
        try:
            tensors = load_file(path)
            for name, part in (("network", self.network), ("target", self._target)):
                own = {key.removeprefix(f"{name}."): tensors[key] for key in tensors if key.startswith(f"{name}.")}
                part.load_state_dict(own)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: not the critics of this training ({reason}).") from error

    @torch.no_grad()
    def _transitions(self) -> Transitions:
        parts = zip_rollouts(self._rollouts)
        states, actions, rewards, costs, after, ends = (part.flatten(0, 1).float() for part in parts)
        own, following = (self._victim.response(rows).actions for rows in (states, after))
        gains = torch.stack([rewards, costs])
        sizes = gains.square().mean(1).sqrt() / (1 - self._config.discount)
        return Transitions(states, actions, own, gains, after, following, ends, torch.where(sizes > 0, sizes, 1.0))


def zip_rollouts(rollouts: list[TrueSteps]) -> list[Tensor]:
    """The fields of several rollouts, each joined in time."""
    return [torch.cat([torch.as_tensor(part) for part in field]) for field in zip(*rollouts)]
