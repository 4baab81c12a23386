"""Settings of OGSRL."""

from dataclasses import dataclass

from saferl.agents.settings import LimitUse, check_at_least, check_choice, check_positive, check_share
from saferl.guardians import GuardianConfig
from saferl.guardians.guardian import KINDS

MODELS = ("knn", "ensemble")
OPTIMIZERS = ("cpo", "pid_lag")


@dataclass(frozen=True, kw_only=True)
class OGSRLConfig:
    """Settings of OGSRL; the defaults are the paper's where it names them."""

    cost_limit: float | None = None  # on the undiscounted cost of an episode; None: the task's smallest one
    episode_length: int | None = None  # steps; None: the task's horizon, else the data's longest episode
    optimizer: str = "cpo"  # or "pid_lag": trust-region steps on a reward less multipliers times costs
    model: str = "knn"  # or "ensemble"
    guardian: str | None = "kde"  # kind of the guardian; None: no guard
    guardian_alpha: float = 0.05  # share of the data that counts as outside
    guardian_rows: int | None = 20_000  # reference rows of the guardian, drawn at random; None: all
    ood_limit: float = 0.5  # on the probability that a path leaves the support
    exit_reward: float = -25.0  # of the step that leaves it
    batch_size: int = 32  # paths of an update
    horizon: int | None = 20  # steps of a path at most; None: an episode's
    model_rows: int | None = 20_000  # transitions of the model, drawn at random; None: all
    neighbours: int = 5  # knn: of which one is drawn
    members: int = 5  # ensemble: networks
    model_hidden: int = 128  # ensemble: width of their layers
    model_updates: int = 5_000  # ensemble: training steps
    hidden: int = 128  # width of the two layers of policy and values
    initial_log_std: float = -0.5
    discount: float = 0.99
    trace: float = 0.95  # lambda of the advantages
    radius: float = 0.01  # KL divergence that a step may bring, nats
    damping: float = 0.1  # added to the Fisher matrix
    gradient_iterations: int = 15  # of conjugate gradients
    critic_lr: float = 1e-3
    critic_steps: int = 10  # of the values in an update, each on 2,048 steps of paths at most
    proportional_gain: float = 0.1  # of the multipliers' PID law
    integral_gain: float = 0.003
    derivative_gain: float = 0.001

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters."""
        return "training"

    @property
    def whole_episodes(self) -> bool:
        """Whether a path may last as long as an episode."""
        return self.steps == self.episode_length

    @property
    def steps(self) -> int:
        """Steps of a path at most."""
        if self.episode_length is None:
            raise ValueError("agent.episode_length has no value; saferl.train takes it from the task, else give it.")
        return self.episode_length if self.horizon is None else min(self.horizon, self.episode_length)

    @property
    def limits(self) -> tuple[float, ...]:
        """Limits on the undiscounted sums of a path: of the cost, a short path's share of it, and of leaving."""
        if self.cost_limit is None or self.episode_length is None:
            raise ValueError(
                "agent.cost_limit and agent.episode_length have no value; saferl.train takes them from the task, "
                "elsewhere give both."
            )
        limit = self.cost_limit * self.steps / self.episode_length
        return (limit,) if self.guardian is None else (limit, self.ood_limit)

    @property
    def guardian_settings(self) -> GuardianConfig:
        """Those of the guardian."""
        assert self.guardian is not None
        return GuardianConfig(kind=self.guardian, alpha=self.guardian_alpha, rows=self.guardian_rows)

    def __post_init__(self) -> None:
        check_choice(self, "optimizer", OPTIMIZERS)
        check_choice(self, "model", MODELS)
        for key, least in (("cost_limit", 0), ("episode_length", 1), ("horizon", 1), ("model_rows", 1)):
            if getattr(self, key) is not None:
                check_at_least(self, least, key)
        check_at_least(self, 1, "batch_size", "neighbours", "members", "model_hidden", "model_updates", "hidden")
        check_at_least(self, 1, "gradient_iterations", "critic_steps")
        check_at_least(self, 0, "ood_limit", "damping", "proportional_gain", "integral_gain", "derivative_gain")
        check_positive(self, "radius", "critic_lr")
        check_share(self, "discount", "trace")
        if self.guardian is not None:
            if self.guardian not in KINDS or self.guardian == "counts":
                allowed = ", ".join(kind for kind in KINDS if kind != "counts")
                raise ValueError(f"agent.guardian must be one of {allowed}, or null; got {self.guardian!r}.")
            try:
                _ = self.guardian_settings
            except ValueError as error:
                raise ValueError(str(error).replace("guardian.", "agent.guardian_")) from error
