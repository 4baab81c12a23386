"""python -m saferl.guard: where the data are over (state, action), and how often a policy leaves them."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.table import Table

from saferl.command_line import UsageError, guarded, single_run
from saferl.evaluation.figures import save_figure
from saferl.evaluation.report import show
from saferl.evaluation.rollout import Step
from saferl.evaluation.statistics import rate_interval
from saferl.guardians import (
    Coverage,
    GuardedPolicy,
    Guardian,
    GuardianConfig,
    RecordedBehaviour,
    coverage_report,
    episode_numbers,
    fit_guardian,
    guaranteed_share,
    rows_needed,
)
from saferl.guardians.figures import guardian_figure
from saferl.offline_data import OfflineDataset
from saferl.offline_data.loading import load_dataset
from saferl.policy import Policy
from saferl.training.config import TrainConfig, build, parse_training
from saferl.training.run_evaluation import Protocol
from saferl.training.run_folder import environment_facts, make_folder, open_run, write_json
from saferl.training.trained import load_policy

NEAREST = "nearest"
DELTA = 0.05  # of the statement on new data


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """The settings of one command; see --help. Raises: ValueError for a value out of range."""

    env: str | None = None
    data: str | None = None
    run: str | None = None
    kind: str = "kde"
    alpha: float = 0.05
    rows: int | None = None
    bandwidth: float | None = None
    neighbours: int | None = None
    search: str = "exact"
    hidden: int = 128
    updates: int = 3000
    members: int = 4
    held_out: float = 0.1
    fallback: str = NEAREST
    episodes: int = 20
    seed: int = 0
    out: str | None = None

    def __post_init__(self) -> None:
        if self.env is None and self.data is None and self.run is None:
            raise ValueError("give env=ID, data=PATH or run=RUN; --help shows all.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1); got {self.held_out}.")
        if self.episodes < 1:
            raise ValueError(f"episodes must be >= 1; got {self.episodes}.")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0; got {self.seed}.")
        _ = self.guardian

    @property
    def guardian(self) -> GuardianConfig:
        """The guardian's own settings."""
        return GuardianConfig(**{each.name: getattr(self, each.name) for each in fields(GuardianConfig)})


def guard(config: GuardConfig) -> Path:
    """Fit, report, roll out, write, print. Returns: the folder of guardian.json.

    Raises: UsageError for what the user can mend.
    """
    try:
        trained = None if config.run is None else parse_training(open_run(config.run).settings())
        dataset = _dataset(config, trained)
        seen, held = split_episodes(dataset, config.held_out, config.seed)
        guardian = fit_guardian(
            seen.observations,
            seen.actions,
            config.guardian,
            config.seed,
            next_observations=seen.next_observations,
            episodes=episode_numbers(seen.episode_lengths),
        )
        report = coverage_report(guardian, held.observations, held.actions, config.seed)
        visited = {} if trained is None else _visits(config, trained, guardian, seen)
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    folder = _folder(config)
    guardian.save(folder / "guardian")
    write_json(folder / "guardian.json", _facts(dataset, guardian, report, visited, held))
    how = {"settings": asdict(config), "environment": environment_facts()}
    write_json(folder / "guardian" / "command.json", how)  # apart, since a safety case shows all of guardian.json
    figure = guardian_figure(guardian, report, visited)
    save_figure(figure, folder / "guardian.png", f"Guardian {guardian.kind}, alpha {guardian.alpha:g}")
    _show(guardian, report, visited)
    print(f"written: {folder}/ with guardian/, guardian.json, guardian.png")
    return folder


def split_episodes(dataset: OfflineDataset, share: float, seed: int) -> tuple[OfflineDataset, OfflineDataset]:
    """Whole episodes to fit to, and a share of them held out, one at least: rows of one episode resemble each other.

    Raises: ValueError if there is only one episode.
    """
    count = dataset.n_episodes
    if count < 2:
        raise ValueError(f"{dataset.source} has one episode; a second one is needed to hold out.")
    held = np.zeros(count, np.bool_)
    held[np.random.default_rng(seed).permutation(count)[: min(count - 1, max(1, round(share * count)))]] = True
    return dataset.select(~held), dataset.select(held)


def _dataset(config: GuardConfig, trained: TrainConfig | None) -> OfflineDataset:
    """The data that are named, else those that the run was trained on, before any filter."""
    env = config.env or (trained.env if trained is not None else "data")
    path = config.data or (trained.data.path if trained is not None and config.env is None else None)
    return load_dataset(env, path)


def _visits(
    config: GuardConfig, trained: TrainConfig, guardian: Guardian, seen: OfflineDataset
) -> dict[str, dict[str, Any]]:
    """What the run's policy visits as it is, and with the fallback."""
    assert config.run is not None
    if config.fallback == NEAREST:
        behaviour: Policy = RecordedBehaviour(seen.observations, seen.actions)
    else:
        behaviour = load_policy(config.fallback)
    policy = load_policy(config.run)
    env = config.env or trained.env
    wrapped = GuardedPolicy(policy, guardian, behaviour)
    return {
        "policy": visited_share(policy, guardian, env, config.episodes, config.seed),
        "with fallback": visited_share(wrapped, guardian, env, config.episodes, config.seed),
    }


