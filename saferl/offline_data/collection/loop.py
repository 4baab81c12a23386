"""collect: trains at each cost limit, keeps policies and episodes stage by stage, and writes the dataset.

A stage starts from the checkpoint before it and from its own seed, with fresh environments, and ends with one file
that appears whole or not at all. So a stage that was interrupted is simply done again, and a collection that was
killed and resumed has the same bytes as one that wasn't.
"""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import saferl.envs
from saferl.envs.tasks import find_task
from saferl.offline_data.collection.checkpoint import load_checkpoint, save_checkpoint
from saferl.offline_data.collection.config import CollectConfig
from saferl.offline_data.collection.pid import CostLimit
from saferl.offline_data.collection.policies import KeptActor, RandomPolicy
from saferl.offline_data.collection.ppo_lagrangian import PPOLagrangian
from saferl.offline_data.collection.recorder import Episode, EpisodeRecorder
from saferl.offline_data.collection.store import Kept, StageFile, save_episodes, thinned
from saferl.policy import Policy


@dataclass(frozen=True)
class Progress:
    """What a collection reports as it goes."""

    done: int  # stages finished, of all trainings
    total: int
    fraction: float  # of the whole work, 0 to 1
    doing: str  # "limit 25, stage 2 of 4"
    reward: float | None = None  # mean reward return of the last rollout's episodes
    cost: float | None = None  # mean cost return of the same
    multiplier: float | None = None


Report = Callable[[Progress], None]


def collect_stages(config: CollectConfig, folder: Path, report: Report) -> list[StageFile]:
    """Make what is still missing of a collection in ``folder``.

    Args:
        config: the settings; those that the folder was begun with.
        folder: holds ``stages/`` (episodes) and ``policies/`` (checkpoints).
        report: called after each rollout of a training.
    Returns: all stages, the random one last.
    Raises: ValueError in one line for an environment that can't be collected from, or a damaged file.
    """
    total = len(config.limits) * config.stages
    files = []
    for run in range(len(config.limits)):
        for stage in range(config.stages):
            path = folder / "stages" / f"limit{run}-stage{stage}.safetensors"
            if not path.exists():
                _Stage(config, folder, run, stage, report, total).make(path)
            files.append(StageFile(path))
    path = folder / "stages" / "random.safetensors"
    if config.random_episodes:
        if not path.exists():
            report(Progress(total, total, 1.0, "random policy"))
            _make_random(config, path)
        files.append(StageFile(path))
    return files


class _Stage:
    """One stage of one training: train, keep the policy, roll it out, write the episodes."""

    def __init__(self, config: CollectConfig, folder: Path, run: int, stage: int, report: Report, total: int) -> None:
        self.config, self.folder, self.run, self.stage = config, folder, run, stage
        self.limit = CostLimit.parse(config.limits[run])
        self._report, self._total = report, total
        self._episodes: list[Episode] = []
        self._recent: list[Episode] = []  # of the last rollout that ended any
        self._rollouts = 0

    def make(self, path: Path) -> None:
        """Do the work; ``path`` is written last."""
        started, used = time.time(), time.process_time()
        seed = derived_seed(self.config.seed, "stage", self.run, self.stage)
        set_random_seed(seed)
        recorder = _vector_env(self.config, seed)
        normaliser = VecNormalize(recorder, gamma=self.config.ppo.gamma)
        model = self._model(normaliser)
        if self.stage > 0:
            load_checkpoint(model, normaliser, self._policy_path(self.stage - 1))
        model.on_rollout = lambda: self._after_rollout(model, recorder)
        model.learn(self.config.steps_per_stage, reset_num_timesteps=self.stage == 0)
        recorder.close()
        policy_path = self._policy_path(self.stage)
        reached = _means(self._recent)
        save_checkpoint(model, normaliser, policy_path, {"limit": str(self.limit), **reached})
        kept = [Kept(episode, "training") for episode in self._episodes]
        kept, counts = _worth_keeping(self.config, kept + self._rolled_out(policy_path), f"{self.run}-{self.stage}")
        notes = {
            "limit": str(self.limit),
            "stage": self.stage + 1,
            "steps": model.num_timesteps,
            "multiplier": model.multiplier.value if model.multiplier and self.limit.constrained else 0.0,
            **reached,
            **counts,
        }
        notes |= {"wall_s": round(time.time() - started, 1), "cpu_s": round(time.process_time() - used, 1)}
        save_episodes(path, kept, notes)

    def _policy_path(self, stage: int) -> Path:
        return self.folder / "policies" / f"limit{self.run}-stage{stage}.safetensors"

    def _model(self, env: VecNormalize) -> PPOLagrangian:
        horizon = self.config.steps_per_stage * self.config.stages
        return PPOLagrangian.of(env, self.config.ppo, self.config.pid, self.limit, horizon)

    def _after_rollout(self, model: PPOLagrangian, recorder: EpisodeRecorder) -> None:
        episodes = recorder.take()
        self._recent = episodes or self._recent
        self._episodes += episodes
        self._rollouts += 1
        done = self.run * self.config.stages + self.stage
        means = _means(self._recent)
        self._report(
            Progress(
                done,
                self._total,
                (done + self._rollouts / self.config.rollouts_per_stage) / self._total,
                f"limit {self.limit}, stage {self.stage + 1} of {self.config.stages}",
                means["reward"],
                means["cost"],
                model.multiplier.value if model.multiplier else None,
            )
        )

    def _rolled_out(self, path: Path) -> list[Kept]:
        kept = []
        for index, noise in enumerate(self.config.noise if self.config.episodes else []):
            seed = derived_seed(self.config.seed, "rollout", self.run, self.stage, index)
            source = f"noise {noise:g}" if noise else "mean action"
            episodes = rollouts(self.config, KeptActor(path, noise), self.config.episodes, seed)
            kept += [Kept(episode, source) for episode in episodes]
        return kept


