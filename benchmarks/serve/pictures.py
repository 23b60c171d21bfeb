"""Photo-like JPEGs of 500 pixels, about 60 kB each, drawn from a seed: nothing to download and no licence to keep."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageDraw, ImageFilter

SIZE_HW = (375, 500)
COUNT = 32  # different pictures, so that no cache of answers can help a server
_QUALITY = 93
_GRAIN = 7.0  # standard deviation of the noise in grey levels: brings the files to the size that photos have


def jpegs(count: int = COUNT, seed: int = 0) -> list[bytes]:
    """``count`` different files."""
    return [_jpeg(_scene(np.random.default_rng((seed, number)))) for number in range(count)]


def small_jpeg(nbytes: int = 10_000, seed: int = 0) -> bytes:
    """One file of just under ``nbytes``, at most 500 pixels wide: the body for the overhead of a server."""
    scene = pillow.fromarray(_scene(np.random.default_rng((seed, 10**6))))
    for quality in range(90, 5, -2):
        data = _jpeg(np.asarray(scene.resize((250, 188))), quality)
        if len(data) <= nbytes:
            return data
    raise ValueError(f"no JPEG of this scene has {nbytes} bytes or less")


def _scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Colour gradients, some shapes with soft edges, and grain. uint8 (H, W, 3)."""
    height, width = SIZE_HW
    corners = rng.integers(30, 220, (2, 2, 3)).astype(np.uint8)
    ground = pillow.fromarray(corners).resize((width, height), pillow.Resampling.BICUBIC)
    draw = ImageDraw.Draw(ground)
    for _ in range(24):
        left, top = (int(value) for value in rng.integers(-40, (width, height)))
        right, bottom = left + int(rng.integers(20, 220)), top + int(rng.integers(20, 200))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, right, bottom), fill=colour)
    soft = np.asarray(ground.filter(ImageFilter.GaussianBlur(1.2)), np.float32)
    return np.clip(soft + rng.normal(0, _GRAIN, soft.shape), 0, 255).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8], quality: int = _QUALITY) -> bytes:
    buffer = io.BytesIO()
    pillow.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
