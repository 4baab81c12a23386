"""The equations that CARL and O3SRL share, on tiny tensors by hand."""

import numpy as np
import pytest
import torch

from saferl.agents.carl import CARL, CARLConfig
from saferl.agents.td3_bc import critic_loss, policy_loss
from saferl.offline_data import Batch

OBS, ACT = 3, 2


class Fixed(torch.nn.Module):
    """Stands in for a network: a function of the rows, for the members asked for."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, rows, members=slice(None)):
        return self.function(rows, members)


def agent(**settings):
    torch.manual_seed(0)
    fields = {"cost_limit": 10, "episode_length": 100, "hidden": 8, "batch_size": 8}
    return CARL(CARLConfig(**(fields | settings)), OBS, ACT)


def batch(rows, **fields):
    torch.manual_seed(1)
    values = {
        "observations": torch.randn(rows, OBS),
        "actions": torch.rand(rows, ACT) * 2 - 1,
        "rewards": torch.randn(rows),
        "costs": torch.rand(rows),
        "next_observations": torch.randn(rows, OBS),
        "terminals": torch.zeros(rows),
        "timeouts": torch.zeros(rows),
    }
    return Batch(**(values | fields))


def test_the_policys_loss_is_imitation_less_the_values_over_their_mean_modulus():
    values = torch.tensor([3.0, -1.0], requires_grad=True)  # mean 1, mean modulus 2
    actions, recorded = torch.tensor([[0.5, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, -1.0]])
    loss = policy_loss(values, actions, recorded, value_weight=2.5)
    assert loss.item() == pytest.approx((0.25 + 1) / 4 - 2.5 * 1 / 2)
    loss.backward()
    assert values.grad.tolist() == pytest.approx([-2.5 / 2 / 2] * 2)  # none through the mean modulus


def test_the_policys_loss_does_not_change_with_the_rewards_unit():
    values, actions, recorded = torch.tensor([3.0, -1.0]), torch.rand(2, 1), torch.rand(2, 1)
    small, large = (policy_loss(factor * values, actions, recorded, 2.5) for factor in (1e-3, 1e3))
    assert small.item() == pytest.approx(large.item(), rel=1e-5)


def test_the_critics_loss_adds_the_mean_squared_errors_of_four_members():
    q = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 3.0], [5.0, 4.0]])
    targets = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert critic_loss(q, targets).item() == pytest.approx((0 + 4) / 2 + (1 + 0) / 2 + (0 + 1) / 2 + (4 + 0) / 2)


def test_targets_take_the_least_reward_and_the_greatest_cost_and_end_with_the_task_alone():
    learner = agent(discount=0.9)
    following = torch.tensor([[1.0], [2.0], [30.0], [40.0]])
    learner.target_critics = Fixed(lambda rows, members: following[members].expand(-1, len(rows)))
    rows = batch(3, terminals=torch.tensor([0.0, 1.0, 0.0]), timeouts=torch.tensor([0.0, 0.0, 1.0]))
    rewards = torch.tensor([5.0, 6.0, 7.0])
    targets = learner.critic_targets(rows, rewards)
    assert targets[0].tolist() == pytest.approx([5.9, 6, 7.9])
    goes_on = np.array([1, 0, 1])
    assert targets[1].tolist() == pytest.approx((rows.costs.numpy() + 0.9 * 40 * goes_on).tolist())


def test_the_reward_is_valued_with_clipped_noise_and_the_cost_without_any():
    learner = agent(discount=0.5, target_noise=0.2, target_noise_clip=0.3)
    seen = {}

    def note(rows, members):
        seen[members.start] = rows[:, OBS:]
        return torch.zeros(2, len(rows))

    learner.target_critics = Fixed(note)
    learner.target_actor = Fixed(lambda rows, _: torch.atanh(torch.tensor([0.0, 0.9])).expand(len(rows), -1))
    learner.critic_targets(batch(4000), torch.zeros(4000))
    assert seen[2].numpy() == pytest.approx(np.tile([0, 0.9], (4000, 1)), abs=1e-6)
    noise = seen[0].numpy()
    # A normal of 0.2 cut at +-1.5 standard deviations, mass put on the ends: variance 0.2^2 * 0.7785 (by integration).
    assert noise[:, 0].std() == pytest.approx(0.2 * 0.7785**0.5, rel=0.03)
    assert np.abs(noise[:, 0]).max() == pytest.approx(0.3)
    assert noise[:, 1].max() == 1
    assert noise[:, 1].min() == pytest.approx(0.6)


def test_the_critics_step_once_for_each_part_and_the_actor_once():
    learner = agent(policy_delay=4)
    for _ in range(3):
        learner.update(batch(8))
    steps = {name: each["state"][0]["step"].item() for name, each in learner.optimizer_state().items()}
    assert steps == {"actor": 3, "critics": 12}


def test_the_parts_are_the_batch():
    rows = batch(8)
    parts = agent(policy_delay=2).parts(rows)
    assert torch.equal(torch.cat([part.rewards for part in parts]), rows.rewards)
    assert torch.equal(torch.cat([part.observations for part in parts]), rows.observations)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("policy_delay", 0, "agent.policy_delay must be >= 1; got 0"),
        ("policy_delay", 3, "agent.batch_size must be a multiple of agent.policy_delay=3; got 8"),
        ("value_weight", 0, "agent.value_weight must be > 0; got 0"),
        ("target_noise", -0.1, "agent.target_noise must be >= 0; got -0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        agent(**{key: value})
