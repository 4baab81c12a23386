"""A comparison of attacks on one victim: prepare critics, evaluate each adversary at each eps on the same starts.

What is done lies in the folder, a file for each adversary and eps, so that a comparison that was stopped goes on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from saferl.adversaries.attacks import Attack, AttackedPolicy
from saferl.adversaries.catalogue import (
    ADVERSARIES,
    Means,
    make_attack,
    make_turn,
    needs_critics,
    needs_fit,
    needs_robust,
)
from saferl.adversaries.config import AttackConfig
from saferl.adversaries.critics import (
    Critics,
    FittedCritics,
    NoisyPolicy,
    agreement,
    cost_threshold,
    fitted_critics,
    transitions,
)
from saferl.adversaries.film import filmed
from saferl.adversaries.learned import AdversaryEnvs, load_adversary, train_adversary
from saferl.adversaries.rat.training import RAT, Place, load_rat
from saferl.adversaries.robot_targets import speed
from saferl.adversaries.targets import behaviour_named, successes, target_named
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.trajectories import Recorder, Trajectory
from saferl.adversaries.victim import Victim
from saferl.command_line import UsageError
from saferl.envs import full_id
from saferl.evaluation.report import Facts, evaluation_facts
from saferl.evaluation.scores import reference_returns
from saferl.evaluation.statistics import rate_interval
from saferl.training.run_evaluation import POINT_ROBOT, Protocol
from saferl.training.run_folder import read_json, write_json

CLEAN = "none"  # the adversary that does nothing
WIDTH = 128  # environments side by side at most: one gradient serves them all
PATHS = 6  # episodes whose way is kept for the picture
# Starts of the evaluation are never those that something was fitted to.
REFERENCE_SEED, CRITIC_SEED, LEARNING_SEED = 10_000_000, 20_000_000, 30_000_000

Report = Callable[[float, str], None]  # share of the work that is done, what is being done


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first attack."""

    protocol: Protocol
    units: Units
    means: Means
    about: Facts  # units, critics and their quality, for the report


