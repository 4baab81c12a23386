"""Shares of the box, against sets that are counted by hand."""

import numpy as np
import pytest

from saferl.evaluation.reach_report import grid_words, hidden_unviolated, reach_table, remarks, shares, volume_unit
from saferl.reachability import Grid, Value

GRID = Grid((0,), (9,), (10,))
X = np.arange(10.0)


def listed(parts):
    return [(part.share, part.volume) for part in parts]


def test_avoid_counts_what_looks_safe_and_is_not():
    parts = shares(Value(GRID, X - 3), X - 5, None)  # safe 0..3, looks safe 0..5
    assert listed(parts) == [pytest.approx((share, 9 * share)) for share in (0.4, 0.6, 0.2)]


def test_a_limit_tells_what_a_discount_hides():
    value, limit = Value(GRID, X - 4), Value(GRID, X - 2)  # safe 0..4, truly 0..2; looks safe 0..5
    assert shares(value, X - 5, None, limit)[-1].share == 0.3
    assert hidden_unviolated(value, limit, X - 5) == {"hidden_unviolated": pytest.approx(2 / 3)}  # 3 and 4 of 3, 4, 5
    assert hidden_unviolated(value, limit, None) == {}
    assert hidden_unviolated(value, value, X - 1) == {}


def test_reach_counts_what_comes_to_the_target():
    parts = shares(Value(GRID, X - 5), None, X - 3)
    assert listed(parts) == [pytest.approx((share, 9 * share)) for share in (0.6, 0.4, 0.2)]


def test_reach_avoid_counts_both():
    parts = shares(Value(GRID, X - 4), X - 7, X - 1)
    assert listed(parts) == [pytest.approx((share, 9 * share)) for share in (0.5, 0.2, 0.8, 0.3)]


def test_a_volume_has_the_product_of_the_units():
    assert volume_unit(["x [m]", "y [m]", "heading [rad]"]) == "m^2 rad"
    assert volume_unit(["x [m]", "v [m/s]", "w [m/s]"]) == "m (m/s)^2"
    assert volume_unit(["a", "b"]) == ""


def test_results_that_are_not_what_they_seem_are_remarked_on():
    value = Value(GRID, X, None, {"converged": False})
    (line,) = remarks(value, X - 5, None)
    assert "max_sweeps" in line
    assert "nothing to avoid" in remarks(Value(GRID, X), X - 50, None)[0]
    assert "no state" in remarks(Value(GRID, X), X + 50, None)[0]
    assert "holds no node" in remarks(Value(GRID, X), None, X + 50)[0]
    assert remarks(Value(GRID, X), X - 5, X - 3) == []


@pytest.mark.parametrize(("hidden", "refused", "said"), [(0.2, 0.0, "hidden"), (0.0, 0.3, "refused")])
def test_the_table_names_the_side_to_which_a_discount_errs(hidden, refused, said):
    bias = {"hidden": hidden, "refused": refused, "mean": 0.1, "max": 0.2}
    facts = {"sweeps": 3, "change": 0.0, "bound": 0.0, "converged": True, "discount_bias": bias}
    table = reach_table("title", Value(GRID, X, None, facts), [], 1.0, "m")
    names = [str(cell) for cell in table.columns[0].cells]
    assert [word for word in ("hidden", "refused") if any(word in name for name in names)] == [said]


def test_a_grid_in_words():
    assert grid_words(Grid((0, 0), (1, 1), (101, 101))) == "101 x 101 = 10,201 nodes"
    assert grid_words(GRID) == "10 nodes"
