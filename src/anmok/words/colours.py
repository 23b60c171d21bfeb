"""Names of colours: how much of a picture has which of the eleven that English has plain words for. Pure numpy.

The words are those of Berlin and Kay, "Basic Color Terms" (1969). Where one ends and the next begins is our own choice,
by hue, saturation and value; light is not taken into account, so a white wall under a lamp is brown.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

COLOURS: Final = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")

_ACROSS: Final = 128  # pixels that are looked at along each side, evenly spread
_DARK, _BRIGHT = 0.2, 0.75  # values: below the first all is black, above the second what has no hue is white
_PALE, _PALE_BRIGHT = 0.18, 0.25  # saturation: below it there is no hue; where it is bright, the eye forgives more
_HUES: Final = (15, 42, 68, 165, 258, 290, 345)  # degrees, where red, orange, ..., pink end and red begins again
_NAMED: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "red")


def shares(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (H, W, 3) to float32 (11,), in the order of `COLOURS`: shares of the picture, which sum to one."""
    rows, columns = (np.linspace(0, side - 1, min(side, _ACROSS)).round().astype(int) for side in image.shape[:2])
    pixels = np.asarray(image[np.ix_(rows, columns)].reshape(-1, 3) / 255, np.float32)  # (N, 3)
    counts = np.bincount(_named(pixels), minlength=len(COLOURS))  # (11,)
    return np.asarray(counts / counts.sum(), np.float32)


def _named(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """RGB in 0..1 (N, 3) to places in `COLOURS` (N,)."""
    value, least = pixels.max(1), pixels.min(1)  # (N,)
    spread = value - least
    saturation = spread / np.maximum(value, 1e-6)
    hue = _hue(pixels, value, spread)
    at = {name: i for i, name in enumerate(COLOURS)}
    found = np.asarray([at[name] for name in _NAMED])[np.searchsorted(_HUES, hue, side="right")]  # (N,)
    is_warm = (found == at["red"]) | (found == at["orange"])
    found[(found == at["orange"]) & ((value < 0.7) | (saturation < 0.55))] = at["brown"]
    found[is_warm & (hue < 42) & (hue >= 8) & (value < 0.6)] = at["brown"]
    found[(found == at["red"]) & (value > 0.75) & (saturation < 0.5)] = at["pink"]
    found[(found == at["pink"]) & (value < 0.5)] = at["purple"]
    is_olive = (found == at["yellow"]) & (value < 0.6)
    found[is_olive] = np.where(hue[is_olive] < 52, at["brown"], at["green"])
    is_plain = saturation < np.where(value > _BRIGHT, _PALE_BRIGHT, _PALE)
    found[is_plain] = np.where(value[is_plain] > _BRIGHT, at["white"], at["grey"])
    found[value < _DARK] = at["black"]
    return found.astype(np.int64)


def _hue(pixels: NDArray[np.float32], value: NDArray[np.float32], spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """Degrees (N,), 0 where there is none."""
    red, green, blue = pixels.T
    step = np.maximum(spread, 1e-6)
    turned = np.where(
        value == red,
        ((green - blue) / step) % 6,
        np.where(value == green, (blue - red) / step + 2, (red - green) / step + 4),
    )
    return np.asarray(np.where(spread > 0, turned * 60, 0), np.float32)
