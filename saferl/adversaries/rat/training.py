"""Training of RAT: rewards, intention and adversary together, on data of the attacked victim and of the intention."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from saferl.adversaries.ascent import Slopes
from saferl.adversaries.attacks import Attack, situation_of
from saferl.adversaries.behaviour import Behaviour
from saferl.adversaries.learned import LearnedAttack, Shift, features
from saferl.adversaries.objectives import Situation
from saferl.adversaries.rat.adversary import (
    Bilevel,
    Perturber,
    PerturberAttack,
    StateWeights,
    load_perturber,
)
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.rat.distance import distance_to
from saferl.adversaries.rat.intention import Intention
from saferl.adversaries.rat.novelty import novelty
from saferl.adversaries.rat.preferences import RewardModel
from saferl.adversaries.rat.queries import asked
from saferl.adversaries.rat.teacher import ScriptedTeacher
from saferl.adversaries.stepping import SeededEnvs, Steps
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Victim
from saferl.command_line import UsageError
from saferl.envs import full_id
from saferl.evaluation.sb3_zip import load_sb3
from saferl.policy import CallablePolicy, FeedbackPolicy, Policy

NEIGHBOUR = 5  # k of the state entropy
NOVELTY_EVERY = 500  # steps between two computations of it
RECENT = 50  # episodes whose mean length is the horizon of the combined policy

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where and against whom."""

    env_id: str
    env_kwargs: dict[str, Any]
    victim: Victim
    threat: Threat
    slopes: Slopes
    behaviour: Behaviour


class Combined:
    """The combined behaviour policy: each episode follows the attacked victim before t* ~ U(0, H), then the intention.

    Args:
        count: environments.
        horizon: H until an episode has ended; then the mean length of the last 50, which is the same where all
            episodes run out of time.
        generator: of the switches.
    """

    def __init__(self, count: int, horizon: float, generator: np.random.Generator) -> None:
        self._horizon, self._generator = horizon, generator
        self._lengths: list[int] = []
        self._age = np.zeros(count, np.int64)
        self._switch = generator.uniform(0, horizon, count)

    def by_victim(self) -> NDArray[np.bool_]:
        """(B,) whether the attacked victim acts in this step."""
        return self._age < self._switch

    def step(self, ended: NDArray[np.bool_]) -> None:
        """One step is over; the episodes of ``ended`` (B,) too."""
        self._age += 1
        self._lengths = [*self._lengths, *self._age[ended].tolist()][-RECENT:]
        horizon = float(np.mean(self._lengths)) if self._lengths else self._horizon
        self._age[ended] = 0
        self._switch[ended] = self._generator.uniform(0, horizon, int(ended.sum()))


