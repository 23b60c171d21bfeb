"""Results as pictures. ``plot`` is the only function that draws one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw, ImageFont

from anmok.errors import Unsupported
from anmok.media import Image, Source, read
from anmok.results import Result, Scores

_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "~/Library/Fonts",
)
# By file name: the families that hold Hangul on the systems that people have.
_HANGUL = (
    "notosanscjk",
    "notosanskr",
    "nanumgothic",
    "malgun",
    "applesdgothicneo",
    "applegothic",
    "pretendard",
)
_LINE = 1.35  # line height over font size
_ROWS = 5


@cache
def hangul_font() -> Path | None:
    """A font on this machine that has Hangul: ``ANMOK_FONT``, else the first known family that is installed."""
    named = os.environ.get("ANMOK_FONT")
    if named:
        return Path(named)
    for folder in _FONT_FOLDERS:
        files = sorted(Path(folder).expanduser().rglob("*.[to]t[fc]"))
        for family in _HANGUL:
            for file in files:
                if file.stem.lower().replace("-", "").replace(" ", "").startswith(family):
                    return file
    return None


def plot(result: Result, source: Source) -> pillow.Image:
    """The picture with the result on it.

    Raises:
        Unsupported: this kind of result has no picture.
    """
    if isinstance(result, Scores):
        return _scores(result, read(source))
    raise Unsupported(f"{type(result).__name__} has no picture; use to_dict()")


def _scores(result: Scores, image: Image) -> pillow.Image:
    """Bars with the best labels, below the picture."""
    height, width = image.shape[:2]
    size = max(12, width // 28)
    font = _font(size)
    step = int(size * _LINE)
    rows = result.top(result.top_k or _ROWS)
    canvas = np.full((height + step * len(rows) + size, width, 3), 255, np.uint8)
    canvas[:height] = image
    picture = pillow.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for row, (label, score) in enumerate(rows):
        top = height + size // 2 + row * step
        pen.rectangle((0, top, int(width * score), top + step - 2), fill=(198, 219, 239))
        pen.text((size // 2, top), f"{label}  {score:.2f}", fill=(20, 20, 20), font=font)
    return picture


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    path = hangul_font()
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)
