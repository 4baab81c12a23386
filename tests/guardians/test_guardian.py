"""What every kind does, against the definition, and files."""

import json

import numpy as np
import pytest

from saferl.guardians import GuardianConfig, fit_guardian, load_guardian
from saferl.guardians.guardian import Scale, quantile_threshold
from tests.guardians.clouds import cloud

CONTINUOUS = {
    "kde": {},
    "kde of the nearest": {"kind": "kde", "neighbours": 40},
    "knn": {},
    "autoencoder": {"updates": 60, "hidden": 16},
    "density_ratio": {"updates": 60, "hidden": 16},
    "ensemble": {"updates": 60, "hidden": 16, "members": 3},
}


@pytest.fixture(scope="module")
def fitted():
    found = {}
    observations, actions = cloud(600)
    following = observations + np.sin(3 * observations) * actions[:, :1]
    for name, settings in CONTINUOUS.items():
        config = GuardianConfig(**{"kind": name, "alpha": 0.1, **settings})
        found[name] = fit_guardian(observations, actions, config, seed=3, next_observations=following)
    rng = np.random.default_rng(0)
    states, moves = rng.integers(0, 30, 600), rng.integers(0, 4, 600)
    found["counts"] = fit_guardian(states, moves, GuardianConfig(kind="counts", alpha=0.1))
    return found


KINDS = [*CONTINUOUS, "counts"]


def pairs_for(name, rows=200, seed=5):
    if name == "counts":
        rng = np.random.default_rng(seed)
        return rng.integers(-2, 35, rows), rng.integers(0, 6, rows)
    return cloud(rows, seed)


@pytest.mark.parametrize("name", KINDS)
def test_alpha_of_the_rows_the_threshold_comes_from_are_outside_to_one_row(name, fitted):
    guardian = fitted[name]
    scores = guardian.left_out_scores()
    outside = int((scores < guardian.threshold).sum())
    below_or_at = int((scores <= guardian.threshold).sum())
    assert outside <= 0.1 * len(scores) <= below_or_at  # between the two lie the rows that share the threshold
    if name != "counts":
        assert outside == pytest.approx(0.1 * len(scores), abs=1)


@pytest.mark.parametrize("name", KINDS)
def test_support_and_cost_follow_from_score_and_threshold(name, fitted):
    guardian = fitted[name]
    pairs = pairs_for(name)
    scores = guardian.score(*pairs)
    assert scores.shape == (200,)
    assert scores.dtype == np.float32
    assert np.array_equal(guardian.supported(*pairs), scores >= np.float32(guardian.threshold))
    assert np.array_equal(guardian.cost(*pairs), np.where(scores >= np.float32(guardian.threshold), 0, 1))
    assert guardian.cost(*pairs).dtype == np.float32


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_guardian_comes_back_bit_for_bit(name, fitted, tmp_path):
    guardian = fitted[name]
    pairs = pairs_for(name)
    again = load_guardian(guardian.save(tmp_path / "g"))
    assert again.threshold == guardian.threshold
    assert again.config == guardian.config
    assert np.array_equal(again.score(*pairs), guardian.score(*pairs))
    assert np.array_equal(again.left_out_scores(), guardian.left_out_scores())
    facts = json.loads((tmp_path / "g" / "calibration.json").read_text())
    assert facts["threshold"] == guardian.threshold
    assert facts["reference_rows"] == len(guardian.left_out_scores())
    assert facts["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("name", CONTINUOUS)
def test_points_far_away_are_outside(name, fitted):
    directions = np.random.default_rng(1).normal(size=(300, 5))
    far = 40 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert not fitted[name].supported(far[:, :3], far[:, 3:]).any()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_most_new_pairs_of_the_same_source_are_inside(name, fitted):
    assert fitted[name].supported(*cloud(2000, seed=9)).mean() == pytest.approx(0.9, abs=0.06)


def test_a_fit_is_decided_by_its_seed_and_leaves_torchs_generator_alone():
    import torch

    observations, actions = cloud(100)
    config = GuardianConfig(kind="density_ratio", updates=5, hidden=8)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, second, other = (fit_guardian(observations, actions, config, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first.score(observations, actions), second.score(observations, actions))
    assert not np.array_equal(first.score(observations, actions), other.score(observations, actions))


def test_the_scale_maps_the_training_box_to_one_and_keeps_constant_columns_apart():
    scale = Scale.of(np.array([[1.0, 7.0, -2.0], [3.0, 7.0, 2.0]]))
    assert scale(np.array([[1, 7, 0], [3, 9, 4]])).tolist() == [[-1, 0, 0], [1, 2, 2]]


def test_the_threshold_is_the_order_statistic():
    scores = np.random.default_rng(0).permutation(100).astype(np.float32)
    assert quantile_threshold(scores, 0.07) == 7.0  # 0..6 lie below: seven of a hundred


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "parzen"}, "guardian.kind must be one of kde, knn"),
        ({"alpha": 0}, r"guardian.alpha must be in \(0, 1\); got 0"),
        ({"search": "annoy"}, "exact, faiss"),
        ({"neighbours": 0}, "guardian.neighbours must be >= 1; got 0"),
        ({"bandwidth": -1.0}, "guardian.bandwidth must be > 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GuardianConfig(**settings)


def test_wrong_arrays_are_named(fitted):
    observations, actions = cloud(20)
    with pytest.raises(ValueError, match="20 observations but 19 actions"):
        fit_guardian(observations, actions[1:], GuardianConfig())
    with pytest.raises(ValueError, match="have 2 and 2 columns; this guardian was fitted to 3 and 2"):
        fitted["kde"].score(observations[:, :2], actions)
    observations[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 4 .* must be finite"):
        fitted["kde"].score(observations, actions)
    with pytest.raises(ValueError, match="next_observations"):
        fit_guardian(actions, actions, GuardianConfig(kind="ensemble", updates=1))
    with pytest.raises(ValueError, match="whole numbers; row 0"):
        fit_guardian(actions, actions, GuardianConfig(kind="counts"))


def test_files_that_are_not_a_guardian_are_refused(fitted, tmp_path):
    with pytest.raises(ValueError, match=r"holds no guardian \(calibration.json is missing\)"):
        load_guardian(tmp_path)
    folder = fitted["density_ratio"].save(tmp_path / "g")
    weights = (folder / "guardian.safetensors").read_bytes()
    (folder / "guardian.safetensors").write_bytes(weights[:100])
    with pytest.raises(ValueError, match="can't be used"):
        load_guardian(folder)
    (folder / "calibration.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99, this saferl reads format 1"):
        load_guardian(folder)
