"""Data augmentation for offline agents: copies of recorded episodes as an adversary would have shown them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saferl.adversaries.attacks import Attack
from saferl.adversaries.threat import Threat
from saferl.offline_data.dataset import OfflineDataset, concatenate

BATCH = 1024


def attacked_observations(observations: NDArray[np.float32], threat: Threat, attack: Attack) -> NDArray[np.float32]:
    """What the adversary shows (N, obs_dim) in place of ``observations``."""
    parts = np.array_split(observations, max(1, len(observations) // BATCH))
    return np.concatenate([threat.seen(rows, attack.perturbations(rows)) for rows in parts])


def augmented(
    dataset: OfflineDataset, threat: Threat, attack: Attack, copies: int, seed: int, name: str
) -> OfflineDataset:
    """The data set and ``copies`` of it whose observations are attacked; actions, rewards and costs stay.

    Its metadata say so: the adversary's ``name``, radius and copies under "attacked".

    The next observation of a step is what is shown at the next step; behind the last step of an episode the adversary
    is asked about the true one.
    """
    parts = [dataset]
    for copy in range(copies):
        attack.reset(seed=seed + copy)
        shown = attacked_observations(dataset.observations, threat, attack)
        following = np.concatenate([shown[1:], shown[-1:]])
        ends = dataset.episode_ends - 1  # the last row of each episode
        following[ends] = attacked_observations(dataset.next_observations[ends], threat, attack)
        parts.append(replace(dataset, observations=shown, next_observations=following))
    told = f"{copies} of {copies + 1} parts by {name}, eps {threat.eps:g} ({threat.norm}), seed {seed}"
    whole = concatenate(parts)
    return replace(whole, metadata={**dataset.metadata, "attacked": told})
