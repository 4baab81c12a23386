"""A certificate by rollouts: halves of seeds, candidates on the first, the test on the second."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saferl.certification.candidates import Candidate, judged
from saferl.certification.episodes import episode_facts, rolled_out
from saferl.certification.gate import Constraint, Decision, decide
from saferl.certification.ledger import Ledger, Split, digest, split_seeds
from saferl.certification.settings import CertifyConfig
from saferl.certification.subjects import Subject, Value
from saferl.command_line import UsageError
from saferl.evaluation.rollout import Episodes
from saferl.progress_bar import Report
from saferl.training.run_folder import file_name, read_json


@dataclass(frozen=True)
class Trial:
    """What is rolled out, and where its episodes are kept."""

    config: CertifyConfig
    env_kwargs: dict[str, Any]
    subject: Subject
    ledger: Ledger
    split: Split

    def episodes(self, value: Value, seeds: Sequence[int], keep: Path, doing: str, report: Report) -> Episodes:
        """Episodes of the policy at one value of its parameter, kept in a file. Raises: UsageError."""
        keep.parent.mkdir(parents=True, exist_ok=True)
        try:
            return rolled_out(
                self.subject.make(value),
                self.config.environment,
                seeds,
                keep=keep,
                num_envs=self.config.num_envs,
                vectorization=self.config.vectorization,
                env_kwargs=self.env_kwargs,
                progress=lambda done: report(done / len(seeds), f"{doing}, {done} of {len(seeds)} episodes"),
            )
        except ValueError as error:
            raise UsageError(str(error)) from error


def trial_of(config: CertifyConfig, env_kwargs: dict[str, Any], subject: Subject, half: int, entropy: int) -> Trial:
    """The folder and the split of a certificate.

    Args:
        config: its settings.
        env_kwargs: arguments of the environment.
        subject: the policy.
        half: episodes of each half.
        entropy: of the seeds, where the folder has none yet.
    Raises: UsageError if the folder's split was made for something else.
    """
    ledger = Ledger(certificate_folder(config, subject))
    origin = {
        "policy": subject.fingerprint,  # so that no other one has seen the episodes, whatever the seed
        "env": config.environment,
        "env_kwargs": env_kwargs,
        "episodes": 2 * half,
    }
    if config.seed is not None:
        origin["entropy"] = str(config.seed)
    split = ledger.split(origin, lambda: split_seeds(entropy, 2 * half, origin))
    return Trial(config, env_kwargs, subject, ledger, split)


def certificate_folder(config: CertifyConfig, subject: Subject) -> Path:
    """``data`` where it is given, ``out``, else ``certify`` in the run's folder, else runs/<env>/<policy>/certify."""
    if config.data is not None:
        return Path(config.data)
    if config.out is not None:
        return Path(config.out)
    if subject.run is not None:
        return subject.run.path / "certify"
    return Path("runs") / file_name(config.environment) / file_name(Path(subject.word).name) / "certify"


def candidate_half(
    trial: Trial, constraints: Sequence[Constraint], free: Sequence[bool], report: Report
) -> list[Candidate]:
    """Every value of the parameter on the same seeds of the candidate half.

    Raises: UsageError for what the user can mend.
    """
    found: list[Candidate] = []
    tune, values = trial.config.tune, [None] if trial.config.values is None else [*trial.config.values]
    if trial.subject.run is not None and tune not in (None, "cost_limit") and len(values) < 2:
        raise UsageError(f"values={values}: give two or more of {tune}, to show whether it matters when the run acts.")
    for value in values:
        at = "" if value is None else f", {tune} {value}"
        identity = digest([trial.subject.fingerprint, value, trial.split.digest, trial.config.decisive])
        keep = trial.ledger.folder / "candidates" / f"{identity[:16]}.json"
        episodes = trial.episodes(value, trial.split.candidate, keep, f"candidate half{at}", report)
        try:
            found.append(judged(value, episodes, constraints, free, len(trial.split.test)))
        except ValueError as error:
            raise UsageError(str(error)) from error
    first, *others = (each.episodes for each in found)
    if others and all(episode_facts(each) == episode_facts(first) for each in others):
        raise UsageError(
            f"tune={tune} has no effect on how the policy acts: {', '.join(f'{value:g}' for value in values)} gave the "
            "same candidate episodes. What can be tuned: a setting that matters when a run acts, such as FISOR's "
            "candidates; cost_limit of agents that take one then; a keyword argument of package.module:function."
        )
    return found


def claim_of(trial: Trial, chosen: Candidate) -> dict[str, Any]:
    """What is tested, as plain values: it decides every episode of the test half and every bound on them."""
    return {
        "kind": "rollouts",
        "policy": trial.subject.fingerprint,
        "parameter": {"name": trial.config.tune, "value": chosen.value},
        "env": trial.config.environment,
        "env_kwargs": trial.env_kwargs,
        "num_envs": trial.config.num_envs,
        "constraints": [asdict(each) for each in chosen.constraints],
        "split": trial.split.digest,
    }


def spend_test_half(trial: Trial, chosen: Candidate, report: Report) -> tuple[Decision, Episodes]:
    """The test, once: opens the test half for this claim, rolls it out and decides.

    Raises: UsageError if it was opened for another claim.
    """
    trial.ledger.open_test(claim_of(trial, chosen))
    keep = trial.ledger.folder / "test_episodes.json"
    episodes = trial.episodes(chosen.value, trial.split.test, keep, "test half", report)
    return decide(chosen.constraints, episodes.costs), episodes


def run_data(subject: Subject) -> dict[str, Any] | None:
    """data.json of a run, None for other policies."""
    return None if subject.run is None else read_json(subject.run.data)
