"""Draws ``docs/img/synth.webp``: every kind of made defect on a drawn surface, and its mask."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image as pillow

from anmok.draw import contact_sheet
from anmok.synth import KINDS, Good, Kind, Recipe, Surface, make, surface

CELL, SIDE, MARGIN = 192, 512, 60  # pixels: of a cut on the sheet, of a surface, around a defect
GROUND: dict[Kind, tuple[Surface, int]] = {
    "scratch": ("brushed", 1),
    "crack": ("plastic", 1),
    "dent": ("brushed", 2),
    "stain": ("fabric", 2),
    "hole": ("speckle", 2),
    "missing": ("parts", 1),
    "extra": ("parts", 0),
    "thread": ("wood", 1),
    "print": ("cap", 0),
    "chip": ("cap", 5),
}


def main() -> None:
    cells = []
    for kind in KINDS:
        good = Good(surface(*(GROUND[kind][0], (SIDE, SIDE), GROUND[kind][1])))
        tried = make([good], Recipe(kinds=(kind,), area=(0.004, 0.02), contrast=(0.12, 0.35)), 40, 4)
        made = next(one for one in tried if one.boxes.min() > MARGIN and one.boxes.max() < SIDE - MARGIN)
        left, top, right, bottom = made.boxes[0]
        half = int(max(right - left, bottom - top, 120) * 0.65)
        x, y = (int(np.clip(place, half, SIDE - half)) for place in ((left + right) / 2, (top + bottom) / 2))
        marked = made.image // 3 + 170
        marked[made.masks.dense()[0]] = (215, 40, 40)
        both = [pillow.fromarray(one[y - half : y + half, x - half : x + half]) for one in (made.image, marked)]
        pair = pillow.new("RGB", (2 * CELL, CELL))
        for number, cut in enumerate(both):
            pair.paste(cut.resize((CELL, CELL), pillow.Resampling.LANCZOS), (number * CELL, 0))
        cells.append((kind, pair))
    contact_sheet(cells, 2 * CELL).save(Path(sys.argv[0]).parent / "img" / "synth.webp", quality=82)


if __name__ == "__main__":
    main()
