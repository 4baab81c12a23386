"""Policies with gradients: what SB3 networks, kept PPO actors and saferl's agents would do if they saw something else.

Every ``of_...`` returns a ``Respond``: from observations (B, obs_dim) and the seed of the policy's noise to a
``Response`` with gradients, without a trace in the policy's memory.
"""

from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.td3.policies import Actor as TD3Actor
from torch import Tensor, nn

from saferl.adversaries.critics import Critics
from saferl.adversaries.threat import Normaliser, Units
from saferl.adversaries.victim import ActionBox, Respond, Response, clipped
from saferl.agents import AGENTS, Agent
from saferl.agents.bc import BC
from saferl.agents.bcq_lag import BCQLag
from saferl.agents.caps import CAPS, BudgetPolicy
from saferl.agents.ccac import CCAC
from saferl.agents.ccac import BudgetPolicy as CCACPolicy
from saferl.agents.cdt import CDT
from saferl.agents.cpq import CPQ
from saferl.agents.cql import CQL
from saferl.agents.double_critics import DoubleCriticAgent
from saferl.agents.fisor import FISOR
from saferl.agents.implicit import ImplicitAgent
from saferl.agents.sequence_policy import SequencePolicy
from saferl.agents.td3_bc import TD3BC
from saferl.evaluation.sb3_zip import SB3Actor
from saferl.nn.diffusion import SAMPLERS
from saferl.nn.mlp import MLP, EnsembleMLP
from saferl.policy import Policy


def of_actor(actor: SB3Actor, normaliser: Normaliser | None = None, gaussian: bool = True) -> Respond:
    """An SB3 actor.

    Args:
        actor: which does not say whether a Gaussian is drawn from before its tanh.
        normaliser: of one that was trained on normalised observations.
        gaussian: false for TD3 and DDPG, whose tanh stands behind no draw.
    """
    device = actor.get_buffer("low").device
    box = ActionBox(actor.get_buffer("low").cpu().numpy(), actor.get_buffer("high").cpu().numpy(), device)
    units = None if normaliser is None else Units(normaliser, device)
    deviation = None if actor.deviation is None else actor.deviation.to(device) / box.half
    layers = actor.layers.requires_grad_(False)

    def respond(observations: Tensor, seed: int) -> Response:
        output = layers(observations if units is None else units.features(observations))
        if actor.squashed:
            actions = output.tanh()
            return Response(actions, output, squashed=True) if gaussian else Response(actions, actions)
        mean = box.to_unit(output)
        return Response(clipped(mean), mean, None if deviation is None else deviation.expand_as(mean))

    return respond


def of_module(network: nn.Module, box: ActionBox) -> Respond:
    """A network from observations (B, obs_dim) to actions (B, act_dim) in the environment's units, cut to the box."""
    network.requires_grad_(False)

    def respond(observations: Tensor, seed: int) -> Response:
        mean = box.to_unit(network(observations))
        return Response(clipped(mean), mean)

    return respond


def of_model(model: BaseAlgorithm) -> Respond:
    """An SB3 model in memory, whatever its feature extractor: PPO, A2C, SAC, TD3 or DDPG with a Box of actions.

    Raises: ValueError for another kind of policy.
    """
    space = model.action_space
    policy = model.policy
    if not isinstance(space, spaces.Box) or model.use_sde:
        raise ValueError("an SB3 victim needs a Box of actions and no state-dependent exploration (use_sde).")
    box = ActionBox(space.low.flatten(), space.high.flatten(), model.device)
    policy.requires_grad_(False).set_training_mode(False)
    if isinstance(policy, ActorCriticPolicy):

        def gaussian(observations: Tensor, seed: int) -> Response:
            distribution: Any = policy.get_distribution(observations).distribution
            mean = box.to_unit(distribution.mean)
            return Response(clipped(mean), mean, distribution.stddev / box.half)

        return gaussian
    actor = getattr(policy, "actor", None)
    if isinstance(actor, SACActor):

        def squashed(observations: Tensor, seed: int) -> Response:
            mean, log_std, _ = actor.get_action_dist_params(observations)
            return Response(mean.tanh(), mean, log_std.exp(), squashed=True)

        return squashed
    if isinstance(actor, TD3Actor):

        def deterministic(observations: Tensor, seed: int) -> Response:
            actions = actor(observations)
            return Response(actions, actions)

        return deterministic
    raise ValueError(f"gradients of {type(model).__name__} are not known here; use black_box=true.")


def of_agent(agent: Agent, policy: Policy, cost_limit: float | None = None) -> Respond:
    """A saferl agent.

    Args:
        agent: with its weights.
        policy: the one of this agent that acts, whose memory is read where there is one.
        cost_limit: that the policy was asked to keep; None: that of its settings.
    """
    agent.requires_grad_(False)
    noise = torch.Generator(agent.device)

    def respond(observations: Tensor, seed: int) -> Response:
        actions = _agent_actions(agent, policy, cost_limit, observations, noise.manual_seed(seed))
        return Response(actions, actions)

    return respond


