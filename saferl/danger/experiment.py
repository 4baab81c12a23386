"""One experiment: a gridworld, noise, a backend and settings, run with one seed or many, its results plain values."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from saferl.danger.built_in import BuiltInBackend, LearnerSettings
from saferl.danger.clone import World
from saferl.danger.discovery import DiscoverySettings, Run, discover
from saferl.danger.language_model import language_model_from_environment
from saferl.danger.language_model_backend import LanguageModelBackend
from saferl.danger.literals import OwnLiterals, Vocabulary, vocabulary_of
from saferl.danger.metrics import Correctness, Evaluation, Examiner
from saferl.danger.noise import Noise
from saferl.danger.prompts import Task
from saferl.danger.scoring import Priors, declared_priors
from saferl.danger.specification import Backend, Specification, specification_from_json
from saferl.danger.tasks import Bit, rules_named, task_world
from saferl.danger.text_analogs import ANALOGS
from saferl.evaluation.statistics import estimate, rate_interval

Record = dict[str, Any]  # of one seed, ready for JSON


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is run; see ``python -m saferl.danger --help``.

    Args:
        env: id or name of a gridworld.
        noise: on its danger bits.
        settings: of the loop, with any seed.
        bit: which danger bit.
        backend: who learns.
        declared: whether the built-in learner is told the rates of the noise.
        literals: a user's own.
        without: names of literals that are left out.
        log: folder for the exchanges with a language model; None keeps none.
    Raises: ValueError for an environment that can't be planned on, or rates that can't be declared.
    """

    env: str
    noise: Noise
    settings: DiscoverySettings
    bit: Bit = "pen"
    backend: Literal["builtin", "llm"] = "builtin"
    declared: bool = False
    literals: OwnLiterals | None = None
    without: tuple[str, ...] = ()
    log: Path | None = None

    def __post_init__(self) -> None:
        if self.backend == "builtin" and rules_named(self.env).name in ANALOGS:
            raise ValueError(
                f"{self.env} is told in words, which the built-in learner can't read; use backend=llm, or "
                f"env={ANALOGS[rules_named(self.env).name].original}, the same as a gridworld."
            )
        assert self.priors

    @cached_property
    def priors(self) -> Priors:
        """Of the rates of warnings."""
        return declared_priors(self.noise.p, self.noise.q) if self.declared else Priors()

    @cached_property
    def world(self) -> World:
        """The gridworld's tables."""
        return task_world(self.env, self.bit)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The literals."""
        return vocabulary_of(self.world.clone.steps, self.literals, self.without)

    @cached_property
    def examiner(self) -> Examiner:
        """Who measures."""
        return Examiner(self.world, self.settings.horizon)

    def learner(self, seed: int) -> BuiltInBackend:
        """The built-in learner."""
        return BuiltInBackend(
            self.world.clone, self.vocabulary, LearnerSettings(self.settings.horizon, seed, self.priors)
        )

    def run(self, seed: int, report: Callable[[int], None] = lambda done: None) -> Run:
        """One discovery; ``report`` gets the number of rounds done.

        Raises: LanguageModelError if a language model can't be asked.
        """
        learner = self.learner(seed)
        backend: Backend = learner if self.backend == "builtin" else self._language_model(learner, seed)

        def judge(specification: Specification) -> Correctness | None:
            if self.backend == "llm" and not specification.rules:
                return None  # text only
            return self.examiner.correctness(learner.called(specification))

        settings = replace(self.settings, seed=seed)
        return discover(self.world, self.examiner, backend, self.noise, settings, judge, report)

    def _language_model(self, learner: BuiltInBackend, seed: int) -> LanguageModelBackend:
        """The language model; in a gridworld it may write rules with the literals, which are scored."""
        rules = rules_named(self.env)
        log = None if self.log is None else self.log / f"exchanges-{seed}.jsonl"
        return LanguageModelBackend(
            language_model_from_environment(log),
            Task(rules, self.settings.horizon),
            learner,
            literals=None if rules.name in ANALOGS else self.vocabulary.by_name,
            noisy=self.noise.kind != "clean",
            priors=self.priors,
            seed=seed,
        )

    def record(self, seed: int, report: Callable[[int], None] = lambda done: None) -> Record:
        """``run`` as plain values."""
        run = self.run(seed, report)
        rounds = [
            {
                **{name: getattr(each, name) for name in ("steps", "danger", "warnings", "rules", "literals")},
                "evaluation": each.evaluation.as_dict(),
                "correctness": None if each.correctness is None else each.correctness.as_dict(),
            }
            for each in run.rounds
        ]
        return {
            "seed": seed,
            "discovered": run.discovered,
            "danger_rate": run.danger_rate,
            "rounds": rounds,
            "specification": run.specification.as_json(),
        }

    def specification(self, record: Record) -> Specification:
        """The last specification of a record."""
        return specification_from_json(record["specification"], self.vocabulary.by_name)

    def with_no_rule(self) -> Evaluation:
        """What the planner does without any specification."""
        return self.examiner.evaluation(self.learner(0).greedy(Specification()))

    def with_truth(self) -> Evaluation:
        """What the planner does with an oracle that calls dangerous exactly what is."""
        return self.examiner.evaluation(self.learner(0).avoiding(self.examiner.danger_edges > 0))


def agreed(records: Sequence[Record]) -> tuple[Record, int]:
    """The first record with the specification that most seeds ended with, and how many did."""

    def rules(record: Record) -> tuple[tuple[str, ...], ...]:
        return tuple(sorted(tuple(sorted(rule["literals"])) for rule in record["specification"]["rules"]))

    most, count = Counter(map(rules, records)).most_common(1)[0]
    return next(record for record in records if rules(record) == most), count


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """What the seeds say together: means with 95 % intervals of the last round, and when discovery came.

    "rounds" counts those seeds only that discovered; how many did not is beside it and in no mean.
    """
    last = [record["rounds"][-1] for record in records]
    facts: dict[str, Any] = {"seeds": len(records)}
    for name in ("safety", "ratio", "danger", "reward", "usefulness"):
        facts[name] = _mean([each["evaluation"][name] for each in last])
    judged = [each["correctness"] for each in last if each["correctness"] is not None]
    for name in ("precision", "recall", "f1", "missed", "needless"):
        facts[name] = _mean([each[name] for each in judged]) if judged else None
    for name in ("rules", "literals"):
        facts[name] = _mean([each[name] for each in last])
    facts["danger_rate"] = _mean([record["danger_rate"] for record in records])
    found = [record["discovered"] for record in records if record["discovered"] is not None]
    low, high = rate_interval(len(found), len(records))
    facts["discovered"] = {"count": len(found), "low": low, "high": high}
    facts["rounds"] = None
    if found:
        facts["rounds"] = {**(_mean(found) or {}), "median": statistics.median(found), "greatest": max(found)}
    return facts


def _mean(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and interval; None where a value isn't known."""
    if not np.isfinite(values).all():
        return None
    each = estimate(values)
    return {"mean": each.mean, "low": each.low, "high": each.high}
