"""Evaluation of runs: from a run folder to eval.json, pictures and tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from saferl.agents import AGENTS, Agent
from saferl.envs import full_id
from saferl.evaluation import figures
from saferl.evaluation.audit import audit_table
from saferl.evaluation.audit_figures import audit_maps
from saferl.evaluation.audit_robots import PointRobotAudit, auditable
from saferl.evaluation.audit_run import run_audit
from saferl.evaluation.feasible_region import region_maps
from saferl.evaluation.report import (
    Facts,
    comparison_table,
    difference_table,
    evaluation_facts,
    pooled_facts,
    single_table,
)
from saferl.evaluation.rollout import Episodes, Watch, episode_seeds, rollout
from saferl.evaluation.scores import cost_limits, reference_returns
from saferl.offline_data.dataset import DatasetError
from saferl.offline_data.loading import load_dataset
from saferl.policy import Policy
from saferl.training.config import TrainConfig
from saferl.training.logging import read_metrics
from saferl.training.run_folder import RunFolder, read_json, write_json
from saferl.training.trained import action_bounds, load_agent

POINT_ROBOT = "saferl/PointRobot-v0"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How policies are evaluated; equal protocols give every policy the same starts.

    Args:
        episodes: None takes 100 on PointRobot, whose episodes are cheap, and DSRL's 20 elsewhere.
        seed: episode i is reset with seed + i.
        cost_limits: None takes those of the task.
        num_envs, vectorization: as in ``rollout``.
        env_kwargs: arguments of the environment; None starts PointRobot where the analytic test says that a violation
            is avoidable (elsewhere no policy could be safe), and adds nothing elsewhere.
    """

    episodes: int | None = None
    seed: int = 0
    cost_limits: tuple[float, ...] | None = None
    num_envs: int | None = None
    vectorization: str = "sync"
    env_kwargs: Mapping[str, Any] | None = field(default=None)

    def run(self, policy: Policy, env_id: str, watch: Watch | None = None) -> Episodes:
        """Whole episodes of a policy; ``watch`` as in ``rollout``."""
        count = self.episodes if self.episodes is not None else (100 if full_id(env_id) == POINT_ROBOT else 20)
        return rollout(
            policy,
            env_id,
            episode_seeds(self.seed, count),
            num_envs=self.num_envs,
            vectorization=self.vectorization,
            env_kwargs=self.arguments(env_id),
            watch=watch,
        )

    def arguments(self, env_id: str) -> dict[str, Any]:
        """Arguments of the environment."""
        if self.env_kwargs is not None:
            return dict(self.env_kwargs)
        return {"start": "feasible"} if full_id(env_id) == POINT_ROBOT else {}

    def limits(self, env_id: str) -> tuple[float, ...]:
        """Limits on an episode's cost."""
        return cost_limits(env_id) if self.cost_limits is None else self.cost_limits


def evaluate_policy(policy: Policy, env_id: str, name: str, protocol: Protocol) -> Facts:
    """The evaluation of a policy that is not a run."""
    episodes = protocol.run(policy, env_id)
    facts = evaluation_facts(episodes, reference_returns(env_id), protocol.limits(env_id))
    return {"policy": name, "env": env_id, **facts}


def evaluate_run(
    run: RunFolder, protocol: Protocol, device: torch.device | str = "cpu", *, audit: bool = False
) -> Facts:
    """Evaluate a run's last checkpoint; writes eval.json and the pictures into its folder.

    Args:
        run: the run.
        protocol: how to evaluate.
        device: where the agent computes.
        audit: whether to compare its feasible region with the true one, by reachability.
    Raises: UsageError if the run can't be loaded; ValueError in one line if there is nothing to audit.
    """
    agent, config, step = load_agent(run, device)
    data = read_json(run.data)
    if audit:
        check_auditable(run, agent, config)
    limits = protocol.limits(config.env)
    # An agent that takes its limit when it acts gets the one that was asked for; among several, its training's own.
    asked = limits[0] if config.agent.limit_use == "acting" and len(limits) == 1 else None
    episodes = protocol.run(agent.policy(*action_bounds(run), cost_limit=asked), config.env)
    facts = {
        "policy": str(run.path),
        "env": config.env,
        "step": step,
        **evaluation_facts(episodes, reference_returns(config.env, data), limits),
    }
    _draw_region(run, agent, config, step, facts)
    if audit:
        facts["audit"] = _audit(run, agent, config, step, data.get("source"))
    write_json(run.evaluation, facts)
    title = f"{config.preset} on {config.env}, seed {config.seed}, {step} updates"
    last = {"step": step, **{f"eval/{name}": facts[name]["mean"] for name in ("return", "cost", "violations")}}
    figures.learning_curves([*read_metrics(run.metrics), last], run.path / "learning_curves.png", title)
    policies = {config.preset: (episodes.returns, episodes.costs)}
    figures.return_cost_scatter((data["returns"], data["costs"]), policies, limits, run.path / "returns.png", title)
    return facts


def _draw_region(run: RunFolder, agent: Agent, config: TrainConfig, step: int, facts: Facts) -> None:
    """PointRobot's feasible region, for an agent that has learned one."""
    if not hasattr(agent, "feasible_value") or full_id(config.env) != POINT_ROBOT:
        return
    maps = region_maps(_learned_value(agent))
    facts["feasible_region"] = [each.scores().as_dict() for each in maps]
    title = f"Infeasible set of {config.preset}, seed {config.seed}, {step} updates, over the true one"
    figures.feasible_region(maps, run.path / "feasible_region.png", title)


