"""Recorded episodes of the original gridworlds as a learner sees them."""

import numpy as np

from saferl.danger.moments import Moments, moments_of_episodes, scene_of
from saferl.danger.specification import Episode, Step
from tests.oracles.gridworld_recordings import recording


def recorded_episodes(name: str, count: int) -> list[Episode]:
    """The first ``count`` episodes, with the clean danger bits as warnings."""
    data = recording(name)
    boards, episodes = data.seen_boards(), []
    for episode in list(data.episodes())[:count]:
        frames, steps, previous = boards[episode.frames], [], None
        for index, action in enumerate(episode.actions):
            reward = float(data["reward"][episode.steps][index])
            previous = Step(frames[index], action, frames[index + 1], reward, index, frames[0], previous)
            steps.append(previous)
        episodes.append(Episode(tuple(steps), data["danger_pen"][episode.steps] == 1, episode.terminated))
    return episodes


def moments_of(episodes: list[Episode]) -> Moments:
    """Their steps as arrays, with the scene that they show themselves."""
    steps = [step for episode in episodes for step in episode.steps]
    scene = scene_of(
        np.stack([step.before for step in steps]),
        np.stack([step.after for step in steps]),
        np.stack([episode.steps[0].first for episode in episodes]),
    )
    return moments_of_episodes(scene, episodes)
