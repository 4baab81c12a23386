"""The ICU-Sepsis MDP from the arrays of the package icu-sepsis, which is never imported (it needs the old gym).

    model = finite_model()
    model.value(model.clinician).survival  # 0.7818, exact
    optimum(model, limit=0.5).value.survival  # 0.8633, see the module of that name

Source: Choudhary, Gupta and Thomas, ICU-Sepsis: A Benchmark MDP Built from Real Medical Data (2024), package 2.0.1.
"""

import importlib.metadata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from saferl.envs.errors import MissingPackageError

Array = NDArray[np.float64]

STATES, LIVE = 716, 713  # the live ones come first
DEATH, SURVIVAL, SINK = 713, 714, 715
LEVELS = 5  # of each drug; action = 5 * level of intravenous fluids + level of vasopressors
ACTIONS = LEVELS**2
CENTROID = 47
HIGH_SOFA = 10.0
HIGH_FLUID = 3
COSTS = ("sofa", "fluid")
INSTALL_LINE = "python -m saferl.install_envs --medical"
PIP_LINE = "pip install --no-deps icu-sepsis==2.0.1"


class Value(NamedTuple):
    """What a policy is worth, in expectation over an episode; exact."""

    survival: float  # probability, which is also the return
    cost: float
    length: float  # steps
    mortality: float


@dataclass(frozen=True, eq=False)
class SepsisModel:
    """The finite MDP; a step with an inadmissible action goes as with an admissible one drawn evenly (strategy "mean").

    Attributes:
        outcomes: (K, 716) the different distributions of the next state.
        rows: (716, 25) which of them belongs to each state and action.
        start: (716,) distribution of the first state.
        clinician: (716, 25) the clinicians' policy, estimated from records; 12 % of its steps are inadmissible. Even in
            the terminal states.
        admissible: (716, 25) bool, actions that clinicians took often enough.
        centroids: (716, 47) mean measurements of each state's patients, standardised by the package; 0 if terminal.
        sofa: (716,) mean score of organ failure, 0 to 24; 0 in the terminal states.
    """

    outcomes: Array
    rows: NDArray[np.int64]
    start: Array
    clinician: Array
    admissible: NDArray[np.bool_]
    centroids: Array
    sofa: Array

    @property
    def uniform(self) -> Array:
        """(716, 25) the policy that draws any action."""
        return np.full((STATES, ACTIONS), 1 / ACTIONS)

    @cached_property
    def observations(self) -> NDArray[np.float32]:
        """(716, 47) centroids with mean 0 and deviation 1 over the live states; 0 in the terminal ones."""
        live = self.centroids[:LIVE]
        seen = np.zeros((STATES, CENTROID), np.float32)
        seen[:LIVE] = (live - live.mean(0)) / live.std(0)
        return seen

    @cached_property
    def cumulative(self) -> Array:
        """(K, 716) cumulative sums of the outcomes, by which states are drawn."""
        sums = self.outcomes.cumsum(1)
        return np.ascontiguousarray(sums / sums[:, -1:])

    def costs(self, kind: str = "sofa") -> Array:
        """(716, 25) cost of a step.

        "sofa": 1 in a state with a score of 10 or more; "fluid": 1 for a fluid level of 3 or 4. Terminal states: 0.

        Raises: ValueError for another kind.
        """
        if kind not in COSTS:
            raise ValueError(f"ICUSepsis has no cost {kind!r}; allowed: {', '.join(COSTS)}.")
        costs = np.zeros((STATES, ACTIONS))
        if kind == "sofa":
            costs[:LIVE] = (self.sofa[:LIVE] >= HIGH_SOFA)[:, None]
        else:
            costs[:LIVE] = np.arange(ACTIONS) // LEVELS >= HIGH_FLUID
        return costs

    def transitions(self, policy: Array) -> Array:
        """(713, 716) probabilities of the next state under a policy (716, 25).

        Raises: ValueError unless the policy's rows are probabilities.
        """
        if np.shape(policy) != (STATES, ACTIONS):
            raise ValueError(f"policy must have shape ({STATES}, {ACTIONS}); got {np.shape(policy)}.")
        shares = np.asarray(policy, np.float64)[:LIVE]
        wrong = (shares < 0).any(1) | ~(np.abs(shares.sum(1) - 1) < 1e-6)
        if wrong.any():
            state = int(wrong.argmax())
            raise ValueError(f"policy, state {state}: probabilities must be >= 0 with sum 1; got {shares[state]}.")
        states = np.repeat(np.arange(LIVE), ACTIONS)
        chosen = (shares.ravel(), (states, self.rows[:LIVE].ravel()))
        return np.asarray(scipy.sparse.csr_array(chosen, shape=(LIVE, len(self.outcomes))) @ self.outcomes)

    def visits(self, policy: Array, discount: float = 1.0) -> Array:
        """(713,) expected number of visits to each live state in an episode, weighted by discount^step."""
        flow = self.transitions(policy)[:, :LIVE]
        return np.asarray(np.linalg.solve(np.eye(LIVE) - discount * flow.T, self.start[:LIVE]))

    def value(self, policy: Array, cost: str = "sofa") -> Value:
        """The exact, undiscounted value of a policy (716, 25), by a linear solve; no limit on an episode's length."""
        visits = self.visits(policy)
        ends = visits @ self.transitions(policy)[:, LIVE:]
        spent = visits @ (policy[:LIVE] * self.costs(cost)[:LIVE]).sum(1)
        return Value(float(ends[SURVIVAL - LIVE]), float(spent), float(visits.sum()), float(ends[DEATH - LIVE]))

    def draw(self, outcomes: NDArray[np.int64], uniform: Array) -> NDArray[np.int64]:
        """Next states (B,) of outcome rows (B,) by numbers (B,) in [0, 1): the inverse of the cumulative sum."""
        return np.array([self.cumulative[row].searchsorted(u, side="right") for row, u in zip(outcomes, uniform)])