def visited_share(policy: Policy, guardian: Guardian, env: str, episodes: int, seed: int = 0) -> dict[str, Any]:
    """Rollouts of a policy: which share of the pairs (s, a) that it visits is outside.

    Returns: ``share`` with ``low`` and ``high`` (Clopper-Pearson, as if steps were independent), ``steps``,
        ``episodes_outside`` (share of episodes with a pair outside), ``fallback_share`` (of a GuardedPolicy: share of
        steps that the fallback took; else 0), mean ``return`` and ``cost``.
    """
    outside, left = [], set[int]()
    fallbacks = 0

    def watch(step: Step) -> None:
        nonlocal fallbacks
        away = ~guardian.supported(step.observations, step.actions)
        outside.append(away)
        left.update(step.episodes[away].tolist())
        if isinstance(policy, GuardedPolicy):
            fallbacks += int(policy.fell_back[step.rows].sum())

    measured = Protocol(episodes=episodes, seed=seed).run(policy, env, watch)
    away = np.concatenate(outside)
    low, high = rate_interval(int(away.sum()), len(away))
    facts: dict[str, Any] = {"share": float(away.mean()), "low": low, "high": high, "steps": len(away)}
    facts |= {"episodes_outside": len(left) / episodes, "fallback_share": fallbacks / len(away)}
    return {**facts, "return": float(measured.returns.mean()), "cost": float(measured.costs.mean())}


def _folder(config: GuardConfig) -> Path:
    if config.out is None and config.run is not None:
        return open_run(config.run).path
    if config.out is None:
        return make_folder("runs", config.env or "data", "guardian", config.seed)
    try:
        Path(config.out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out={config.out}: {error.strerror or error}; give another folder.") from error
    return Path(config.out)


def _facts(
    dataset: OfflineDataset,
    guardian: Guardian,
    report: Mapping[str, Coverage],
    visited: Mapping[str, Mapping[str, Any]],
    held_out: OfflineDataset,
) -> dict[str, Any]:
    """guardian.json: plain values and lists of records, which a safety case shows as they are."""
    held, held_episodes = report["held_out"], held_out.n_episodes
    outside = (held.scores < np.float32(guardian.threshold)).astype(float)
    starts = np.asarray(held_out.episode_starts)
    outside_share = float((np.add.reduceat(outside, starts) / held_out.episode_lengths).mean())
    return {
        "kind": guardian.kind,
        "alpha": guardian.alpha,
        "threshold": guardian.threshold,
        "reference_rows": guardian.reference_rows,
        **guardian.facts(),
        "data": dataset.source,
        "held_out_episodes": held_episodes,
        "held_out_rows": held.rows,
        # Rows of an episode resemble each other: what is independent are episodes, each with its share outside.
        "outside_at_most": guaranteed_share(outside_share, held_episodes, DELTA),
        "confidence": 1 - DELTA,
        "episodes_for_twice_alpha": rows_needed(
            guardian.alpha, min(2 * guardian.alpha, 0.5 + guardian.alpha / 2), DELTA
        ),
        "coverage": [each.as_dict() for each in report.values()],
        "visited": [{"policy": name, **facts} for name, facts in visited.items()],
    }


def _show(guardian: Guardian, report: Mapping[str, Coverage], visited: Mapping[str, Mapping[str, Any]]) -> None:
    title = f"guardian {guardian.kind}, alpha {guardian.alpha:g}, {guardian.reference_rows:,} reference rows"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("pairs", "rows", "supported", "95 % interval"):
        table.add_column(column, justify="left" if column == "pairs" else "right")
    for each in report.values():
        table.add_row(
            each.name, f"{each.rows:,}", _percent(each.share), f"[{_percent(each.low)}, {_percent(each.high)}]"
        )
    show(table)
    if not visited:
        return
    table = Table(title="pairs that the policy visits", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("", "outside", "95 % interval", "episodes outside", "fallback took", "return", "cost"):
        table.add_column(column, justify="right" if column else "left")
    for name, facts in visited.items():
        table.add_row(
            name,
            _percent(facts["share"]),
            f"[{_percent(facts['low'])}, {_percent(facts['high'])}]",
            _percent(facts["episodes_outside"]),
            _percent(facts["fallback_share"]),
            f"{facts['return']:.4g}",
            f"{facts['cost']:.4g}",
        )
    show(table)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("guard", lambda: single_run("guard", words, _config, job, "run it once for each guardian"))


def job(settings: DictConfig) -> None:
    """One guardian from Hydra's settings."""
    guard(_config(settings))


def _config(settings: DictConfig) -> GuardConfig:
    values: Any = OmegaConf.to_container(settings, resolve=True)
    try:
        return build(GuardConfig, values, "")
    except ValueError as error:
        raise UsageError(str(error)) from error


if __name__ == "__main__":
    raise SystemExit(main())
