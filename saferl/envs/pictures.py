"""Pictures of flat arenas with discs in them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HAZARD, TARGET, BODY, NOSE = (232, 130, 120), (130, 200, 130), (60, 90, 200), (20, 20, 60)  # colours

Disc = tuple[float, float, float, tuple[int, int, int]]  # centre x, y, radius, all in m; colour


def arena_picture(half_width: float, discs: Iterable[Disc], size: int = 400) -> NDArray[np.uint8]:
    """The square |x|, |y| <= half_width from above, (size, size, 3); later discs lie on earlier ones."""
    axis = np.linspace(-half_width, half_width, size)
    x, y = axis[None, :], axis[::-1, None]  # first row is the largest y
    image = np.full((size, size, 3), 255, np.uint8)
    for centre_x, centre_y, radius, colour in discs:
        image[(x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius**2] = colour
    return image