def _make_random(config: CollectConfig, path: Path) -> None:
    started, used = time.time(), time.process_time()
    seed = derived_seed(config.seed, "random")
    recorder = _vector_env(config, seed)
    act_dim = recorder.action_space.shape[0]  # type: ignore[index]
    recorder.close()
    episodes = rollouts(config, RandomPolicy(act_dim), config.random_episodes, seed)
    kept, counts = _worth_keeping(config, [Kept(episode, "random") for episode in episodes], "random")
    notes = {"limit": "-", "stage": 0, "steps": 0, "multiplier": 0.0, **_means(episodes), **counts}
    notes |= {"wall_s": round(time.time() - started, 1), "cpu_s": round(time.process_time() - used, 1)}
    save_episodes(path, kept, notes)


def _worth_keeping(config: CollectConfig, kept: list[Kept], name: str) -> tuple[list[Kept], dict[str, int]]:
    """Without what costs too much, thinned to what the whole collection wants; and the counts before."""
    most = greatest_cost(config)
    within = [item for item in kept if item.episode.totals[0] <= most]
    totals = np.array([item.episode.totals for item in within]).reshape(-1, 2)
    generator = np.random.default_rng(derived_seed(config.seed, "thin", name))
    rows = thinned(totals[:, 0], totals[:, 1], config.trajectories, generator)
    counts = {"episodes_seen": len(kept), "episodes_too_costly": len(kept) - len(within)}
    return [within[row] for row in rows], counts


def rollouts(config: CollectConfig, policy: Policy, count: int, seed: int) -> list[Episode]:
    """``count`` whole episodes of ``policy``, the same number from each environment up to one.

    Episodes are allotted beforehand: the first ``count`` to finish would favour short ones.
    """
    width = min(config.envs, count)
    recorder = _vector_env(config, seed, width)
    wanted = [count // width + (index < count % width) for index in range(width)]
    policy.reset(seed=seed)
    kept: list[Episode] = []
    observations = recorder.reset()
    while any(wanted):
        recorder.step_async(policy.act(observations))
        observations, _, dones, _ = recorder.step_wait()
        policy.reset(mask=dones)
        finished = iter(recorder.take())  # in the order of the environments
        for index in np.flatnonzero(dones):
            episode = next(finished)
            if wanted[index]:
                wanted[index] -= 1
                kept.append(episode)
    recorder.close()
    return kept


def _vector_env(config: CollectConfig, seed: int, width: int | None = None) -> EpisodeRecorder:
    recorder = EpisodeRecorder(DummyVecEnv([lambda: saferl.envs.make(config.env)] * (width or config.envs)))
    recorder.seed(seed)
    return recorder


def _means(episodes: list[Episode]) -> dict[str, float | None]:
    if not episodes:
        return {"reward": None, "cost": None}
    cost, reward = np.mean([episode.totals for episode in episodes], axis=0)
    return {"reward": float(reward), "cost": float(cost)}


def derived_seed(seed: int, *words: str | int) -> int:
    """A seed of its own, below 2**31 - 1000, for each part of the work."""
    return zlib.crc32(repr((seed, *words)).encode()) % (2**31 - 1000)


def greatest_cost(config: CollectConfig) -> float:
    """Episodes that cost more than this are dropped: the setting, else DSRL's greatest cost of the task, else none."""
    if config.max_cost is not None:
        return config.max_cost
    task = find_task(config.env)
    return float("inf") if task is None else task.max_cost
