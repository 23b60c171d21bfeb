"""Many pictures on one: a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image as pillow
from PIL import ImageDraw

from anmok.draw.fonts import font
from anmok.errors import BadRequest

_GAP, _CAPTION = 8, 22  # pixels
MOST = 100  # pictures on a sheet


def contact_sheet(pictures: Sequence[tuple[str, pillow.Image]], cell: int = 320) -> pillow.Image:
    """Pictures with their captions in a grid about as wide as high, each fitted into ``cell`` x ``cell`` pixels.

    Raises:
        BadRequest: none, or more than ``MOST``.
    """
    if not 0 < len(pictures) <= MOST:
        raise BadRequest(f"a contact sheet takes 1 to {MOST} pictures, not {len(pictures)}")
    columns = math.ceil(math.sqrt(len(pictures)))
    small = [_fitted(picture, cell) for _, picture in pictures]
    heights = [max(one.height for one in small[i : i + columns]) for i in range(0, len(small), columns)]
    size = (columns * (cell + _GAP) + _GAP, sum(heights) + len(heights) * (_CAPTION + _GAP) + _GAP)
    sheet = pillow.new("RGB", size, (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for index, (caption, _) in enumerate(pictures):
        row, column = divmod(index, columns)
        left = _GAP + column * (cell + _GAP)
        top = _GAP + sum(heights[:row]) + row * (_CAPTION + _GAP)
        sheet.paste(small[index], (left + (cell - small[index].width) // 2, top))
        pen.text((left, top + heights[row] + 2), _short(caption, cell), fill=(40, 40, 40), font=font(14))
    return sheet


def _fitted(picture: pillow.Image, cell: int) -> pillow.Image:
    small = picture.convert("RGB")
    small.thumbnail((cell, cell))
    return small


def _short(caption: str, width: int) -> str:
    """Cut in the middle where it is wider than its picture."""
    letters = font(14)
    if letters.getlength(caption) <= width:
        return caption
    keep = len(caption)
    while keep > 4 and letters.getlength(f"{caption[: keep // 2]}…{caption[-(keep // 2) :]}") > width:
        keep -= 2
    return f"{caption[: keep // 2]}…{caption[-(keep // 2) :]}"
