"""FISOR's equations by hand, its critics against exact value iteration, its choice of actions."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from saferl.agents import FISOR, FISORConfig
from saferl.agents.bellman import bellman_target, cost_value_threshold
from saferl.agents.feasibility import (
    Weighting,
    cosine_rate,
    expectile_loss,
    feasibility_weights,
    reversed_expectile_loss,
    safety_bellman_target,
)
from saferl.nn.diffusion import ddpm_sample
from saferl.offline_data.batch import Batch

PRESETS = Path(__file__).parents[2] / "saferl" / "conf" / "agent"


def batch_of(observations, actions, next_observations, **fields):
    rows = len(observations)
    zeros = {key: torch.zeros(rows) for key in ("rewards", "costs", "terminals", "timeouts")}
    return Batch(observations=observations, actions=actions, next_observations=next_observations, **(zeros | fields))


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_expectiles_of_two_points(expectile):  # equal shares at a < b: (1 - e) a + e b, and e a + (1 - e) b reversed
    low, high = -1.0, 3.0
    minima = ((1 - expectile) * low + expectile * high, expectile * low + (1 - expectile) * high)
    for loss, minimum in zip((expectile_loss, reversed_expectile_loss), minima, strict=True):
        value = torch.tensor(minimum, dtype=torch.float64, requires_grad=True)
        loss(torch.tensor([low, high], dtype=torch.float64) - value, expectile).backward()
        assert value.grad.item() == pytest.approx(0, abs=1e-6)  # the loss is convex


def test_expectile_losses_by_hand():
    residual = torch.tensor([2.0, -1.0])
    assert expectile_loss(residual, 0.9).item() == pytest.approx((0.9 * 4 + 0.1 * 1) / 2)
    assert reversed_expectile_loss(residual, 0.9).item() == pytest.approx((0.1 * 4 + 0.9 * 1) / 2)


def test_bellman_targets_by_hand():
    ends, ahead = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([2.0, 2.0, -3.0])
    h = torch.tensor([-1.0, -1.0, 0.5])
    assert bellman_target(h, ends, ahead, 0.9).tolist() == pytest.approx([-1 + 1.8, -1.0, 0.5 - 2.7])
    # (1 - gamma) h + gamma max(h, V'), and h itself at an end
    assert safety_bellman_target(h, ends, ahead, 0.9).tolist() == pytest.approx([-0.1 + 1.8, -1.0, 0.05 + 0.45])


@pytest.mark.parametrize(
    ("q_r", "v_r", "q_h", "v_h", "weight"),
    [
        (9.0, 0.0, 1.5, 1.0, math.exp(2 * (1.0 - 1.5))),  # infeasible: only the safety advantage counts
        (0.0, 9.0, -1.0, 9.0, 150.0),  # its clip
        (1.5, 1.0, -0.1, -0.2, math.exp(5 * 0.5)),  # feasible and kept so: the reward advantage
        (9.0, 0.0, 0.0, 0.0, 100.0),  # its clip; both boundaries belong to the feasible side
        (9.0, 0.0, 0.1, -0.1, 0.0),  # feasible, but the action leaves the region
        (0.0, 0.0, 5.0, -5.0, 0.0),
    ],
)
def test_weights_table(q_r, v_r, q_h, v_h, weight):
    weighting = Weighting(reward_temperature=5, cost_temperature=2, reward_clip=100, cost_clip=150)
    row = [torch.tensor([x]) for x in (q_r, v_r, q_h, v_h)]
    assert feasibility_weights(*row, weighting).item() == pytest.approx(weight, rel=1e-5)


def test_cosine_rate_and_its_place_in_training():
    def rate(initial, update, decay, end_share=0.0):
        return cosine_rate(initial, torch.tensor(update), decay, end_share).item()

    root = math.sqrt(0.5)
    assert [rate(2.0, n, 4) for n in range(6)] == pytest.approx([2, 1 + root, 1, 1 - root, 0, 0])
    assert [rate(2.0, n, 4, 0.1) for n in (0, 2, 4, 9)] == pytest.approx([2, 1.1, 0.2, 0.2])
    assert rate(2.0, 10**9, 0) == 2.0
    assert rate(3e-4, 2_000_000, 3_000_000) == pytest.approx(7.5e-5)  # the paper's run ends there
    agent = FISOR(FISORConfig(batch_size=4, critic_batch_size=2, hidden=4, critic_hidden=4, actor_lr_decay=8), 3, 1)
    rows = torch.randn(4, 3)
    for _ in range(2):
        agent.update(batch_of(rows, torch.zeros(4, 1), rows))
    assert agent.optimizers["actor"].param_groups[0]["lr"].item() == pytest.approx(rate(3e-4, 3, 8))  # fourth update
    assert agent.optimizers["critics"].param_groups[0]["lr"].item() == pytest.approx(3e-4)


def finite_mdp_agent(states, act_dim, **settings):
    torch.manual_seed(0)
    small = {"critic_hidden": 64, "hidden": 4, "blocks": 1, "critic_lr": 3e-3}
    rates = {"discount": 0.9, "target_rate": 0.1, "safety_expectile": 0.995}
    return FISOR(FISORConfig(**(small | rates | settings)), states, act_dim)


def trained_on(transitions, margins, states, act_dim, updates=800, **settings):
    """Critics after ``updates`` on all transitions (s, action tuple, s', ends) of a finite MDP with one-hot states."""
    transitions = transitions * 2 if len(transitions) % 2 else transitions
    size = {"batch_size": len(transitions), "critic_batch_size": len(transitions)}
    agent, one_hot = finite_mdp_agent(states, act_dim, **size, **settings), torch.eye(states)
    s, a, after, ends = (list(column) for column in zip(*transitions, strict=True))
    h = torch.tensor([margins[n] for n in after])
    batch = batch_of(one_hot[s], torch.tensor(a), one_hot[after], terminals=torch.tensor(ends), margins=h)
    for _ in range(updates):
        agent.update_critics(batch, agent.target_q(batch.observations, batch.actions))
    return agent.feasible_value(one_hot)


def exact_safety_value(transitions, margins, states, discount=0.9):
    """V(s) = min over actions of (1 - gamma) h(s') + gamma max(h(s'), V(s')), h(s') at an end; by value iteration."""
    value = [0.0] * states
    for _ in range(400):
        best = [math.inf] * states
        for s, _, after, ends in transitions:
            h = margins[after]
            q = h if ends else (1 - discount) * h + discount * max(h, value[after])
            best[s] = min(best[s], q)
        value = best
    return torch.tensor(value)


def test_safety_value_of_a_chain_is_the_exact_one():
    # Seven places; from place 3 on the ground slides to the right whatever one does, and place 6 is a violation.
    margins, transitions = [-1.0, -0.9, -0.6, -0.5, -0.3, -0.1, 1.0], []
    for place in range(7):
        for action in (-1.0, 1.0):
            move = 1 if place >= 3 else int(action)
            transitions.append((place, (action,), min(max(place + move, 0), 6), 0.0))
    exact = exact_safety_value(transitions, margins, 7)
    learned = trained_on(transitions, margins, 7, 1)
    assert (exact[3:] > 0).all()
    assert (exact[:3] < 0).all()
    assert (learned - exact).abs().max() < 0.05  # of a range of 2; the expectile 0.995 alone allows 0.01


def test_safety_value_of_a_windy_grid_is_the_exact_one():
    # 5 x 5 cells, wind to the right in row 2, a hole (violation) at its end, a goal that ends the episode at (0, 4).
    width, hole, goal = 5, (2, 4), (0, 4)
    cells = [(row, column) for row in range(width) for column in range(width)]
    margins = [1.0 if cell == hole else -0.2 * (abs(cell[0] - hole[0]) + abs(cell[1] - hole[1])) for cell in cells]
    transitions = []
    for row, column in cells:
        for action in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            wind = 2 if row == 2 and column >= 2 else 0
            after = (min(max(row + int(action[0]), 0), 4), min(max(column + int(action[1]) + wind, 0), 4))
            if (row, column) == (2, 3):
                after = hole  # too late
            transitions.append((cells.index((row, column)), action, cells.index(after), float(after == goal)))
    exact = exact_safety_value(transitions, margins, 25)
    learned = trained_on(transitions, margins, 25, 2)
    assert exact[cells.index((2, 3))] > 0 > exact[cells.index((2, 2))]
    assert (learned - exact).abs().max() < 0.06  # of a range of 2.2
    clear = exact.abs() > 0.06
    assert torch.equal((learned > 0)[clear], (exact > 0)[clear])


def test_cost_value_of_a_chain_is_the_discounted_sum():  # cost 1 for ever: 1 / (1 - gamma); less the threshold
    settings = {"safety_critic": "qc", "cost_limit": 4.0, "episode_length": 10, "discount": 0.5}
    agent = finite_mdp_agent(2, 1, batch_size=4, critic_batch_size=4, **settings)
    here = torch.eye(2)[[0, 0, 1, 1]]
    batch = batch_of(here, torch.tensor([[1.0], [-1.0]] * 2), here, costs=torch.tensor([1.0, 1.0, 0.0, 0.0]))
    for _ in range(600):
        agent.update_critics(batch, agent.target_q(batch.observations, batch.actions))
    threshold = 4 * (1 - 0.5**10) / 0.5 / 10
    assert cost_value_threshold(4.0, 0.5, 10) == pytest.approx(threshold)
    assert agent.feasible_value(torch.eye(2)).tolist() == pytest.approx([2 - threshold, -threshold], abs=0.02)


def test_margins_are_the_datas_or_the_two_labels():
    agent, rows = FISOR(FISORConfig(batch_size=2, critic_batch_size=2), 3, 1), torch.randn(2, 3)
    costs, actions = torch.tensor([0.0, 0.5]), torch.zeros(2, 1)
    assert agent.margins(batch_of(rows, actions, rows, costs=costs)).tolist() == [-1.0, 25.0]
    margins = torch.tensor([0.3, -0.2])
    assert torch.equal(agent.margins(batch_of(rows, actions, rows, costs=costs, margins=margins)), margins)


@pytest.mark.parametrize("through", [False, True])
def test_timeouts_cut_the_value_or_are_seen_through(through):
    config = FISORConfig(batch_size=4, critic_batch_size=4, hidden=4, critic_hidden=8, bootstrap_timeouts=through)
    agent, rows = FISOR(config, 3, 1), torch.randn(4, 3)
    rewards, margins = torch.randn(4), torch.full((4,), -9.0)  # far below any V_h
    timeouts, terminals = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    fields = {"rewards": rewards, "margins": margins, "timeouts": timeouts, "terminals": terminals}
    reward, safety = agent.critic_targets(batch_of(rows, torch.zeros(4, 1), rows, **fields))
    ended = [False, not through, True, True]
    assert (reward == rewards).tolist() == ended
    assert (safety == margins).tolist() == ended


class FixedCritics:
    """Target critics that return a given table (4, B, N)."""

    def __init__(self, table):
        self.table = torch.tensor(table)

    def over_candidates(self, states, candidates, members=slice(None)):
        return self.table[members]


def chosen(selection, table, margin=0.0):
    agent = FISOR(FISORConfig(batch_size=2, critic_batch_size=2, selection=selection, safety_margin=margin), 3, 1)
    del agent.target_critics
    object.__setattr__(agent, "target_critics", FixedCritics(table))
    return agent.selected(torch.zeros(2, 3), torch.zeros(2, 3, 1)).tolist()


TABLE = [  # two states, three candidates
    [[5.0, 2.0, 9.0], [1.0, 2.0, 3.0]],  # Q_r, first twin
    [[4.0, 3.0, 9.0], [1.0, 2.0, 3.0]],
    [[-0.5, -0.9, -0.1], [0.5, 0.2, 0.9]],  # Q_h, first twin
    [[-0.1, -0.2, 0.1], [0.1, 0.3, 0.2]],
]


def test_least_qh_takes_the_safest_candidate():
    assert chosen("least_qh", TABLE) == [1, 1]  # worse twin of each: -0.1, -0.2, 0.1 and 0.5, 0.3, 0.9


def test_feasible_best_reward_takes_reward_among_feasible_candidates_else_the_safest():
    assert chosen("feasible_best_reward", TABLE) == [0, 1]  # candidate 2 has the reward, and leaves the region


def test_a_margin_asks_for_more_than_feasible():
    assert chosen("feasible_best_reward", TABLE, margin=0.15) == [1, 1]  # candidate 0 has Q_h = -0.1


def test_a_margin_shifts_the_weights_but_not_the_learned_region():
    rows, actions = torch.randn(40, 3), torch.zeros(40, 1)
    agents = [FISOR(FISORConfig(batch_size=2, critic_batch_size=2, safety_margin=m), 3, 1) for m in (0.0, 0.2)]
    agents[1].load_state_dict(agents[0].state_dict())
    assert torch.equal(agents[0].feasible_value(rows), agents[1].feasible_value(rows))
    q = agents[0].target_q(rows, actions)
    raised = q + torch.tensor([0.0, 0.0, 0.2, 0.2])[:, None]
    v_r, v_h = agents[0].values(rows)
    expected = feasibility_weights(q[:2].amin(0), v_r, raised[2:].amax(0), v_h + 0.2, agents[0].weighting)
    torch.testing.assert_close(agents[1].weights(rows, q), expected.detach())


@pytest.mark.parametrize("sampler", ["ddpm", "dpm_solver"])
def test_act_is_repeatable_bounded_and_one_action_per_state(sampler):
    config = FISORConfig(batch_size=2, critic_batch_size=2, hidden=16, candidates=6, sampler=sampler)
    agent, observations = FISOR(config, 5, 3), torch.randn(10, 5)
    draw = [agent.act(observations, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draw[0].shape == (10, 3)
    assert draw[0].abs().max() <= 1
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_candidates_come_from_the_averaged_network_as_it_is_now(precision, tolerance):
    torch.manual_seed(0)
    config = FISORConfig(batch_size=2, critic_batch_size=2, hidden=16, candidates=6, precision=precision)
    agent, observations = FISOR(config, 5, 3), torch.randn(10, 5)
    network, rows = agent.target_score, observations.repeat_interleave(6, dim=0)

    def noise_prediction(x, t):  # the rows written out, one call per step
        return network(x.flatten(0, 1), rows, torch.full((60,), t)).unflatten(0, (10, 6))

    for _ in range(2):
        with torch.no_grad():
            expected = ddpm_sample(noise_prediction, agent.noise_schedule, (10, 6, 3), torch.Generator().manual_seed(0))
        drawn = agent.draw_candidates(observations, torch.Generator().manual_seed(0))
        torch.testing.assert_close(drawn, expected, atol=tolerance, rtol=tolerance)
        agent.load_state_dict({name: value * 1.1 for name, value in agent.state_dict().items()})


def test_the_weighted_loss_has_the_weighted_posterior_as_its_minimum():
    # Actions at +0.5 and -0.5 in equal number, weighted 9 : 1: the best prediction is E[eps | x_t] of that mixture.
    torch.manual_seed(0)
    config = FISORConfig(batch_size=2, critic_batch_size=2, hidden=32, blocks=1, dropout=0.0, actor_lr=3e-3)
    agent, observations = FISOR(config, 1, 1), torch.zeros(256, 1)
    right = torch.arange(256) % 2 == 0
    actions, weights = torch.where(right, 0.5, -0.5)[:, None], torch.where(right, 1.8, 0.2)
    for update in range(600):
        agent.optimizers["actor"].param_groups[0]["lr"] = cosine_rate(3e-3, torch.tensor(update), 600)
        loss = agent.policy_loss(observations, actions, weights, agent.draw_noise(256))
        agent.optimizers["actor"].zero_grad()
        loss.backward()
        agent.optimizers["actor"].step()
    draws = agent.draw_noise(256)
    x = agent.noise_schedule.noisy_actions(actions, draws.steps, draws.noise)
    abar = agent.noise_schedule.alpha_bars[draws.steps][:, None]
    distance = [(x - abar.sqrt() * centre) ** 2 / (2 * (1 - abar)) for centre in (0.5, -0.5)]
    to_right = 9 * torch.exp(-distance[0]) / (9 * torch.exp(-distance[0]) + torch.exp(-distance[1]))
    exact = (x - abar.sqrt() * (to_right - 0.5)) / (1 - abar).sqrt()
    with torch.no_grad():
        error = agent.score(x, observations, draws.steps) - exact
    unweighted = (x - abar.sqrt() * (to_right / (9 - 8 * to_right) - 0.5)) / (1 - abar).sqrt()
    assert error.square().mean() < 0.3 * (unweighted - exact).square().mean()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 3),
        ("critic_batch_size", 4096),
        ("candidates", 0),
        ("critic_lr", 0.0),
        ("critic_lr", math.nan),
        ("actor_lr_decay", -1),
        ("safety_expectile", 1.0),
        ("target_rate", 0.0),
        ("discount", 1.0),
        ("safe_label", 1.0),
        ("safety_critic", "hq"),
        ("selection", "best"),
        ("precision", "float16"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(setting, value):
    with pytest.raises(ValueError, match=rf"agent\.{setting} must be .*; got ") as caught:
        FISORConfig(**{setting: value})
    assert "\n" not in str(caught.value)


def preset(name):
    settings = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert settings.pop("name") == "fisor"
    settings.pop("default_steps")
    return FISORConfig(**settings)


def test_presets_are_valid_and_the_papers_is_the_default():
    assert preset("fisor") == FISORConfig()
    assert preset("fisor_small").bootstrap_timeouts
