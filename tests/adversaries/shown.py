"""An environment whose best attacks are known: one step an episode, rewarded by the action and charged its square."""

import gymnasium
import numpy as np

SHOWN = "test/Shown-v0"


class Shown(gymnasium.Env):
    """s is uniform on [-1, 1]^2."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-5, 5, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.state, {"cost": 0.0}

    def step(self, action):
        return self.state.copy(), float(action[0]), True, False, {"cost": float(action[0] ** 2)}


if SHOWN not in gymnasium.registry:
    gymnasium.register(SHOWN, Shown)
