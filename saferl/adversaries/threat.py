"""The threat model: an adversary shifts what the victim sees by at most eps; the state of the world it can't touch.

Distances are in normalised units, (observation - mean) / scale, and every adversary gets its observations through
``Threat.seen``, which is the only place where a perturbation becomes an observation. What is normalised stays within
+-clip, as it does behind VecNormalize; a true value beyond it may stay where it is but go no further. The statistics
never change: no attacked observation enters them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

NORMS = ("linf", "l2")
CLIP = 10.0  # normalised units, VecNormalize's own
CONSTANT = 1e-6  # a dimension that varies less than this is constant
ROUNDING = 1e-4  # of eps: by how much float32, in which even 0.2 is a little more, may go beyond it


@dataclass(frozen=True)
class Normaliser:
    """What one normalised unit of each observation dimension is.

    Args:
        mean: (obs_dim,) in the environment's units.
        scale: (obs_dim,) >= 0, of one unit; a dimension with scale 0 never varies and can't be perturbed.
        source: where the statistics come from, for people.
        clip: normalised values stay within +-clip.
    Raises: ValueError for shapes that differ, or values that are not finite.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    source: str
    clip: float = CLIP

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise ValueError(f"mean and scale must both be (obs_dim,); got {self.mean.shape} and {self.scale.shape}.")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all() and (self.scale >= 0).all()):
            raise ValueError("mean and scale of a normaliser must be finite, and scale >= 0.")
        if not self.clip > 0:
            raise ValueError(f"clip must be > 0; got {self.clip}.")

    @classmethod
    def from_variance(cls, mean: ArrayLike, variance: ArrayLike, source: str, clip: float = CLIP) -> "Normaliser":
        """As VecNormalize: scale = sqrt(variance + 1e-8), so that no dimension is constant."""
        scale = np.sqrt(np.asarray(variance, np.float64) + 1e-8)
        return cls(np.asarray(mean, np.float32), scale.astype(np.float32), source, clip)

    @classmethod
    def from_observations(cls, observations: NDArray[np.float32], source: str) -> "Normaliser":
        """Mean and standard deviation of observations (N, obs_dim)."""
        rows = np.asarray(observations, np.float64)
        scale = rows.std(axis=0)
        scale[scale < CONSTANT] = 0
        return cls(rows.mean(axis=0).astype(np.float32), scale.astype(np.float32), source)


