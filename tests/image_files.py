"""Small pictures as the bytes of a file."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(picture: pillow.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def solid(mode: str, colour: object, size: tuple[int, int] = (5, 3)) -> pillow.Image:
    return pillow.new(mode, size, colour)  # type: ignore[arg-type]


def is_form(image: NDArray[np.uint8]) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.flags.c_contiguous
