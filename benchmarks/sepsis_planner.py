"""What ICU-Sepsis data can teach: the exact optimum of a model counted from them, in that model and in the true one.

Where a state and action were recorded n times, the model is n parts of what followed and ``weight`` parts of what
followed the state under any action. The less the weight, the more does planning find the luckiest counts.

    python -m benchmarks.sepsis_planner [limit=0.5]
"""

import sys

import numpy as np
from numpy.typing import NDArray

from saferl.envs.icu_sepsis import finite_model, optimum
from saferl.envs.icu_sepsis.environment import action_indices
from saferl.envs.icu_sepsis.model import ACTIONS, DEATH, LIVE, SINK, STATES, SURVIVAL, SepsisModel
from saferl.offline_data import OfflineDataset
from saferl.offline_data.icu_sepsis import generate

EPISODES, WEIGHTS = (10_000, 100_000), (3, 30, 100)
LEAK = 1e-3  # probability of death in each step, so that no counted policy stays for ever


def counts(dataset: OfflineDataset) -> NDArray[np.float64]:
    """(716, 25, 716) how often each state followed each state and action."""
    numbers = {row.tobytes(): state for state, row in enumerate(finite_model().observations[:LIVE])}
    before = np.array([numbers[row.tobytes()] for row in dataset.observations])
    ends = np.where(dataset.rewards > 0, SURVIVAL, DEATH)
    goes_on = [numbers.get(row.tobytes(), DEATH) for row in dataset.next_observations]
    found = np.zeros((STATES, ACTIONS, STATES))
    np.add.at(found, (before, action_indices(dataset.actions), np.where(dataset.terminals, ends, goes_on)), 1)
    return found


def counted_model(found: NDArray[np.float64], weight: float) -> SepsisModel:
    """The model of ``counts`` (716, 25, 716), drawn towards each state's mean over actions."""
    true, of_state = finite_model(), found.sum(1)
    of_state = (of_state + 2 * of_state.sum(0) / of_state.sum()) / (of_state.sum(1, keepdims=True) + 2)
    flow = (found + weight * of_state[:, None]) / (found.sum(2, keepdims=True) + weight)
    flow *= 1 - LEAK
    flow[..., DEATH] += LEAK
    flow[LIVE:] = np.eye(STATES)[SINK]
    rows = np.arange(STATES * ACTIONS).reshape(STATES, ACTIONS)
    every = np.ones_like(true.admissible)
    return SepsisModel(flow.reshape(-1, STATES), rows, true.start, true.clinician, every, true.centroids, true.sofa)


def main(words: list[str]) -> int:
    """Print the table."""
    limit = float(dict(word.partition("=")[::2] for word in words).get("limit", 0.5))
    print("| episodes | weight | in the model | in truth |\n|---|---|---|---|")
    for episodes in EPISODES:
        found = counts(generate(episodes))
        for weight in WEIGHTS:
            try:
                best = optimum(counted_model(found, weight), limit)
            except ValueError as error:  # no policy of the model keeps the limit
                print(f"| {episodes:,} | {weight} | {error} | |")
                continue
            true = finite_model().value(best.policy)
            cells = [f"{each.survival:.3f} / {each.cost:.2f}" for each in (best.value, true)]
            print(f"| {episodes:,} | {weight} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
