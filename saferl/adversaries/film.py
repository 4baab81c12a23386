"""Films: pictures of an evaluated episode, made by carrying out its actions once more from the same start."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

import saferl.envs
from saferl.adversaries.trajectories import Trajectory
from saferl.envs import full_id
from saferl.envs.safety_gymnasium_ids import NAVIGATION_ENTRY_POINT

PICTURES = 6  # of an episode
HEIGHT = 240  # pixels; of a picture twice as high only each second row and column is kept
# Safety-Gymnasium's own first choice is what the robot sees. From far above, what tasks use lies in the middle.
FROM_ABOVE = {"camera_name": "fixedfar", "width": 480, "height": 480}
MIDDLE = slice(105, 345), slice(120, 360)  # rows and columns
BESIDE = {"camera_name": "track"}  # stays with the robot, which otherwise runs out of the picture
AGREEMENT = 1e-3  # greatest difference of the last observation, in the environment's units

Pictures = NDArray[np.uint8]


def moments(steps: int) -> list[int]:
    """Steps after which pictures are taken: evenly from the start, 0, to the end."""
    evenly: list[int] = np.linspace(0, steps, PICTURES).round().astype(int).tolist()
    return evenly


def filmed(env_id: str, env_kwargs: dict[str, Any], seed: int, episode: Trajectory) -> Pictures:
    """Pictures (6, height, width, 3) of an episode at its ``moments``.

    Args:
        env_id, env_kwargs: of the environment.
        seed: of the episode's reset.
        episode: as it was recorded.
    Raises: ValueError where the environment has no pictures, or where the same actions from the same start lead
        elsewhere, so that it would be the film of another episode; and whatever drawing raises on this machine.
    """
    view = _view(env_id, env_kwargs)
    env = saferl.envs.make(env_id, **env_kwargs, render_mode="rgb_array", **view)
    try:
        observation, _ = env.reset(seed=seed)
        wanted, shown = moments(len(episode)), []
        for step in range(len(episode) + 1):
            if step in wanted:
                picture = np.asarray(env.render(), np.uint8)
                shown += [picture[MIDDLE] if view is FROM_ABOVE else _small(picture)] * wanted.count(step)
            if step < len(episode):
                observation = env.step(episode.actions[step])[0]
    finally:
        env.close()
    apart = np.abs(np.asarray(observation, np.float32) - episode.observations[-1]).max()
    if not apart <= AGREEMENT:
        raise ValueError(f"{env_id} did not come to the same end by the same actions ({apart:.2g} apart).")
    return np.stack(shown)


def _small(picture: Pictures) -> Pictures:
    stride = max(1, len(picture) // HEIGHT)
    return picture[::stride, ::stride]


def _view(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments that choose an environment's camera. Raises: ValueError if it draws no pictures."""
    env = saferl.envs.make(env_id, **env_kwargs)
    modes, model = env.metadata.get("render_modes", []), getattr(env.unwrapped, "model", None)
    cameras = [] if model is None else [model.camera(index).name for index in range(model.ncam)]
    env.close()
    if "rgb_array" not in modes:
        raise ValueError(f"{env_id} has no pictures.")
    if gymnasium.spec(full_id(env_id)).entry_point == NAVIGATION_ENTRY_POINT:
        return FROM_ABOVE
    return BESIDE if "track" in cameras else {}
