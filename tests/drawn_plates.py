"""Speckled plates, plain or with a patch of another colour: what real defects look like is known, and made ones may
look alike or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"dark": (60, 55, 50), "blue": (110, 150, 200)}


def plate(rng: np.random.Generator, flaw: str = "", side: int = 64) -> Image.Image:
    """A grey plate under a light of its own; ``flaw`` names the colour of the patch."""
    ground = rng.normal((150, 150, 150), 10, (side, side, 3)) + rng.normal(0, 4, 3)  # (side, side, 3)
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    if flaw:
        x, y = rng.integers(10, side - 10, 2)
        across, down = rng.integers(4, 9, 2)
        box = (int(x - across), int(y - down), int(x + across), int(y + down))
        ImageDraw.Draw(picture).ellipse(box, fill=COLOURS[flaw])
    return picture


def plates(root: Path, good: int, bad: int, flaw: str, seed: int) -> Path:
    """``good/`` and ``bad/``, under numbers that do not give the class away."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(good + bad)
    for name, count, kind, first in (("good", good, "", 0), ("bad", bad, flaw, good)):
        (root / name).mkdir(parents=True)
        for number in numbers[first : first + count]:
            plate(rng, kind).save(root / name / f"{number:05d}.png")
    return root
