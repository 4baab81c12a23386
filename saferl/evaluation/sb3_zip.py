"""Policies out of Stable-Baselines3 .zip files without unpickling anything.

SB3's own loader unpickles parts of the file, which runs whatever code the file holds. Here only two members are read:
``data`` as JSON, whose pickled parts are left alone, and ``policy.pth`` by ``torch.load(weights_only=True)``. The
deterministic action is rebuilt from the weights: a multilayer perceptron, then for SAC, TD3 and DDPG a tanh scaled to
the action box, for PPO and A2C a clip to it. What that can't express (CNN or dictionary observations, own policy
classes, state-dependent exploration, VecNormalize, whose statistics SB3 pickles in another file) is refused.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_ACTIVATIONS = ("Tanh", "ReLU", "ELU", "LeakyReLU", "SiLU", "GELU", "Mish", "Softplus", "Sigmoid", "Identity")
# What does not change the deterministic action, or is read off the weights.
_HARMLESS = {
    "net_arch", "activation_fn", "log_std_init", "ortho_init", "optimizer_class", "optimizer_kwargs", "use_sde",
    "n_critics", "share_features_extractor", "normalize_images", ":type:", ":serialized:",
}  # fmt: skip
_INSTEAD = "pass a function instead: policy=package.module:function, observations (B, obs_dim) -> actions (B, act_dim)"


class SB3Actor(nn.Module):
    """The deterministic actor of an SB3 model: ``act(observations) -> actions`` in the environment's units.

    Args:
        layers: the perceptron, observations (B, obs_dim) to (B, act_dim).
        low, high: (act_dim,) action box.
        squashed: true for SAC, TD3 and DDPG: tanh, scaled to the box; false: clipped to the box.
        deviation: (act_dim,) standard deviation of PPO's and A2C's exploration; None for the others.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        low: NDArray[Any],
        high: NDArray[Any],
        squashed: bool,
        deviation: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.squashed, self.deviation = layers, squashed, deviation
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32))

    @torch.no_grad()
    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim)."""
        output = self.layers(torch.as_tensor(observations, dtype=torch.float32))
        low, high = self.get_buffer("low"), self.get_buffer("high")
        actions = low + 0.5 * (output.tanh() + 1) * (high - low) if self.squashed else output.clamp(low, high)
        return actions.numpy()

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Nothing to forget."""


def load_sb3(path: str | Path, low: NDArray[Any], high: NDArray[Any], obs_dim: int) -> SB3Actor:
    """The policy in an SB3 .zip of PPO, A2C, SAC, TD3 or DDPG with MlpPolicy.

    Args:
        path: the file.
        low, high: (act_dim,) action box of the environment it will act in.
        obs_dim: length of that environment's observation.
    Raises: ValueError in one line if the file is not such a model or does not fit the environment.
    """
    data, weights = _read(Path(path))
    _refuse_unknown(path, data)
    name, prefixes, squashed = _architecture(path, weights)
    layers = _perceptron(path, weights, prefixes, _activation(path, data, "ReLU" if squashed else "Tanh"))
    first, last = layers[0], [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    if (first.in_features, last.out_features) != (obs_dim, len(low)):
        raise ValueError(
            f"{path}: this {name} model takes {first.in_features} observations and gives {last.out_features} actions; "
            f"the environment has {obs_dim} and {len(low)}."
        )
    deviation = None if squashed or "log_std" not in weights else weights["log_std"].exp()
    return SB3Actor(layers, low, high, squashed, deviation)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    except Exception as error:  # zipfile, json and torch raise a dozen types for damaged or foreign files
        raise ValueError(f"{path}: not a model saved by Stable-Baselines3 ({type(error).__name__}).") from error
    if not isinstance(data, dict) or not isinstance(weights, dict):
        raise ValueError(f"{path}: not a model saved by Stable-Baselines3.")
    return data, weights


def _refuse_unknown(path: str | Path, data: dict[str, Any]) -> None:
    policy = data.get("policy_class")
    module = policy.get("__module__", "") if isinstance(policy, dict) else ""
    if not str(module).startswith("stable_baselines3."):
        raise ValueError(f"{path}: its policy class is not one of Stable-Baselines3's own; {_INSTEAD}.")
    if data.get("use_sde"):
        raise ValueError(f"{path}: state-dependent exploration (use_sde) is not supported; {_INSTEAD}.")
    foreign = sorted(set(data.get("policy_kwargs") or {}) - _HARMLESS)
    if foreign:
        raise ValueError(f"{path}: policy_kwargs {', '.join(foreign)} can't be rebuilt without unpickling; {_INSTEAD}.")


def _architecture(path: str | Path, weights: dict[str, Tensor]) -> tuple[str, tuple[str, ...], bool]:
    """Name of the family, prefixes of the actor's layers in order, and whether it squashes."""
    families = (
        ("SAC", ("actor.latent_pi", "actor.mu"), True),
        ("TD3 or DDPG", ("actor.mu",), True),
        ("PPO or A2C", ("mlp_extractor.policy_net", "action_net"), False),
    )
    for name, prefixes, squashed in families:
        # An empty net_arch leaves no hidden layers, so only the last prefix is sure to be there.
        has_value = squashed or "value_net.weight" in weights
        if has_value and any(key.startswith(prefixes[-1] + ".") for key in weights):
            if name == "SAC" and "actor.log_std.weight" not in weights:
                continue
            return name, prefixes, squashed
    raise ValueError(f"{path}: not an MlpPolicy of PPO, A2C, SAC, TD3 or DDPG; {_INSTEAD}.")


def _activation(path: str | Path, data: dict[str, Any], default: str) -> type[nn.Module]:
    given = (data.get("policy_kwargs") or {}).get("activation_fn")
    if given is None:
        return getattr(nn, default)
    match = re.fullmatch(r"<class 'torch\.nn\.modules\.(?:activation|linear)\.(\w+)'>", str(given))
    if match is None or match.group(1) not in _ACTIVATIONS:
        raise ValueError(f"{path}: activation_fn {given} is not one of {', '.join(_ACTIVATIONS)}; {_INSTEAD}.")
    return getattr(nn, match.group(1))


def _perceptron(
    path: str | Path, weights: dict[str, Tensor], prefixes: tuple[str, ...], activation: type[nn.Module]
) -> nn.Sequential:
    """Linear layers under the prefixes, with the activation between them."""
    names: list[str] = []
    for prefix in prefixes:
        pattern = re.compile(re.escape(prefix) + r"(?:\.(\d+))?\.weight")
        found = [(int(match.group(1) or 0), key) for key in weights if (match := pattern.fullmatch(key))]
        names += [key for _, key in sorted(found)]
    layers: list[nn.Module] = []
    for name in names:
        weight, bias = weights[name], weights.get(name.removesuffix("weight") + "bias")
        if weight.ndim != 2 or bias is None:
            raise ValueError(f"{path}: {name} is not the weight of a linear layer; {_INSTEAD}.")
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])
