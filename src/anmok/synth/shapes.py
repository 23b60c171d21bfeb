"""Outlines and strokes in units of their own, and how they become pixels of a wanted area."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageDraw

Points = NDArray[np.float64]
Cover: TypeAlias = NDArray[np.float32]

EDGE = 0.3  # the share of a pixel that must be covered for it to belong to the mask
_THINNEST = 1.2  # pixels: a thinner stroke would have gaps
_MOST_FINE = 6_000_000  # pixels drawn before they are averaged
_FINE = 4
_TRIES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A closed polygon, (n, 2) of x and y."""

    points: Points


@dataclass(frozen=True, slots=True, eq=False)
class Stroke:
    """A line of changing width: (n, 2) of x and y, and (n,) full widths."""

    points: Points
    widths: Points


Shape: TypeAlias = tuple[Outline | Stroke, ...]


def blob(rng: np.random.Generator, *, roughness: float = 0.2, stretch: float = 1.6) -> Shape:
    """A round thing with bulges; ``roughness`` 0 is an ellipse."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)  # (72,)
    radius = np.ones_like(turn)
    for wave in range(2, 8):
        radius += roughness * rng.normal() / wave * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
    wide = rng.uniform(1, stretch)
    round_ = np.stack([np.cos(turn) * wide, np.sin(turn)], axis=1) * np.maximum(radius, 0.3)[:, None]  # (72, 2)
    return (Outline(_rotated(round_, rng.uniform(0, 2 * np.pi))),)


def scratch(rng: np.random.Generator, fatness: float) -> Shape:
    """One to three nearly straight strokes side by side, thin at their ends. ``fatness``: area over length squared."""
    count = int(rng.choice([1, 1, 1, 2, 3]))
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.06)
    width = max(fatness, rng.uniform(0.006, 0.018)) / count
    along = np.linspace(-0.5, 0.5, 24)  # (24,)
    strokes = []
    for number in range(count):
        shift, start, stop = number * width * rng.uniform(1.6, 4), rng.uniform(0, 0.25), rng.uniform(0.75, 1)
        if number == 0:
            start, stop = 0.0, 1.0
        part = start + (along + 0.5) * (stop - start) - 0.5
        wobble = np.cumsum(rng.normal(0, 0.0015, along.size))
        points = np.stack([part, bend * (1 - 4 * part**2) + wobble + shift], axis=1)  # (24, 2)
        taper = np.clip(np.minimum(along + 0.5, 0.5 - along) * 6, 0.25, 1) * rng.uniform(0.7, 1.3, along.size)
        strokes.append(Stroke(_rotated(points, angle), width * taper))
    return tuple(strokes)


def crack(rng: np.random.Generator, fatness: float) -> Shape:
    """A jagged walk with branches that grow thinner."""
    width = max(fatness, rng.uniform(0.006, 0.014)) / 1.6
    angle = rng.uniform(0, 2 * np.pi)
    trunk = _walk(rng, np.zeros(2), angle, 30, 1 / 30)
    thinning = np.linspace(1.2, 0.45, len(trunk)) * rng.uniform(0.7, 1.3, len(trunk))
    strokes = [Stroke(trunk, width * thinning)]
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(4, len(trunk) - 4))
        away = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        branch = _walk(rng, trunk[at], away, int(rng.integers(5, 14)), 1 / 34)
        strokes.append(Stroke(branch, width * np.linspace(0.7, 0.3, len(branch))))
    centre = trunk.mean(axis=0)
    return tuple(Stroke(one.points - centre, one.widths) for one in strokes)


def thread(rng: np.random.Generator, fatness: float) -> Shape:
    """A fibre: a long even line whose direction drifts, at times into a loop."""
    steps = 60
    turning = np.zeros(steps)
    for step in range(1, steps):
        turning[step] = 0.93 * turning[step - 1] + rng.normal(0, 0.035)  # it forgets, or it would end in a spiral
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(turning)
    points = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0) / steps  # (60, 2)
    width = max(fatness, rng.uniform(0.008, 0.016))
    return (Stroke(points - points.mean(axis=0), np.full(steps, width)),)


def band(rng: np.random.Generator) -> Shape:
    """A rectangle along the axes, as a print head leaves it."""
    wide = rng.uniform(1, 4)
    x, y = (wide, 1.0) if rng.random() < 0.6 else (1.0, wide)
    return (Outline(np.array([[-x, -y], [x, -y], [x, y], [-x, y]])),)


def sized(shape: Shape, pixels: float) -> Cover:
    """The shape at the size at which about ``pixels`` of it belong to the mask: coverage float32 (h, w) in [0, 1]."""
    scale = float(np.sqrt(pixels / max(_area(shape), 1e-9)))
    cover = _drawn(shape, scale)
    for _ in range(_TRIES):
        found = max(int(np.count_nonzero(cover >= EDGE)), 1)
        if abs(found / pixels - 1) < 0.08:
            break
        scale *= (pixels / found) ** 0.6
        cover = _drawn(shape, scale)
    return cover


def _area(shape: Shape) -> float:
    total = 0.0
    for one in shape:
        if isinstance(one, Outline):
            x, y = one.points.T
            total += abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
        else:
            lengths = np.linalg.norm(np.diff(one.points, axis=0), axis=1)  # (n - 1,)
            total += float((lengths * one.widths[1:]).sum())
    return total


def _drawn(shape: Shape, scale: float) -> Cover:
    """Drawn several times too large and averaged: what share of each pixel is covered."""
    reach = [one.points * scale for one in shape]
    wide = max((float(one.widths.max()) * scale for one in shape if isinstance(one, Stroke)), default=0.0) / 2 + 2
    low = np.floor(np.min([points.min(axis=0) for points in reach], axis=0) - wide)  # (2,)
    high = np.ceil(np.max([points.max(axis=0) for points in reach], axis=0) + wide)
    width, height = (int(side) for side in high - low)
    fine = int(np.clip(np.sqrt(_MOST_FINE / (width * height)), 1, _FINE))
    canvas = pillow.new("L", (width * fine, height * fine))
    pen = ImageDraw.Draw(canvas)
    for one, points in zip(shape, reach, strict=True):
        corners = [(float(x), float(y)) for x, y in (points - low) * fine]
        if isinstance(one, Outline):
            pen.polygon(corners, fill=255)
        else:
            _draw_stroke(pen, corners, np.maximum(one.widths * scale, _THINNEST) * fine)
    small = canvas.reduce(fine) if fine > 1 else canvas
    return np.asarray(np.asarray(small, np.float32) / 255, np.float32)  # (h, w)


def _draw_stroke(pen: ImageDraw.ImageDraw, corners: list[tuple[float, float]], widths: Points) -> None:
    for (start, end), wide in zip(pairwise(corners), widths[1:], strict=True):
        pen.line([start, end], fill=255, width=max(round(float(wide)), 1))
        half = float(wide) / 2
        pen.ellipse((end[0] - half, end[1] - half, end[0] + half, end[1] + half), fill=255)


def _walk(rng: np.random.Generator, start: Points, angle: float, steps: int, stride: float) -> Points:
    directions = angle + np.cumsum(rng.normal(0, 0.18, steps)) + rng.normal(0, 0.45, steps)  # (steps,)
    moves = np.stack([np.cos(directions), np.sin(directions)], axis=1) * stride * rng.uniform(0.5, 1.5, (steps, 1))
    return np.concatenate([start[None], start + np.cumsum(moves, axis=0)])  # (steps + 1, 2)


def _rotated(points: Points, angle: float) -> Points:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]), np.float64)  # (n, 2)
