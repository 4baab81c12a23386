"""What a benchmark says about each agent over all its tasks, and about each pair of agents.

A run is one training seed on one task, and its score the mean over the task's cost limits, as DSRL's tables average.
Limits are no runs of their own: most agents are trained once and judged at every limit, so that counting each would
make three samples of one and intervals too short. A seed that lacks a limit is left out, because scores at the limits
that it has aren't comparable with the mean over all.

Three scores: the normalised return alone, which a policy can buy with violations; the normalised cost alone, which it
can keep low by doing nothing; and the safe return (``Result.safe_return``), which wants both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saferl.evaluation.benchmark.results import FAMILIES, Result, csv_text, number
from saferl.evaluation.benchmark.statistics import Span, probability_of_improvement, stratified_iqm, stratified_mean

Score = Callable[[Result], float]
SCORES: dict[str, Score] = {
    "normalised_return": lambda each: each.normalised_return,
    "normalised_cost": lambda each: each.normalised_cost,  # the only one of which less is better
    "safe_return": lambda each: each.safe_return,
}
ALL = "all"  # tasks of every family
RunScores = dict[str, dict[str, list[float]]]  # agent -> task -> score of each run


@dataclass(frozen=True)
class Summary:
    """One agent over the tasks of a family, or over all.

    Attributes:
        agent: its name; group: a key of FAMILIES, or ALL.
        tasks, runs: by score, on how many tasks it has a whole run that has this score, and how many such runs.
        all_tasks: on which any agent has a result.
        safe_share: of its results (a seed on a task at a limit), those that keep the limit; tasks weigh the same.
        seconds: mean time of a training.
        means: by score, the mean over tasks of the mean over runs.
        iqms: by score, the interquartile mean over all runs. A score that is not known (returns of tasks without
            reference) is in none of the four.
    """

    agent: str
    group: str
    tasks: Mapping[str, int]
    all_tasks: int
    runs: Mapping[str, int]
    safe_share: float
    seconds: float
    means: Mapping[str, Span]
    iqms: Mapping[str, Span]


@dataclass(frozen=True)
class Improvement:
    """Probability that a run of ``agent`` has a better score than one of ``over``, over the tasks that both have."""

    score: str
    agent: str
    over: str
    tasks: int
    probability: Span


def run_scores(results: Sequence[Result], score: Score) -> RunScores:
    """Score of each whole run, by agent and task, agents and tasks in the order of the results.

    Args:
        results: of any agents and tasks.
        score: what a result scores, one of SCORES for example.
    Returns: no entry where an agent has no whole run, or its score is not known.
    """
    limits: dict[str, set[float]] = {}
    at_limits: dict[tuple[str, str, int], dict[float, float]] = {}
    for each in results:
        limits.setdefault(each.task, set()).add(each.limit)
        at_limits.setdefault((each.agent, each.task, each.seed), {})[each.limit] = score(each)
    found: RunScores = {each.agent: {} for each in results}
    for (agent, task, _), values in at_limits.items():
        mean = float(np.mean(list(values.values())))
        if values.keys() == limits[task] and np.isfinite(mean):
            found[agent].setdefault(task, []).append(mean)
    return found


def summaries(results: Sequence[Result], group: str = ALL) -> list[Summary]:
    """The agents' summaries over one family's tasks, or all; the best safe return first, unknown ones last."""
    chosen = [each for each in results if group in (ALL, each.family)]
    scores = {name: run_scores(chosen, score) for name, score in SCORES.items()}
    all_tasks = len({each.task for each in chosen})
    found = []
    for agent in scores["normalised_cost"]:
        own = [each for each in chosen if each.agent == agent]
        safe: dict[str, list[bool]] = {}
        for each in own:
            safe.setdefault(each.task, []).append(each.safe)
        strata = {name: list(of_all[agent].values()) for name, of_all in scores.items() if of_all[agent]}
        found.append(
            Summary(
                agent, group, {name: len(each) for name, each in strata.items()}, all_tasks,
                {name: sum(map(len, each)) for name, each in strata.items()},
                float(np.mean([np.mean(shares) for shares in safe.values()])),
                float(np.mean([each.train_seconds for each in own])),
                {name: stratified_mean(each) for name, each in strata.items()},
                {name: stratified_iqm(each) for name, each in strata.items()},
            )
        )  # fmt: skip
    return sorted(found, key=lambda each: -each.iqms["safe_return"].value if "safe_return" in each.iqms else np.inf)


def improvements(results: Sequence[Result]) -> list[Improvement]:
    """Every score and ordered pair of agents that share a task; of the cost, less is better."""
    found = []
    for score in SCORES:
        scores = run_scores(results, SCORES[score])
        agents = list(scores)
        for index, first in enumerate(agents):
            for second in agents[index + 1 :]:
                tasks = [task for task in scores[first] if task in scores[second]]
                if not tasks:
                    continue
                ours, theirs = ([scores[agent][task] for task in tasks] for agent in (first, second))
                above = probability_of_improvement(ours, theirs)
                better, worse = (first, second) if score != "normalised_cost" else (second, first)
                found.append(Improvement(score, better, worse, len(tasks), above))
                found.append(Improvement(score, worse, better, len(tasks), above.complement))
    return found


def statistics_csv(results: Sequence[Result]) -> str:
    """Tidy CSV, a row for each agent, group of tasks (a family, or all) and score."""
    header = ["agent", "family", "score", "tasks", "all_tasks", "runs", "safe_share", "mean", "mean_low", "mean_high",
              "iqm", "iqm_low", "iqm_high"]  # fmt: skip
    families = [family for family in FAMILIES if any(each.family == family for each in results)]
    groups = [ALL, *(families if len(families) > 1 else [])]
    rows = [
        (
            each.agent, group, score, each.tasks[score], each.all_tasks, each.runs[score], number(each.safe_share),
            *_ends(each.means[score]), *_ends(each.iqms[score]),
        )
        for group in groups
        for each in summaries(results, group)
        for score in each.iqms
    ]  # fmt: skip
    return csv_text(header, rows)


def improvements_csv(pairs: Sequence[Improvement]) -> str:
    """Tidy CSV, a row for each score and ordered pair of agents."""
    header = ["score", "agent", "over", "tasks", "probability", "low", "high"]
    return csv_text(header, [(p.score, p.agent, p.over, p.tasks, *_ends(p.probability)) for p in pairs])


def _ends(span: Span) -> tuple[str, str, str]:
    return number(span.value), number(span.low), number(span.high)
