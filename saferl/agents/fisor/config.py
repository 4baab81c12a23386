"""FISORConfig: the settings of FISOR and of its ablations."""

from dataclasses import dataclass

from saferl.agents.guarding import GuardedConfig
from saferl.agents.settings import LimitUse, check_at_least, check_choice, check_positive, check_share
from saferl.nn.diffusion import SAMPLERS, SCHEDULES

_CHOICES = {
    "actor": ("diffusion", "awr"),
    "safety_critic": ("hj", "qc"),
    "margin_of": ("next", "current"),
    "schedule": tuple(SCHEDULES),
    "sampler": tuple(SAMPLERS),
    "selection": ("least_qh", "feasible_best_reward"),
}


@dataclass(frozen=True, kw_only=True)
class FISORConfig(GuardedConfig):
    """Settings of FISOR; the defaults are the paper's for the DSRL tasks.

    Only the "qc" critic uses ``cost_limit`` and ``episode_length``; ``precision`` is of the score network in training.
    """

    batch_size: int = 2048  # rows per update; each half of them trains the actor once
    critic_batch_size: int = 256  # leading rows that train the critics
    actor: str = "diffusion"  # or "awr": a squashed Gaussian, the same weights on its log-likelihood
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    actor_lr_decay: int = 3_000_000  # actor updates of the cosine decay to 0; 0 for a constant rate
    critic_lr_decay: int = 0  # critic updates of the same
    lr_end_share: float = 0.0  # what the decay leaves of both rates
    actor_target_rate: float = 0.001
    reward_expectile: float = 0.9
    safety_expectile: float = 0.9
    safety_critic: str = "hj"  # "hj": reachability (worst h ahead); "qc": discounted sum of costs
    margin_of: str = "next"  # "current": h of the state itself, not of the one behind the action; needs margins
    safety_margin: float = 0.0  # the policy takes V_h and Q_h for this much higher, in units of h
    unsafe_label: float = 25.0  # h where the data has costs but no margin: cost > 0
    safe_label: float = -1.0  # the same where cost = 0
    bootstrap_timeouts: bool = False  # False: the value ends where the time ran out, as in the paper
    reward_temperature: float = 3.0  # alpha_2
    cost_temperature: float = 5.0  # alpha_1
    reward_weight_clip: float = 100.0
    cost_weight_clip: float = 150.0
    diffusion_steps: int = 5  # T
    schedule: str = "vp"
    sampler: str = "ddpm"
    temperature: float = 1.0  # of the sampler's noise
    candidates: int = 16  # N, actions drawn for one observation
    selection: str = "least_qh"  # or "feasible_best_reward": the greatest Q_r among the candidates with Q_h <= 0
    critic_hidden: int = 256
    blocks: int = 3
    dropout: float = 0.1
    compile: bool = False  # the losses by torch.compile: a minute at the start, then faster
    cuda_graph: bool = False  # on a GPU, record the whole update once and replay it

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters."""
        return "training" if self.safety_critic == "qc" else "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, allowed in _CHOICES.items():
            check_choice(self, key, allowed)
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"agent.batch_size must be even and >= 2; got {self.batch_size}.")
        if not 1 <= self.critic_batch_size <= self.batch_size:
            raise ValueError(
                f"agent.critic_batch_size must be in 1..agent.batch_size={self.batch_size}; "
                f"got {self.critic_batch_size}."
            )
        check_at_least(self, 1, "diffusion_steps", "candidates", "critic_hidden", "blocks")
        check_positive(self, "actor_lr", "critic_lr", "reward_weight_clip", "cost_weight_clip")
        check_at_least(self, 0, "actor_lr_decay", "critic_lr_decay", "safety_margin")
        check_at_least(self, 0, "reward_temperature", "cost_temperature", "temperature")
        for key in ("reward_expectile", "safety_expectile"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"agent.{key} must be in (0, 1); got {getattr(self, key)}.")
        check_share(self, "actor_target_rate")
        for key in ("dropout", "lr_end_share"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"agent.{key} must be in [0, 1); got {getattr(self, key)}.")
        if not self.safe_label <= 0 < self.unsafe_label:
            raise ValueError(
                "agent.safe_label must be <= 0 and agent.unsafe_label > 0; "
                f"got {self.safe_label} and {self.unsafe_label}."
            )
