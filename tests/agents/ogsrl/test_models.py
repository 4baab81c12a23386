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


def repeated(n, states=12, seed=0):
    """The same with few distinct observations, some of them in few rows."""
    data, rng = batch(n, seed=seed), np.random.default_rng(seed)
    places = torch.tensor(rng.normal(size=(states, 3)), dtype=torch.float32)
    shares = np.arange(1, states + 1) ** -2.0
    first, second = (torch.tensor(rng.choice(states, n, p=shares / shares.sum())) for _ in range(2))
    return Batch(**{**vars(data), "observations": places[first], "next_observations": places[second]})


def kept(model):
    """The rows of a model as they were recorded: s, a, s' and r, c, terminal."""
    before = model.states.repeat_interleave(model.first.diff(), dim=0)
    actions = (model.actions + 1) / 2 * model.span[model.obs_dim :] + model.low[model.obs_dim :]
    return before, actions, model.states[model.after], model.gains


@pytest.mark.parametrize("make", [batch, repeated])
def test_nearest_rows_are_those_of_a_plain_search(make):
    data, queries = make(700), batch(40, seed=1)
    model = NearestModel(3, 2, neighbours=20)
    model.fit(data, torch.Generator())
    seen = torch.cat([queries.observations[:10], data.observations[:30]])  # of no row, and of rows
    rows = torch.cat([data.observations, data.actions], dim=1).double()
    own = torch.cat(kept(model)[:2], dim=1).double()
    half = (rows.amax(0) - rows.amin(0)) / 2
    for _ in range(2):  # what was kept from the first time serves the second
        found = model.nearest(seen, queries.actions)
        for query, mine in zip(torch.cat([seen, queries.actions], dim=1).double(), found):
            distances = sorted(math.dist(query / half, row / half) for row in rows)[:20]
            np.testing.assert_allclose([math.dist(query / half, row / half) for row in own[mine]], distances, rtol=1e-5)


@pytest.mark.parametrize("make", [batch, repeated])
def test_the_rows_of_a_model_are_those_of_the_data(make):
    data = make(300)
    model = NearestModel(3, 2, neighbours=5)
    model.fit(data, torch.Generator())
    ends = torch.stack([data.rewards, data.costs, data.terminals], dim=1)
    mine, whole = (
        sorted(torch.cat(each, dim=1).round(decimals=4).tolist())
        for each in (kept(model), (data.observations, data.actions, data.next_observations, ends))
    )
    np.testing.assert_allclose(mine, whole, atol=1e-3)
    assert len(model.states) == (600 if make is batch else 12)


def test_a_step_draws_each_of_the_nearest_transitions_evenly_and_tells_their_mean():
    data = batch(50)
    model = NearestModel(3, 2, neighbours=4)
    model.fit(data, torch.Generator())
    before, _, after, gains = kept(model)
    all_nearest = model.nearest(data.observations, data.actions)
    row = next(row for row, near in enumerate(all_nearest) if 0 < gains[near, 2].sum() < 4)  # some end the task
    nearest = all_nearest[row]
    assert torch.equal(before[nearest[0]], data.observations[row])  # the row itself
    torch.manual_seed(0)
    count = 4000
    query = data.observations[row].expand(count, -1), data.actions[row].expand(count, -1)

    def values(observations):
        return torch.stack([observations[:, 0], observations.sum(1) ** 2])

    step = model.step(*query, values)
    hits = (step.next_observations[:, None] == after[nearest]).all(2).float()
    assert hits.sum(1).eq(1).all()
    assert hits.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    torch.testing.assert_close(step.terminals, gains[nearest, 2][hits.argmax(1)])
    torch.testing.assert_close(step.rewards, gains[nearest, 0].mean().expand(count))
    torch.testing.assert_close(step.costs, gains[nearest, 1].mean().expand(count))
    mean = sum(values(after[row : row + 1])[:, 0] * (1 - gains[row, 2]) for row in nearest) / 4
    torch.testing.assert_close(step.ahead, mean[:, None].expand(-1, count))


def test_the_ensemble_learns_mean_spread_and_ends():
    torch.manual_seed(0)
    model = EnsembleModel(3, 2, members=2, hidden=32, updates=500)
    model.fit(batch(4000), torch.Generator().manual_seed(0))
    count = 4000
    seen, done = torch.tensor([[0.5, 0.0, -0.5]]).expand(count, -1), torch.tensor([[0.6, -0.4]]).expand(count, -1)
    step = model.step(seen, done, lambda observations: observations[:, :1].T + 1)
    change = step.next_observations - seen
    assert change.mean(0).tolist() == pytest.approx([0.6] * 3, abs=0.04)
    assert change.std(0).tolist() == pytest.approx([0.1] * 3, abs=0.04)
    assert float(step.rewards.mean()) == pytest.approx(-0.4, abs=0.05)
    assert float(step.costs.mean()) == pytest.approx(0.8, abs=0.05)
    assert float(step.terminals.mean()) == pytest.approx(0.2, abs=0.06)
    assert float(step.ahead.mean()) == pytest.approx(0.8 * (0.5 + 0.6 + 1), abs=0.15)  # where the task goes on
    assert float(step.ahead.std()) < 0.1  # the mean over members, not one that goes on or does not


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
