"""What a task and its data decide about an agent's settings."""

from dataclasses import dataclass, replace

import pytest

from saferl.agents.settings import ConstrainedConfig
from saferl.offline_data.point_robot import generate
from saferl.training.config import parse_training
from saferl.training.parts import with_task_values

DATA = generate(n=1_000, seed=0)


@dataclass(frozen=True, kw_only=True)
class ActingConfig(ConstrainedConfig):
    limit_use = "acting"


def training(env, agent):
    settings = {"env": env, "steps": 1, "eval_every": 0, "agent": {"name": "bc"}}
    return replace(parse_training(settings), agent=agent)


def test_a_dsrl_task_gives_its_smallest_limit_and_its_horizon():
    agent = with_task_values(training("OfflinePointCircle1Gymnasium-v0", ConstrainedConfig()), DATA)
    assert (agent.cost_limit, agent.episode_length) == (20, 500)


def test_elsewhere_the_length_is_that_of_the_longest_episode():
    agent = with_task_values(training("point_robot", ActingConfig()), DATA)
    assert (agent.cost_limit, agent.episode_length) == (0, max(DATA.episode_lengths))


def test_what_the_user_gave_is_kept():
    given = ConstrainedConfig(cost_limit=33.0, episode_length=7)
    assert with_task_values(training("OfflinePointCircle1Gymnasium-v0", given), DATA) == given


def test_a_threshold_without_limit_says_what_is_missing():
    with pytest.raises(ValueError, match=r"agent.cost_limit and agent.episode_length have no value"):
        _ = ConstrainedConfig().threshold


def test_the_threshold_is_the_discounted_sum_of_an_evenly_spread_cost():
    config = ConstrainedConfig(cost_limit=10.0, episode_length=300)
    assert config.threshold == pytest.approx(sum(10 / 300 * 0.99**step for step in range(300)))
    assert config.threshold == pytest.approx(3.17, abs=0.005)  # design: L = 10 gives 3.17 at T = 300
