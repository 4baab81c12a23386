"""A certificate as plain values: verdict, checks, what was measured, what it rests on, where it comes from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from saferl.certification.bounds import BOUNDS
from saferl.certification.candidates import Candidate
from saferl.certification.gate import REFUSED, Constraint, Decision
from saferl.certification.plan import Plan
from saferl.certification.settings import CertifyConfig
from saferl.certification.simulated import Trial, run_data
from saferl.certification.subjects import Subject
from saferl.evaluation.report import evaluation_facts
from saferl.evaluation.rollout import Episodes
from saferl.evaluation.scores import reference_returns
from saferl.training.run_folder import environment_facts

Facts = dict[str, Any]


def request_of(config: CertifyConfig, subject: Subject, env_kwargs: dict[str, Any]) -> Facts:
    """Everything that is asked for and decides the verdict, as plain values: the policy by its fingerprint."""
    return {**config.decisive, "policy": subject.fingerprint, "env_kwargs": env_kwargs}


def rollout_certificate(
    trial: Trial, plan: Plan, candidates: Sequence[Candidate], chosen: Candidate, decision: Decision, episodes: Episodes
) -> Facts:
    """The certificate of a test that was done.

    Args:
        trial: what was rolled out.
        plan: what was expected to be needed.
        candidates: all of the candidate half; chosen: the one that was tested.
        decision: on the test half.
        episodes: of the test half.
    """
    limits = [] if trial.config.cost_limit is None else [trial.config.cost_limit]
    reference = reference_returns(trial.config.environment, run_data(trial.subject))
    return {
        **verdict_facts(decision.verdict, decision.reasons, trial.config, chosen.constraints),
        "checks": [check.as_facts() for check in decision.checks],
        "half": "test",
        **origin_facts(trial.config, trial.subject, trial.env_kwargs),
        "test": evaluation_facts(episodes, reference, limits),
        "candidate": _candidate_facts(trial, candidates, chosen),
        "plan": plan.as_facts(),
        "split": {"sha256": trial.split.digest, **trial.split.origin},
        "assumptions": rollout_assumptions(trial, chosen.constraints),
        "environment": environment_facts(),
    }


def unspent_certificate(trial: Trial, plan: Plan, candidates: Sequence[Candidate]) -> Facts:
    """What is said where no value is predicted to pass: the test half stays unspent."""
    constraints = candidates[0].constraints
    reason = (
        f"no {trial.config.tune} of {', '.join(f'{each.value:g}' for each in candidates if each.value is not None)} is "
        "predicted to pass; the test half was not opened"
    )
    return {
        **verdict_facts(REFUSED, [reason], trial.config, constraints),
        "checks": [],
        **origin_facts(trial.config, trial.subject, trial.env_kwargs),
        "test": None,
        "candidate": _candidate_facts(trial, candidates, None),
        "plan": plan.as_facts(),
        "split": {"sha256": trial.split.digest, **trial.split.origin},
        "assumptions": rollout_assumptions(trial, constraints),
        "environment": environment_facts(),
    }


def verdict_facts(verdict: str, reasons: list[str], config: CertifyConfig, constraints: Sequence[Constraint]) -> Facts:
    """The verdict and what it says."""
    return {
        "verdict": verdict,
        "reasons": reasons,
        "statement": statement(verdict, config.delta, constraints),
        "delta": config.delta,
        "confidence": 1 - config.delta,
        "approximate": any(BOUNDS[each.bound].approximate for each in constraints),
    }


def origin_facts(config: CertifyConfig, subject: Subject, env_kwargs: dict[str, Any]) -> Facts:
    """What is certified, and under which settings."""
    return {
        "policy": {
            "given": subject.word,
            "name": subject.name,
            "run": None if subject.run is None else str(subject.run.path),
            "sha256": subject.fingerprint,
            "sha256_of": subject.identity,
            "acting_limit": subject.acting_limit,
        },
        "env": config.environment,
        "env_kwargs": env_kwargs,
        "settings": dataclasses.asdict(config),
        "request": request_of(config, subject, env_kwargs),
    }


def _candidate_facts(trial: Trial, candidates: Sequence[Candidate], chosen: Candidate | None) -> Facts:
    return {
        "tuned": trial.config.tune,
        "own": trial.subject.own,
        "chosen": None if chosen is None else chosen.value,
        "predicted_to_pass": chosen is not None and chosen.passes,
        "episodes": len(trial.split.candidate),
        "values": [each.as_facts() for each in candidates],
    }


def statement(verdict: str, delta: float, constraints: Sequence[Constraint]) -> str:
    """The verdict in one sentence, with what it means and what not."""
    what = " and ".join(each.words for each in constraints)
    approximate = any(BOUNDS[each.bound].approximate for each in constraints)
    if verdict == REFUSED:
        return (
            f"Not shown: {what}. This says that the evidence is not enough at delta {delta:g}, not that the policy "
            "breaks the limit."
        )
    about = "about " if approximate else ""
    return f"Shown with confidence {about}{100 * (1 - delta):g} %: {what}."


def _arguments(trial: Trial) -> str:
    given = ", ".join(f"{key}={value}" for key, value in trial.env_kwargs.items())
    return f" with {given}" if given else ""


def rollout_assumptions(trial: Trial, constraints: Sequence[Constraint]) -> list[str]:
    """What the confidence of a test by rollouts rests on, in sentences."""
    lines = [
        f"Episodes of the deployment are distributed as those of {trial.config.environment}{_arguments(trial)}: same "
        "starts, dynamics, sensors and cost. The gap between a simulator and a robot is not covered.",
        "Episodes are independent: each has a start of its own, drawn at random, and the policy remembers nothing of "
        "earlier episodes.",
        "The test half had no part in making or choosing the policy, and is looked at once.",
        f"delta {trial.config.delta:g} is the probability that this one test releases a policy that it should not. "
        "Certifying several policies, or one several times, adds their deltas up.",
    ]
    if len(constraints) > 1:
        part = constraints[0].delta
        lines.append(f"The {len(constraints)} constraints share delta: {part:g} each (union bound, Bonferroni).")
    for each in constraints:
        bound = BOUNDS[each.bound]
        extent = f", 0 to {each.high:g}" if each.kind == "mean" and not bound.approximate else ""
        lines.append(f"{bound.label} ({each.words}): {bound.assumption}{extent}.")
        if bound.approximate:
            lines.append(
                "Student's t is approximate: where costs are rare it releases too often, and a sample without any cost "
                "has the bound 0."
            )
    return lines
