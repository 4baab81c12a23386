"""RATConfig: the frozen settings of RAT."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RATConfig:
    """How an adversary for a targeted behaviour is trained; steps are those of all environments together."""

    steps: int = 100_000  # of the environment
    envs: int = 8  # stepped together
    random_steps: int = 1_000  # of random actions at the start
    explore_steps: int = 9_000  # of exploration behind them, for new states and without a teacher
    update_every: int = 4  # steps between two updates of SAC
    batch: int = 256  # of SAC and of the adversary
    width: int = 128  # of two hidden layers of SAC, adversary and rewards
    lr: float = 1e-3  # of SAC and rewards
    discount: float = 0.99
    labels: int = 1_000  # answers of the teacher in all
    mistakes: float = 0.0  # share of them that are the wrong way round; the reward's loss is told
    segment: int = 25  # steps that are compared
    query_every: int = 5_000  # steps between two sets of questions
    questions: int = 100  # in a set
    members: int = 3  # networks of the reward
    epochs: int = 100  # of a reward fit at most
    inner_every: int = 100  # steps between two sets of inner steps
    inner_updates: int = 10
    outer_every: int = 1_000  # steps between two updates of the state weights
    adversary_lr: float = 3e-4
    weights_lr: float = 1e-3
    intention: bool = True  # false: SAC chooses perturbations instead, without a policy to imitate
    combined: bool = True  # false: all data from the intention, none from the attacked victim
    weighting: bool = True  # false: every state weighs the same

    def __post_init__(self) -> None:
        positive = (
            "steps", "envs", "update_every", "batch", "width", "labels", "segment", "query_every", "questions",
            "members", "epochs", "inner_every", "inner_updates", "outer_every",
        )  # fmt: skip
        for key in positive:
            if getattr(self, key) < 1:
                raise ValueError(f"rat.{key} must be >= 1; got {getattr(self, key)}.")
        for key in ("random_steps", "explore_steps"):
            if getattr(self, key) < 0:
                raise ValueError(f"rat.{key} must be >= 0; got {getattr(self, key)}.")
        for key in ("lr", "adversary_lr", "weights_lr"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ValueError(f"rat.{key} must be > 0; got {getattr(self, key)}.")
        if not 0 <= self.discount < 1:
            raise ValueError(f"rat.discount must be in [0, 1); got {self.discount}.")
        if not 0 <= self.mistakes < 0.5:
            raise ValueError(f"rat.mistakes must be in [0, 0.5); got {self.mistakes}.")
        if self.members < 2:
            raise ValueError(f"rat.members must be >= 2, or there is nothing to disagree; got {self.members}.")
        if self.steps <= self.random_steps + self.explore_steps:
            raise ValueError(
                f"rat.steps must be > rat.random_steps + rat.explore_steps = {self.random_steps + self.explore_steps}; "
                f"got {self.steps}."
            )
