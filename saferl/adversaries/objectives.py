"""What an adversary climbs: numbers (B,) of what the victim would do if it saw something else.

The gradient flows through the policy's answer to what it sees; a critic is asked at the true state, where the action
will be carried out. Only ``less_value`` asks at the manipulated one, which is its known weakness.

Sources: Pattanaik et al. 2018 (Q), Zhang et al. 2020 (MAD, robust Sarsa), Zhang et al. 2021 (value), Liu et al. 2023
(MR, MC).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from saferl.adversaries.critics import Critics
from saferl.adversaries.victim import Response


class Situation(NamedTuple):
    """Where B rows truly are, and what the victim would do if it saw that."""

    observations: Tensor  # (B, obs_dim), in the environment's units
    clean: Response


class Objective(Protocol):
    """A number (B,) to climb."""

    def __call__(self, situation: Situation, seen: Tensor, response: Response) -> Tensor:
        """For what would be ``seen`` (B, obs_dim), and the victim's ``response`` to it."""
        ...


def deviation(situation: Situation, seen: Tensor, response: Response) -> Tensor:
    """2 m^2 KL(pi(.|s) || pi(.|s~)) with m the mean over dimensions of pi(.|s)'s standard deviation.

    For equal deviations sigma this is the sum over dimensions of ((mu(s~) - mu(s)) / (sigma / m))^2, MAD's form; for
    a policy without a Gaussian the squared distance of the actions.
    """
    clean = situation.clean
    if clean.deviation is None or response.deviation is None:
        return (response.mean - clean.mean).square().sum(-1)
    ratio = clean.deviation / response.deviation
    apart = (response.mean - clean.mean) / response.deviation
    divergence = (0.5 * (ratio.square() + apart.square() - 1) - ratio.log()).sum(-1)
    return 2 * clean.deviation.mean(-1).square() * divergence


def less_value(critics: Critics) -> Objective:
    """-V(s~): what is seen looks worthless."""
    return lambda situation, seen, response: -critics.value(seen, response.actions)


def less_reward(critics: Critics) -> Objective:
    """-Q_r(s, pi(s~)): the action earns little."""
    return lambda situation, seen, response: -critics.reward(situation.observations, response.actions)


def more_reward(critics: Critics) -> Objective:
    """Q_r(s, pi(s~)): the action earns much, and nobody notices; where reward is risky, cost follows (MR)."""
    return lambda situation, seen, response: critics.reward(situation.observations, response.actions)


def more_cost(critics: Critics) -> Objective:
    """Q_c(s, pi(s~)): the action costs much (MC)."""
    return lambda situation, seen, response: critics.cost(situation.observations, response.actions)


def less_robust_reward(critics: Critics) -> Objective:
    """-Q(s, pi(s~)) of the critic that was taught to be smooth in the action (robust Sarsa)."""
    return lambda situation, seen, response: -critics.robust(situation.observations, response.actions)


def half_deviation_half_robust(critics: Critics) -> Objective:
    """Half of ``deviation`` and half of ``less_robust_reward`` (RS+MAD)."""
    robust = less_robust_reward(critics)

    def mixed(situation: Situation, seen: Tensor, response: Response) -> Tensor:
        return 0.5 * deviation(situation, seen, response) + 0.5 * robust(situation, seen, response)

    return mixed


OBJECTIVES: dict[str, Callable[[Critics], Objective]] = {
    "value": less_value,
    "q": less_reward,
    "mr": more_reward,
    "mc": more_cost,
    "rs": less_robust_reward,
    "rs_mad": half_deviation_half_robust,
}  # all but ``deviation``, which needs no critic
