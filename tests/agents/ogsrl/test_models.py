"""Nearest transitions against a plain search, the ensemble against a process whose density is known."""

import math

import numpy as np
import pytest
import torch

from saferl.agents.ogsrl.models import EnsembleModel, NearestModel
from saferl.agents.ogsrl.support import Support
from saferl.guardians import GuardianConfig, fit_guardian
from saferl.offline_data.batch import Batch


def batch(n, obs_dim=3, act_dim=2, seed=0):
    """Gaussian moves: s' ~ N(s + a_0, 0.1^2), r = a_1, c = (1 + a_0) / 2, the end with probability 0.2."""
    rng = np.random.default_rng(seed)
    seen, done = rng.normal(size=(n, obs_dim)), rng.uniform(-1, 1, (n, act_dim))
    columns = {
        "observations": seen,
        "actions": done,
        "rewards": done[:, 1],
        "costs": (1 + done[:, 0]) / 2,
        "next_observations": seen + done[:, :1] + 0.1 * rng.normal(size=(n, obs_dim)),
        "terminals": (rng.random(n) < 0.2).astype(float),
        "timeouts": np.zeros(n),
    }
    return Batch(**{key: torch.tensor(value, dtype=torch.float32) for key, value in columns.items()})


def test_nearest_rows_are_those_of_a_plain_search():
    data, queries = batch(700), batch(40, seed=1)
    model = NearestModel(3, 2, neighbours=5)
    model.fit(data, torch.Generator())
    found = model.nearest(queries.observations, queries.actions).numpy()
    rows = torch.cat([data.observations, data.actions], dim=1).double().numpy()
    half = (rows.max(0) - rows.min(0)) / 2
    for query, mine in zip(torch.cat([queries.observations, queries.actions], dim=1).double().numpy(), found):
        distances = [math.dist(query / half, row / half) for row in rows]
        np.testing.assert_array_equal(mine, np.argsort(distances)[:5])


def test_a_step_draws_each_of_the_nearest_transitions_evenly():
    data = batch(50)
    model = NearestModel(3, 2, neighbours=4)
    model.fit(data, torch.Generator())
    torch.manual_seed(0)
    count = 4000
    query = data.observations[:1].expand(count, -1), data.actions[:1].expand(count, -1)
    nearest = model.nearest(query[0][:1], query[1][:1])[0]
    assert nearest[0] == 0  # the row itself
    step = model.step(*query)
    hits = (step.rewards[:, None] == data.rewards[nearest]).float()
    assert hits.sum(1).eq(1).all()
    assert hits.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    drawn = hits.argmax(1)
    torch.testing.assert_close(step.next_observations, data.next_observations[nearest][drawn])
    torch.testing.assert_close(step.costs, data.costs[nearest][drawn])
    torch.testing.assert_close(step.terminals, data.terminals[nearest][drawn])


def test_the_ensemble_learns_mean_spread_and_ends():
    torch.manual_seed(0)
    model = EnsembleModel(3, 2, members=2, hidden=32, updates=500)
    model.fit(batch(4000), torch.Generator().manual_seed(0))
    count = 4000
    seen, done = torch.tensor([[0.5, 0.0, -0.5]]).expand(count, -1), torch.tensor([[0.6, -0.4]]).expand(count, -1)
    step = model.step(seen, done)
    change = step.next_observations - seen
    assert change.mean(0).tolist() == pytest.approx([0.6] * 3, abs=0.04)
    assert change.std(0).tolist() == pytest.approx([0.1] * 3, abs=0.04)
    assert float(step.rewards.mean()) == pytest.approx(-0.4, abs=0.05)
    assert float(step.costs.mean()) == pytest.approx(0.8, abs=0.05)
    assert float(step.terminals.mean()) == pytest.approx(0.2, abs=0.06)


def test_a_loaded_model_and_guardian_are_those_that_were_saved():
    data = batch(300)
    model, other = NearestModel(3, 2, 5), NearestModel(3, 2, 5)
    model.fit(data, torch.Generator())
    other.load_state_dict(model.state_dict())
    query = data.observations[:20] + 0.1, data.actions[:20]
    torch.testing.assert_close(other.nearest(*query), model.nearest(*query))

    config = GuardianConfig(kind="knn", alpha=0.1)
    support, again = Support(config), Support(config)
    support.fit(data, seed=0)
    again.load_state_dict(support.state_dict())
    away = data.observations * 1.5, data.actions * 1.5
    direct = fit_guardian(data.observations.numpy(), data.actions.numpy(), config).cost(*(x.numpy() for x in away))
    np.testing.assert_array_equal(again.cost(*away).numpy(), direct)
    assert 0 < direct.mean() < 1
