import pytest
import torch

from saferl.agents import BC, BCConfig
from saferl.offline_data import Batch


def batch_of(observations, actions):
    zeros = torch.zeros(len(observations))
    return Batch(observations, actions, zeros, zeros, observations, zeros, zeros)


def test_it_finds_the_mean_action_of_each_state():
    # Two states, each with two recorded actions: the least squared error is at their means, 0.3 and -0.5.
    observations = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    actions = torch.tensor([[0.1], [0.5], [-0.9], [-0.1]])
    torch.manual_seed(0)
    agent = BC(BCConfig(hidden=16), 1, 1)
    for _ in range(600):
        loss = agent.update(batch_of(observations, actions))["actor/loss"]
    assert agent.act(torch.tensor([[1.0], [-1.0]])).flatten().tolist() == pytest.approx([0.3, -0.5], abs=5e-3)
    assert float(loss) == pytest.approx((0.2**2 * 2 + 0.4**2 * 2) / 4, rel=1e-2)  # the variance that is left


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    torch.manual_seed(0)
    agent = BC(BCConfig(hidden=4, lr=0.01), 3, 2)
    before = agent.actor[-2].bias.detach().clone()
    agent.update(batch_of(torch.randn(8, 3), torch.rand(8, 2)))
    assert (agent.actor[-2].bias - before).abs().tolist() == pytest.approx([0.01] * 2, rel=1e-3)


@pytest.mark.parametrize("key", ["lr", "hidden", "batch_size"])
def test_settings_are_checked(key):
    with pytest.raises(ValueError, match=rf"agent.{key} must be > 0; got 0"):
        BCConfig(**{key: 0})
