"""What a camera does to a picture: light, blur, noise, JPEG, something in front. No pixel moves."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageFilter

from anmok.media import Image
from anmok.synth import shapes
from anmok.synth.noise import Floats, log_uniform, smooth
from anmok.synth.recipes import Camera

Mask = NDArray[np.bool_]
_IN_FRONT = (0.01, 0.12)  # of the picture: how large what stands in front is
_TRIES = 12
_ROWS = 61  # how many rows of noise are drawn


def photograph(image: Image, masks: list[Mask], camera: Camera, rng: np.random.Generator) -> tuple[Image, list[Mask]]:
    """The picture as such a camera would take it, uint8 (H, W, 3), and what stays in sight of each mask (H, W)."""
    values = image.astype(np.float32)
    if rng.random() < camera.occlusion:
        values, masks = _occluded(values, masks, camera.least_visible, rng)
    values = values * (rng.uniform(*camera.exposure) * _light(image.shape[:2], rng.uniform(*camera.light), rng))
    taken = np.clip(np.round(values), 0, 255).astype(np.uint8)
    sigma = rng.uniform(*camera.blur)
    if sigma > 0.2:  # less moves nothing that eight bits could show
        taken = np.array(pillow.fromarray(taken).filter(ImageFilter.GaussianBlur(sigma)))
    spread = 255 * rng.uniform(*camera.noise)
    if spread > 0:
        taken = np.clip(np.round(taken + spread * _noise(taken.shape, rng)), 0, 255).astype(np.uint8)
    return (taken if camera.jpeg is None else _as_jpeg(taken, round(rng.uniform(*camera.jpeg)))), masks


def _light(size_hw: tuple[int, ...], strength: float, rng: np.random.Generator) -> Floats:
    """A slope from 1 - strength / 2 to 1 + strength / 2 in some direction, (H, W, 1)."""
    angle = rng.uniform(0, 2 * np.pi)
    across, down = np.cos(angle), np.sin(angle)
    reach = abs(across) + abs(down)
    x, y = np.linspace(-0.5, 0.5, size_hw[1]), np.linspace(-0.5, 0.5, size_hw[0])
    slope = (x[None, :] * across + y[:, None] * down) / reach  # (H, W)
    return np.asarray(1 + strength * slope, np.float32)[..., None]


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Grain that all channels share, and a third as much of each its own. Cuts of one long row, taken at
    random: drawing every number afresh would take longer than all the rest."""
    height, width, channels = shape
    table = rng.standard_normal(_ROWS * width * channels, np.float32)
    starts = rng.integers(0, (_ROWS - 1) * width, height) * channels  # (H,)
    rows = np.lib.stride_tricks.sliding_window_view(table, width * channels)[starts]  # (H, W * 3)
    grain = rows.reshape(shape)
    shared = grain[..., :1]
    return np.asarray(0.95 * shared + 0.3 * grain, np.float32)  # (H, W, 3)


def _as_jpeg(image: Image, quality: int) -> Image:
    buffer = io.BytesIO()
    pillow.fromarray(image).save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return np.array(pillow.open(buffer).convert("RGB"))  # (H, W, 3)


def _occluded(values: Floats, masks: list[Mask], least: float, rng: np.random.Generator) -> tuple[Floats, list[Mask]]:
    """Something dull in front of a part of the picture, where it hides no defect too much; else nothing."""
    size = values.shape[:2]
    for _ in range(_TRIES):
        pixels = log_uniform(*_IN_FRONT, rng) * size[0] * size[1]
        cover = shapes.sized(shapes.blob(rng, roughness=0.35, stretch=4), pixels)
        front = np.zeros(size, np.float32)
        top, left = (
            int(rng.integers(-side // 3, whole - side // 3)) for side, whole in zip(cover.shape, size, strict=True)
        )
        rows = slice(max(top, 0), min(top + cover.shape[0], size[0]))
        columns = slice(max(left, 0), min(left + cover.shape[1], size[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        front[rows, columns] = cover[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        front[front < shapes.EDGE] = 0
        seen = [mask & (front == 0) for mask in masks]
        if all(left_.sum() >= max(least * mask.sum(), 1) for left_, mask in zip(seen, masks, strict=True)):
            tone = rng.uniform(20, 235) + rng.normal(0, 12, 3)  # (3,)
            dull = tone + smooth((size[0], size[1]), (size[0] / 3, size[1] / 3), rng)[..., None] * 8
            return np.asarray(values + front[..., None] * (dull - values), np.float32), seen
    return values, masks
