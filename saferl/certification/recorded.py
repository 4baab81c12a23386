"""A certificate from recorded episodes: halves of a data set, importance-weighted bounds, fitted-Q estimates."""

import dataclasses
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import saferl.envs
from saferl.certification import off_policy
from saferl.certification.bounds import BOUNDS, Moments
from saferl.certification.certificate import origin_facts, verdict_facts
from saferl.certification.densities import (
    FITTED,
    LogDensity,
    check_memoryless,
    fitted_behaviour,
    stated_behaviour,
    stochastic,
)
from saferl.certification.estimates import Half, fitted_estimate, self_normalised, weight_facts, weighted_estimates
from saferl.certification.gate import Check, Constraint, Decision
from saferl.certification.ledger import Ledger, Split, file_digest, split_recorded
from saferl.certification.off_policy import WeightedEpisodes, weighted_episodes
from saferl.certification.settings import AUTO, CertifyConfig, horizon_of
from saferl.certification.subjects import Subject, action_box
from saferl.command_line import UsageError
from saferl.offline_data import OfflineDataset
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from saferl.offline_data.loading import load_dataset
from saferl.policy import Policy
from saferl.training.run_folder import RunFolder, environment_facts, read_json, write_json

CANDIDATE, TEST = "candidate.hdf5", "test.hdf5"
Facts = dict[str, Any]


def split_dataset(config: CertifyConfig) -> str:
    """Split a data set's episodes into two files, once. Returns: a line that says what to do with them.

    Raises: UsageError for what the user can mend.
    """
    if config.out is None:
        raise UsageError("data= without policy= splits the data: give out=FOLDER for the two halves.")
    folder = Path(config.out)
    ledger = Ledger(folder)
    if ledger.split_file.exists():
        raise UsageError(f"{folder} holds a split already; its test half is what it is: take another folder.")
    data = load_dataset(config.environment, config.data)
    if data.n_episodes < 4:
        raise UsageError(f"{data.source}: {data.n_episodes} episodes can't be split; at least 4 are needed.")
    entropy = secrets.randbits(128) if config.seed is None else config.seed
    origin: Facts = {"data": data.source, "env": config.environment, "episodes": data.n_episodes}
    split = split_recorded(entropy, data.n_episodes, origin)
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in ((CANDIDATE, split.candidate), (TEST, split.test)):
        save_hdf5(data.select(np.array(chosen)), folder / name)
        origin[name] = file_digest(folder / name)
    split = dataclasses.replace(split, origin={**split.origin, **origin})
    ledger.split(origin, lambda: split)  # last: a folder with split.json is whole
    return (
        f"written: {folder}/ with {CANDIDATE} ({len(split.candidate)} episodes) and {TEST} ({len(split.test)}).\n"
        f"Train and choose with the first only: python -m saferl.train env={config.env} "
        f"data.path={folder / CANDIDATE}\nThen: python -m saferl.certify policy=RUN env={config.env} data={folder} "
        "behaviour=... cost_limit=..."
    )


def certify_recorded(config: CertifyConfig, env_kwargs: Facts, subject: Subject) -> Facts:
    """The certificate from the recorded test half, once; written into the folder of the split.

    Raises: UsageError for what the user can mend.
    """
    assert config.data is not None
    ledger = Ledger(Path(config.data))
    if not ledger.split_file.exists():
        raise UsageError(
            f"data={config.data} is not split yet: python -m saferl.certify env={config.env} data={config.data} "
            "out=FOLDER, then train on FOLDER/candidate.hdf5 and give data=FOLDER."
        )
    split = ledger.read_split()
    _check_environment(config, split)
    horizon = horizon_of(config.environment, env_kwargs)
    if horizon is None:
        raise UsageError(
            f"{config.env} has no limit on the steps of an episode; give env_kwargs={{max_episode_steps:N}}."
        )
    data = _read(ledger, split, CANDIDATE)
    policy, behaviour = _densities(config, env_kwargs, subject, data)
    candidate = half_of(data, horizon, policy, behaviour)
    constraints, _ = config.constraints(config.step_cost_max * horizon)
    chosen = [_chosen(config, each, candidate, len(split.test)) for each in constraints]
    shown, faults = candidate, _faults(config, subject, candidate)
    opened = not faults  # a test that can't release anything would waste the test half
    if opened:
        ledger.open_test(_claim(config, subject, split, chosen))
        shown, faults = _opened(_read(ledger, split, TEST), horizon, policy, behaviour, chosen, config.step_cost_max)
    checks = tuple(_check(each, clip, shown, config.step_cost_max, faults) for each, clip in chosen)
    decision = Decision(checks)
    estimates = weighted_estimates(config, constraints, chosen, checks, shown, faults)
    estimates.append(fitted_estimate(config, candidate, shown, policy))
    name = "test" if opened else "candidate"
    if config.policy_noise is not None:
        subject = dataclasses.replace(subject, name=f"{subject.name} with noise {config.policy_noise:g}")
    facts: Facts = {
        **verdict_facts(decision.verdict, decision.reasons, config, [each for each, _ in chosen]),
        "checks": [check.as_facts() for check in checks],
        "half": name,
        **origin_facts(config, subject, env_kwargs),
        "off_policy": {"estimates": estimates, "facts": weight_facts(shown, chosen, name)},
        "split": {"sha256": split.digest, **split.origin},
        "assumptions": _assumptions(config, subject, opened),
        "environment": environment_facts(),
    }
    if opened:
        ledger.close_test(facts)
    else:
        write_json(ledger.folder / "estimates.json", facts)
    return facts


