"""Filters: what a mapping of filters by name, from YAML or a command line, asks for; DSRL's 60 density presets."""

import csv
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saferl.offline_data.dataset import DatasetError

if TYPE_CHECKING:
    from saferl.danger.relabelling import DangerLabels

# (least cost, greatest cost, least return, greatest return), each a share of a range, see filters.inpaint
InpaintRange = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells over (cost return, reward return) and how many episodes each may hold; the defaults are DSRL's.

    Raises: DatasetError for a value that makes no sense.
    """

    cbins: int = 10  # cells along the cost return
    rbins: int = 50  # cells along the reward return
    max_npb: int = 5  # a cell with more episodes keeps a random choice of this many
    min_npb: int = 2  # a cell with this many or fewer is emptied

    def __post_init__(self) -> None:
        for key, least in (("cbins", 1), ("rbins", 1), ("min_npb", 0), ("max_npb", 1)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise DatasetError(f"filters.density.{key} must be a whole number >= {least}; got {value!r}.")
        if self.max_npb <= self.min_npb:
            raise DatasetError(
                f"filters.density.max_npb must be greater than min_npb = {self.min_npb}; got {self.max_npb}."
            )


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How much Gaussian noise the observations get, see ``filters.noise``.

    Raises: DatasetError for a value that makes no sense.
    """

    scale: float  # standard deviation of the noise, as a share of that of the observations
    one_std: bool = False  # measure it over all dimensions together, as DSRL does, and not for each

    def __post_init__(self) -> None:
        if not _is_number(self.scale) or self.scale <= 0:
            raise DatasetError(f"filters.noise must be a number > 0; got {self.scale!r}.")
        if not isinstance(self.one_std, bool):
            raise DatasetError(f"filters.noise.one_std must be true or false; got {self.one_std!r}.")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Filters with everything that they need; None where one is not wanted. They are applied in the fields' order.

    Raises: DatasetError for a value that makes no sense.
    """

    density: Grid | None = None
    inpaint: tuple[InpaintRange, ...] | None = None
    outlier: float | None = None  # share of the episodes
    epsilon: float | None = None  # in units of the reward return
    noise: Noise | None = None
    danger: "DangerLabels | None" = None  # danger bits for costs
    cost_limit: float | None = None  # on the cost return, for outlier and epsilon

    def __post_init__(self) -> None:
        if self.outlier is not None:
            check_outlier(self.outlier, self.cost_limit)
        if self.epsilon is not None:
            check_epsilon(self.epsilon, self.cost_limit)
        if self.inpaint is not None:
            check_inpaint(self.inpaint)


FILTERS = tuple(each.name for each in fields(Filters) if each.name != "cost_limit")  # in the order of application


def check_outlier(share: Any, cost_limit: Any) -> None:
    """Raise DatasetError unless 0 < share <= 1 and cost_limit >= 1: an outlier's cost is a whole number below it."""
    if not _is_number(share) or not 0 < share <= 1:
        raise DatasetError(f"filters.outlier must be a share of the episodes, > 0 and <= 1; got {share!r}.")
    _check_limit(cost_limit, 1, "filters.outlier")


def check_epsilon(width: Any, cost_limit: Any) -> None:
    """Raise DatasetError unless width is a number other than 0 and cost_limit >= 0."""
    if not _is_number(width) or width == 0:
        raise DatasetError(
            f"filters.epsilon must be > 0 (takes the best safe episodes) or < 0 (the best unsafe ones); got {width!r}."
        )
    _check_limit(cost_limit, 0, "filters.epsilon")


def check_inpaint(ranges: Any) -> None:
    """Raise DatasetError unless each range is four numbers 0 <= low <= high <= 1 of cost, then of return."""
    listed = isinstance(ranges, (list, tuple)) and len(ranges) > 0
    for each in ranges if listed else [ranges]:
        numbers = isinstance(each, (list, tuple)) and len(each) == 4 and all(map(_is_number, each))
        if not listed or not numbers or not (0 <= each[0] <= each[1] <= 1 and 0 <= each[2] <= each[3] <= 1):
            raise DatasetError(
                "filters.inpaint must be a list of [least cost, greatest cost, least return, greatest return], "
                f"shares in 0 .. 1, as [[0.2,0.4,0.5,0.8]]; got {each!r}."
            )


