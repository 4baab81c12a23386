"""ICUSepsis: one patient as a gymnasium environment, seen as measurements or as the state's number."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from saferl.envs.icu_sepsis.model import ACTIONS, CENTROID, LEVELS, LIVE, STATES, SURVIVAL, finite_model

TIME_LIMIT = 500  # steps of 4 hours, that of the package; hardly any patient stays so long


def action_indices(actions: ArrayLike) -> NDArray[np.int64]:
    """Discrete actions (B,) 0 to 24 of actions (B, 2) in [-1, 1]: each entry's interval of length 0.4 is a level.

    Raises: ValueError if the shape is another or a number is not finite.
    """
    a = np.asarray(actions, np.float64)
    if a.ndim != 2 or a.shape[1] != 2 or not np.isfinite(a).all():
        raise ValueError(f"ICUSepsis needs actions of 2 finite numbers; got shape {a.shape}: {a.tolist()[:1]}.")
    levels = np.floor((a + 1) / 2 * LEVELS).clip(0, LEVELS - 1).astype(np.int64)
    return levels[:, 0] * LEVELS + levels[:, 1]


class ICUSepsis(gymnasium.Env[Any, Any]):
    """A patient with sepsis, in steps of four hours, until discharge or death.

    The MDP is that of the package icu-sepsis, estimated from MIMIC-III: 713 live states, 25 actions. An action that
    clinicians hardly ever took in a state is inadmissible there and acts as an admissible one drawn evenly (the
    package's strategy "mean", its default).

    | action | meaning | unit | range |
    |---|---|---|---|
    | 0 | intravenous fluids | level 0 to 4 | [-1, 1] in five equal intervals |
    | 1 | vasopressor | level 0 to 4 | [-1, 1] in five equal intervals |

    | observation | meaning | unit | range |
    |---|---|---|---|
    | 0 to 46 | vital signs, laboratory values and others, mean of its patients | standard deviations | [-14, 20] |

    The deviations are those over the live states, of mean 0; after the end all entries are 0.

    With ``discrete`` the observation is the state's number, 0 to 715, and the action 5 * fluids + vasopressor, 0 to 24.

    Reward: 1 in the step to survival, else 0.
    Cost: 1 for a step in a state with a SOFA score (organ failure) of 10 or more; with cost="fluid", for a fluid level
    of 3 or 4; else 0.
    Info: ``state`` (number), ``sofa`` (of the state), ``admissible`` (whether the action was; true at a reset),
    ``is_success`` (survival).
    End: death or survival.

    Args:
        discrete: the exact form, see above.
        cost: "sofa" or "fluid".
        render_mode: only None.
    Raises: MissingPackageError if icu-sepsis is not installed; ValueError for an unknown cost, a render mode or a wrong
        action; gymnasium's ResetNeeded for a step after the end.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  gymnasium's own declaration

    def __init__(self, discrete: bool = False, cost: str = "sofa", render_mode: str | None = None) -> None:
        if render_mode is not None:
            raise ValueError(f"ICUSepsis can't render {render_mode!r}; allowed: None.")
        self.model = finite_model()
        self.render_mode, self.discrete = None, discrete
        self._costs = self.model.costs(cost)
        self.observation_space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (CENTROID,), np.float32)
        self.action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (2,), np.float32)
        if discrete:
            self.observation_space, self.action_space = spaces.Discrete(STATES), spaces.Discrete(ACTIONS)
        self.state = STATES - 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new patient; ``options={"state": n}`` sets a live state's number.

        Raises: ValueError for a state that is not live.
        """
        super().reset(seed=seed)
        if options and "state" in options:
            if options["state"] not in range(LIVE):
                raise ValueError(f"options['state'] must be 0 to {LIVE - 1}; got {options['state']!r}.")
            self.state = int(options["state"])
        else:
            self.state = int(self.model.start.cumsum().searchsorted(self.np_random.random(), side="right"))
        return self._seen(), self._info(cost=0.0, admissible=True)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Four hours under an action, (2,) or with ``discrete`` a number."""
        if self.state >= LIVE:
            raise gymnasium.error.ResetNeeded("ICUSepsis: the episode is over; call reset().")
        if self.discrete and action not in range(ACTIONS):
            raise ValueError(f"ICUSepsis (discrete) needs an action 0 to {ACTIONS - 1}; got {action!r}.")
        index = int(action) if self.discrete else int(action_indices(np.asarray(action)[None])[0])
        cost, admissible = float(self._costs[self.state, index]), bool(self.model.admissible[self.state, index])
        row = self.model.rows[self.state, index]
        self.state = int(self.model.cumulative[row].searchsorted(self.np_random.random(), side="right"))
        reward = float(self.state == SURVIVAL)
        return self._seen(), reward, self.state >= LIVE, False, self._info(cost, admissible)

    def _seen(self) -> Any:
        return np.int64(self.state) if self.discrete else self.model.observations[self.state].copy()

    def _info(self, cost: float, admissible: bool) -> dict[str, Any]:
        return {
            "cost": cost,
            "state": self.state,
            "sofa": float(self.model.sofa[self.state]),
            "admissible": admissible,
            "is_success": self.state == SURVIVAL,
        }
