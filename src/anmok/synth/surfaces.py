"""Good pictures without a camera: seeded surfaces of any size, to try the tools on and to draw documents with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageDraw

from anmok import media
from anmok.errors import BadRequest
from anmok.media import Image
from anmok.synth.filters import soft
from anmok.synth.noise import Floats, fractal, smooth

Surface: TypeAlias = Literal["brushed", "fabric", "speckle", "wood", "plastic", "parts", "cap"]

SURFACES: tuple[Surface, ...] = get_args(Surface)
_LEAST, _FINE = 16, 3
Size = tuple[int, int]


def surface(kind: Surface, size_hw: Size, seed: int) -> Image:
    """A surface of that kind, uint8 (H, W, 3); the same for the same seed.

    Raises:
        BadRequest: no such kind, a side below 16 pixels, or over the limit of pixels.
    """
    check_surface(kind, size_hw)
    rng = np.random.default_rng([seed, SURFACES.index(kind)])
    colours = _PAINTERS[kind](size_hw, rng) + rng.normal(0, 1.2, (*size_hw, 1))  # (H, W, 3)
    return np.clip(np.round(colours), 0, 255).astype(np.uint8)


def check_surface(kind: str, size_hw: Size) -> None:
    """That there is such a surface of such a size.

    Raises:
        BadRequest: no such kind, too small for any structure, or larger than any picture may be.
    """
    if kind not in _PAINTERS:
        raise BadRequest(f"surface {kind!r}: want one of {', '.join(SURFACES)}")
    if min(size_hw) < _LEAST or size_hw[0] * size_hw[1] > media.max_pixels():
        raise BadRequest(
            f"surface of {size_hw[1]} x {size_hw[0]} pixels: want at least {_LEAST} each way, and no more than "
            f"{media.max_pixels():,} in all"
        )


def _brushed(size: Size, rng: np.random.Generator) -> Floats:
    """Metal brushed in one direction: streaks of several lengths, all of them thin."""
    width = size[1]
    lines = smooth(size, (1, width / 2), rng) * 5 + smooth(size, (1, width / 9), rng) * 5
    lines += smooth(size, (3, width / 4), rng) * 4 + smooth(size, (size[0] / 4, width), rng) * 5
    return _tinted(rng.uniform(140, 185) + lines + _sheen(size, rng, 14), rng, 4)


def _fabric(size: Size, rng: np.random.Generator) -> Floats:
    """Plain weave: warp over weft and weft over warp in turn, with uneven threads."""
    pitch = rng.uniform(6, 10)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    x = x + smooth(size, (size[0] / 6, size[1] / 6), rng) * 0.8
    y = y + smooth(size, (size[0] / 6, size[1] / 6), rng) * 0.8
    across, down = x / pitch, y / pitch
    is_warp = (np.floor(across) + np.floor(down)) % 2 == 0  # (H, W)
    round_warp, round_weft = np.sin(np.pi * (across % 1)), np.sin(np.pi * (down % 1))
    bulge_warp, bulge_weft = np.sin(np.pi * (down % 1)), np.sin(np.pi * (across % 1))
    height = np.where(is_warp, round_warp * (0.6 + 0.4 * bulge_warp), round_weft * (0.6 + 0.4 * bulge_weft))
    uneven = np.where(is_warp, smooth(size, (size[0] / 3, pitch), rng), smooth(size, (pitch, size[1] / 3), rng))
    fluff = smooth(size, (1, 1), rng) * 4
    return _tinted(rng.uniform(90, 120) + 70 * height + uneven * 6 + fluff, rng, 22)


def _speckle(size: Size, rng: np.random.Generator) -> Floats:
    """Stone or moulded grain: dark and bright specks on a clouded ground."""
    ground = rng.uniform(130, 175) + fractal(size, min(size) / 5, rng) * 6
    grain = smooth(size, (2.5, 2.5), rng)
    coarse = smooth(size, (6, 6), rng)
    ground += np.clip(grain - 1.1, 0, 1) * 60 - np.clip(-grain - 1.1, 0, 1) * 70 - np.clip(coarse - 1.4, 0, 1) * 50
    return _tinted(ground + smooth(size, (1, 1), rng) * 4, rng, 8)


def _wood(size: Size, rng: np.random.Generator) -> Floats:
    """Growth rings cut lengthwise, bent by slow noise, with pores along the grain."""
    y, _ = np.mgrid[: size[0], : size[1]].astype(np.float32)
    bent = y / rng.uniform(14, 26) + smooth(size, (size[0] / 3, size[1] / 1.5), rng) * 1.6
    rings = np.abs((bent % 1) - 0.35)  # (H, W)
    pores = np.clip(smooth(size, (1.2, 22), rng) - 0.9, 0, 2) * 18
    value = 1 + 0.16 * rings - pores / 255 + smooth(size, (1, 40), rng) * 0.025 + _sheen(size, rng, 0.04)
    tone = np.array([188, 142, 96], np.float32) * rng.uniform(0.8, 1.1)
    return np.asarray(value[..., None] * tone, np.float32)  # (H, W, 3)


def _plastic(size: Size, rng: np.random.Generator) -> Floats:
    """A moulded sheet: one colour, soft light, and a very fine texture."""
    tone = rng.uniform(60, 210, 3).astype(np.float32)
    light = 1 + _sheen(size, rng, 0.12) + fractal(size, min(size) / 3, rng, 2) * 0.01
    fine = smooth(size, (1.5, 1.5), rng) * 2
    return np.asarray(light[..., None] * tone + fine[..., None], np.float32)  # (H, W, 3)


def _parts(size: Size, rng: np.random.Generator) -> Floats:
    """Rows of equal parts on a tray, each lit from the same side."""
    columns, rows = int(rng.integers(5, 8)), int(rng.integers(5, 8))
    cell = min(size[1] / columns, size[0] / rows)
    radius, is_round = cell * rng.uniform(0.28, 0.36), rng.random() < 0.5
    canvas = pillow.new("L", (size[1] * _FINE, size[0] * _FINE))
    pen = ImageDraw.Draw(canvas)
    for row in range(rows):
        for column in range(columns):
            jitter = rng.normal(0, cell * 0.015, 2)
            x, y = (column + 0.5) * size[1] / columns + jitter[0], (row + 0.5) * size[0] / rows + jitter[1]
            box = tuple(_FINE * edge for edge in (x - radius, y - radius, x + radius, y + radius))
            pen.ellipse(box, fill=255) if is_round else pen.rounded_rectangle(box, radius * _FINE * 0.35, fill=255)
    part = np.asarray(np.asarray(canvas.reduce(_FINE)) / 255, np.float32)  # (H, W)
    rim = _lit(part, max(radius / 9, 1))
    tray = _tinted(rng.uniform(40, 75) + fractal(size, min(size) / 4, rng) * 2, rng, 6)
    tray *= 1 - 0.45 * np.clip(_shifted(soft(part, radius / 6), radius / 6) - part, 0, 1)[..., None]
    tone = _tinted(rng.uniform(150, 190) + rim * 60 + smooth(size, (1, 1), rng) * 2, rng, 14)
    return np.asarray(tray + part[..., None] * (tone - tray), np.float32)


def _cap(size: Size, rng: np.random.Generator) -> Floats:
    """A bottle's cap from above on a pale table: one round part with a knurled rim."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    centre = np.array(size) / 2 + rng.normal(0, min(size) * 0.02, 2)
    x, y = x - centre[1], y - centre[0]
    out = min(size) * rng.uniform(0.34, 0.4)
    far, turn = np.hypot(x, y) / out, np.arctan2(y, x)  # (H, W)
    part = np.clip((1 + 0.012 * np.sign(np.sin(turn * 60)) - far) * out / 1.5 + 0.5, 0, 1)
    height = np.clip((1 - far) * 9, 0, 1) - 0.35 * np.clip((0.72 - far) * 14, 0, 1)
    shade = _lit(np.asarray(height, np.float32), out / 40)
    knurl = np.where((far > 0.86) & (far < 1.02), np.sin(turn * 60) * 12, 0)
    tones = np.array([[40, 90, 160], [170, 45, 45], [60, 130, 80], [200, 160, 60]], np.float32)
    tone = tones[int(rng.random() * len(tones))]
    body = tone * (1 + 0.3 * shade + _sheen(size, rng, 0.08))[..., None] + knurl[..., None]
    table = _tinted(rng.uniform(195, 220) + fractal(size, min(size) / 3, rng, 2) * 2, rng, 5)
    table *= 1 - 0.3 * np.clip(_shifted(soft(part, out / 14), out / 16) - part, 0, 1)[..., None]
    return np.asarray(table + part[..., None] * (body - table), np.float32)


