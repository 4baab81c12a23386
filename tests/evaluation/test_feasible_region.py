import math

import matplotlib.image
import numpy as np
import pytest

from saferl.envs.point_robot import ARENA, HAZARD_RADIUS
from saferl.evaluation import figures
from saferl.evaluation.feasible_region import GRID, region_maps

SHARES = (0.121, 0.141, 0.159)  # infeasible shares of the three maps, as published; the hazards alone have 0.111


def hazards_only(observations):
    return HAZARD_RADIUS - np.minimum(observations[:, 5], observations[:, 8])


def test_the_true_sets_have_the_published_sizes():
    maps = region_maps(hazards_only)
    assert [each.true.mean() for each in maps] == pytest.approx(SHARES, abs=6e-4)
    assert [(each.speed, each.heading) for each in maps] == [
        (0.5, math.pi / 4), (1.0, math.pi / 2), (1.5, math.pi / 4)
    ]  # fmt: skip


def test_a_value_that_knows_only_the_hazards_misses_the_rest():
    # The hazards lie inside the infeasible set, so the intersection over union is the ratio of the two shares.
    area = 2 * math.pi * HAZARD_RADIUS**2 / (2 * ARENA) ** 2
    for each, share in zip(region_maps(hazards_only), SHARES):
        scores = each.scores()
        assert scores.iou == pytest.approx(area / share, abs=0.01)
        assert scores.missed_share == pytest.approx(1 - area / share, abs=0.01)
        assert scores.false_alarm_share == 0


def test_everything_called_infeasible():
    for each, share in zip(region_maps(lambda obs: np.ones(len(obs))), SHARES):
        scores = each.scores()
        assert scores.iou == pytest.approx(share, abs=6e-4)
        assert (scores.missed_share, scores.false_alarm_share) == (0, 1)


def test_rows_of_a_map_run_along_y():
    high = region_maps(lambda obs: obs[:, 1] - 2.5)[0].learned  # y > 2.5
    assert not high[: GRID // 2].any()
    assert high[-1].all()


def test_the_picture_shows_the_errors_in_their_colours(tmp_path):
    figures.feasible_region(region_maps(hazards_only), tmp_path / "a.png", "hazards only")
    figures.feasible_region(region_maps(lambda obs: hazards_only(obs) + 0.4), tmp_path / "b.png", "too large")
    missed = [share_of(tmp_path / name, figures.VERMILLION) for name in ("a.png", "b.png")]
    alarms = [share_of(tmp_path / name, figures.YELLOW) for name in ("a.png", "b.png")]
    assert missed[0] > 3 * missed[1]
    assert alarms[1] > 10 * alarms[0]


def share_of(path, colour):
    image = matplotlib.image.imread(path)[..., :3]
    wanted = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    return float((np.abs(image - wanted).max(axis=-1) < 0.02).mean())
