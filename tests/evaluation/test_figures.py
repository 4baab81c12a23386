import matplotlib.image
import numpy as np

from saferl.evaluation import figures
from tests.evaluation.test_feasible_region import share_of


def test_learning_curves_have_a_panel_for_each_part(tmp_path):
    lines = [{"step": step, "critic/loss": 1 / step, "critic/q": step, "actor/loss": 0.5} for step in range(1, 30)]
    lines += [{"step": 10, "eval/return": 1.0, "eval/cost": 0.0}, {"step": 20, "eval/return": 2.0, "eval/cost": 1.0}]
    figures.learning_curves(lines, tmp_path / "all.png", "five panels")
    figures.learning_curves(lines[:1], tmp_path / "few.png", "three panels")
    assert height(tmp_path / "all.png") > 1.8 * height(tmp_path / "few.png")  # two rows of three
    assert share_of(tmp_path / "all.png", figures.BLUE) > 0


def test_learning_curves_of_a_run_without_lines(tmp_path):
    figures.learning_curves([], tmp_path / "empty.png", "nothing yet")
    assert height(tmp_path / "empty.png") > 0


def test_the_scatter_shows_data_policies_and_limits(tmp_path):
    generator = np.random.default_rng(0)
    data = generator.normal(size=300), generator.random(300) * 50
    policies = {"fisor": (np.ones(20), np.zeros(20)), "bc": (np.zeros(20), np.full(20, 30.0))}
    figures.return_cost_scatter(data, policies, (20, 40), tmp_path / "with.png", "with data")
    figures.return_cost_scatter(None, {}, (), tmp_path / "without.png", "without")
    for colour in (figures.LIGHT, figures.VERMILLION, figures.BLUE):
        assert share_of(tmp_path / "with.png", colour) > share_of(tmp_path / "without.png", colour)


def height(path):
    return matplotlib.image.imread(path).shape[0]
