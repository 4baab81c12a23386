"""The victim that a word names: a run folder, a file of SB3, saferl.collect or ONNX, or something importable."""

import copy
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

import saferl.envs
from saferl.adversaries import white_box
from saferl.adversaries.threat import Normaliser, Units, load_normaliser
from saferl.adversaries.victim import ActionBox, Victim
from saferl.command_line import UsageError, imported
from saferl.evaluation.sb3_zip import SB3Actor, load_sb3
from saferl.offline_data.collection.policies import KeptActor
from saferl.policy import CallablePolicy, FeedbackPolicy, Policy, as_policy
from saferl.training.run_folder import open_run, read_json
from saferl.training.trained import action_bounds, load_agent

FORM = "a run folder, FILE.zip, FILE.safetensors, FILE.onnx or package.module:function"


class Space(NamedTuple):
    """What a victim must fit."""

    obs_dim: int
    low: NDArray[Any]  # (act_dim,)
    high: NDArray[Any]


class _BehindStatistics:
    """An actor that was trained on normalised observations, as a Policy on true ones."""

    def __init__(self, actor: SB3Actor, normaliser: Normaliser) -> None:
        self._actor, self._units = actor, Units(normaliser)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim)."""
        return self._actor.act(self._units.features(torch.as_tensor(observations)).numpy())

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Nothing to forget."""


class _FromUnit:
    """An actor whose actions are in [-1, 1], as a Policy in the environment's units."""

    def __init__(self, actor: Policy, box: ActionBox) -> None:
        self._actor, self._box = actor, box

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim)."""
        return self._box.from_unit(torch.as_tensor(self._actor.act(observations))).numpy()

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Forget what the actor remembers."""
        self._actor.reset(mask, seed)


def load_victim(
    word: str,
    env: str | None = None,
    *,
    env_kwargs: dict[str, Any] | None = None,
    statistics: str | None = None,
    black_box: bool = False,
    cost_limit: float | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Victim, str]:
    """The victim and the id of the environment it acts in.

    Args:
        word: a run folder; an SB3 file; a policy that saferl.collect kept; an ONNX file; or package.module:name of a
            function of observations, a torch module, an SB3 model or a Policy.
        env: where it acts; a run has its own.
        env_kwargs: arguments of the environment.
        statistics: .npz file of observation statistics, see ``load_normaliser``; of an SB3 file those that its
            VecNormalize had, of any other victim the units alone.
        black_box: whether to forget the gradients.
        cost_limit: for agents that take one when they act; None: that of their training.
        device: where white boxes compute.
    Raises: UsageError or ValueError in one line.
    """
    is_run = ":" not in word and Path(word).suffix not in (".zip", ".onnx", ".safetensors")
    if is_run:
        victim, env = _agent(word, env, statistics, cost_limit, device)
    else:
        if env is None:
            raise UsageError(f"victim={word} needs env=ID, the environment it acts in.")
        space = space_of(env, env_kwargs or {})
        normaliser = None if statistics is None else load_normaliser(statistics, space.obs_dim)
        if word.endswith(".zip"):
            victim = _sb3(word, space, normaliser)
        elif word.endswith(".safetensors"):
            victim = _kept(word, space, normaliser)
        elif word.endswith(".onnx"):
            victim = Victim(onnx_policy(word), *space, word, normaliser=normaliser)
        else:
            victim = _imported(word, space, normaliser)
    _check(victim, word, env, env_kwargs or {})
    return (victim.as_black_box() if black_box else victim), env


