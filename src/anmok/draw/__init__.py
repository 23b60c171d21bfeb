"""Results as pictures. ``plot`` is the only function that draws one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw

from anmok.draw import maps, places
from anmok.draw.fonts import font, hangul_font
from anmok.draw.sheet import MOST, contact_sheet
from anmok.errors import BadRequest, Unsupported
from anmok.media import Image, Source, read
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Points,
    Result,
    Scores,
    Tracked,
)

__all__ = ["MOST", "contact_sheet", "hangul_font", "numbered", "plot"]

_LINE = 1.35  # line height over font size
_ROWS = 5


def plot(result: Result, source: Source) -> pillow.Image:
    """The picture with the result on it, of the picture's size (but ``Scores``, which stand below it).

    Raises:
        Unsupported: this kind of result has no picture.
        BadRequest: the result is of a picture of another size.
    """
    pen = _PENS.get(type(result))
    if pen is None:
        raise Unsupported(f"{type(result).__name__} has no picture; use to_dict()")
    return pen(result, _fitting(result, source))


def numbered(result: Detections | Masks, source: Source) -> pillow.Image:
    """As ``plot``, with each find's place in the result before its label: what a table of finds refers to.

    Raises:
        BadRequest: the result is of a picture of another size.
    """
    image = _fitting(result, source)
    if isinstance(result, Masks):
        return places.masks(result, image, is_numbered=True)
    return places.detections(result, image, is_numbered=True)


def _fitting(result: Result, source: Source) -> Image:
    image = read(source)
    size = getattr(result.masks if isinstance(result, Tracked) else result, "size_hw", image.shape[:2])
    if tuple(size) != image.shape[:2]:
        wanted, given = (f"{width} x {height}" for height, width in (size, image.shape[:2]))
        raise BadRequest(f"this result is of a picture of {wanted} pixels, not of {given}")
    return image


def _scores(result: Scores, image: Image) -> pillow.Image:
    """Bars with the best labels, below the picture."""
    height, width = image.shape[:2]
    size = max(12, width // 28)
    letters = font(size)
    step = int(size * _LINE)
    rows = result.top(result.top_k or _ROWS)
    canvas = np.full((height + step * len(rows) + size, width, 3), 255, np.uint8)
    canvas[:height] = image
    picture = pillow.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for row, (label, score) in enumerate(rows):
        top = height + size // 2 + row * step
        pen.rectangle((0, top, int(width * score), top + step - 2), fill=(198, 219, 239))
        pen.text((size // 2, top), f"{label}  {score:.2f}", fill=(20, 20, 20), font=letters)
    return picture


_PENS: Mapping[type[Result], Callable[[Any, Image], pillow.Image]] = MappingProxyType(
    {
        Scores: _scores,
        Detections: places.detections,
        Points: places.points,
        Masks: places.masks,
        Tracked: places.tracked,
        Keypoints: places.keypoints,
        Gazes: places.gazes,
        DepthMap: maps.depth,
        NormalMap: maps.normals,
        PartMap: maps.parts,
        Matte: maps.matte,
        AnomalyMap: maps.anomaly,
    }
)