def _check_environment(config: CertifyConfig, split: Split) -> None:
    """Raises: UsageError if the data were split as another environment's."""
    recorded = split.origin["env"]
    if saferl.envs.full_id(config.environment) != saferl.envs.full_id(recorded):
        raise UsageError(
            f"data={config.data} was recorded in {recorded}, which says nothing about env={config.env}; give "
            f"env={recorded}."
        )


def _claim(config: CertifyConfig, subject: Subject, split: Split, chosen: Sequence[tuple[Constraint, float]]) -> Facts:
    """What is tested, as plain values."""
    return {
        "kind": "recorded",
        "policy": subject.fingerprint,
        "settings": config.decisive,
        "choices": [[dataclasses.asdict(each), clip] for each, clip in chosen],
        "split": split.digest,
    }


def _read(ledger: Ledger, split: Split, name: str) -> OfflineDataset:
    path = ledger.folder / name
    if not path.is_file() or file_digest(path) != split.origin.get(name):
        raise UsageError(f"{path} is not the file that was split; split the data anew: out=FOLDER.")
    return load_hdf5(path)


def _densities(
    config: CertifyConfig, env_kwargs: Facts, subject: Subject, candidate: OfflineDataset
) -> tuple[Policy, LogDensity | None]:
    policy = subject.make(None)
    if config.behaviour is None and config.policy_noise is None:
        check_memoryless(policy)
        return policy, None
    noisy = stochastic(policy, action_box(config.environment, env_kwargs), config.policy_noise)
    if config.behaviour is None:
        return noisy, None
    if config.behaviour == FITTED:
        return noisy, fitted_behaviour(candidate.observations, candidate.actions)
    return noisy, stated_behaviour(config.behaviour)


def half_of(data: OfflineDataset, horizon: int, policy: Any, behaviour: LogDensity | None) -> Half:
    """One half of the data.

    Args:
        data: its episodes.
        horizon: steps after which an episode is cut.
        policy: whose ``log_density`` weighs them; behaviour: that of the recorded actions, None for no weights.
    Raises: UsageError where the two don't fit the data.
    """
    lengths = data.episode_lengths
    unfinished = int((~data.terminals[data.episode_ends - 1] & (lengths < horizon)).sum())
    if behaviour is None:
        return Half(data, horizon, None, unfinished)
    ratios = policy.log_density(data.observations, data.actions) - behaviour(data.observations, data.actions)
    try:
        return Half(data, horizon, weighted_episodes(ratios, data.costs, lengths, horizon), unfinished)
    except ValueError as error:
        raise UsageError(f"{data.source}: {error}") from error


def _opened(
    test: OfflineDataset,
    horizon: int,
    policy: Any,
    behaviour: LogDensity | None,
    chosen: Sequence[tuple[Constraint, float]],
    step_cost: float,
) -> tuple[Half, list[str]]:
    """The test half, and why no bound holds on it.

    What the candidate half did not tell, such as one step that costs too much, is a reason to refuse by now: as an
    error it would leave the half open for ever, without a verdict.
    """
    try:
        half = half_of(test, horizon, policy, behaviour)
        for constraint, clip in chosen:
            _check(constraint, clip, half, step_cost, ())
    except ValueError as error:
        return Half(test, horizon, None, 0), [str(error)]
    return half, _unfinished(half)


def _scores(constraint: Constraint, clip: float, weights: WeightedEpisodes, step_cost: float) -> NDArray[np.float64]:
    if constraint.kind == "mean":
        return off_policy.safe_scores(weights, clip, step_cost)
    return off_policy.safe_events(weights, clip, constraint.event_limit)


