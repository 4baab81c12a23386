"""How often each bound of the release gate releases a policy whose cost is exactly at its limit, where it should not.

    python -m benchmarks.false_release

Rates of events: exactly, by summing over the binomial distribution. Mean costs: 2,000 simulated tests.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from saferl.certification.bounds import BOUNDS
from saferl.evaluation.statistics import rate_interval

DELTA = 0.05
REPETITIONS = 2_000
EVENTS = ((0.02, 100), (0.1, 200), (0.3, 500))  # true rate and limit, episodes of a test
GREATEST = 300.0  # cost of an episode
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def rare(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """One episode in a hundred costs 100 to 300; mean 2."""
    return (generator.random(shape) < 0.01) * generator.uniform(100, 300, shape)


def spread(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """300 Beta(0.3, 2): costs of all sizes; mean 39.1."""
    return GREATEST * generator.beta(0.3, 2.0, shape)


COSTS: tuple[tuple[str, Draw, float, int], ...] = (
    ("rare costs", rare, 2.0, 40),
    ("rare costs", rare, 2.0, 400),
    ("spread costs", spread, GREATEST * 0.3 / 2.3, 400),
)


def exact(name: str, rate: float, n: int) -> float:
    """Probability that events of this rate are released at a limit of the same."""
    counts = np.arange(n + 1)
    mean = counts / n
    variance = mean * (1 - mean) * n / (n - 1)
    return float(stats.binom.pmf(counts, n, rate)[BOUNDS[name].unit(mean, variance, n, DELTA) <= rate].sum())


def simulated(name: str, draw: Draw, limit: float, n: int) -> int:
    """Of REPETITIONS tests with n episodes, how many release."""
    costs = draw(np.random.default_rng(0), (REPETITIONS, n)) / GREATEST
    upper = BOUNDS[name].unit(costs.mean(axis=1), costs.var(axis=1, ddof=1), n, DELTA)
    return int((upper <= limit / GREATEST).sum())


def main() -> None:
    """Print a row for each bound."""
    heads = [f"rate {rate:g}, n {n}" for rate, n in EVENTS] + [f"{name}, n {n}" for name, _, _, n in COSTS]
    print(f"share of tests that release at delta {DELTA}; mean costs with exact 95 % intervals\n")
    print("| bound | " + " | ".join(heads) + " |\n|---" * 1 + "|---" * len(heads) + "|")
    for name, bound in BOUNDS.items():
        cells = [f"{exact(name, rate, n):.4f}" for rate, n in EVENTS]
        for _, draw, limit, n in COSTS:
            if bound.events_only:
                cells.append("")
                continue
            count = simulated(name, draw, limit, n)
            low, high = rate_interval(count, REPETITIONS)
            cells.append(f"{count / REPETITIONS:.4f} [{low:.4f}, {high:.4f}]")
        print(f"| {bound.label} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
