"""The layout that tools and readers rely on."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["agents", "envs", "offline_data"])
def test_each_link_at_the_top_level_resolves_into_the_package(name):
    link = ROOT / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / "saferl" / name