def load_normaliser(path: str | Path, obs_dim: int) -> Normaliser:
    """Statistics from an .npz file with ``mean``, ``var`` (both (obs_dim,)) and, if it is not 10, ``clip``.

    From VecNormalize: ``np.savez("stats.npz", mean=env.obs_rms.mean, var=env.obs_rms.var, clip=env.clip_obs)``.

    Raises: ValueError naming the file if it is not such a file or does not fit the environment.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mean, variance = arrays["mean"], arrays["var"]
            clip = float(arrays["clip"]) if "clip" in arrays else CLIP
        normaliser = Normaliser.from_variance(mean, variance, str(path), clip)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: expected an .npz file with mean and var of the observations ({error}); write it with "
            "np.savez(path, mean=env.obs_rms.mean, var=env.obs_rms.var)."
        ) from error
    if len(normaliser.mean) != obs_dim:
        raise ValueError(f"{path} is for {len(normaliser.mean)} observations; the environment has {obs_dim}.")
    return normaliser


class Units:
    """A normaliser on a device: observations to normalised units and what networks read of them."""

    def __init__(self, normaliser: Normaliser, device: torch.device | str = "cpu") -> None:
        self.normaliser, self.device = normaliser, torch.device(device)
        self.mean = torch.as_tensor(normaliser.mean, device=self.device)
        self.scale = torch.as_tensor(normaliser.scale, device=self.device)
        self.varies = self.scale > 0
        self._inverse = torch.where(self.varies, 1 / self.scale.clamp(min=1e-30), 0.0)

    @property
    def obs_dim(self) -> int:
        """Entries of an observation."""
        return len(self.mean)

    def normalised(self, observations: Tensor) -> Tensor:
        """(observations - mean) / scale, (..., obs_dim), not clipped; 0 where the scale is."""
        return (observations - self.mean) * self._inverse

    def features(self, observations: Tensor) -> Tensor:
        """Normalised and clipped (..., obs_dim): what critics and learned adversaries read."""
        clip = self.normaliser.clip
        return self.normalised(observations).clamp(-clip, clip)


class Threat:
    """The ball that perturbations lie in.

    Args:
        units: in which it is measured.
        eps: radius in normalised units, >= 0.
        norm: "linf", each dimension by itself, or "l2".
    Raises: ValueError for another norm or a radius that is negative or not finite.
    """

    def __init__(self, units: Units, eps: float, norm: str = "linf") -> None:
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}.")
        if not 0 <= eps < float("inf"):
            raise ValueError(f"eps must be a number >= 0, in normalised units; got {eps}.")
        self.units, self.eps, self.norm = units, float(eps), norm

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.units.device

    def shifted(self, observations: Tensor, deltas: Tensor) -> Tensor:
        """observations + scale * deltas, (..., obs_dim), with gradient and without a check of the deltas."""
        return observations + self.units.scale * deltas

    def limits(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest delta (B, obs_dim) of each entry at ``observations`` (B, obs_dim).

        What is normalised stays within +-clip; linf: the deltas within +-eps too.
        """
        here, clip = self.units.normalised(observations), self.units.normaliser.clip
        low, high = (-clip - here).clamp(max=0), (clip - here).clamp(min=0)
        if self.norm == "linf":
            low, high = low.clamp(min=-self.eps), high.clamp(max=self.eps)
        return low * self.units.varies, high * self.units.varies

    def cut(self, deltas: Tensor, limits: tuple[Tensor, Tensor]) -> Tensor:
        """The deltas (B, obs_dim) inside the ball and inside ``limits``: l2 by length first, then each entry.

        The entries' limits hold 0, so that they only shorten. What is asked where nothing varies takes no length.
        """
        if self.norm == "l2":
            deltas = deltas * self.units.varies
            length = deltas.norm(dim=-1, keepdim=True)
            deltas = deltas * (self.eps / length.clamp(min=max(self.eps, 1e-30)))
        return deltas.clamp(*limits)

    def seen(self, observations: NDArray[np.float32], deltas: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the victim sees (B, obs_dim) in place of ``observations`` under ``deltas`` (B, obs_dim).

        Deltas that are too long are cut. With eps 0, and in every entry whose delta is 0, the very bits of the
        observation come back. Where float32 is coarse beside the scale, rounding does not lengthen a move either.

        Raises: ValueError for deltas of another shape, or that are not finite.
        """
        if deltas.shape != observations.shape:
            raise ValueError(f"perturbations must have the shape {observations.shape}; got {deltas.shape}.")
        if not np.isfinite(deltas).all():
            raise ValueError("the adversary gave a perturbation that is NaN or infinite.")
        true = torch.as_tensor(observations, dtype=torch.float32, device=self.device)
        cut = self.cut(torch.as_tensor(deltas, dtype=torch.float32, device=self.device), self.limits(true))
        seen = torch.where(cut == 0, true, self.shifted(true, cut))
        return self._shortened(true.cpu().numpy(), seen.cpu().numpy(), cut.cpu().numpy())

    def _shortened(
        self, true: NDArray[np.float32], seen: NDArray[np.float32], cut: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """``seen`` (B, obs_dim), where rounding made a move longer than the ball is, a float32 nearer to the truth.

        Only there: in ordinary units the sum is within 1e-4 of eps, and stays the same to the bit.
        """
        scale = np.maximum(self.units.normaliser.scale.astype(np.float64), 1e-30)
        moved = np.abs(seen.astype(np.float64) - true) / scale
        length = np.linalg.norm(moved, axis=-1, keepdims=True) if self.norm == "l2" else moved
        rounded_up = (length > self.eps * (1 + ROUNDING)) & (moved > np.abs(cut))
        return np.where(rounded_up, np.nextafter(seen, true), seen)

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Perturbations (count, obs_dim), uniform over the ball; the generator is the CPU's.

        l2: over the ball of the dimensions that vary. Others would take their share of the length in vain.
        """
        shape = (count, self.units.obs_dim)
        if self.norm == "linf":
            deltas = self.eps * (2 * torch.rand(shape, generator=generator) - 1)
        else:
            varies = self.units.varies.cpu()
            direction = torch.randn(shape, generator=generator) * varies
            radius = torch.rand((count, 1), generator=generator) ** (1 / max(int(varies.sum()), 1))
            deltas = self.eps * radius * direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return deltas.to(self.device)

    def steepest(self, gradients: Tensor) -> Tensor:
        """The move (B, obs_dim) of length 1 in the ball's norm that climbs fastest along ``gradients`` (B, obs_dim).

        A black box's slopes, and noise, are not 0 where nothing varies: no length is spent there.
        """
        gradients = gradients * self.units.varies
        if self.norm == "linf":
            return gradients.sign()
        return gradients / gradients.norm(dim=-1, keepdim=True).clamp(min=1e-30)
