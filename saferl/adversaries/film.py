"""Films: pictures of an evaluated episode, made by carrying out its actions once more from the same start."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

import saferl.envs
from saferl.adversaries.trajectories import Trajectory

PICTURES = 6  # of an episode
HEIGHT = 240  # pixels; of a picture twice as high only each second row and column is kept
FOLLOWING = (
    "track"  # MuJoCo's and Safety-Gymnasium's camera that stays with the robot; theirs by default lose or hide it
)
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
    env = saferl.envs.make(env_id, **env_kwargs, **_view(env_id, env_kwargs))
    try:
        observation, _ = env.reset(seed=seed)
        wanted, shown = moments(len(episode)), []
        for step in range(len(episode) + 1):
            if step in wanted:
                shown += [_small(env.render())] * wanted.count(step)
            if step < len(episode):
                observation = env.step(episode.actions[step])[0]
    finally:
        env.close()
    apart = np.abs(np.asarray(observation, np.float32) - episode.observations[-1]).max()
    if not apart <= AGREEMENT:
        raise ValueError(f"{env_id} did not come to the same end by the same actions ({apart:.2g} apart).")
    return np.stack(shown)


def _small(picture: Any) -> Pictures:
    stride = max(1, len(picture) // HEIGHT)
    return np.asarray(picture, np.uint8)[::stride, ::stride]


def _view(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments with which an environment draws. Raises: ValueError if it does not."""
    env = saferl.envs.make(env_id, **env_kwargs)
    try:
        if "rgb_array" not in env.metadata.get("render_modes", []):
            raise ValueError(f"{env_id} has no pictures.")
        env.reset(seed=0)  # Safety-Gymnasium has no model before
        model: Any = getattr(env.unwrapped, "model", None)
        cameras = [model.camera(index).name for index in range(getattr(model, "ncam", 0))]
    finally:
        env.close()
    return {"render_mode": "rgb_array", **({"camera_name": FOLLOWING} if FOLLOWING in cameras else {})}
