"""Pictures and a clip to begin with. Drawn here, so that they belong to nobody else (CC0)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw, ImageFilter

from anmok import clips
from anmok.errors import MissingDependency
from anmok.media import Image

_SIZE: Final = (480, 360)  # width, height
_RED, _GREEN, _BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
_FRAMES: Final = 24


def pictures(folder: Path) -> dict[str, Path]:
    """Writes them, and gives their files by name: ``shapes``, ``room``, ``person``, ``cell``."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"shapes": _shapes(), "room": _room(), "person": _person(), "cell": _cell()}
    found = {}
    for name, picture in drawn.items():
        found[name] = folder / f"{name}.png"
        picture.save(found[name], "PNG", compress_level=4)
    return found


def clip(folder: Path) -> Path | None:
    """A red square and a blue disc that cross, a second long; None where PyAV is not installed."""
    path = folder / "crossing.webm"
    try:
        with clips.Writer(path, (_SIZE[1], _SIZE[0]), 24) as writer:
            for frame in _crossing():
                writer.write(frame)
    except MissingDependency:
        return None
    return path


def _shapes() -> pillow.Image:
    picture, pen = _ground((128, 128, 128))
    pen.rectangle((40, 60, 170, 200), fill=_RED)
    pen.ellipse((220, 150, 360, 290), fill=_BLUE)
    pen.polygon([(390, 60), (450, 190), (330, 140)], fill=_GREEN)
    pen.rectangle((60, 250, 130, 320), fill=_RED)
    return picture


def _room() -> pillow.Image:
    """A corridor: the nearer, the brighter."""
    width, height = _SIZE
    picture, pen = _ground((0, 0, 0))
    for step in range(40):
        share = step / 40
        light = int(235 * (1 - share) ** 1.5) + 10
        x, y = int(width / 2 * share * 0.9), int(height / 2 * share * 0.9)
        pen.rectangle((x, y, width - x - 1, height - y - 1), fill=(light, light, int(light * 0.92)))
    return picture


def _person() -> pillow.Image:
    picture, pen = _ground((235, 235, 235))
    pen.ellipse((215, 40, 265, 95), fill=_RED)
    pen.rounded_rectangle((205, 90, 275, 210), 18, fill=_RED)
    for x in (170, 275):
        pen.rounded_rectangle((x, 100, x + 35, 190), 14, fill=_RED)
    for x in (208, 242):
        pen.rounded_rectangle((x, 200, x + 30, 330), 12, fill=_RED)
    return picture


def _cell() -> pillow.Image:
    """A solar cell as electroluminescence shows it, with a crack."""
    rng = np.random.default_rng(7)
    grain = rng.normal(0, 9, (_SIZE[1], _SIZE[0]))  # (H, W)
    base = np.clip(150 + grain, 0, 255).astype(np.uint8)
    picture = pillow.fromarray(base).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for y in (90, 180, 270):
        pen.line((0, y, _SIZE[0], y), fill=(40, 40, 40), width=6)
    pen.line([(90, 20), (150, 110), (140, 170), (230, 300)], fill=(25, 25, 25), width=5)
    return picture.filter(ImageFilter.GaussianBlur(1))


def _crossing() -> Iterator[Image]:
    for number in range(_FRAMES):
        picture, pen = _ground((128, 128, 128))
        left = 30 + 14 * number
        pen.rectangle((left, 60, left + 80, 140), fill=_RED)
        right = 360 - 12 * number
        pen.ellipse((right, 210, right + 90, 300), fill=_BLUE)
        yield np.asarray(picture)


def _ground(colour: tuple[int, int, int]) -> tuple[pillow.Image, ImageDraw.ImageDraw]:
    picture = pillow.new("RGB", _SIZE, colour)
    return picture, ImageDraw.Draw(picture)
