"""Drawn photos: grey plates, some with a tint that is hard to see; for the ladders that weigh errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as pillow

TINTS = {"good": (120, 120, 120), "scratch": (120, 120, 150), "stain": (150, 110, 110)}


def draw(root: Path, counts: dict[str, int], seed: int = 0, spread: float = 14) -> Path:
    """A sub-folder for each class; the numbers of the files do not give the label away. ``spread``: how much
    photos of one class differ in tint."""
    rng = np.random.default_rng(seed)
    numbers = iter(rng.permutation(sum(counts.values())).tolist())
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            pixels = np.asarray(TINTS[name]) + rng.normal(0, spread, 3) + rng.normal(0, 25, (24, 24, 3))
            pillow.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name / f"{next(numbers):05d}.png")
    return root
