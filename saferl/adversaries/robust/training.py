"""Robust training of PPO-Lagrangian: adversarial (MC, MR), SA-regularised, ATLA and RAT-ATLA.

A training is made in parts (stages, or ATLA's rounds), each from the policy of the part before, with environments and a
seed of its own. A part ends with a file that appears whole or not at all, so a training that was stopped does the part
under way again, and ends with the policy of one that was not.

Differences from the published forms: in ATLA the agent and its adversary take turns of many updates, not of one, and
every adversary is a fresh one, as in RAT-ATLA; statistics of observations never see attacked ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import saferl.envs
from saferl.adversaries.ascent import Ascent, AscentConfig, Autograd
from saferl.adversaries.attacks import Attack, GradientAttack
from saferl.adversaries.catalogue import ADVERSARIES, Means, make_turn
from saferl.adversaries.learned import AdversaryEnvs, load_adversary, train_adversary
from saferl.adversaries.loading import load_victim
from saferl.adversaries.objectives import OBJECTIVES
from saferl.adversaries.rat.training import RAT, Place, load_rat
from saferl.adversaries.robust.config import HardenConfig
from saferl.adversaries.robust.observing import AttackedObservations, normalised_threat, ramp
from saferl.adversaries.robust.online_critics import OnlineCritics
from saferl.adversaries.robust.smooth import SmoothPolicy, learning_victim
from saferl.adversaries.targets import behaviour_named
from saferl.adversaries.threat import Threat, Units
from saferl.adversaries.victim import Victim
from saferl.offline_data.collection import CostLimit, PPOLagrangian
from saferl.offline_data.collection.checkpoint import load_checkpoint, save_checkpoint
from saferl.offline_data.collection.loop import derived_seed
from saferl.offline_data.collection.recorder import EpisodeRecorder

POLICY = "policy.safetensors"
ADVERSARY = 0.5  # share of a round's work, for the report: it takes about as long as the agent

Report = Callable[[float, str], None]  # share of the work that is done, what is being done


class Hardening:
    """One robust training, or the rest of one.

    Args:
        config: the settings; any method but augment.
        env_kwargs: arguments of the environment.
        folder: for the policy, and for what the parts leave; what is there already is not made again.
        report: is told how far it is.
    Attributes:
        part: the last one that was made here.
    """

    def __init__(self, config: HardenConfig, env_kwargs: dict[str, Any], folder: Path, report: Report) -> None:
        self.config, self.folder, self._report, self._env_kwargs = config, folder, report, env_kwargs
        self.part: Part | None = None

    def run(self) -> Path:
        """Train; the path of the policy, which ``saferl.attack`` takes as victim=.

        Raises: ValueError naming a file of an earlier part that is damaged.
        """
        path = self._path(self.config.parts - 1)
        for index in range(0 if path.exists() else self.config.parts):
            if not self._path(index).exists():
                attack = self._adversary(index - 1) if self.config.in_rounds and index > 0 else None
                self.part = Part(self.config, self._env_kwargs, index, self._report)
                self.part.train(self._path(index), self._path(index - 1), attack)
        return path

    def _path(self, index: int) -> Path:
        """Of the policy behind a part."""
        if index == self.config.parts - 1:
            return self.folder / POLICY
        return self.folder / f"{'round' if self.config.in_rounds else 'stage'}{index}.safetensors"

    def _adversary(self, turn: int) -> "Loaded":
        """A fresh adversary of the agent as it is behind a round, trained unless it is there."""
        config = self.config
        victim, _ = load_victim(str(self._path(turn)), config.env, env_kwargs=self._env_kwargs)
        assert victim.normaliser is not None
        raw = Threat(Units(victim.normaliser), config.eps, config.norm)
        seed = derived_seed(config.seed, "adversary", turn)
        if config.method == "rat_atla":
            return self._rat(victim, raw, turn, seed)
        name, file = config.adversary, self.folder / f"adversary{turn}.zip"
        if not file.exists():
            goal = ADVERSARIES[name].goal
            assert goal is not None
            gain = behaviour_named(config.target, name).score if goal == "target" else goal
            turn_of = make_turn(name, raw, Means(victim=victim))
            envs = AdversaryEnvs(config.env, self._env_kwargs, victim, raw, turn_of, gain, config.learned.envs, seed)
            try:
                train_adversary(envs, config.learned, file, seed, lambda share: self._told(turn, share))
            finally:
                envs.close()
        return lambda plain, agent: load_adversary(file, plain, make_turn(name, plain, Means(victim=agent)))

    def _rat(self, victim: Victim, raw: Threat, turn: int, seed: int) -> "Loaded":
        config = self.config
        file = self.folder / f"adversary{turn}{'.safetensors' if config.rat.intention else '.zip'}"
        if not file.exists():
            behaviour = behaviour_named(config.target, "rat")
            place = Place(config.env, self._env_kwargs, victim, raw, Autograd(victim, raw), behaviour)
            rat = RAT(place, config.rat, seed)
            rat.train(lambda share: self._told(turn, share))
            rat.save(file)
        return lambda plain, _: load_rat(file, plain, config.rat)

    def _told(self, turn: int, share: float) -> None:
        share = (turn + 1 - ADVERSARY * (1 - share)) / self.config.rounds
        self._report(share, f"adversary of round {turn + 1}")


Loaded = Callable[[Threat, Victim], Attack]  # an adversary, given the ball in normalised units and the agent


class Part:
    """One part of a training: an agent among its environments.

    Args:
        config, env_kwargs, report: as of ``Hardening``.
        index: which part.
    """

    def __init__(self, config: HardenConfig, env_kwargs: dict[str, Any], index: int, report: Report) -> None:
        self.config, self._index, self._report = config, index, report
        seed = derived_seed(config.seed, "part", index)  # seeds that are neighbours would share most environments
        set_random_seed(seed)
        recorder = EpisodeRecorder(DummyVecEnv([lambda: saferl.envs.make(config.env, **env_kwargs)] * config.envs))
        recorder.seed(seed)
        self._seed = seed
        self._recorder, self.normaliser = recorder, VecNormalize(recorder, gamma=config.ppo.gamma)
        obs_dim, act_dim = recorder.observation_space.shape[0], recorder.action_space.shape[0]  # type: ignore[index]
        self.threat = normalised_threat(obs_dim, 0.0, config.norm)
        self.envs = AttackedObservations(self.normaliser, self.threat)
        self.model = self._made()
        self.victim = learning_victim(self.model.policy, act_dim)
        self._critics: OnlineCritics | None = None
        if config.method == "sa":
            assert isinstance(self.model.policy, SmoothPolicy)
            self.model.policy.regularise(
                normalised_threat(obs_dim, 0.0, config.norm), act_dim, config.kappa, config.ppo.entropy,
                config.attack_steps, seed,
            )  # fmt: skip
        if config.method == "adversarial":
            self._critics = OnlineCritics(Units(self.threat.units.normaliser), self.victim, config.critics, seed)
            objective = OBJECTIVES[config.attack](self._critics.critics())
            ascent = Ascent(Autograd(self.victim, self.threat), self.threat, AscentConfig(steps=config.attack_steps))
            self.envs.attack = GradientAttack(self.victim, self.threat, ascent, objective)
        self.model.on_rollout = self._after_rollout

    def _made(self) -> PPOLagrangian:
        config, limit = self.config, CostLimit.parse(self.config.cost_limit)
        own = {"policy": SmoothPolicy, "ent_coef": 1.0} if config.method == "sa" else {}  # it weighs its entropy itself
        return PPOLagrangian.of(self.envs, config.ppo, config.pid, limit, config.steps, **own)

    def train(self, path: Path, before: Path, adversary: Loaded | None) -> None:
        """Do the part's share of the steps.

        Args:
            path: for the policy, which is written last.
            before: the policy of the part before, if there is one.
            adversary: what attacks the agent's observations in this round; None: nothing, or the method's own.
        """
        try:
            if self._index > 0:
                self._load(before)
            if adversary is not None:
                self.threat.eps = self.config.eps  # first: SA-RL's turn reads it once
                self.envs.attack = adversary(self.threat, self.victim)
            self._set_radius()
            self.envs.seed_attack(self._seed)
            self.model.learn(self.config.steps_of(self._index), reset_num_timesteps=self._index == 0)
            if self._critics is not None and path.name != POLICY:
                self._critics.save(_critics_of(path))
            save_checkpoint(self.model, self.normaliser, path, {"method": self.config.method, "eps": self.config.eps})
        finally:
            self.envs.close()

    def _load(self, before: Path) -> None:
        try:
            load_checkpoint(self.model, self.normaliser, before)
            if self._critics is not None:
                self._critics.load(_critics_of(before))
        except ValueError as error:
            again = f"delete {before.name} and resume={before.parent} makes that part again"
            raise ValueError(f"{str(error).split(';')[0].removesuffix('.')}; {again}.") from error

    def _set_radius(self) -> None:
        """The radius at this point of the training, where it grows."""
        config = self.config
        radius = ramp(config.eps, self.model.num_timesteps, config.ramp_start * config.steps, config.steps)
        if config.method == "adversarial":
            self.threat.eps = radius
        elif config.method == "sa":
            ascent = self.model.policy.ascent
            assert isinstance(ascent, Ascent)
            ascent.threat.eps = radius

    def _after_rollout(self) -> None:
        """Behind each rollout, before its update: radius and critics of the next one."""
        steps = self.envs.take()
        self._recorder.take()
        if self._critics is not None:
            self._critics.update(steps)
        self._set_radius()
        cost = sum(self.model.finished) / max(len(self.model.finished), 1)
        share = min(1.0, self.model.num_timesteps / self.config.steps)
        if self.config.in_rounds:  # an adversary follows each round but the last
            rounds = self.config.rounds
            share = (self._index + (rounds * share - self._index) * (1 - ADVERSARY)) / rounds
        self._report(share, f"agent, eps {self.threat.eps:.3g}, cost {cost:.3g}")


def _critics_of(policy: Path) -> Path:
    """Where the online critics behind a part lie, beside its policy."""
    return policy.with_name(f"critics-{policy.name}")
