"""The few filters of scipy that are used here, with types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anmok.synth.noise import Floats

Mask = NDArray[np.bool_]
Window = tuple[slice, slice]

_scipy: Any = ndimage  # its stubs promise every type that an output array could have


def soft(values: NDArray[np.floating], sigma: float) -> Floats:
    """Gaussian blur of (h, w)."""
    return np.asarray(_scipy.gaussian_filter(values, sigma, truncate=2.5, mode="nearest"), np.float32)


def mean_around(values: NDArray[np.floating], size: int) -> Floats:
    """Of a square of ``size`` pixels, (h, w) or each channel of (h, w, C)."""
    sizes = (size, size) if values.ndim == 2 else (size, size, 1)
    return np.asarray(_scipy.uniform_filter(values, sizes), np.float32)


def shifted(values: NDArray[np.floating], down: float, right: float) -> Floats:
    """Moved by fractions of pixels; 0 comes in from outside."""
    return np.asarray(_scipy.shift(values, (down, right), order=1), np.float32)


def grown(mask: Mask, by: int = 1) -> Mask:
    return np.asarray(_scipy.binary_dilation(mask, iterations=by), np.bool_)


def shrunk(mask: Mask, *, is_outside: bool = False) -> Mask:
    """By one pixel; ``is_outside`` says what lies beyond the border."""
    return np.asarray(_scipy.binary_erosion(mask, border_value=int(is_outside)), np.bool_)


def opened(mask: Mask, by: int) -> Mask:
    """Without what is thinner than twice ``by`` pixels."""
    return np.asarray(_scipy.binary_opening(mask, iterations=by), np.bool_)


def filled(mask: Mask) -> Mask:
    """With its holes."""
    return np.asarray(_scipy.binary_fill_holes(mask), np.bool_)


def depth(mask: Mask) -> Floats:
    """How far each pixel of the mask is from its edge; the window's border is one."""
    return np.asarray(_scipy.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1], np.float32)


def distance(mask: Mask) -> Floats:
    """How far each pixel is from the mask, which must not be empty."""
    return np.asarray(_scipy.distance_transform_edt(~mask), np.float32)


def labelled(mask: Mask, *, is_diagonal: bool = False) -> tuple[NDArray[np.int32], int]:
    """Connected components: a number for each pixel (h, w), 0 outside, and how many there are."""
    labels, count = _scipy.label(mask, np.ones((3, 3)) if is_diagonal else None)
    return labels, int(count)


def windows(labels: NDArray[np.int32]) -> list[Window]:
    """The window of each component, in order."""
    found: list[Window] = _scipy.find_objects(labels)
    return found