class RAT:
    """One training.

    Args:
        place: where and against whom.
        config: the settings.
        seed: of everything random.
    Attributes:
        intention: the policy that behaves as preferred; without one, that of perturbations.
        perturber: the adversary.
        accuracy: share of the teacher's answers that the rewards predict, after each fit.
    Raises: UsageError by ``train``, if no episode was long enough for a question.

    A victim with a memory (CDT, budgets, an LSTM) can't be asked about states out of their order. It therefore watches
    every episode, whoever acts, as what it is made to see tells it, and the adversary learns from the states of the
    moment, B at a time, in place of drawn ones.
    """

    def __init__(self, place: Place, config: RATConfig, seed: int) -> None:
        victim, threat = place.victim, place.threat
        self.place, self.config = place, config
        self._generator = np.random.default_rng(seed)
        self._torch = torch.Generator().manual_seed(seed)
        self._size = victim.act_dim if config.intention else threat.units.obs_dim  # of the learner's action
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.perturber = Perturber(threat, config.width)
            weights = StateWeights(threat) if config.intention and config.weighting else None
        self.intention = Intention(threat, self._size, victim.act_dim, config, seed)
        self._rewards = RewardModel(
            config.members, threat.units.obs_dim + victim.act_dim, config.width, config.lr, 128, config.epochs,
            config.mistakes, seed,
        )  # fmt: skip
        self._teacher = ScriptedTeacher(config.mistakes, seed)
        self._bilevel = Bilevel(
            self.perturber, weights, place.slopes, distance_to(self.intention.intended), self.intention.loss(),
            config.adversary_lr, config.weights_lr, seed,
        )  # fmt: skip
        self._states: list[Floats] = []  # true observations (B, obs_dim) of every step
        self._asked_at = 0  # steps in time that were there at the last questions
        # A phase too short to hold a multiple would explore without any reward. At the first step only then: published
        # trainings, whose phases hold some, stay as they were.
        phase = range(-(-config.random_steps // config.envs) * config.envs, self._taught_from, config.envs)
        self._novelty_at = {done for done in phase if self._due(done, NOVELTY_EVERY)} or set(phase[:1])
        self.accuracy: list[float] = []
        self._envs = SeededEnvs(place.env_id, place.env_kwargs, config.envs, seed)
        horizon = gymnasium.spec(full_id(place.env_id)).max_episode_steps or 1_000
        self._combined = Combined(config.envs, horizon, self._generator)

    def train(self, report: Callable[[float], None] = lambda share: None) -> None:
        """All steps; ``report`` is called with the share that is done."""
        config = self.config
        self._envs.reset()
        self.place.victim.policy.reset(seed=0)
        debt, owed = 0.0, 0.0
        try:
            for done in range(0, config.steps, config.envs):
                self._step(done)
                if done >= config.random_steps:
                    debt += config.envs / config.update_every
                    self.intention.update(int(debt))
                    debt -= int(debt)
                self._learn(done)
                if config.intention and self.accuracy and self.place.victim.remembers:  # as many, but each step some
                    owed += config.envs * config.inner_updates / config.inner_every
                    for _ in range(int(owed)):
                        self._bilevel.inner_step(self._moment())
                    owed -= int(owed)
                if done % (100 * config.envs) == 0:
                    report(done / config.steps)
        finally:
            self._envs.close()
        if not self.accuracy:
            raise UsageError(
                f"RAT was never taught: from step {self._taught_from} on no episode had rat.segment="
                f"{config.segment} steps; give shorter segments or more rat.steps (got {config.steps})."
            )

    @property
    def _taught_from(self) -> int:
        return self.config.random_steps + self.config.explore_steps

    def _due(self, done: int, every: int) -> bool:
        """Whether a multiple of ``every`` lies in the steps from ``done`` on that are made together."""
        return (done % every) < self.config.envs

    def _step(self, done: int) -> None:
        """One step of every environment, into the buffer."""
        true, place, config = self._envs.observations, self.place, self.config
        shown = features(place.threat, true)
        if done < config.random_steps:
            actions = self._generator.uniform(-1, 1, (len(true), self._size)).astype(np.float32)
        else:
            actions = self.intention.sampled(shown)
        if config.intention:
            carried = actions
            rows = self._combined.by_victim() & (config.combined and done >= self._taught_from)
            if rows.any() or place.victim.remembers:
                deltas = PerturberAttack(self.perturber).perturbations(true)
                carried = np.where(rows[:, None], self._victims(true, deltas), carried)
            actions = carried
        else:
            carried = self._victims(true, place.threat.eps * actions)
        box = place.victim.box
        steps = self._envs.step(box.from_unit(torch.as_tensor(carried, device=box.half.device)).cpu().numpy())
        if place.victim.remembers:
            if isinstance(place.victim.policy, FeedbackPolicy):
                place.victim.policy.observe(steps.rewards, steps.costs)
            place.victim.policy.reset(mask=steps.ended)
        self._keep(steps, shown, actions, carried)
        self._combined.step(steps.ended)

    def _victims(self, true: Floats, deltas: Floats) -> Floats:
        """The victim's actions (B, act_dim) in [-1, 1] under perturbations (B, obs_dim)."""
        box = self.place.victim.box
        taken = self.place.victim.policy.act(self.place.threat.seen(true, deltas))
        return box.to_unit(torch.as_tensor(taken, device=box.half.device)).clamp(-1, 1).cpu().numpy()

    def _keep(self, steps: Steps, shown: Floats, actions: Floats, carried: Floats) -> None:
        after = features(self.place.threat, steps.next_observations)  # true, whatever the victim saw
        scores = self.place.behaviour.score(steps)
        buffer, row = self.intention.buffer, len(self._states)
        taught = bool(self.accuracy)
        inputs = torch.as_tensor(np.concatenate([shown, carried], axis=1))
        rewards = self._rewards.rewards(inputs).numpy() if taught else np.zeros(len(shown), np.float32)
        assert row == buffer.filled
        self._states.append(steps.observations)
        buffer.append(shown, after, actions, carried, scores, steps.terminated, steps.truncated, rewards)

    def _learn(self, done: int) -> None:
        """What is due behind this step: novelty, questions, and steps of the adversary."""
        config, buffer = self.config, self.intention.buffer
        if done < self._taught_from:
            if done in self._novelty_at:
                size = self.place.threat.units.obs_dim
                buffer.relabel(lambda rows: novelty(rows[:, :size], NEIGHBOUR, self._torch))
            return
        if (not self.accuracy or self._due(done, config.query_every)) and len(self._rewards) < config.labels:
            self._ask()
        if config.intention and self.accuracy:
            remembers = self.place.victim.remembers
            if self._due(done, config.inner_every) and not remembers:
                for _ in range(config.inner_updates):
                    self._bilevel.inner_step(self._drawn())
            if self._due(done, config.outer_every):
                self._bilevel.outer_step(self._moment() if remembers else self._drawn())

    def _ask(self) -> None:
        """Questions, a fit of the rewards, and all rewards of the past anew."""
        config, first = self.config, not self.accuracy
        count = min(config.questions, config.labels - len(self._rewards))
        ensemble = None if first else self._rewards.ensemble
        buffer = self.intention.buffer
        answers = asked(buffer, self._teacher, ensemble, count, config.segment, self._generator, self._asked_at)
        if answers is None:
            return
        self._asked_at = buffer.filled
        self._rewards.add(*answers)
        self.accuracy.append(self._rewards.fit())
        self._rewards.stretch(buffer.inputs().flatten(0, 1))
        buffer.relabel(self._rewards.rewards)
        if first:
            self.intention.restart_critics()

    def _moment(self) -> Situation:
        """The states (B, obs_dim) that wait for an action, which is where a memory is."""
        return situation_of(self.place.victim, self.place.threat, self._envs.observations, self._torch)

    def _drawn(self) -> Situation:
        """A batch of true states seen so far."""
        times = self._generator.integers(len(self._states), size=self.config.batch)
        rows = self._generator.integers(self.config.envs, size=self.config.batch)
        states = np.stack([self._states[time][row] for time, row in zip(times, rows)])
        return situation_of(self.place.victim, self.place.threat, states, self._torch)

    def imitated(self) -> Policy:
        """The intention as a policy that acts by itself: the most that an imitating victim can show."""
        box = self.place.victim.box

        def act(observations: Floats) -> Floats:
            wanted = torch.as_tensor(self.intention.act(observations), device=box.half.device)
            return box.from_unit(wanted).cpu().numpy()

        return CallablePolicy(act)

    def save(self, path: Path) -> None:
        """Write the adversary: its network, or without an intention SAC's file."""
        if self.config.intention:
            self.perturber.save(path)
            return
        temporary = path.with_name(f".{path.stem}.tmp.zip")
        self.intention.model.save(temporary)
        temporary.replace(path)


def load_rat(path: Path, threat: Threat, config: RATConfig) -> Attack:
    """The adversary that ``RAT.save`` wrote. Raises: ValueError naming the file if it is damaged."""
    if config.intention:
        return PerturberAttack(load_perturber(path, threat))
    one = np.ones(threat.units.obs_dim, np.float32)
    return LearnedAttack(load_sb3(path, -one, one, threat.units.obs_dim), threat, Shift(threat))