def _chosen(config: CertifyConfig, constraint: Constraint, candidate: Half, n: int) -> tuple[Constraint, float]:
    """Bound and clip that are predicted to be tightest on the test half of n episodes: chosen on the candidate half."""
    names = off_policy.LOWER_BOUNDS if config.bound == AUTO else (config.bound,)
    if any(BOUNDS[name].events_only for name in names):
        raise UsageError(f"bound={config.bound} is for events; weighted ones: {', '.join(off_policy.LOWER_BOUNDS)}.")
    if candidate.weights is None:
        return dataclasses.replace(constraint, bound=names[0]), 1.0
    best: tuple[float, Constraint, float] | None = None
    for clip in off_policy.CLIPS:
        scores = _scores(constraint, clip, candidate.weights, config.step_cost_max)
        for name in names:
            upper = off_policy.upper_from_saved(name, scores, constraint.delta, constraint.high, clip, n)
            if best is None or upper < best[0]:
                best = (upper, dataclasses.replace(constraint, bound=name), clip)
    assert best is not None
    return best[1], best[2]


def _faults(config: CertifyConfig, subject: Subject, candidate: Half) -> list[str]:
    """Why no bound can hold, as far as the candidate half tells; empty if one can."""
    found = []
    if config.behaviour is None:
        found.append("no density of the behaviour is stated (behaviour=)")
    if config.behaviour == FITTED:
        found.append("the density of the behaviour is fitted, an estimate itself")
    if subject.run is not None:
        found += _unknown_training(subject.run, candidate.data)
    return found + _unfinished(candidate)


def _unfinished(half: Half) -> list[str]:
    if not half.unfinished:
        return []
    return [f"{half.unfinished} of {half.data.n_episodes} recordings stop before their episode ends"]


def _unknown_training(run: RunFolder, candidate: OfflineDataset) -> list[str]:
    """Why a run may know the test half; nothing if it was given the candidate half, bit for bit, under any filters."""
    trained = read_json(run.data).get("metadata", {}).get("sha256")
    if trained is None:
        return [f"{run.data} has no SHA-256 of the data, an older saferl wrote it: train again"]
    if trained != candidate.sha256():
        return ["the run was not trained on candidate.hdf5, so that it may know the test half"]
    return []


def _check(constraint: Constraint, clip: float, half: Half, step_cost: float, faults: Sequence[str]) -> Check:
    """The bound of one constraint on the test half; none where there are faults."""
    if half.weights is None:
        values = constraint.sample(half.data.episode_returns()[1])
        moments = Moments.of(values)
        return Check(constraint, moments.mean, moments.variance, moments.n, None, f"no bound: {'; '.join(faults)}")
    scores = _scores(constraint, clip, half.weights, step_cost)
    moments = Moments.of(scores)
    estimate = float(self_normalised(constraint, half.weights)(np.ones((1, moments.n)))[0])
    if faults:
        return Check(constraint, estimate, moments.variance, moments.n, None, f"no bound: {'; '.join(faults)}")
    upper = off_policy.upper_from_saved(constraint.bound, scores, constraint.delta, constraint.high, clip)
    return Check(constraint, estimate, moments.variance, moments.n, upper)


def _assumptions(config: CertifyConfig, subject: Subject, opened: bool) -> list[str]:
    """What a bound from recorded episodes rests on."""
    lines = [
        "A verdict rests on bounds only. Importance-weighted and fitted-Q estimates are shown, and release nothing.",
        "The recorded actions were drawn independently from the stated density, given the observation alone, and are "
        "recorded as drawn, not as the environment clipped them. A mixture of policies that is drawn once per episode "
        "has no such density.",
        "Episodes are independent, start as the deployment's do, and are recorded to their end.",
        f"No step costs more than {config.step_cost_max:g}. Weights are clipped where that can only raise the bound.",
        "The test half had no part in making or choosing the policy, and is used once, by one policy.",
    ]
    if not opened:
        lines.append("No bound can hold here, so that the test half was not opened: these numbers are the candidate's.")
    if config.policy_noise is not None:
        lines.append(
            f"What is certified is the policy with Gaussian noise of standard deviation {config.policy_noise:g} on its "
            "actions (scaled to [-1, 1]), not the policy without."
        )
    if subject.run is None:
        lines.append(
            "That the policy was made without the test half is stated by whoever certifies; it can't be checked."
        )
    return lines