def _check(victim: Victim, word: str, env: str, env_kwargs: dict[str, Any]) -> None:
    """Find out whether the victim is recurrent.

    Raises: UsageError unless it gives finite actions of the right shape at a start, and can be asked.
    """
    made = saferl.envs.make(env, **env_kwargs)
    observation, _ = made.reset(seed=0)
    made.close()
    row = np.asarray(observation, np.float32)
    if row.shape != (victim.obs_dim,):
        raise UsageError(f"victim={word} takes {victim.obs_dim} observations; env={env} has shape {row.shape}.")
    policy, rows = victim.policy, np.stack([row, row / 2])
    try:
        policy.reset()
        actions = np.asarray(policy.act(rows))
        fits = actions.shape == (2, victim.act_dim) and bool(np.isfinite(actions).all())
        # One that has ``observe`` learns there what happened; its ``act`` may be called for a question.
        victim.recurrent = fits and not isinstance(policy, FeedbackPolicy) and _is_recurrent(policy, rows)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise UsageError(f"victim={word} can't act on observations (2, {victim.obs_dim}): {error}") from error
    if not fits:
        raise UsageError(
            f"victim={word} must give finite actions (2, {victim.act_dim}) for two observations; got {actions.shape}."
        )
    if victim.recurrent and (reason := _obstacle_to_copies(policy, rows)) is not None:
        raise UsageError(
            f"victim={word}: its act changes its memory, so attacks ask copies of it, but {reason}; let "
            "observe(rewards, costs) change the memory, or keep it where copy.deepcopy finds it."
        )
    policy.reset()


