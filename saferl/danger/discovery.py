"""The loop: attempt, simulate, reflect, consolidate, in rounds of a few episodes, and what came of it.

run = discover(world, BuiltInBackend(...), parse_noise("fp", p=0.5), DiscoverySettings(horizon=30, seed=0))
print(run.specification.text)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from saferl.danger.clone import World
from saferl.danger.metrics import Correctness, Evaluation, Examiner
from saferl.danger.noise import Noise, pair_words
from saferl.danger.planning import Policy, policy_of
from saferl.danger.specification import Backend, Board, Episode, Specification, Step

Told = Literal["bits", "nothing", "random"]
Judge = Callable[[Specification], Correctness | None]


@dataclass(frozen=True)
class DiscoverySettings:
    """How long a discovery is, and what the learner is told.

    Args:
        horizon: steps of an episode.
        rounds: how many.
        episodes: K, of a round.
        seed: of starts, random steps and noise.
        told: "bits"; "nothing", R only; "random", the same bits of a round on steps drawn anew, so that their rate is
            right and their place means nothing.
    Raises: ValueError for numbers below 1 or an unknown word.
    """

    horizon: int = 30
    rounds: int = 20
    episodes: int = 5
    seed: int = 0
    told: Told = "bits"

    def __post_init__(self) -> None:
        for name in ("horizon", "rounds", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}.")
        if self.told not in ("bits", "nothing", "random"):
            raise ValueError(f"told must be bits, nothing or random; got {self.told!r}.")


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        steps, danger: of its episodes, and how many of the steps were dangerous.
        warnings: bits that the learner was given.
        evaluation: of the specification after it.
        correctness: of its rules; None for a specification of text only.
        rules, literals: how many it has.
    """

    steps: int
    danger: int
    warnings: int
    evaluation: Evaluation
    correctness: Correctness | None
    rules: int
    literals: int


@dataclass(frozen=True)
class Run:
    """A whole discovery: its rounds and the last specification."""

    rounds: tuple[Round, ...]
    specification: Specification

    @property
    def discovered(self) -> int | None:
        """The first round after which every evaluation is safe, to the last one; None if the last one isn't."""
        found = None
        for number in range(len(self.rounds), 0, -1):
            if not self.rounds[number - 1].evaluation.safe:
                break
            found = number
        return found

    @property
    def danger_rate(self) -> float:
        """Dangerous steps among all steps of the training, exploration counted."""
        return sum(each.danger for each in self.rounds) / sum(each.steps for each in self.rounds)


def discover(
    world: World,
    examiner: Examiner,
    backend: Backend,
    noise: Noise,
    settings: DiscoverySettings,
    judge: Judge = lambda specification: None,
    report: Callable[[int], None] = lambda done: None,
) -> Run:
    """Run the loop from an empty specification.

    Args:
        world: where episodes happen; the backend sees none of what is hidden in it.
        examiner: of the same world and horizon.
        backend: who plans and learns.
        noise: on the danger bits.
        settings: see there.
        judge: the correctness of a specification's rules.
        report: called with the number of rounds done.
    """
    simulator = Simulator(world, noise, settings)
    specification = Specification()
    rounds = []
    for number in range(settings.rounds):
        plays = [
            simulator.play(start, plan, number * settings.episodes + episode)
            for episode, (start, plan) in enumerate(_attempts(simulator, backend, specification, settings.episodes))
        ]
        episodes = simulator.told([episode for episode, _ in plays], number)
        specification = backend.reflect(specification, episodes)
        evaluation = examiner.evaluation(_greedy(simulator, backend, specification))
        rounds.append(
            Round(
                steps=sum(len(episode.steps) for episode, _ in plays),
                danger=sum(danger for _, danger in plays),
                warnings=sum(int(np.sum(episode.warnings)) for episode in episodes if episode.warnings is not None),
                evaluation=evaluation,
                correctness=judge(specification),
                rules=len(specification.rules),
                literals=sum(len(rule.literals) for rule in specification.rules),
            )
        )
        report(number + 1)
    return Run(tuple(rounds), specification)


def _attempts(
    simulator: "Simulator", backend: Backend, specification: Specification, count: int
) -> list[tuple[int, Policy]]:
    """Starts of a round's episodes and the plans for them; episodes that begin alike are planned together."""
    starts = [simulator.start() for _ in range(count)]
    boards = [simulator.first_board(start) for start in starts]
    plans: dict[bytes, list[Policy]] = {}
    for board in boards:
        key = board.tobytes()
        if key not in plans:
            alike = sum(other.tobytes() == key for other in boards)
            plans[key] = simulator.policies(backend.propose(specification, board, alike))[::-1]
    return [(start, plans[board.tobytes()].pop()) for start, board in zip(starts, boards)]