def _agent_actions(
    agent: Agent, policy: Policy, cost_limit: float | None, observations: Tensor, generator: torch.Generator
) -> Tensor:
    """Actions (B, act_dim) in [-1, 1] with gradient."""
    if isinstance(agent, FISOR):
        return diffusion_actions(agent, observations, generator)
    if isinstance(agent, CDT) and isinstance(policy, SequencePolicy):
        history, here = policy.history_with(observations)
        return clipped(agent.predicted(*history).mean[here])
    if isinstance(agent, BCQLag):
        return bcq_actions(agent, observations, generator)
    if isinstance(agent, CAPS) and isinstance(policy, BudgetPolicy):
        _wake(policy, observations, len(policy.thresholds()))
        return agent.actions_within(observations, _row(policy.thresholds(), observations))
    if isinstance(agent, CCAC) and isinstance(policy, CCACPolicy):
        _wake(policy, observations, len(policy.budgets))
        return agent.actions_within(observations, _row(policy.budgets, observations))
    if isinstance(agent, BC) and agent.conditioned and cost_limit is not None:
        return agent.actions(observations, observations.new_full((len(observations),), cost_limit))
    return agent.act(observations, generator)


def diffusion_actions(agent: FISOR, observations: Tensor, generator: torch.Generator, straight: bool = True) -> Tensor:
    """FISOR's choice among its candidates, with the gradient through every step of the sampler.

    The candidates are drawn without gradients, as when the agent acts. The chosen one is then denoised once more from
    the same noise, which costs one candidate's gradient and not those of all. Which one is chosen has no gradient.
    ``straight`` lets gradients pass the cuts to the action box: actions are often at its edge.
    """
    config = agent.config
    if config.actor == "awr":
        candidates = agent.draw_candidates(observations, generator)
        with torch.no_grad():
            best = agent.selected(observations, candidates)
        return candidates[torch.arange(len(best), device=best.device), best]
    state = generator.get_state()
    with torch.no_grad():
        best = agent.selected(observations, agent.draw_candidates(observations, generator))
    generator.set_state(state)
    rows = torch.arange(len(best), device=best.device)
    drawn = (len(best), config.candidates, agent.act_dim)
    draws = (
        torch.randn(drawn, generator=generator, device=best.device)[rows, best] for _ in range(config.diffusion_steps)
    )

    def noise_prediction(noisy: Tensor, step: int) -> Tensor:
        return agent.target_score(noisy, observations, torch.full_like(best, step))

    sample = SAMPLERS[config.sampler]
    shape = (len(best), agent.act_dim)
    return sample(noise_prediction, agent.noise_schedule, shape, draws, config.temperature, straight=straight)


def bcq_actions(agent: BCQLag, observations: Tensor, generator: torch.Generator) -> Tensor:
    """BCQ's best perturbed draw, with the gradient through the VAE's decoder too (its training needs none there)."""
    assert isinstance(agent.actor, MLP)
    count = 1 if agent.published else agent.config.candidates
    likely = agent.vae.draw(observations, count, generator).tanh()
    moves = agent.config.perturbation * agent.actor.over_candidates(observations, likely).tanh()
    actions = clipped(likely + moves)
    return actions[:, 0] if agent.published else agent.best(observations, actions)[0]


def agent_critics(agent: Agent) -> Critics | None:
    """Q_r and Q_c that an agent learned; None if it learned none that an attack could use.

    The least Q_r and the greatest Q_c of the twins, as the agent itself is pessimistic. FISOR's Q_h, the greatest
    violation to come, stands for Q_c. V is Q_r(s, pi(s)); in place of robust Sarsa's Q, which has to be fitted, stands
    Q_r, so the caller fits where it is asked for.
    """
    found = _twins(agent)
    if found is None:
        return None
    network, reward_members, cost_members = found

    def reward(states: Tensor, actions: Tensor) -> Tensor:
        return network(torch.cat([states, actions], dim=-1), reward_members, frozen=True).amin(0)

    def cost(states: Tensor, actions: Tensor) -> Tensor:
        return network(torch.cat([states, actions], dim=-1), cost_members, frozen=True).amax(0)

    name = next(name for name, (_, kind) in AGENTS.items() if kind is type(agent))
    return Critics(reward=reward, cost=cost, value=reward, robust=reward, source=f"{name}'s own Q_r and Q_c")


def _twins(agent: Agent) -> tuple[EnsembleMLP, slice, slice] | None:
    if isinstance(agent, FISOR | TD3BC | ImplicitAgent | CPQ):
        return agent.target_critics, slice(0, 2), slice(2, 4)
    if isinstance(agent, CQL) and agent.config.lagrangian:
        return agent.target_critics, slice(0, 2), slice(2, 4)
    if isinstance(agent, DoubleCriticAgent):
        return agent.target_critics, agent.of_reward, agent.of_cost
    return None


def _wake(policy: Policy, observations: Tensor, rows: int) -> None:
    """Begin the episodes of a policy that keeps a budget for each row, as its first ``act`` does."""
    if rows != len(observations):
        policy.act(observations.detach().cpu().numpy())


def _row(values: NDArray[Any], like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=like.device)
