"""BCQ-Lag: actions near the VAE's draws, and the tabular CMDP. What it shares with BEAR-Lag: test_double_critics."""

import pytest
import torch

from saferl.agents.bcq_lag import BCQLag, BCQLagConfig

# Small networks that follow fast. A weaker pull to the prior than BCQ's 0.5, at which the VAE of three well separated
# actions has no latent left and draws their mean alone.


def make(**settings):
    torch.manual_seed(0)
    given = {"hidden": 8, "vae_hidden": 8, "cost_limit": 10.0, "episode_length": 1000}
    return BCQLag(BCQLagConfig(**(given | settings)), 3, 2)


@pytest.mark.parametrize("reach", [0.0, 0.05, 0.6])
def test_an_action_is_a_draw_of_the_vae_moved_by_no_more_than_phi_inside_the_box(reach):
    agent = make(perturbation=reach)
    observations = 10 * torch.randn(50, 3)
    with torch.no_grad():
        likely = agent.vae.draw(observations, 6, torch.Generator().manual_seed(1)).tanh()
        actions = agent.candidates(agent.actor, observations, 6, torch.Generator().manual_seed(1))
    assert actions.abs().max() <= 1
    moves = (actions - likely).abs()
    assert moves.max() <= reach + 1e-6
    assert moves.max() > 0.5 * reach or reach == 0


def test_the_published_form_acts_on_one_draw():
    agent = make(form="published")
    observations = torch.randn(50, 3)
    with torch.no_grad():
        actions = agent.act(observations, torch.Generator().manual_seed(1))
        single = agent.candidates(agent.actor, observations, 1, torch.Generator().manual_seed(1))[:, 0]
        again = agent.act(observations, torch.Generator().manual_seed(2))
    assert torch.equal(actions, single)
    assert not torch.allclose(actions, again, atol=1e-3)


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"agent.perturbation must be >= 0; got -0.1"):
        BCQLagConfig(perturbation=-0.1)
