"""Parts that are drawn, so that it is known what is wrong with them and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw


def part(rng: np.random.Generator, flaw: str = "", side: int = 96) -> tuple[Image.Image, Image.Image]:
    """A disc on a speckled plate, and the mask of its flaw: a blob, a cut, or none."""
    ground = np.clip(rng.normal((200, 160, 70), 5, (side, side, 3)), 0, 255).astype(np.uint8)
    picture, mask = Image.fromarray(ground), Image.new("L", (side, side))
    pen, marker = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    x, y = (side // 2 + int(rng.integers(-3, 4)) for _ in range(2))
    radius = side // 3
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(60, 90, 30))
    at = [int(value + rng.integers(-radius // 2, radius // 2)) for value in (x, y)]
    if flaw == "blob":
        box = (at[0] - 8, at[1] - 8, at[0] + 8, at[1] + 8)
        pen.ellipse(box, fill=(40, 60, 230))
        marker.ellipse(box, fill=255)
    if flaw == "cut":
        line = (at[0] - 14, at[1] - 10, at[0] + 14, at[1] + 10)
        pen.line(line, fill=(240, 240, 240), width=4)
        marker.line(line, fill=255, width=4)
    return picture, mask


def plain_folder(root: Path, good: int, each: int, seed: int = 0) -> Path:
    """``good/``, ``blob/``, ``cut/`` and ``ground_truth/``."""
    rng = np.random.default_rng(seed)
    _write(root / "good", [part(rng)[0] for _ in range(good)])
    for kind in ("blob", "cut"):
        if each:
            drawn = [part(rng, kind) for _ in range(each)]
            _write(root / kind, [picture for picture, _ in drawn])
            _write(root / "ground_truth" / kind, [mask for _, mask in drawn], "_mask")
    return root


def mvtec_folder(root: Path, train: int, test: int, each: int, seed: int = 0) -> Path:
    """``train/good``, ``test/good``, ``test/<kind>`` and ``ground_truth/<kind>``."""
    rng = np.random.default_rng(seed)
    _write(root / "train" / "good", [part(rng)[0] for _ in range(train)])
    _write(root / "test" / "good", [part(rng)[0] for _ in range(test)])
    for kind in ("blob", "cut"):
        drawn = [part(rng, kind) for _ in range(each)]
        _write(root / "test" / kind, [picture for picture, _ in drawn])
        _write(root / "ground_truth" / kind, [mask for _, mask in drawn], "_mask")
    return root


def array(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)


def _write(folder: Path, pictures: list[Image.Image], ending: str = "") -> None:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number:03d}{ending}.png")