def _greedy(simulator: "Simulator", backend: Backend, specification: Specification) -> list[Policy]:
    """The best plan for each start of the world."""
    plans: dict[bytes, Policy] = {}
    boards = [simulator.first_board(start) for start in simulator.world.starts.tolist()]
    for board in boards:
        if board.tobytes() not in plans:
            plans[board.tobytes()] = simulator.policies(backend.propose(specification, board, 1))[0]
    return [plans[board.tobytes()] for board in boards]


class Simulator:
    """Plays plans in a world and gives what a learner sees of it.

    Starts and random steps come from the seed; the noise from the seed, the episode and the step.
    """

    def __init__(self, world: World, noise: Noise, settings: DiscoverySettings) -> None:
        self.world, self.noise, self.settings = world, noise, settings
        self._generator = np.random.default_rng([settings.seed, 2])

    def start(self) -> int:
        """A pair of the world to begin with."""
        chances = self.world.start_chances
        return int(self.world.starts[_drawn(chances, self._generator)])

    def first_board(self, start: int) -> Board:
        """What is shown at a start."""
        clone = self.world.clone
        return clone.steps.before[clone.offsets[self.world.node[start] * clone.actions]]

    def policies(self, plans: Sequence[object]) -> list[Policy]:
        """A backend's plans as policies. Raises: ValueError for one that can't be played."""
        return [policy_of(plan, self.world.clone, self.settings.horizon) for plan in plans]  # type: ignore[arg-type]

    def play(self, start: int, policy: Policy, number: int) -> tuple[Episode, int]:
        """One episode as a learner sees it, and how many of its steps were dangerous.

        Args:
            start: pair of the world.
            policy: (T, N or 1, A).
            number: of the episode, for the noise.
        """
        world, clone = self.world, self.world.clone
        pair, steps, dangers = start, list[Step](), list[bool]()
        first = self.first_board(start)
        for index, table in enumerate(policy):
            node = int(world.node[pair])
            options = np.flatnonzero(table[node if len(table) > 1 else 0])
            action = int(options[0] if len(options) == 1 else self._generator.choice(options))
            outcome = _drawn(world.chances[pair, action], self._generator)
            edge = int(world.edges[pair, action, outcome])
            board, after = clone.steps.before[edge], clone.steps.after[edge]
            reward = float(clone.rewards[edge])
            steps.append(Step(board, action, after, reward, index, first, steps[-1] if steps else None))
            dangers.append(bool(world.danger[pair, action, outcome]))
            pair = int(world.following[pair, action, outcome])
            if pair < 0:
                break
        return Episode(tuple(steps), self._bits(steps, dangers, number), pair < 0), sum(dangers)

    def _bits(self, steps: Sequence[Step], dangers: Sequence[bool], number: int) -> np.ndarray | bool:
        pairs = None
        if self.noise.kind == "persistent":
            pairs = pair_words([step.before for step in steps], [step.action for step in steps])
        bits = self.noise.bits(
            dangers, seed=self.settings.seed, episodes=number, steps=np.arange(len(steps)), pairs=pairs
        )
        return bool(bits.any()) if self.noise.kind == "episode" else bits

    def told(self, episodes: Sequence[Episode], number: int) -> list[Episode]:
        """The episodes of round ``number`` with what the learner is told about danger in place of the bits."""
        if self.settings.told == "bits":
            return list(episodes)
        if self.settings.told == "nothing":
            return [Episode(each.steps, None, each.terminated) for each in episodes]
        generator = np.random.default_rng([self.settings.seed, 3, number])
        bits = [np.atleast_1d(np.asarray(each.warnings, np.bool_)) for each in episodes]
        shuffled = generator.permutation(np.concatenate(bits))
        parts = np.split(shuffled, np.cumsum([len(each) for each in bits])[:-1])
        whole = self.noise.kind == "episode"
        return [
            Episode(each.steps, bool(part[0]) if whole else part, each.terminated)
            for each, part in zip(episodes, parts)
        ]


def _drawn(chances: np.ndarray, generator: np.random.Generator) -> int:
    """A number drawn with these probabilities."""
    if chances[0] >= 1:
        return 0
    return min(int(np.searchsorted(np.cumsum(chances), generator.random(), side="right")), len(chances) - 1)