def parse_filters(spec: Any, env_id: str | None = None) -> Filters:
    """The filters that a mapping by name asks for.

    Args:
        spec: None, or a mapping of filter names to values; null leaves a filter out:

            | name | value |
            |---|---|
            | density | a Grid's keys, the key of a preset, or the preset's number for ``env_id`` |
            | inpaint | list of [least cost, greatest cost, least return, greatest return], shares in 0 .. 1 |
            | outlier | share of the episodes |
            | epsilon | width in units of the reward return |
            | noise | scale, or {scale, one_std} |
            | danger | {oracle, margin, value, noise, p, q}, see ``saferl.danger.relabelling`` |
            | cost_limit | for outlier and epsilon; without it the smallest limit that ``env_id`` is judged at |

        env_id: DSRL id, its simulator's id, or any other; only for what the spec leaves to it.
    Raises: DatasetError, one line that names the key, with the close match where a name is wrong.
    """
    if spec is None:
        return Filters()
    if not isinstance(spec, Mapping):
        raise DatasetError(f"filters must be a mapping like {{density: 0.5, noise: 0.05}}; got {spec!r}.")
    for name in spec:
        _check_name(name, (*FILTERS, "cost_limit"), "filter")
    values = {name: value for name, value in spec.items() if value is not None}
    if "density" in values:
        values["density"] = _grid(values["density"], env_id)
    if "noise" in values:
        value = values["noise"]
        values["noise"] = _built(Noise, value, "filters.noise") if isinstance(value, Mapping) else Noise(scale=value)
    if "danger" in values:
        values["danger"] = _danger(values["danger"])
    if "inpaint" in values:
        check_inpaint(values["inpaint"])
        values["inpaint"] = tuple(tuple(each) for each in values["inpaint"])
    limited = "outlier" in values or "epsilon" in values
    if limited and "cost_limit" not in values:
        values["cost_limit"] = _judged_limit(env_id)
    if "cost_limit" in values and not limited:
        raise DatasetError("filters.cost_limit is used by outlier and epsilon alone; leave it out.")
    return Filters(**values)


def _read_presets() -> dict[str, Grid]:
    with (Path(__file__).parent / "density_presets.csv").open(newline="", encoding="utf-8") as file:
        return {row.pop("key"): Grid(**{key: int(value) for key, value in row.items()}) for row in csv.DictReader(file)}


# Key "<DSRL id>_density<share that stays, roughly>" -> grid. Source: DSRL (Liu et al., 2023), its published presets.
DENSITY_PRESETS: dict[str, Grid] = _read_presets()


def _grid(value: Any, env_id: str | None) -> Grid:
    if isinstance(value, Mapping):
        return _built(Grid, value, "filters.density")
    if isinstance(value, str):
        _check_name(value, DENSITY_PRESETS, "density preset")
        return DENSITY_PRESETS[value]
    if not _is_number(value):
        raise DatasetError(f"filters.density must be a number, a preset's key or a mapping of a grid; got {value!r}.")
    dsrl_id = None if env_id is None else _dsrl_id(env_id)
    preset = DENSITY_PRESETS.get(f"{dsrl_id}_density{value:g}")
    if preset is None:
        numbers = [key.rpartition("_density")[2] for key in DENSITY_PRESETS if key.startswith(f"{dsrl_id}_density")]
        raise DatasetError(
            f"filters.density={value:g}: no such preset for {env_id or 'data without an environment'}, "
            f"which has {' and '.join(numbers) or 'none'}; give a grid like {{cbins: 10, rbins: 50, max_npb: 5}}."
        )
    return preset


def _danger(value: Any) -> "DangerLabels":
    from saferl.danger.relabelling import DangerLabels

    if not isinstance(value, Mapping):
        raise DatasetError(f"filters.danger must be a mapping like {{oracle: cost, noise: fp, p: 0.1}}; got {value!r}.")
    labels: DangerLabels = _built(DangerLabels, value, "filters.danger")
    return labels


def _judged_limit(env_id: str | None) -> float | None:
    """The smallest cost limit that an environment is judged at; None without an environment."""
    if env_id is None:
        return None
    from saferl.evaluation.scores import cost_limits

    return min(cost_limits(_dsrl_id(env_id)))


def _dsrl_id(env_id: str) -> str:
    """DSRL's id of the task that has this id or whose simulator has it; the full one of any other environment.

    Raises: DatasetError with close matches if there is no such environment.
    """
    from saferl.envs import full_id
    from saferl.envs.tasks import TASKS

    try:
        known = full_id(env_id)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    return next((task.env_id for task in TASKS.values() if known in (task.env_id, task.simulator_id)), known)


def _built(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    """A Grid or Noise from a mapping. Raises: DatasetError for an unknown key or one that is missing."""
    known = [each.name for each in fields(cls)]
    for key in values:
        _check_name(key, known, f"key of {prefix}")
    if cls is Noise and "scale" not in values:
        raise DatasetError("filters.noise.scale has no value; give a number > 0.")
    return cls(**values)


def _check_name(name: Any, known: Iterable[str], kind: str) -> None:
    names = list(known)
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]}?" if close else ""
        listed = ", ".join(names) if len(names) < 10 else f"{len(names)} keys like {names[0]}"
        raise DatasetError(f"filters: no {kind} named {str(name)!r}.{hint} Known: {listed}.")


def _check_limit(limit: Any, least: int, user: str) -> None:
    if limit is None:
        raise DatasetError(f"{user} needs a cost limit; give filters.cost_limit.")
    if not _is_number(limit) or limit < least:
        raise DatasetError(f"{user} needs filters.cost_limit >= {least}; got {limit!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
