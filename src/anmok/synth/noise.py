"""Random textures of a given grain. Small random grids made large: quick, and the same for the same generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

Floats = NDArray[np.float32]


def smooth(size_hw: tuple[int, int], cell_hw: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Noise float32 (H, W) about 0 whose features are about ``cell_hw`` pixels high and wide."""
    grid_hw = tuple(max(2, round(side / max(cell, 1)) + 1) for side, cell in zip(size_hw, cell_hw, strict=True))
    grid = rng.standard_normal(grid_hw, np.float32)  # (h, w)
    if grid_hw == size_hw:
        return grid
    return enlarged(grid, size_hw)


def fractal(size_hw: tuple[int, int], cell: float, rng: np.random.Generator, octaves: int = 4) -> Floats:
    """Sum of ever finer noise, each at half the strength: float32 (H, W), mean 0, standard deviation 1."""
    total = np.zeros(size_hw, np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1)
        total += smooth(size_hw, (size, size), rng) / 2**octave
    spread = float(total.std())
    return np.asarray((total - total.mean()) / max(spread, 1e-6), np.float32)


def enlarged(grid: NDArray[np.float32], size_hw: tuple[int, int]) -> Floats:
    """(h, w) to (H, W), bicubic."""
    height, width = size_hw
    return np.array(pillow.fromarray(grid).resize((width, height), pillow.Resampling.BICUBIC), np.float32)


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """A size between two: every factor of two is as likely as any other."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
