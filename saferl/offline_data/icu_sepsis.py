"""ICU-Sepsis data: episodes under the clinicians' policy and under mixes of it with random actions.

    dataset = generate(n_episodes=10_000, seed=0)

To disk: python -m saferl.offline_data.icu_sepsis out=FILE.hdf5 [n_episodes=10000] [seed=0] [epsilons=0,0.25,0.5]
[cost=sofa]
"""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saferl.command_line import UsageError, guarded, unknown
from saferl.envs.icu_sepsis import SepsisModel, finite_model
from saferl.envs.icu_sepsis.environment import TIME_LIMIT
from saferl.envs.icu_sepsis.model import ACTIONS, LEVELS, LIVE, SURVIVAL, Array
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.hdf5 import save_hdf5

EPSILONS = (0.0, 0.0, 0.25, 0.5)  # shares of random actions; each episode has one of them, in turn
SPREAD = 0.15  # recorded actions lie evenly within so much of the middle of their level, whose half width is 0.2


def generate(
    n_episodes: int = 10_000, seed: int = 0, epsilons: Sequence[float] = EPSILONS, cost: str = "sofa"
) -> OfflineDataset:
    """The built-in ICU-Sepsis data set: half clinicians, a quarter each with 25 and 50 % random actions.

    A random action is any of the 25, the inadmissible ones included.

    Args:
        n_episodes: how many.
        seed: of all draws; the same seed gives the same arrays.
        epsilons: shares of random actions; episode i follows the (i mod len)-th.
        cost: "sofa" or "fluid", see ``ICUSepsis``.
    Raises: ValueError for a share outside of [0, 1], no episode or an unknown cost; MissingPackageError.
    """
    if n_episodes < 1 or not epsilons or not all(0 <= each <= 1 for each in epsilons):
        raise ValueError(
            f"n_episodes must be >= 1 and epsilons in [0, 1]; got {n_episodes} and {', '.join(map(str, epsilons))}."
        )
    model, rng = finite_model(), np.random.default_rng(seed)
    policies = np.stack([(1 - each) * model.clinician + each * model.uniform for each in epsilons])
    dataset = rollouts(model, policies, n_episodes, rng, cost)
    kind = f"{cost} cost, random shares {', '.join(map(str, epsilons))}"
    dataset.metadata.update({"env": "saferl/ICUSepsis-v0", "seed": seed, "recipe": kind})
    return dataset


def rollouts(
    model: SepsisModel, policies: Array, n_episodes: int, rng: np.random.Generator, cost: str = "sofa"
) -> OfflineDataset:
    """Episodes under policies (P, 716, 25), taken in turn, as transitions in the form of ``ICUSepsis``."""
    costs = model.costs(cost)
    cumulative = policies.cumsum(2)
    running = np.arange(n_episodes)
    state = model.start.cumsum().searchsorted(rng.random(n_episodes), side="right")
    steps: list[tuple[NDArray[np.int64], ...]] = []
    for step in range(TIME_LIMIT):
        draws = rng.random((len(running), 1))
        action = (cumulative[running % len(policies), state] <= draws).sum(1).clip(max=ACTIONS - 1)
        following = model.draw(model.rows[state, action], rng.random(len(running)))
        last = np.full(len(running), step == TIME_LIMIT - 1)
        steps.append((running, state, action, following, last))
        alive = following < LIVE
        running, state = running[alive], following[alive]
        if not len(running):
            break
    episode, states, actions, followers, cut = (np.concatenate(column) for column in zip(*steps))
    order = np.argsort(episode, kind="stable")  # stable: keeps the steps of an episode in order
    states, actions, followers, cut = states[order], actions[order], followers[order], cut[order]
    return OfflineDataset(
        observations=model.observations[states],
        next_observations=model.observations[followers],
        actions=(box_actions(actions) + rng.uniform(-SPREAD, SPREAD, (len(actions), 2))).astype(np.float32),
        rewards=(followers == SURVIVAL).astype(np.float32),
        costs=costs[states, actions].astype(np.float32),
        terminals=followers >= LIVE,
        timeouts=(followers < LIVE) & cut,
        source="ICU-Sepsis",
    )


def box_actions(indices: NDArray[np.int64]) -> Array:
    """The middle (B, 2) in [-1, 1] of the levels of discrete actions (B,)."""
    levels = np.stack([indices // LEVELS, indices % LEVELS], axis=1)
    return (2 * levels + 1) / LEVELS - 1


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("offline_data.icu_sepsis", lambda: _main(words))


def _main(words: list[str]) -> int:
    settings = {"n_episodes": "10000", "seed": "0", "epsilons": ",".join(map(str, EPSILONS)), "cost": "sofa", "out": ""}
    for word in words:
        key, _, value = word.partition("=")
        if key not in settings:
            raise UsageError(unknown("key", key, list(settings), "{}="))
        settings[key] = value
    if not settings["out"]:
        raise UsageError("out has no value; give out=FILE.hdf5.")
    try:
        dataset = generate(
            int(settings["n_episodes"]),
            int(settings["seed"]),
            [float(each) for each in settings["epsilons"].split(",")],
            settings["cost"],
        )
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from error
    save_hdf5(dataset, settings["out"])
    returns, costs = dataset.episode_returns()
    means = f"return {returns.mean():.4f}, cost {costs.mean():.4f}"
    print(f"{settings['out']}: {dataset.n_episodes} episodes, {len(dataset)} transitions, {means}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