def _sheen(size: Size, rng: np.random.Generator, strength: float) -> Floats:
    """A slow slope of light in some direction, -strength to strength, (H, W)."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1])
    slope = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]  # (H, W)
    return np.asarray(strength * slope / np.sqrt(2), np.float32)


def _tinted(grey: NDArray[np.floating], rng: np.random.Generator, strength: float) -> Floats:
    """(H, W) to (H, W, 3) with a cast."""
    return np.asarray(grey[..., None] + rng.normal(0, strength, 3), np.float32)


def _lit(height: Floats, reach: float) -> Floats:
    """Light from the upper left on a relief, about -1 to 1."""
    relief = soft(height, reach)
    rise = np.asarray(np.gradient(relief, axis=0) + np.gradient(relief, axis=1))  # (H, W), to the lower right
    return np.asarray(np.clip(rise * reach * 1.6, -1, 1), np.float32)


def _shifted(values: Floats, by: float) -> Floats:
    step = round(by)
    return np.roll(values, (step, step), axis=(0, 1))


_PAINTERS: dict[str, Callable[[Size, np.random.Generator], Floats]] = {
    "brushed": _brushed,
    "fabric": _fabric,
    "speckle": _speckle,
    "wood": _wood,
    "plastic": _plastic,
    "parts": _parts,
    "cap": _cap,
}
