"""A font that has Hangul where the machine has one."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from anmok.errors import BadRequest

_FOLDERS = (
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


@cache
def hangul_font() -> Path | None:
    """A font on this machine that has Hangul: ``ANMOK_FONT``, else the first known family that is installed."""
    named = os.environ.get("ANMOK_FONT")
    if named:
        return Path(named)
    for folder in _FOLDERS:
        files = sorted(Path(folder).expanduser().rglob("*.[to]t[fc]"))
        for family in _HANGUL:
            for file in files:
                if file.stem.lower().replace("-", "").replace(" ", "").startswith(family):
                    return file
    return None


@lru_cache(16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Of that height in pixels; without Hangul where no such font is installed.

    Raises:
        BadRequest: the font cannot be read.
    """
    path = hangul_font()
    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(str(path), size)
    except OSError as error:
        raise BadRequest(f"{path}: no font that can be read ({error}); set ANMOK_FONT to a .ttf or .otf") from None