def _is_recurrent(policy: Policy, rows: NDArray[np.float32]) -> bool:
    """Whether acting changes what the policy does next, apart from the noise that a seed restarts.

    It remembers what it saw, or, if seeds make no difference, counts steps. Of noise that no seed restarts nothing
    can be told.
    """

    def answers(first: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        policy.reset(seed=seed)
        return np.stack([np.array(policy.act(each)) for each in (first, rows, rows)])  # (3, 2, act_dim)

    once, again, reseeded = answers(rows, 0), answers(rows, 0), answers(rows, 1)
    if not np.allclose(once, again):
        return False
    counts = np.allclose(once, reseeded) and not np.allclose(once[:-1], once[1:])
    return bool(counts or not np.allclose(once[1:], answers(rows + 1, 0)[1:]))


def _obstacle_to_copies(policy: Policy, rows: NDArray[np.float32]) -> str | None:
    """Why copies of a recurrent policy, in the midst of an episode, can't be asked; None if they can."""
    policy.reset(seed=0)
    expected = [np.array(policy.act(rows)) for _ in range(2)]
    policy.reset(seed=0)
    policy.act(rows)
    try:
        copy.deepcopy(policy).act(rows + 1)
    except Exception as error:  # whatever the policy's parts raise when they are copied
        return f"it can't be copied ({type(error).__name__}: {' '.join(str(error).split())})"
    return None if np.allclose(policy.act(rows), expected[1]) else "a copy shares the memory"


def space_of(env: str, env_kwargs: dict[str, Any]) -> Space:
    """Sizes of an environment. Raises: UsageError unless observations are flat and actions a Box."""
    try:
        made = saferl.envs.make(env, **env_kwargs)
    except (ValueError, ImportError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    made.close()
    seen, acted = made.observation_space, made.action_space
    flat = isinstance(seen, gymnasium.spaces.Box) and len(seen.shape) == 1
    if not flat or not isinstance(acted, gymnasium.spaces.Box) or len(acted.shape) != 1:
        raise UsageError(f"env={env}: attacks need flat Box observations and actions; it has {seen} and {acted}.")
    assert seen.shape is not None
    return Space(seen.shape[0], acted.low, acted.high)


def _agent(
    word: str, env: str | None, statistics: str | None, cost_limit: float | None, device: torch.device | str
) -> tuple[Victim, str]:
    run = open_run(word)
    agent, config, _ = load_agent(run, device)
    asked = cost_limit if config.agent.limit_use == "acting" else None
    low, high = action_bounds(run)
    policy = agent.policy(low, high, cost_limit=asked)
    obs_dim = int(read_json(run.data)["obs_dim"])
    victim = Victim(
        policy,
        obs_dim,
        low,
        high,
        f"{config.preset} ({word})",
        respond=white_box.of_agent(agent, policy, asked),
        normaliser=None if statistics is None else load_normaliser(statistics, obs_dim),
        critics=white_box.agent_critics(agent),
        device=device,
    )
    return victim, env or config.env


def _sb3(word: str, space: Space, normaliser: Normaliser | None) -> Victim:
    actor = load_sb3(word, space.low, space.high, space.obs_dim)
    policy: Policy = actor if normaliser is None else _BehindStatistics(actor, normaliser)
    with zipfile.ZipFile(word) as archive:
        kind = json.loads(archive.read("data"))["policy_class"]["__module__"]
    respond = white_box.of_actor(actor, normaliser, gaussian=not kind.startswith("stable_baselines3.td3"))  # DDPG too
    return Victim(policy, *space, word, respond=respond, normaliser=normaliser)


def _kept(word: str, space: Space, normaliser: Normaliser | None) -> Victim:
    """A policy of saferl.collect or saferl.harden, whose statistics come with it.

    Its actions are in [-1, 1], as the environment that it was trained in maps them to the box.
    """
    kept = KeptActor(Path(word))
    try:
        arrays = load_file(word)
        own = Normaliser.from_variance(arrays["observations.mean"], arrays["observations.var"], f"kept with {word}")
        prefix = "policy.mlp_extractor.policy_net."
        places = sorted({int(key.removeprefix(prefix).split(".")[0]) for key in arrays if key.startswith(prefix)})
        names = [f"{prefix}{place}" for place in places] + ["policy.action_net"]
        layers: list[nn.Module] = []
        for name in names:
            rows, columns = arrays[f"{name}.weight"].shape
            linear = nn.Linear(columns, rows)
            linear.load_state_dict({"weight": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]})
            layers += [linear, nn.Tanh()]
        deviation = arrays["policy.log_std"].exp()
    except (KeyError, OSError, SafetensorError) as error:
        raise ValueError(f"{word}: not a policy that saferl.collect kept ({error}).") from error
    if (len(own.mean), len(deviation)) != (space.obs_dim, len(space.low)):
        raise ValueError(
            f"{word} takes {len(own.mean)} observations and gives {len(deviation)} actions; the environment has "
            f"{space.obs_dim} and {len(space.low)}."
        )
    one = np.ones(len(deviation), np.float32)
    actor = SB3Actor(nn.Sequential(*layers[:-1]), -one, one, squashed=False, deviation=deviation)
    policy = _FromUnit(kept, ActionBox(space.low, space.high))
    return Victim(policy, *space, word, white_box.of_actor(actor, own), normaliser or own)


def _imported(word: str, space: Space, normaliser: Normaliser | None) -> Victim:
    thing = imported("victim", word, FORM)
    respond = None
    if isinstance(thing, nn.Module) and not hasattr(thing, "act"):
        network = thing
        low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        respond = white_box.of_module(network, ActionBox(space.low, space.high))

        @torch.no_grad()
        def answer(observations: NDArray[np.float32]) -> NDArray[np.float32]:
            return network(torch.as_tensor(observations)).clamp(low, high).numpy()

        thing = answer
    elif isinstance(thing, SB3Actor):
        respond = white_box.of_actor(thing)
    elif isinstance(thing, BaseAlgorithm):
        respond = white_box.of_model(thing)
    try:
        policy = as_policy(thing)
    except TypeError as error:
        raise UsageError(f"victim={word}: {error}") from error
    return Victim(policy, *space, word, respond, normaliser)


def onnx_policy(path: str) -> CallablePolicy:
    """A network in an ONNX file, from its first input (B, obs_dim) to its first output (B, act_dim).

    Raises: UsageError without onnxruntime, or for a file that it can't read.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"victim={path} needs onnxruntime, which is not installed: pip install onnxruntime."
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no public common class
        raise UsageError(f"victim={path}: onnxruntime can't read it ({type(error).__name__}).") from error
    entry = session.get_inputs()[0]
    one_by_one = entry.shape[0] == 1  # exported for a batch of one

    def answer(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        batches = [row[None] for row in observations] if one_by_one else [observations]
        return np.concatenate([session.run(None, {entry.name: batch})[0] for batch in batches])

    return CallablePolicy(answer)
