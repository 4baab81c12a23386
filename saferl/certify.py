"""python -m saferl.certify: whether a policy may be released, with stated confidence; --help is the manual."""

import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf

from saferl.certification.candidates import best
from saferl.certification.certificate import request_of, rollout_certificate, unspent_certificate
from saferl.certification.gate import RELEASE
from saferl.certification.ledger import Ledger
from saferl.certification.parts import Part, parts_of
from saferl.certification.pictures import pictures_of
from saferl.certification.plan import plan_of
from saferl.certification.recorded import certify_recorded, split_dataset
from saferl.certification.safety_case import safety_case_page
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
    """Decide, write certificate.json and safety_case.html, print; once decided, page and verdict again.

    Returns: 0 for "release", 1 for "no solution found"; 0 too where nothing is decided (a plan, a split).
    Raises: UsageError for what the user can mend; SystemExit(130) after Ctrl-C.
    """
    env_kwargs = Protocol(env_kwargs=config.env_kwargs).arguments(config.environment)
    try:
        if config.policy is None:
            print(split_dataset(config))
            return RELEASED
        subject = _subject(config, env_kwargs)
        # A damaged file is found before anything is spent.
        evidence = parts_of(subject.run, config.evidence or (), config.policy)
        ledger = Ledger(certificate_folder(config, subject))
        facts = None if config.plan else ledger.verdict_on(request_of(config, subject, env_kwargs))
        if facts is not None:
            print(f"the test half is spent; its verdict of {facts['environment']['time']} once more:")
        elif config.data is not None:
            facts = certify_recorded(config, env_kwargs, subject)
        else:
            facts = _by_rollouts(config, env_kwargs, subject)
        return RELEASED if facts is None else _finished(facts, ledger, *evidence)
    except KeyboardInterrupt:
        print("saferl.certify: stopped; nothing is lost: the same command goes on.", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error


def _by_rollouts(config: CertifyConfig, env_kwargs: dict[str, Any], subject: Subject) -> dict[str, Any] | None:
    """The certificate of a test by rollouts, None where only the plan is asked for."""
    constraints, free = config.constraints(greatest_cost(config, env_kwargs))
    plan = plan_of(constraints, free, config.margin, config.power, config.episodes, config.tune is not None)
    show(plan_table(plan))
    values = len(config.values or [None])
    shown = f" for each of {values} values" if values > 1 else ""
    print(f"episodes: {plan.half:,} to choose with{shown}, {plan.half:,} to test with", flush=True)
    if config.plan:
        return None
    entropy = secrets.randbits(128) if config.seed is None else config.seed
    trial = trial_of(config, env_kwargs, subject, plan.half, entropy)
    with progress_bar("candidate half") as report:
        candidates = candidate_half(trial, constraints, free, report)
    chosen = best(candidates)
    show(candidates_table(candidates, config.tune))
    if config.tune is not None and not chosen.passes:
        facts = unspent_certificate(trial, plan, candidates)
        write_json(trial.ledger.folder / "candidates.json", facts)
        return facts
    with progress_bar("test half") as report:
        decision, episodes = spend_test_half(trial, chosen, report)
    facts = rollout_certificate(trial, plan, candidates, chosen, decision, episodes)
    trial.ledger.close_test(facts)
    return facts


def _subject(config: CertifyConfig, env_kwargs: dict[str, Any]) -> Subject:
    assert config.policy is not None
    limit = config.event_limit if config.cost_limit is None else config.cost_limit
    device = device_named(config.device)
    return subject_of(config.policy, config.environment, env_kwargs, tune=config.tune, limit=limit, device=device)


def _finished(facts: Mapping[str, Any], ledger: Ledger, parts: Sequence[Part], absent: Sequence[str]) -> int:
    """Write the page, print the verdict; the exit code."""
    command = "python -m saferl.certify " + shlex.join(facts["environment"]["command"][1:])
    page = safety_case_page(facts, pictures_of(facts), parts, absent, command)
    path = ledger.folder / "safety_case.html"
    write_atomically(path, page.encode())
    if facts["checks"]:
        show(checks_table(facts))
    print(f"verdict: {facts['verdict']}")
    print(facts["statement"])
    for reason in facts["reasons"]:
        print(f"  {reason}")
    print(f"written: {path}")
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
