"""Colours that tell things apart, and a scale from far to near."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

# Okabe and Ito's, told apart by colour-blind people too ("Color Universal Design", 2008), without black and grey.
_FIRST: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_GOLDEN = 0.618034  # of the hue circle: each further colour lies far from those before it
# From far (dark) to near (bright): anchors of matplotlib's "inferno" (N. Smith and S. van der Walt, CC0).
_SCALE = np.asarray(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    np.float32,
)
_TABLE = np.stack(
    [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_SCALE)), _SCALE[:, channel]) for channel in range(3)], 1
).astype(np.uint8)  # (256, 3)


def colour(index: int) -> Colour:
    """Of the ``index``-th thing; the same in every picture."""
    if index < len(_FIRST):
        return _FIRST[index]
    further = index - len(_FIRST)
    red, green, blue = colorsys.hsv_to_rgb(further * _GOLDEN % 1.0, 0.65 + 0.3 * (further % 2), 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def scale(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(H, W) in [0, 1] to colours (H, W, 3): dark at 0, bright at 1."""
    return np.asarray(_TABLE.take((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8), axis=0))


def ink_on(background: Colour) -> Colour:
    """Black or white, whichever reads better on it (luminance of ITU-R BT.601)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
