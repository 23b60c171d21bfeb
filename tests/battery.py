"""What the batteries share: odd pictures, and which cards are of one architecture."""

from __future__ import annotations

import functools
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.catalogue import Card

ORIENTATION = 0x0112


def architecture(one: Card) -> tuple[str, str, str]:
    return one.family, one.code, one.kind.partition("-")[0]


def picture(size_hw: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """A colour that depends on the seed, a ramp across it and noise."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 200, 3)
    ramp = np.add.outer(np.arange(size_hw[0]), np.arange(size_hw[1]))[:, :, None] % 40
    return (colour + ramp + rng.integers(0, 16, (*size_hw, 3))).astype(np.uint8)


def saved(image: pillow.Image, form: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **settings)
    return stream.getvalue()


def rotated() -> bytes:
    """A JPEG whose EXIF says: turn me by 90 degrees."""
    exif = pillow.Exif()
    exif[ORIENTATION] = 6
    return saved(pillow.fromarray(picture((40, 64), 5)), "JPEG", exif=exif, quality=95)


@functools.cache
def odd_pictures() -> dict[str, bytes]:
    colour = pillow.fromarray(picture((61, 83), 1))
    alpha = colour.copy()
    alpha.putalpha(pillow.linear_gradient("L").resize(colour.size))
    deep = (np.asarray(colour.convert("L")).astype(np.uint16) * 257)[:, :]
    return {
        "odd size": saved(colour, "PNG"),
        "one pixel": saved(colour.crop((0, 0, 1, 1)), "PNG"),
        "wide": saved(colour.resize((301, 7)), "PNG"),
        "tall": saved(colour.resize((5, 203)), "PNG"),
        "grey": saved(colour.convert("L"), "PNG"),
        "one bit": saved(colour.convert("1"), "PNG"),
        "palette": saved(colour.convert("P"), "GIF"),
        "alpha": saved(alpha, "PNG"),
        "cmyk": saved(colour.convert("CMYK"), "JPEG"),
        "sixteen bits": saved(pillow.fromarray(deep), "PNG"),
        "turned": rotated(),
    }