def _learned_value(agent: Agent) -> Callable[[np.ndarray], np.ndarray]:
    """V_h of observations (N, obs_dim), (N,), for an agent that has one."""
    feasible_value = getattr(agent, "feasible_value", None)
    assert feasible_value is not None

    @torch.no_grad()
    def value(observations: np.ndarray) -> np.ndarray:
        return feasible_value(torch.as_tensor(observations, device=agent.device)).float().cpu().numpy()

    return value


def check_auditable(run: RunFolder, agent: Agent, config: TrainConfig) -> None:
    """Raises: ValueError in one line if the agent learns no region, or the true one is not known."""
    if not hasattr(agent, "feasible_value"):
        learners = [name for name, (_, kind) in AGENTS.items() if hasattr(kind, "feasible_value")]
        raise ValueError(
            f"audit=reachability: {run.path} is of {config.agent_name}, which learns no feasible region; "
            f"agents that do: {', '.join(learners)}."
        )
    auditable(config.env)


def _audit(run: RunFolder, agent: Agent, config: TrainConfig, step: int, source: Any) -> Facts:
    """The audit's facts; draws audit.png. The states of the data are audited where its file is still there."""
    robot = auditable(config.env)
    try:
        observations = load_dataset(config.env, source).observations if Path(str(source)).exists() else None
    except DatasetError:  # a file that has changed since is no longer the run's data
        observations = None
    discount = getattr(config.agent, "discount", None)
    facts, maps = run_audit(robot, _learned_value(agent), discount=discount, observations=observations)
    title = f"Infeasible set of {config.preset}, seed {config.seed}, {step} updates, over the true one by reachability"
    audit_maps(maps, run.path / "audit.png", title, point_robot=isinstance(robot, PointRobotAudit))
    return facts


def tables(runs: Sequence[RunFolder], evaluations: Sequence[Facts]) -> list[Table]:
    """Tables for the evaluations of runs: one run in detail; several side by side, seeds of one setting pooled.

    Args:
        runs: the run folders.
        evaluations: their eval.json, in the same order.
    """
    if len(runs) == 1:
        return [single_table(f"{runs[0].path}, {_count(evaluations[0])}", evaluations[0]), *_audits(runs, evaluations)]
    result: list[Table] = []
    for env in dict.fromkeys(facts["env"] for facts in evaluations):
        here = [(run, facts) for run, facts in zip(runs, evaluations) if facts["env"] == env]
        groups: dict[str, list[tuple[RunFolder, Facts]]] = {}
        for run, facts in here:
            groups.setdefault(_setting(run), []).append((run, facts))
        names = _group_names(list(groups.values()))
        rows: dict[str, Facts] = {}
        for name, members in zip(names, groups.values()):
            labels = _seed_labels([run for run, _ in members])
            rows.update({f"{name}, {label}": facts for label, (_, facts) in zip(labels, members)})
            if len(members) > 1:
                rows[f"{name}, mean of {len(members)}"] = _pooled([facts for _, facts in members])
        result.append(comparison_table(f"{env}, {_count(here[0][1])}, mean and 95 % interval", rows))
        if len(groups) > 1 and len({tuple(facts["per_episode"]["seeds"]) for _, facts in here}) == 1:
            paired = {name: [facts for _, facts in members] for name, members in zip(names, groups.values())}
            result.append(difference_table(f"minus {names[0]}, paired by start", paired))
    return [*result, *_audits(runs, evaluations)]


def _audits(runs: Sequence[RunFolder], evaluations: Sequence[Facts]) -> list[Table]:
    """A table for each run that was audited."""
    return [
        audit_table(f"audit of {run.path}: learned against true feasible region", facts["audit"])
        for run, facts in zip(runs, evaluations)
        if "audit" in facts
    ]


def _pooled(evaluations: Sequence[Facts]) -> Facts:
    """The evaluations of one setting's seeds as one."""
    facts = pooled_facts(evaluations, [each["limit"] for each in evaluations[0]["limits"]])
    regions = [each["feasible_region"] for each in evaluations if "feasible_region" in each]
    if len(regions) == len(evaluations):
        facts["feasible_region"] = [
            {**parts[0], "iou": float(np.mean([part["iou"] for part in parts]))} for parts in zip(*regions)
        ]
    return facts


def _count(facts: Facts) -> str:
    return f"{len(facts['per_episode']['returns'])} episodes"


def _group_names(groups: Sequence[Sequence[tuple[RunFolder, Facts]]]) -> list[str]:
    """A name for each setting: its folder's, numbered where several settings share it."""
    folders = [members[0][0].path.resolve().parent.name for members in groups]
    return [
        folder if folders.count(folder) == 1 else f"{folder} ({folders[: index + 1].count(folder)})"
        for index, folder in enumerate(folders)
    ]


def _seed_labels(runs: Sequence[RunFolder]) -> list[str]:
    """ "seed 0" for each run of one setting, with its time where a seed was run more than once."""
    seeds = [run.path.resolve().name.partition("-") for run in runs]
    twice = len({seed for seed, _, _ in seeds}) < len(seeds)
    return [f"seed {seed} {time}" if twice else f"seed {seed}" for seed, _, time in seeds]


def _setting(run: RunFolder) -> str:
    """All that makes two runs different but the seed."""
    values = {key: value for key, value in run.settings().items() if key not in ("seed", "out")}
    return json.dumps(values, sort_keys=True)
