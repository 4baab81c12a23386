"""python -m saferl.certify: whether a policy may be released, with stated confidence; --help is the manual."""

import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf

from saferl.certification.candidates import best
from saferl.certification.certificate import rollout_certificate, unspent_certificate
from saferl.certification.gate import RELEASE
from saferl.certification.ledger import Ledger
from saferl.certification.parts import parts_of
from saferl.certification.pictures import candidates_figure, checks_figure, episodes_figure
from saferl.certification.plan import plan_of
from saferl.certification.recorded import certify_recorded, split_dataset
from saferl.certification.safety_case import Pictures, safety_case_page
from saferl.certification.settings import CertifyConfig, greatest_cost, parse_certificate
from saferl.certification.simulated import candidate_half, certificate_folder, spend_test_half, trial_of
from saferl.certification.subjects import Subject, subject_of
from saferl.certification.tables import candidates_table, checks_table, plan_table
from saferl.command_line import UsageError, check_flags, composed, guarded, run_hydra
from saferl.evaluation.report import show
from saferl.progress_bar import progress_bar
from saferl.training.config import device_named
from saferl.training.run_evaluation import Protocol
from saferl.training.run_folder import write_atomically, write_json

RELEASED, REFUSED, STOPPED = 0, 1, 130  # exit codes; 2: a mistake that the user can mend


def certify(config: CertifyConfig) -> int:
    """Decide, write certificate.json and safety_case.html, print.

    Returns: 0 for "release", 1 for "no solution found"; 0 too where nothing is decided (a plan, a split).
    Raises: UsageError for what the user can mend; SystemExit(130) after Ctrl-C.
    """
    parts_of(None, config.evidence or ())  # before anything is spent
    env_kwargs = Protocol(env_kwargs=config.env_kwargs).arguments(config.environment)
    try:
        if config.policy is None:
            print(split_dataset(config))
            return RELEASED
        if config.data is not None:
            return _by_recordings(config, env_kwargs)
        return _by_rollouts(config, env_kwargs)
    except KeyboardInterrupt:
        print("saferl.certify: stopped; nothing is lost: the same command goes on.", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error


def _by_rollouts(config: CertifyConfig, env_kwargs: dict[str, Any]) -> int:
    constraints, free = config.constraints(greatest_cost(config, env_kwargs))
    subject = _subject(config, env_kwargs)
    if not config.plan:
        Ledger(certificate_folder(config, subject)).refuse_if_spent()
    plan = plan_of(constraints, free, config.margin, config.power, config.episodes)
    show(plan_table(plan))
    values = len(config.values or [None])
    shown = f" for each of {values} values" if values > 1 else ""
    print(f"episodes: {plan.half:,} to choose with{shown}, {plan.half:,} to test with", flush=True)
    if config.plan:
        return RELEASED
    entropy = secrets.randbits(128) if config.seed is None else config.seed
    trial = trial_of(config, env_kwargs, subject, plan.half, entropy)
    pictures: dict[str, Any] = {}
    with progress_bar("candidate half") as report:
        candidates = candidate_half(trial, constraints, free, report)
    chosen = best(candidates)
    show(candidates_table(candidates, config.tune))
    if config.tune is not None:
        tested = chosen.value if chosen.passes else None
        figure = candidates_figure(candidates, tested, config.tune)
        pictures["candidate"] = (figure, "mean return and predicted bounds by value")
        if not chosen.passes:
            facts = unspent_certificate(trial, plan, candidates)
            write_json(trial.ledger.folder / "candidates.json", facts)
            return _finished(facts, trial.ledger.folder, subject, pictures)
    with progress_bar("test half") as report:
        decision, episodes = spend_test_half(trial, chosen, report)
    facts = rollout_certificate(trial, plan, candidates, chosen, decision, episodes)
    pictures["checks"] = (checks_figure(decision.checks), "mean, bound and limit of each constraint")
    limits = [config.event_limit] if config.event_rate is not None else []
    limits += [] if config.cost_limit is None else [config.cost_limit]
    pictures["measured"] = (episodes_figure(episodes, limits), "costs and returns of the test half")
    trial.ledger.close_test(facts)
    return _finished(facts, trial.ledger.folder, subject, pictures)


def _by_recordings(config: CertifyConfig, env_kwargs: dict[str, Any]) -> int:
    subject = _subject(config, env_kwargs)
    facts, checks = certify_recorded(config, env_kwargs, subject)
    pictures = {"checks": (checks_figure(checks), "estimate, bound and limit of each constraint")} if checks else {}
    return _finished(facts, Path(str(config.data)), subject, pictures)


def _subject(config: CertifyConfig, env_kwargs: dict[str, Any]) -> Subject:
    assert config.policy is not None
    limit = config.event_limit if config.cost_limit is None else config.cost_limit
    device = device_named(config.device)
    return subject_of(config.policy, config.environment, env_kwargs, tune=config.tune, limit=limit, device=device)


def _finished(facts: Mapping[str, Any], folder: Path, subject: Subject, pictures: Pictures) -> int:
    """Write the page, print the verdict; the exit code."""
    parts, absent = parts_of(subject.run, facts["settings"]["evidence"] or ())
    command = "python -m saferl.certify " + shlex.join(facts["environment"]["command"][1:])
    page = safety_case_page(facts, pictures, parts, absent, command)
    write_atomically(folder / "safety_case.html", page.encode())
    if facts["checks"]:
        show(checks_table(facts))
    print(f"verdict: {facts['verdict']}")
    print(facts["statement"])
    for reason in facts["reasons"]:
        print(f"  {reason}")
    print(f"written: {folder / 'safety_case.html'}")
    return RELEASED if facts["verdict"] == RELEASE else REFUSED


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 release, 1 no solution found, 2 a mistake, 130 stopped."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("certify", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(words)
    if flags.multirun:
        raise UsageError("certify takes no -m: every certificate has its own delta.")
    codes: list[int] = []

    def job(settings: DictConfig) -> None:
        codes.append(certify(parse_certificate(OmegaConf.to_container(settings, resolve=True))))  # type: ignore[arg-type]

    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        parse_certificate(OmegaConf.to_container(composed("certify", flags.overrides)))  # type: ignore[arg-type]
    run_hydra("certify", flags, job)
    return codes[0] if codes else RELEASED


if __name__ == "__main__":
    raise SystemExit(main())
