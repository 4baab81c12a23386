"""How long a plan takes and how much it writes, from what the probes measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from saferl.benchmarking.data import DataFacts
from saferl.benchmarking.plan import Plan
from saferl.benchmarking.probe import Probes, agent_key, env_key, shape_of
from saferl.benchmarking.runs import Run
from saferl.training.checkpoint import KEEP

_BYTES_PER_LINE = 600  # of metrics.jsonl and of the TensorBoard events together
_BYTES_PER_RUN = 100_000  # settings, facts about data and machine, evaluations


@dataclass(frozen=True)
class Estimate:
    """What is left to do of some runs; None where no probe has measured it."""

    seconds: float | None  # on one core
    bytes: int | None


class Estimator:
    """Looks the times of runs up.

    Args:
        facts: of the data, by task.
        probes: what was measured.
    """

    def __init__(self, facts: Mapping[str, DataFacts], probes: Probes) -> None:
        self._facts, self._probes = facts, probes

    def of(self, run: Run) -> Estimate:
        """What a run lacks: updates behind its checkpoint, and evaluations."""
        if run.is_complete:
            return Estimate(0.0, 0)
        shape = shape_of(run, self._facts.get(run.task.name))
        env = self._probes.env(env_key(run))
        if shape is None or env is None:
            return Estimate(None, None)
        agent = self._probes.agent(agent_key(run, shape)) or self._probes.agent(agent_key(run, shape, stand_in=True))
        if agent is None:
            return Estimate(None, None)
        updates = max(run.config.steps - run.done, 0)
        seconds = agent.setup + updates * agent.update
        seconds += len(run.missing) * (env.make + shape.steps * (env.step + agent.act))
        written = KEEP * agent.checkpoint + run.config.steps // run.config.log_every * _BYTES_PER_LINE + _BYTES_PER_RUN
        return Estimate(seconds, 0 if run.is_trained else written)

    def of_all(self, runs: list[Run]) -> Estimate:
        """The sum over runs; None as soon as one of them is unknown."""
        each = [self.of(run) for run in runs]
        if any(one.seconds is None or one.bytes is None for one in each):
            return Estimate(None, None)
        return Estimate(sum(one.seconds or 0.0 for one in each), sum(one.bytes or 0 for one in each))


def longest_first(plan: Plan, estimator: Estimator) -> list[Run]:
    """The open runs, task by task so that data are read once, and within a task the longest first."""
    order = {task.name: place for place, task in enumerate(plan.tasks)}
    return sorted(plan.open_runs(), key=lambda run: (order[run.task.name], -(estimator.of(run).seconds or 0.0)))