class Comparison:
    """Attacks on one victim.

    Args:
        config: the settings.
        victim: under attack.
        env_id: where it acts.
        folder: for the results.
        report: is told how far it is.
    """

    def __init__(self, config: AttackConfig, victim: Victim, env_id: str, folder: Path, report: Report) -> None:
        self.config, self.victim, self.env_id, self.folder = config, victim, env_id, folder
        self._report = report
        self._jobs = [(CLEAN, 0.0)] + [(name, eps) for name in config.adversaries for eps in config.radii]

    def run(self) -> list[Facts]:
        """Do what is missing; the results of all, the clean one first.

        Raises: UsageError for a file of an earlier part that is damaged, and if RAT could ask no question.
        """
        (self.folder / "results").mkdir(parents=True, exist_ok=True)
        if any(not self._path(*job).exists() for job in self._jobs):
            prepared = self._prepared()
            for index, job in enumerate(self._jobs):
                path = self._path(*job)
                self._done = index + 1
                if not path.exists():
                    write_json(path, self._result(*job, prepared))
        return [read_json(self._path(*job)) for job in self._jobs]

    def _tell(self, share: float, doing: str) -> None:
        """Report; the preparation counts as one job."""
        self._report((self._done + share) / (len(self._jobs) + 1), doing)

    def _path(self, name: str, eps: float) -> Path:
        return self.folder / "results" / f"{name}-{eps:g}.json"

    def _prepared(self) -> Prepared:
        self._done = 0
        config = self.config
        protocol = Protocol(
            episodes=config.episodes,
            seed=config.seed,
            cost_limits=config.limits,
            num_envs=config.num_envs or (WIDTH if config.vectorization == "sync" else None),
            vectorization=config.vectorization,
            env_kwargs=config.env_kwargs,
        )
        names, chosen = config.adversaries, config.objective
        asked = any(needs_critics(name, chosen) for name in names)
        reference: list[Trajectory] = []
        if asked or self.victim.normaliser is None:
            self._tell(0, "clean episodes of the victim")
            reference = self._reference(protocol)
        normaliser = self.victim.normaliser or Normaliser.from_observations(
            np.concatenate([each.observations for each in reference]),
            f"mean and standard deviation over {len(reference)} clean episodes of the victim",
        )
        units = Units(normaliser, self.victim.device)
        about: Facts = {"units": normaliser.source, "constant_dimensions": int((normaliser.scale == 0).sum())}
        means = Means(victim=self.victim, objective=config.objective, ascent=config.ascent, queries=config.queries)
        if asked:
            length = float(np.mean([len(each) for each in reference]))
            critics = self._critics(protocol, units, length, any(needs_fit(name, chosen) for name in names))
            discount = config.critics.discount
            about["critics"] = critics.source
            about["critics_agreement"] = agreement(critics, reference, self.victim, discount)
            threshold = cost_threshold(critics, reference, self.victim)
            means = replace(means, critics=critics, threshold=threshold)
        return Prepared(protocol, units, means, about)

    def _reference(self, protocol: Protocol) -> list[Trajectory]:
        recorder = Recorder()
        count, seed = self.config.reference_episodes, self.config.seed + REFERENCE_SEED
        replace(protocol, episodes=count, seed=seed).run(self.victim.policy, self.env_id, recorder)
        return recorder.trajectories()

    def _critics(self, protocol: Protocol, units: Units, length: float, fit: bool) -> Critics:
        """The victim's own where it brings them and they are wanted, else fitted ones; ``length`` of an episode."""
        own = self.victim.critics if self.config.critics.source == "auto" else None
        if own is not None and not fit:
            return own
        settings, seed = self.config.critics, self.config.seed + CRITIC_SEED
        count = settings.episodes_of(length)
        source = f"fitted: {settings.updates} updates on {count} noisy episodes of the victim"
        path = self.folder / "critics.safetensors"
        if path.exists():
            network = FittedCritics(units, self.victim.act_dim, settings.hidden)
            try:
                network.load_state_dict(load_file(path))
            except (OSError, RuntimeError, SafetensorError) as error:
                raise UsageError(
                    f"{path}: not the critics of this comparison ({type(error).__name__}); delete it, and "
                    f"resume={self.folder} fits them anew."
                ) from error
            network.requires_grad_(False)
        else:
            self._tell(0.1, "noisy episodes of the victim")
            noisy = NoisyPolicy(self.victim, settings.noise)
            recorder = Recorder(lambda: noisy.own)
            replace(protocol, episodes=count, seed=seed).run(noisy, self.env_id, recorder)
            data = transitions(recorder.trajectories(), self.victim, settings.discount)
            smooth = any(needs_robust(name, self.config.objective) for name in self.config.adversaries)

            def report(share: float) -> None:
                self._tell(0.3 + 0.7 * share, "critics")

            network = fitted_critics(data, units, settings, seed, smooth, report)
            temporary = path.with_name(f".{path.name}.tmp")
            save_file(network.state_dict(), temporary)
            temporary.replace(path)
        fitted = network.as_critics(source)
        if own is None:
            return fitted
        return Critics(own.reward, own.cost, fitted.value, fitted.robust, f"{own.source}; V and robust Q {source}")

    def _result(self, name: str, eps: float, prepared: Prepared) -> Facts:
        """One evaluation."""
        threat = Threat(prepared.units, eps, self.config.norm)
        label = "the clean victim" if name == CLEAN else f"{name}, eps {eps:g}"
        self._tell(0, label)
        started = time.perf_counter()
        attack = self._attack(name, threat, prepared, label)
        trained, noted = time.perf_counter() - started, self._noted(name, eps)
        attacked, recorder = AttackedPolicy(self.victim, threat, attack), Recorder()
        queries, started = self.victim.queries, time.perf_counter()
        self._tell(0.9 if ADVERSARIES.get(name) and ADVERSARIES[name].learned else 0.05, label)
        episodes = prepared.protocol.run(attacked, self.env_id, recorder)
        trajectories = recorder.trajectories()
        facts: Facts = {
            "adversary": name,
            "eps": eps,
            **evaluation_facts(episodes, reference_returns(self.env_id), prepared.protocol.limits(self.env_id)),
            "seconds": {
                "training": trained,
                "adversary": attacked.seconds,
                "evaluation": time.perf_counter() - started,
            },
            "attacked_observations": attacked.attacked,
            "queries": self.victim.queries - queries,
            "queries_training": noted.get("queries", 0),
            "about": prepared.about,
        }
        if "intention" in noted:
            facts["intention"] = noted["intention"]
        if self.config.target is not None:
            reached = successes(target_named(self.config.target), trajectories)
            facts["target"] = {"name": self.config.target, **_rate(reached)}
            facts["per_episode"]["target"] = reached.tolist()
        shown = self._shown(trajectories) if name == CLEAN else read_json(self._path(CLEAN, 0.0))["shown"]
        return facts | {"shown": shown} | self._pictured(name, eps, prepared.protocol, trajectories, shown)

    def _pictured(
        self, name: str, eps: float, protocol: Protocol, trajectories: Sequence[Trajectory], shown: Sequence[int]
    ) -> Facts:
        """What pictures of these episodes need: PointRobot's ways, else speeds and a film of the first."""
        if full_id(self.env_id) == POINT_ROBOT:
            return {"paths": [_path(trajectories[index]) for index in shown]}
        facts: Facts = {"filmed": self._film(name, eps, protocol, shown[0], trajectories[shown[0]])}
        speeds = [told for index in shown if (told := speed(self.env_id, trajectories[index])) is not None]
        if speeds:
            facts["speeds"] = {"about": speeds[0][0], "values": [np.round(values, 3).tolist() for _, values in speeds]}
        return facts

    def film_of(self, result: Facts) -> Path:
        """Where the pictures of one of its episodes lie; there is no file where they could not be taken."""
        return self._film_path(result["adversary"], result["eps"])

    def _film_path(self, name: str, eps: float) -> Path:
        return self.folder / "films" / f"{name}-{eps:g}.npy"

    def _film(self, name: str, eps: float, protocol: Protocol, index: int, episode: Trajectory) -> Facts:
        """Take pictures of the evaluation's episode ``index``; what is known of them, or why there are none."""
        path = self._film_path(name, eps)
        path.parent.mkdir(exist_ok=True)
        try:
            pictures = filmed(self.env_id, protocol.arguments(self.env_id), self.config.seed + index, episode)
        except Exception as error:  # whatever a graphics driver does: the numbers must not be lost with a picture
            return {"steps": len(episode), "failure": f"{type(error).__name__}: {error}"}
        temporary = path.with_name(f".{path.name}")
        np.save(temporary, pictures, allow_pickle=False)
        temporary.replace(path)
        return {"steps": len(episode)}

    def _shown(self, clean: Sequence[Trajectory]) -> list[int]:
        """The episodes whose way is drawn: the longest clean ones, where there is most to see."""
        lengths = np.array([len(each) for each in clean])
        return sorted(np.argsort(-lengths, kind="stable")[:PATHS].tolist())

    def _attack(self, name: str, threat: Threat, prepared: Prepared, label: str) -> Attack:
        if name == CLEAN:
            return make_attack("random", threat, prepared.means)  # with eps 0 it isn't asked
        if name == "rat":
            return self._rat(threat, prepared, label)
        goal = ADVERSARIES[name].goal
        if goal is None:
            return make_attack(name, threat, prepared.means)
        turn = make_turn(name, threat, prepared.means)

        def train(path: Path) -> Facts:
            seed, settings = self.config.seed + LEARNING_SEED, self.config.learned
            arguments = prepared.protocol.arguments(self.env_id)
            gain = behaviour_named(self.config.target, name).score if goal == "target" else goal
            envs = AdversaryEnvs(self.env_id, arguments, self.victim, threat, turn, gain, settings.envs, seed)
            try:
                train_adversary(envs, settings, path, seed, lambda share: self._tell(0.9 * share, f"{label}: training"))
            finally:
                envs.close()
            return {}

        path = self._trained(name, threat.eps, ".zip", train)
        return self._loaded(name, threat.eps, lambda: load_adversary(path, threat, turn))

    def _rat(self, threat: Threat, prepared: Prepared, label: str) -> Attack:
        config = self.config.rat

        def train(path: Path) -> Facts:
            place = Place(
                self.env_id,
                prepared.protocol.arguments(self.env_id),
                self.victim,
                threat,
                prepared.means.slopes(threat),
                behaviour_named(self.config.target, "rat"),
            )
            rat = RAT(place, config, self.config.seed + LEARNING_SEED)
            rat.train(lambda share: self._tell(0.9 * share, f"{label}: training"))
            rat.save(path)
            if not config.intention:
                return {}
            recorder = Recorder()
            prepared.protocol.run(rat.imitated(), self.env_id, recorder)
            return {"intention": _rate(successes(place.behaviour, recorder.trajectories()))}

        ending = ".safetensors" if config.intention else ".zip"
        path = self._trained("rat", threat.eps, ending, train)
        return self._loaded("rat", threat.eps, lambda: load_rat(path, threat, config))

    def _loaded(self, name: str, eps: float, load: Callable[[], Attack]) -> Attack:
        """What ``load`` reads of a learned adversary's file. Raises: UsageError if the file is damaged."""
        try:
            return load()
        except ValueError as error:
            raise UsageError(
                f"{error} Delete it, if it is there, and {self._note(name, eps)}: resume={self.folder} trains it anew."
            ) from error

    def _trained(self, name: str, eps: float, ending: str, train: Callable[[Path], Facts]) -> Path:
        """The file of a learned adversary, which ``train`` writes.

        Beside it is noted what its training asked the victim, and what else ``train`` returns.
        """
        path, note = self.folder / "adversaries" / f"{name}-{eps:g}{ending}", self._note(name, eps)
        if not note.exists():  # written last: without it the adversary may not be whole
            path.parent.mkdir(exist_ok=True)
            before = self.victim.queries
            facts = train(path)
            write_json(note, {"queries": self.victim.queries - before, **facts})
        return path

    def _note(self, name: str, eps: float) -> Path:
        return self.folder / "adversaries" / f"{name}-{eps:g}.json"

    def _noted(self, name: str, eps: float) -> Facts:
        """What is known of a learned adversary's training; nothing of others.

        "queries": observations that a black box was asked about. "intention": how often RAT's, acting by itself on the
        evaluation's starts, shows the target.
        """
        note = self._note(name, eps)
        return read_json(note) if note.exists() else {}


def _rate(reached: NDArray[np.bool_]) -> Facts:
    """Share of the episodes (E,), with its interval."""
    low, high = rate_interval(int(reached.sum()), len(reached))
    return {"rate": float(reached.mean()), "low": low, "high": high}


def _path(episode: Trajectory) -> list[list[float]]:
    """Positions of PointRobot, to a millimetre."""
    return np.round(episode.observations[:, :2].astype(float), 3).tolist()
