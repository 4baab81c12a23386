"""Robust training of PPO-Lagrangian: adversarial (MC, MR), SA-regularised, ATLA and RAT-ATLA.

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
from saferl.offline_data.collection.checkpoint import save_checkpoint
from saferl.offline_data.collection.recorder import EpisodeRecorder

POLICY = "policy.safetensors"

Report = Callable[[float, str], None]  # share of the work that is done, what is being done


class Hardening:
    """One robust training.

    Args:
        config: the settings; any method but augment.
        env_kwargs: arguments of the environment.
        folder: for the policy, and for adversaries of the rounds.
        report: is told how far it is.
    """

    def __init__(self, config: HardenConfig, env_kwargs: dict[str, Any], folder: Path, report: Report) -> None:
        self.config, self.folder, self._report, self._env_kwargs = config, folder, report, env_kwargs
        set_random_seed(config.seed)
        recorder = EpisodeRecorder(DummyVecEnv([lambda: saferl.envs.make(config.env, **env_kwargs)] * config.envs))
        recorder.seed(config.seed)
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
                config.attack_steps, config.seed,
            )  # fmt: skip
        if config.method == "adversarial":
            self._critics = OnlineCritics(Units(self.threat.units.normaliser), self.victim, config.critics, config.seed)
            objective = OBJECTIVES[config.attack](self._critics.critics())
            ascent = Ascent(Autograd(self.victim, self.threat), self.threat, AscentConfig(steps=config.attack_steps))
            self.envs.attack = GradientAttack(self.victim, self.threat, ascent, objective)
        self.model.on_rollout = self._after_rollout

    def _made(self) -> PPOLagrangian:
        config, limit = self.config, CostLimit.parse(self.config.cost_limit)
        own = {"policy": SmoothPolicy, "ent_coef": 1.0} if config.method == "sa" else {}  # it weighs its entropy itself
        return PPOLagrangian.of(self.envs, config.ppo, config.pid, limit, config.steps, **own)

    def run(self) -> Path:
        """Train; the path of the policy, which ``saferl.attack`` takes as victim=."""
        config = self.config
        try:
            if config.method not in ("atla", "rat_atla"):
                self.model.learn(config.steps)
                return self._saved(POLICY)
            for turn in range(config.rounds):
                self.model.learn(config.steps // config.rounds, reset_num_timesteps=turn == 0)
                path = self._saved(POLICY if turn == config.rounds - 1 else f"round{turn}.safetensors")
                if turn < config.rounds - 1:
                    self.envs.attack, self.threat.eps = self._adversary(path, turn), config.eps
            return path
        finally:
            self.envs.close()

    def _after_rollout(self) -> None:
        """Behind each rollout, before its update: radius and critics of the next one."""
        config, done = self.config, self.model.num_timesteps
        steps = self.envs.take()
        self._recorder.take()
        if self._critics is not None:
            self._critics.update(steps)
        radius = ramp(config.eps, done, config.ramp_start * config.steps, config.steps)
        if config.method == "adversarial":
            self.threat.eps = radius
        elif config.method == "sa":
            ascent = self.model.policy.ascent
            assert isinstance(ascent, Ascent)
            ascent.threat.eps = radius
        cost = sum(self.model.finished) / max(len(self.model.finished), 1)
        self._report(min(1.0, done / config.steps), f"agent, eps {self.threat.eps:.3g}, cost {cost:.3g}")

    def _saved(self, name: str) -> Path:
        path = self.folder / name
        save_checkpoint(self.model, self.normaliser, path, {"method": self.config.method, "eps": self.config.eps})
        return path

    def _adversary(self, path: Path, turn: int) -> Attack:
        """A fresh adversary of the agent as it is now, for observations that are normalised already."""
        config = self.config
        victim, _ = load_victim(str(path), config.env, env_kwargs=self._env_kwargs)
        assert victim.normaliser is not None
        raw, seed = Threat(Units(victim.normaliser), config.eps, config.norm), config.seed + 1_000_000 * (turn + 1)
        plain = normalised_threat(raw.units.obs_dim, config.eps, config.norm)
        if config.method == "rat_atla":
            return self._rat(victim, raw, plain, turn, seed)
        name, file = config.adversary, self.folder / f"adversary{turn}.zip"
        goal = ADVERSARIES[name].goal
        assert goal is not None
        gain = behaviour_named(config.target, name).score if goal == "target" else goal
        turn_of = make_turn(name, raw, Means(victim=victim))
        envs = AdversaryEnvs(config.env, self._env_kwargs, victim, raw, turn_of, gain, config.learned.envs, seed)
        try:
            train_adversary(envs, config.learned, file, seed, lambda share: self._told(turn, share))
        finally:
            envs.close()
        return load_adversary(file, plain, make_turn(name, plain, Means(victim=self.victim)))

    def _rat(self, victim: Victim, raw: Threat, plain: Threat, turn: int, seed: int) -> Attack:
        config = self.config
        behaviour = behaviour_named(config.target, "rat")
        place = Place(config.env, self._env_kwargs, victim, raw, Autograd(victim, raw), behaviour)
        rat = RAT(place, config.rat, seed)
        rat.train(lambda share: self._told(turn, share))
        file = self.folder / f"adversary{turn}{'.safetensors' if config.rat.intention else '.zip'}"
        rat.save(file)
        return load_rat(file, plain, config.rat)

    def _told(self, turn: int, share: float) -> None:
        self._report((turn + 1) / self.config.rounds, f"adversary of round {turn + 1}, {100 * share:.0f} %")