@lru_cache(maxsize=1)
def finite_model() -> SepsisModel:
    """The MDP; read and checked once in a process (about a second).

    Raises: MissingPackageError if icu-sepsis is not installed; ValueError if its files are not those of this MDP.
    """
    try:
        package = importlib.metadata.distribution("icu-sepsis")
    except importlib.metadata.PackageNotFoundError:
        message = f"ICUSepsis needs the data of icu-sepsis; run `{INSTALL_LINE}` (`{PIP_LINE}`)."
        raise MissingPackageError(message) from None
    return read_model(Path(str(package.locate_file("icu_sepsis/envs/assets"))))


def read_model(folder: Path) -> SepsisModel:
    """The MDP from ``dynamics.npz`` and ``admissible_actions.txt`` in a folder.

    Raises: ValueError in one line that names the file and what is wrong with it.
    """
    shapes = {
        "tx_mat": (STATES, ACTIONS, STATES),
        "d_0": (STATES,),
        "expert_policy": (STATES, ACTIONS),
        "state_cluster_centers": (STATES, CENTROID),
        "sofa_scores": (STATES,),
    }
    path = folder / "dynamics.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key], np.float64) for key in shapes}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: can't be read ({error}); run `{PIP_LINE}`.") from error
    for key, shape in shapes.items():
        if arrays[key].shape != shape or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{path}: {key} must be finite, of shape {shape}; got {arrays[key].shape}.")
    tables, start, clinician = arrays["tx_mat"], arrays["d_0"], arrays["expert_policy"].copy()
    _check_probabilities(tables.reshape(-1, STATES), f"{path}: tx_mat")
    _check_probabilities(start[None], f"{path}: d_0")
    _check_probabilities(clinician[:LIVE], f"{path}: expert_policy")
    clinician[LIVE:] = 1 / ACTIONS
    admissible = _read_admissible(folder / "admissible_actions.txt")
    outcomes, rows = _distinct(tables, admissible)
    return SepsisModel(
        outcomes, rows, start, clinician, admissible, arrays["state_cluster_centers"], arrays["sofa_scores"]
    )


def _check_probabilities(rows: Array, where: str) -> None:
    wrong = (rows < 0).any(1) | ~(np.abs(rows.sum(1) - 1) < 1e-9)
    if wrong.any():
        raise ValueError(f"{where}, row {int(wrong.argmax())}: probabilities must be >= 0 with sum 1.")


def _read_admissible(path: Path) -> NDArray[np.bool_]:
    """(716, 25) bool. A line with the number of actions of each state, then a line of actions for each state."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        counts = [int(word) for word in lines[0].split()]
        listed: Sequence[list[int]] = [[int(word) for word in line.split()] for line in lines[1 : STATES + 1]]
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: can't be read ({error}); run `{PIP_LINE}`.") from error
    if counts != [len(each) for each in listed] or len(counts) != STATES or 0 in counts:
        raise ValueError(f"{path}: must list the actions of {STATES} states; run `{PIP_LINE}`.")
    mask = np.zeros((STATES, ACTIONS), np.bool_)
    for state, actions in enumerate(listed):
        if not all(0 <= action < ACTIONS for action in actions):
            raise ValueError(f"{path}, state {state}: actions must be 0 to {ACTIONS - 1}; got {actions}.")
        mask[state, actions] = True
    return mask


def _distinct(tables: Array, admissible: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int64]]:
    """Outcomes (K, 716) and their rows (716, 25): one for each admissible pair, one for the rest of each state."""
    rows = np.empty((STATES, ACTIONS), np.int64)
    states, actions = np.nonzero(admissible)
    rows[states, actions] = np.arange(len(states))
    means = tables.sum(1, where=admissible[..., None]) / admissible.sum(1)[:, None]
    rows[~admissible] = len(states) + np.nonzero(~admissible)[0]
    outcomes = np.concatenate([tables[states, actions], means])
    error = max(float(np.abs(outcomes[rows[state]] - tables[state]).max()) for state in range(STATES))
    if error > 1e-9:
        raise ValueError(f"inadmissible actions differ from the mean of the admissible ones by {error:.2g}.")
    return outcomes, rows
