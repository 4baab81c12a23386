"""What is certified: a run, an SB3 file or a function, and the one parameter of it that a search may turn."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import saferl.envs
from saferl.agents import AGENTS
from saferl.certification.ledger import digest, file_digest
from saferl.command_line import UsageError, imported, unknown
from saferl.evaluation.named_policy import load_policy_word
from saferl.policy import Policy, as_policy
from saferl.training.checkpoint import checkpoints, load_weights
from saferl.training.run_folder import RunFolder, read_json
from saferl.training.trained import action_bounds, load_agent

Value = float | int | None  # of the tuned parameter; None: as it is


@dataclass(frozen=True)
class Subject:
    """A policy, or a family of them with one parameter.

    Attributes:
        word: what was typed.
        name: for people.
        fingerprint: SHA-256 of what makes it act as it does.
        identity: what the fingerprint is of, in words.
        run: its run folder, None for others.
        own: the value that it has by itself of the parameter that is tuned; None: nothing is, or it has none.
        acting_limit: on an episode's cost, at which it acts; None: it takes none.
        make: the policy at a value of the parameter, None where nothing is tuned.
    """

    word: str
    name: str
    fingerprint: str
    identity: str
    run: RunFolder | None
    make: Callable[[Value], Policy]
    own: Value = None
    acting_limit: float | None = None


def subject_of(
    word: str,
    env_id: str,
    env_kwargs: dict[str, Any],
    *,
    tune: str | None = None,
    limit: float | None = None,
    device: torch.device | str = "cpu",
) -> Subject:
    """What ``policy=`` names.

    Args:
        word: a run folder, an SB3 .zip, or package.module:function; with ``tune`` a function of one keyword argument of
            that name which returns a policy.
        env_id, env_kwargs: the environment it acts in.
        tune: name of the parameter, None for none. Of a run: ``cost_limit`` for agents that take one when they act,
            else a setting of the agent that matters when it acts, such as FISOR's ``candidates``.
        limit: on an episode's cost, for agents that take one when they act and are not tuned.
        device: where a run's agent computes.
    Raises: UsageError for what the user can mend.
    """
    env = saferl.envs.make(env_id, **env_kwargs)
    try:
        if (Path(word) / "config.yaml").is_file():
            return _of_run(RunFolder(Path(word)), env, tune, limit, device)
        if Path(word).is_dir():
            raise UsageError(f"policy={word} has no config.yaml, so it is not a run.")
        if word.endswith(".zip"):
            if tune is not None:
                raise UsageError(f"tune={tune}: an SB3 model has no parameter; tune goes with runs and functions.")
            policy = load_policy_word(word, env)
            return Subject(word, Path(word).stem, file_digest(Path(word)), "the file", None, lambda _: policy)
        return _of_function(word, env, tune)
    except ValueError as error:
        raise UsageError(str(error)) from error
    finally:
        env.close()


def _of_run(
    run: RunFolder, env: gymnasium.Env[Any, Any], tune: str | None, limit: float | None, device: torch.device | str
) -> Subject:
    agent, config, step = load_agent(run, device)
    _check_sizes(run, env)
    low, high = action_bounds(run)
    acting = config.agent.limit_use == "acting"
    weights = checkpoints(run.checkpoints)[-1]
    fields = {each.name: each for each in dataclasses.fields(config.agent)}
    if tune == "cost_limit" and not acting:
        raise UsageError(f"tune=cost_limit: {config.agent_name} takes no cost limit when it acts.")
    if tune is not None and tune not in fields:
        raise UsageError(unknown(f"setting of {config.agent_name}", tune, fields, "tune={}"))

    def make(value: Value) -> Policy:
        if tune is None or tune == "cost_limit":
            wanted = limit if tune is None else value
            return agent.policy(low, high, cost_limit=wanted if acting else None)
        try:
            changed = dataclasses.replace(config.agent, **{tune: value})
            other = AGENTS[config.agent_name][1](changed, agent.obs_dim, agent.act_dim, device)
            load_weights(weights, other)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(f"tune={tune} at {value}: {' '.join(str(error).split())}") from error
        return other.policy(low, high, cost_limit=limit if acting else None)

    name = f"{config.preset}, seed {config.seed}, {step} updates"
    fingerprint = file_digest(weights / "weights.safetensors", run.config)
    identity = f"the weights of {weights.name} and config.yaml"
    own = None if tune is None else getattr(config.agent, tune)
    return Subject(str(run.path), name, fingerprint, identity, run, make, own, limit if acting else None)


def _check_sizes(run: RunFolder, env: gymnasium.Env[Any, Any]) -> None:
    """Raises: UsageError if the run's observations or actions are not of the environment's sizes."""
    data = read_json(run.data)
    shapes = (env.observation_space.shape, env.action_space.shape)
    if shapes != ((data["obs_dim"],), (data["act_dim"],)):
        raise UsageError(
            f"policy={run.path} takes {data['obs_dim']} observations and gives {data['act_dim']} actions; the "
            f"environment has {shapes[0]} and {shapes[1]}."
        )


def _of_function(word: str, env: gymnasium.Env[Any, Any], tune: str | None) -> Subject:
    if tune is None:
        policy = load_policy_word(word, env)
        thing = imported("policy", word)

        def make(value: Value) -> Policy:
            return policy
    else:
        thing = imported("policy", word)
        if not callable(thing) or tune not in inspect.signature(thing).parameters:
            raise UsageError(f"tune={tune}: policy={word} must be a function of {tune} that returns a policy.")

        def make(value: Value) -> Policy:
            try:
                return as_policy(thing(**{tune: value}))
            except TypeError as error:
                raise UsageError(f"policy={word} at {tune}={value}: {error}") from error

    try:
        source = inspect.getsourcefile(thing if inspect.isroutine(thing) else type(thing))
    except TypeError:  # built into the interpreter
        source = None
    if source is None:
        return Subject(word, word, digest(word), "its name only: it has no source file", None, make)
    fingerprint = digest([word, file_digest(Path(source))])
    return Subject(word, word, fingerprint, "its name and the file of its source", None, make)


def action_box(env_id: str, env_kwargs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds (act_dim,) of an environment's action box, None for other action spaces."""
    env = saferl.envs.make(env_id, **env_kwargs)
    space = env.action_space
    env.close()
    return (space.low, space.high) if isinstance(space, gymnasium.spaces.Box) else None
