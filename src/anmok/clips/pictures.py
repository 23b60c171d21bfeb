"""A clip that is pictures: a folder of numbered files, a sequence, an iterator or one large array."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadMedia, BadRequest
from anmok.media import SUFFIXES, Image, Source, read

PICTURE_RATE = 25.0  # pictures have no rate of their own
_CLIP_DIMENSIONS = 4

VideoFile: TypeAlias = Path | str | bytes | BinaryIO
PictureSource: TypeAlias = Path | str | NDArray[np.uint8] | Iterable[Source]


def is_video(source: VideoFile | PictureSource) -> TypeGuard[VideoFile]:
    """A file, in whatever form; the rest is pictures.

    Raises:
        BadRequest: neither.
    """
    if isinstance(source, str | Path):
        return "\0" in str(source) or not Path(source).is_dir()
    if isinstance(source, bytes) or (hasattr(source, "read") and hasattr(source, "seekable")):
        return True
    if not isinstance(source, Iterable):
        raise BadRequest(f"{type(source).__name__} is no clip: give a path, bytes, a folder or pictures in order")
    if isinstance(source, np.ndarray) and source.ndim != _CLIP_DIMENSIONS:
        raise BadRequest(f"array of shape {source.shape} is no clip: want (T, H, W, 3)")
    return False


def named(source: PictureSource) -> str:
    """A short name for messages."""
    return str(source) if isinstance(source, str | Path) else "pictures"


def in_order(source: PictureSource) -> Iterable[Source]:
    """The pictures as given; of a folder the image files in it (not below), by the numbers in their names.

    Raises:
        BadMedia: a folder without pictures, or one that cannot be read.
    """
    if not isinstance(source, str | Path):
        return source
    try:
        files = [
            path for path in Path(source).iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
    except OSError as error:
        raise BadMedia(f"{source}: cannot be read ({error.strerror})") from None
    if not files:
        raise BadMedia(f"{source}: no pictures in this folder")
    return sorted(files, key=_numbers_as_numbers)


def picture_moments(source: PictureSource, rate: float, start: float) -> Iterator[tuple[float, Image | BadMedia]]:
    """(seconds, picture) from ``start`` on; in the place of a picture that cannot be read, why.

    All pictures of a clip have the size of the first that could be read.
    """
    size: tuple[int, int] | None = None
    for number, one in zip(count(), in_order(source), strict=False):
        seconds = number / rate
        if seconds < start:
            continue
        try:
            image = _own(one)
        except BadMedia as error:
            yield seconds, error
            continue
        height, width, _ = image.shape
        size = size or (height, width)
        if size == (height, width):
            yield seconds, image
        else:
            yield seconds, BadMedia(f"{width} x {height}, and the clip is {size[1]} x {size[0]}")


def _own(source: Source) -> Image:
    """The picture as an array of its own, not writeable: an iterator may fill one buffer again and again."""
    image = read(source)
    if isinstance(source, np.ndarray):
        image = image.copy()
    image.setflags(write=False)
    return image


def _numbers_as_numbers(path: Path) -> tuple[list[tuple[int, str]], str]:
    """frame_2 before frame_10; every piece compares as (number, letters), so that no two kinds meet."""
    pieces = re.findall(r"\d+|\D+", path.stem)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], path.name
