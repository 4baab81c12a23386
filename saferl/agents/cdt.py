"""CDT: a transformer imitates the data given the return and the cost still to come, and is asked for a good pair.

Paper: Liu et al., Constrained Decision Transformer for Offline Safe Reinforcement Learning, ICML 2023.
One training serves every cost limit: the policy is asked for the best return that the data has within the limit.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.agents.agent import Agent, BatchSource
from saferl.agents.bellman import FORMS
from saferl.agents.sequence_policy import History, SequencePolicy
from saferl.agents.settings import LimitedConfig, LimitUse, check_at_least, check_choice, check_positive
from saferl.nn.dense import dense
from saferl.nn.transformer import Transformer
from saferl.offline_data.dataset import DatasetError, OfflineDataset
from saferl.offline_data.frontier import labels_beyond, pareto_set
from saferl.offline_data.sequences import SequenceBatch, SequenceSampler
from saferl.policy import FeedbackPolicy

FRONTIER_POINTS = 512  # more than any count of costs in DSRL's tasks has values
PART = 64  # stretches that a CPU works on at a time: they stay in its cache, and memory is a 32nd
STATE = 2  # place of the observation among a step's four tokens: return, cost, observation, action
LOG_STD_LIMITS = (-5.0, 2.0)
PUBLISHED_REACH, PUBLISHED_OFFSET = 70.0, 50.0


@dataclass(frozen=True, kw_only=True)
class CDTConfig(LimitedConfig):
    """Settings of CDT; the defaults are those usual for DSRL.

    ``cost_limit`` is what the policy is asked to keep unless it is told otherwise.
    """

    target_return: float | None = None  # what it is asked to earn; None: the data's best within the limit
    episode_length: int | None = None  # steps that have a time embedding; None: the task's horizon
    batch_size: int = 2048  # stretches
    context: int = 10  # K, steps of a stretch
    hidden: int = 128  # width of a token
    layers: int = 3
    heads: int = 8
    dropout: float = 0.1
    lr: float = 1e-4
    weight_decay: float = 1e-4
    gradient_clip: float = 0.25  # greatest norm of a gradient
    warmup: int = 500  # updates in which the rate rises
    temperature_lr: float = 1e-4  # of the entropy's weight; the target entropy is -act_dim
    initial_temperature: float = 0.1
    cost_loss_weight: float = 0.02
    augmentation: float = 0.2  # episodes under labels beyond the frontier, see ``labels_beyond``
    frontier_degree: int | None = None  # of the frontier's polynomial; None: the lowest of 0, 1, 2 that fits
    max_return: float | None = None  # of a label; None: the best return and a tenth of the span of returns
    max_return_decrease: float | None = None  # of the episode behind a label; None: a fifth of the span of returns
    form: str = "corrected"  # or "published": with the faults of the reference code, see ``CDT``

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters."""
        return "acting"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episode_length is not None:
            check_at_least(self, 1, "episode_length")
        if self.frontier_degree is not None:
            check_at_least(self, 0, "frontier_degree")
        if self.max_return_decrease is not None:
            check_at_least(self, 0, "max_return_decrease")
        check_at_least(self, 1, "batch_size", "context", "hidden", "layers", "heads", "warmup")
        check_at_least(self, 0, "weight_decay", "cost_loss_weight", "augmentation")
        check_positive(self, "lr", "gradient_clip", "temperature_lr", "initial_temperature")
        check_choice(self, "form", FORMS)
        if self.hidden % self.heads:
            raise ValueError(f"agent.hidden must be a multiple of agent.heads={self.heads}; got {self.hidden}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"agent.dropout must be in [0, 1); got {self.dropout}.")


class Prediction(NamedTuple):
    """What the network says at each step of B stretches."""

    mean: Tensor  # (B, K, act_dim) of the action
    log_std: Tensor  # (B, K, act_dim)
    features: Tensor  # (B, K, hidden)


class CDT(Agent):
    """Tokens of a step: return to go, cost to go, observation, action, each with the time's embedding added.

    From the observation's token come a Gaussian over the action and, with the action, the share of the greatest cost
    that the step brings. Loss: - ln p(a) - eta H + cost_loss_weight * cross entropy of that share; eta is tuned to an
    entropy of -act_dim. For costs of 0 and 1 the cross entropy is the negative log-likelihood of the paper; between
    them its minimum is the mean cost.

    The return's token is R / (R_max - R_min), the cost's ln(1 + C / c) with the greatest cost c of a step; limits are
    small against most episodes' costs, and the logarithm tells them apart. A cost to go below 0 counts as 0: from
    there on nothing more may be spent. An episode is drawn in proportion to 1 - C / (2 C_max), the dearest half as
    often as a free one.

    The "published" form reproduces the reference code's faults: episodes are drawn in proportion to max(0, 70 - C), so
    that whatever costs 70 or more is never seen; the cost's token is 50 - C as it stands; a cost is cut to 0 or 1.
    """

    updates: Tensor
    frontier_costs: Tensor
    frontier_returns: Tensor
    return_span: Tensor
    greatest_cost: Tensor

    def __init__(self, config: CDTConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: CDTConfig = config
        if config.episode_length is None:
            raise ValueError(
                "agent.episode_length has no value; saferl.train takes it from the task, elsewhere give it."
            )
        width = config.hidden
        self.return_token, self.cost_token = nn.Linear(1, width), nn.Linear(1, width)
        self.state_token, self.action_token = nn.Linear(obs_dim, width), nn.Linear(act_dim, width)
        self.time = nn.Embedding(config.episode_length, width)
        self.transformer = Transformer(width, config.layers, config.heads, config.dtype)
        self.action_head = nn.Linear(width, 2 * act_dim)
        self.cost_head = nn.Linear(width + act_dim, 1)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.initial_temperature)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # From the data, see ``sampler``:
        self.register_buffer("frontier_costs", torch.zeros(FRONTIER_POINTS))
        self.register_buffer("frontier_returns", torch.zeros(FRONTIER_POINTS))
        self.register_buffer("return_span", torch.ones(()))
        self.register_buffer("greatest_cost", torch.ones(()))
        self.to(self.device)
        self.network = [each for name, each in self.named_parameters() if name != "log_temperature"]
        rate = torch.zeros((), dtype=torch.float64, device=self.device)  # set before every step
        self.optimizers = {
            "policy": torch.optim.AdamW(
                self.network,
                lr=rate,
                weight_decay=config.weight_decay,
                fused=True,
                capturable=self.device.type == "cuda",
            ),
            "temperature": torch.optim.Adam([self.log_temperature], lr=config.temperature_lr, fused=True),
        }

    def sampler(
        self,
        dataset: OfflineDataset,
        seed: int = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        reward_scale: float = 1.0,
    ) -> BatchSource:
        """Stretches of episodes; keeps the data's frontier and scales. ``reward_scale`` has no part in it.

        Returns are measured in spans of the data's own.

        Raises: DatasetError if the published form could draw no episode.
        """
        config = self.config
        returns, costs = dataset.episode_returns()
        self._learn_scales(dataset, returns, costs)
        labels = labels_beyond(
            returns,
            costs,
            config.augmentation,
            np.random.default_rng(seed),
            config.frontier_degree,
            config.max_return,
            config.max_return_decrease,
        )
        weights = self._episode_weights(np.concatenate([costs, labels.costs]))
        if not weights.any():
            raise DatasetError(
                f"{dataset.source}: every episode costs {PUBLISHED_REACH:g} or more, which agent.form=published never "
                "draws; take agent.form=corrected."
            )
        return SequenceSampler(
            dataset,
            config.batch_size,
            self.device,
            seed,
            action_low,
            action_high,
            steps=config.context,
            labels=labels,
            weights=weights,
        )

    def _learn_scales(self, dataset: OfflineDataset, returns: NDArray[Any], costs: NDArray[Any]) -> None:
        frontier = pareto_set(returns, costs)
        if len(frontier) > FRONTIER_POINTS:
            frontier = frontier[np.linspace(0, len(frontier) - 1, FRONTIER_POINTS).round().astype(int)]
        padded = np.pad(frontier, (0, FRONTIER_POINTS - len(frontier)), mode="edge")
        self.frontier_costs.copy_(torch.from_numpy(costs[padded]))
        self.frontier_returns.copy_(torch.from_numpy(returns[padded]))
        self.return_span.fill_(float(np.ptp(returns)) or 1.0)
        self.greatest_cost.fill_(float(dataset.costs.max()) or 1.0)

    def _episode_weights(self, costs: NDArray[Any]) -> NDArray[Any]:
        """(M,) how often episodes that are said to cost ``costs`` (M,) are drawn, in proportion."""
        if self.config.form == "published":
            return np.maximum(PUBLISHED_REACH - costs, 0)
        return 1 - costs / max(2 * costs.max(), 1e-12)

    def update(self, batch: SequenceBatch) -> dict[str, Tensor]:  # type: ignore[override]  # its sampler's batches
        """One step of AdamW on the loss of all steps inside of episodes, then one of the temperature."""
        config, optimizer = self.config, self.optimizers["policy"]
        optimizer.zero_grad(set_to_none=True)
        count = batch.mask.sum()
        parts = batch.split(PART) if self.device.type == "cpu" else [batch]
        temperature = self.log_temperature.detach().exp()
        sums = torch.zeros(3, device=self.device)
        for part in parts:
            terms = self.losses(part) / count  # (3,)
            likelihood, entropy, cost = terms.unbind()
            (likelihood - temperature * entropy + config.cost_loss_weight * cost).backward()
            sums += terms.detach()
        nn.utils.clip_grad_norm_(self.network, config.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"].copy_(config.lr * ((self.updates + 1) / config.warmup).clamp(max=1))
        optimizer.step()
        likelihood, entropy, cost = sums.unbind()
        self.step("temperature", self.log_temperature.exp() * (entropy + self.act_dim))
        self.updates += 1
        return {
            "policy/loss": likelihood - temperature * entropy,
            "policy/negative_log_likelihood": likelihood,
            "policy/entropy": entropy,
            "policy/temperature": temperature,
            "cost/loss": cost,
        }

    def losses(self, batch: SequenceBatch) -> Tensor:
        """Sums (3,) over steps inside of episodes: negative log-likelihood, entropy, cross entropy of the cost."""
        said = self.predicted(
            batch.observations,
            batch.actions,
            batch.returns_to_go,
            batch.costs_to_go,
            batch.steps,
            self.config.dropout,
        )
        constant = 0.5 * math.log(2 * math.pi)
        standardised = (batch.actions - said.mean) * (-said.log_std).exp()
        likelihood = (0.5 * standardised.square() + said.log_std + constant).sum(2)  # (B, K)
        entropy = (said.log_std + constant + 0.5).sum(2)
        share = batch.costs / self.greatest_cost
        if self.config.form == "published":
            share = batch.costs.floor().clamp(max=1)
        logits = self.cost_head(torch.cat([said.features, batch.actions], dim=2)).squeeze(2)
        cost = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
        return (torch.stack([likelihood, entropy, cost]) * batch.mask).sum((1, 2))

    def predicted(
        self,
        observations: Tensor,
        actions: Tensor,
        returns_to_go: Tensor,
        costs_to_go: Tensor,
        steps: Tensor,
        dropout: float = 0.0,
    ) -> Prediction:
        """What is said at each step of stretches as of ``SequenceBatch``, without looking at its action or ahead."""
        if self.config.form == "published":
            cost_to_go = PUBLISHED_OFFSET - costs_to_go
        else:
            cost_to_go = (costs_to_go.clamp(min=0) / self.greatest_cost).log1p()
        tokens = [
            self.return_token((returns_to_go / self.return_span).unsqueeze(2)),
            self.cost_token(cost_to_go.unsqueeze(2)),
            self._embedded(observations, self.state_token),
            self.action_token(actions),
        ]
        times = self.time(steps.clamp(max=self.time.num_embeddings - 1))  # (B, K, hidden)
        sequence = (torch.stack(tokens, dim=2) + times.unsqueeze(2)).flatten(1, 2)  # (B, 4 K, hidden)
        # Nobody may look at the last action.
        features = self.transformer(sequence[:, :-1], slice(STATE, None, len(tokens)), dropout)
        mean, log_std = self.action_head(features).chunk(2, dim=2)
        return Prediction(mean, log_std.clamp(*LOG_STD_LIMITS), features)

    def _embedded(self, rows: Tensor, layer: nn.Linear) -> Tensor:
        """A layer on (B, K, in), in the settings' precision."""
        flat = dense(rows.flatten(0, 1), layer.weight, layer.bias, dtype=self.config.dtype)
        return flat.float().unflatten(0, rows.shape[:2])

    def target_return(self, cost_limit: float) -> float:
        """The best return of the data's episodes that cost ``cost_limit`` or less; if there are none, of its cheapest.

        ``config.target_return`` overrides it.
        """
        if self.config.target_return is not None:
            return self.config.target_return
        limit = torch.tensor(cost_limit, device=self.device)
        place = torch.searchsorted(self.frontier_costs, limit, right=True) - 1
        return float(self.frontier_returns[place.clamp(min=0)])

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim) in [-1, 1] of an episode's first step at observations (B, obs_dim); draws no noise."""
        limit = self._limit(None)
        column = torch.ones(len(observations), 1, device=self.device)
        first = History(
            observations=observations[:, None],
            actions=column.new_zeros(len(observations), 1, self.act_dim),
            returns_to_go=self.target_return(limit) * column,
            costs_to_go=limit * column,
            steps=torch.zeros_like(column, dtype=torch.int64),
        )
        return self.predicted(*first).mean[:, 0].clamp(-1, 1)

    def policy(self, low: Any = None, high: Any = None, cost_limit: float | None = None) -> FeedbackPolicy:
        """A policy that remembers; ``cost_limit`` None takes that of the settings."""
        limit = self._limit(cost_limit)
        return SequencePolicy(
            lambda history: self.predicted(*history).mean,
            self.act_dim,
            self.config.context,
            self.target_return(limit),
            limit,
            self.device,
            low,
            high,
        )

    def _limit(self, cost_limit: float | None) -> float:
        limit = self.config.cost_limit if cost_limit is None else cost_limit
        if limit is None:
            raise ValueError("agent.cost_limit has no value; saferl.train takes it from the task, elsewhere give it.")
        return limit
