"""Episodes in blocks that are kept, and gone on with."""

import json

import numpy as np
import pytest

from saferl.certification import episodes
from saferl.certification.episodes import rolled_out
from saferl.evaluation.rollout import rollout
from tests.certification import coins

ENV = coins.ENV.removeprefix("env=")


class Jittery:
    """A random policy, whose noise starts anew with each block."""

    def reset(self, mask=None, seed=None):
        if seed is not None:
            self.generator = np.random.default_rng(seed)

    def act(self, observations):
        return self.generator.uniform(-1, 1, (len(observations), 1)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(episodes, "BLOCK", 4)


def test_an_interrupted_test_ends_as_one_that_was_not(tmp_path):
    seeds, keep = [5, 5, 9, 1, 2, 3, 8, 7, 6, 4], tmp_path / "test.json"
    whole = rolled_out(Jittery(), ENV, seeds, num_envs=3)

    def stop(done):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolled_out(Jittery(), ENV, seeds, num_envs=3, keep=keep, progress=stop)
    assert len(json.loads(keep.read_text())) == 2
    rest = rolled_out(Jittery(), ENV, seeds, num_envs=3, keep=keep)
    for name in ("seeds", "returns", "costs", "violations", "lengths"):
        np.testing.assert_array_equal(getattr(rest, name), getattr(whole, name))
    assert whole.seeds.tolist() == seeds
    assert len(set(whole.returns)) > 5


def test_a_block_is_one_rollout():
    seeds = [3, 1, 4, 1]
    ours, theirs = rolled_out(Jittery(), ENV, seeds), rollout(Jittery(), ENV, seeds)
    np.testing.assert_array_equal(ours.returns, theirs.returns)


def test_kept_episodes_of_other_seeds_are_not_taken(tmp_path):
    keep = tmp_path / "test.json"
    rolled_out(Jittery(), ENV, [1, 2, 3, 4, 5, 6, 7, 8], keep=keep)
    other = rolled_out(Jittery(), ENV, [1, 2, 3, 4, 9, 6, 7, 8], keep=keep)
    assert other.seeds.tolist() == [1, 2, 3, 4, 9, 6, 7, 8]
