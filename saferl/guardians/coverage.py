"""What share of held-out data, random actions and far points a guardian supports; what N rows can say of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.evaluation.statistics import rate_interval
from saferl.guardians.guardian import Guardian

FAR = 3.0  # far points lie on the surface of a box this many times as wide as the data's


@dataclass(frozen=True)
class Coverage:
    """How many of some pairs are supported.

    Attributes:
        name: which pairs; rows: how many.
        share: of them that are supported; low, high: its Clopper-Pearson 95 % interval, as if rows were independent.
        scores: (rows,) of them.
    """

    name: str
    rows: int
    share: float
    low: float
    high: float
    scores: NDArray[np.float32]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the scores."""
        return {key: value for key, value in asdict(self).items() if key != "scores"}


def coverage(name: str, scores: NDArray[np.float32], threshold: float) -> Coverage:
    """The coverage of pairs with these scores (N,)."""
    inside = int((scores >= np.float32(threshold)).sum())
    return Coverage(name, len(scores), inside / len(scores), *rate_interval(inside, len(scores)), scores)


def coverage_report(
    guardian: Guardian, observations: ArrayLike, actions: ArrayLike, seed: int = 0
) -> Mapping[str, Coverage]:
    """Coverage by name: of the reference set, of held-out data, and of pairs that should be outside.

    Args:
        guardian: fitted to other rows.
        observations: (M, obs_dim) or (M,), held out.
        actions: (M, act_dim) or (M,), recorded with them.
        seed: of random actions and far points.
    Returns: "reference" (each row scored as if it were not there), "held_out", "random_actions" (held-out
        observations, actions uniform between the least and the greatest recorded; whole numbers for ``counts``) and
        "far" (uniform on the surface of a box 3 times as wide as that of the held-out rows).
    """
    seen, done = np.asarray(observations, np.float64), np.asarray(actions, np.float64)
    rng = np.random.default_rng(seed)
    random: NDArray[Any] = rng.uniform(done.min(axis=0), done.max(axis=0), done.shape)
    if guardian.kind == "counts":
        random = rng.integers(done.min(axis=0).astype(int), done.max(axis=0).astype(int) + 1, done.shape)
    far = _far_points(np.concatenate([each.reshape(len(seen), -1) for each in (seen, done)], axis=1), rng)
    if guardian.kind == "counts":
        far = far.round()
    scores = {
        "reference": ("reference set, itself left out", guardian.left_out_scores()),
        "held_out": ("held-out data", guardian.score(seen, done)),
        "random_actions": ("held-out states, random actions", guardian.score(seen, random)),
        "far": (f"points {FAR:g} times as far", guardian.score(far[:, : guardian.obs_dim], far[:, guardian.obs_dim :])),
    }
    return {key: coverage(name, each, guardian.threshold) for key, (name, each) in scores.items()}


def _far_points(rows: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """As many points (N, d) on the surface of a box FAR times as wide as that of the rows (N, d)."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    directions = rng.uniform(-1, 1, rows.shape)
    directions /= np.abs(directions).max(axis=1, keepdims=True)
    return (low + high) / 2 + FAR * np.where(high > low, (high - low) / 2, 1.0) * directions


def rows_needed(alpha: float, alpha_c: float, delta: float = 0.05) -> int:
    """N >= ln(1 / delta) / (2 (alpha_c - alpha)^2), the least whole one.

    If of so many independent rows, which the guardian was not fitted to, the share alpha is outside, then with
    probability 1 - delta at most alpha_c of the distribution is.

    Args:
        alpha: share of the rows outside.
        alpha_c: > alpha, the share that is to be guaranteed.
        delta: in (0, 1).
    Raises: ValueError for values out of range.
    Source: Hoeffding's inequality, exp(-2 N (alpha_c - alpha)^2) <= delta; arXiv 2505.16242, theorem 1, by the proof in
        its appendix (the main text has the square on N instead).
    """
    if not 0 <= alpha < alpha_c < 1:
        raise ValueError(f"0 <= alpha < alpha_c < 1 must hold; got alpha {alpha} and alpha_c {alpha_c}.")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1); got {delta}.")
    return math.ceil(math.log(1 / delta) / (2 * (alpha_c - alpha) ** 2))


def guaranteed_share(alpha: float, rows: int, delta: float = 0.05) -> float:
    """alpha_c = alpha + sqrt(ln(1 / delta) / (2 N)): what ``rows_needed`` answers, solved for alpha_c."""
    return min(1.0, alpha + math.sqrt(math.log(1 / delta) / (2 * rows)))
