"""What a defect looks like: for each kind the colours that it wants in its window. Strength is set elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.synth import filters
from anmok.synth.blending import erased
from anmok.synth.filters import Mask, soft
from anmok.synth.noise import Floats, fractal, smooth
from anmok.synth.recipes import Kind
from anmok.synth.scenes import Scene

_BROWN, _OIL, _RUST = (0.72, 0.62, 0.45), (0.55, 0.56, 0.6), (0.85, 0.5, 0.3)
_DYES = np.array([[1.02, 1, 0.97], [0.98, 1, 1.03], [1, 1, 1], [1.1, 0.97, 0.92], [0.92, 1, 1.1]], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """Where a defect goes: the window's corner, and how much of each pixel it covers, float32 (h, w); above 0 is the
    mask. ``pasted`` (h, w, 3) is what lies there then, where that came from the picture itself."""

    top: int
    left: int
    cover: Floats
    pasted: Floats | None = None

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A window of the picture: ``before`` float32 (h, w, 3), the direction (x, y) towards the light, and the contrast
    that is wanted: what is opaque sets its own tone by it."""

    scene: Scene
    spot: Spot
    before: Floats
    light: tuple[float, float]
    contrast: float

    @property
    def mask(self) -> Mask:
        return self.spot.cover > 0

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.spot.cover.shape
        return height, width


def paint(kind: Kind, canvas: Canvas, rng: np.random.Generator) -> Floats:
    """The colours of the window with the defect in it, float32 (h, w, 3), not yet held to 0..255."""
    wanted = _PAINTERS[kind](canvas, rng)
    if canvas.scene.is_grey:
        wanted = np.repeat(wanted.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray(wanted, np.float32)


def _scratch(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """A groove: one flank catches the light, the other does not, and bare material shines in between."""
    depth = _profile(canvas, 1.0)
    slope = _towards_light(-depth, canvas.light)
    along = 1 + 0.5 * smooth(canvas.size, (6, 6), rng)
    shine = rng.choice([0.75, 0.75, -0.6])
    return _times(canvas.before, 1 + (shine * depth * along + 0.5 * slope))


def _crack(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """A dark gap, of uneven darkness, with a bright lip away from the light."""
    depth = _profile(canvas, 0.6)
    lip = np.clip(_towards_light(-depth, canvas.light), 0, 1)
    uneven = np.clip(0.85 + 0.25 * smooth(canvas.size, (5, 5), rng), 0.3, 1.2)
    return _times(canvas.before, 1 - 0.8 * depth * uneven + 0.15 * lip)


def _dent(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """A hollow or a bump of smooth flanks, shaded by the slope against the light; some of it gleams."""
    inner = filters.depth(canvas.mask)  # (h, w)
    far = np.clip(inner / max(float(inner.max()), 1), 0, 1)
    bowl = soft(far * far * (3 - 2 * far), max(float(inner.max()) / 5, 0.7))
    sign = -1.0 if rng.random() < 0.75 else 1.0
    slope = _towards_light(sign * np.asarray(bowl, np.float32), canvas.light)
    gleam = np.clip(slope - 0.6, 0, 1) * rng.uniform(0, 1.2)
    return _times(canvas.before, 1 + 0.45 * slope + gleam - 0.12 * bowl)


def _stain(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """Something that dried: a tint that the surface shows through, stronger at its rim, patchy inside."""
    tint = np.array([_BROWN, _OIL, _RUST], np.float32)[rng.integers(3)]
    inner = filters.depth(canvas.mask)
    deepest = max(float(inner.max()), 1)
    ring = np.exp(-inner / max(deepest * 0.12, 0.8))
    patchy = np.clip(0.55 + 0.22 * fractal(canvas.size, max(deepest, 4), rng, 3), 0.1, 1.2)
    amount = np.clip(patchy + 0.5 * ring, 0, 1.4) * np.clip(inner / 2.0, 0.3, 1)
    return np.asarray(canvas.before * (1 - amount[..., None] * (1 - tint)), np.float32)


def _hole(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """What is behind shows: dark, darkest under the edge towards the light, with a lit wall across from it."""
    shadow = np.clip(_offset_depth(canvas), 0, 1)
    tone = _mean(canvas)
    ground = tone * np.clip(1 - 255 * canvas.contrast / max(float(tone.max()), 1), 0, 1)
    inside = ground * (1.08 - 0.4 * shadow)[..., None]
    if canvas.scene.has_background and rng.random() < 0.3:
        behind = canvas.scene.background(canvas.spot.top, canvas.spot.left, canvas.size)
        inside = behind * (0.85 - 0.45 * shadow)[..., None]
    return np.asarray(inside, np.float32)


def _missing(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """As if it had never been there."""
    return erased(canvas.before, canvas.mask, rng)


def _extra(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """What was copied from elsewhere in the picture."""
    return canvas.before if canvas.spot.pasted is None else canvas.spot.pasted


def _thread(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """A round fibre: bright along its middle, dark on the side away from the light, twisted."""
    middle = _profile(canvas, 0.5)
    slope = _towards_light(middle, canvas.light)
    ground = _mean(canvas)
    step = 255 * canvas.contrast
    is_bright = ground.mean() + step <= 250 and (ground.mean() - step < 10 or rng.random() < 0.6)
    dye = _DYES[rng.integers(len(_DYES))]
    tone = ground.mean() + (step if is_bright else -step)
    twist = 1 + 0.05 * np.sign(smooth(canvas.size, (3, 3), rng))
    return np.asarray((tone * (0.85 + 0.18 * middle + 0.15 * slope) * twist)[..., None] * dye, np.float32)


def _print(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """A band printed twice, a little beside; a faded one; or ink where none should be."""
    before, size = canvas.before, canvas.size
    texture = float(before[canvas.mask].std())
    way = rng.integers(3) if texture > 14 else 2
    if way == 0:
        step = max(2, round(min(size) * rng.uniform(0.08, 0.2)))
        ghost = np.roll(before, (0, step) if rng.random() < 0.5 else (step, 0), axis=(0, 1))
        return np.asarray(0.5 * np.minimum(before, ghost) + 0.5 * ghost, np.float32)
    if way == 1:
        pale = np.quantile(before[canvas.mask], 0.85, axis=0)  # (3,)
        return np.asarray(before + (pale - before) * 0.7, np.float32)
    ink = np.quantile(before[canvas.mask], 0.05, axis=0) * rng.uniform(0.15, 0.5, 3)  # (3,)
    cell = max(min(size) / 6, 2)
    dots = np.clip(0.8 + 0.3 * smooth(size, (cell, cell), rng), 0.15, 1)
    streaks = np.clip(1 + 0.25 * smooth(size, (2, size[1]), rng), 0.4, 1.2)
    return np.asarray(before + (dots * streaks)[..., None] * (ink - before), np.float32)


def _chip(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """A bite out of the edge: background where the part was, and a rough broken face along the break."""
    behind = canvas.scene.background(canvas.spot.top, canvas.spot.left, canvas.size)
    behind = behind + smooth(canvas.size, (1, 1), rng)[..., None] * 1.5
    rows, columns = canvas.spot.window
    part = canvas.scene.inside[rows, columns]
    left = part & ~canvas.mask
    near = filters.distance(left) if left.any() else np.full(canvas.size, 99.0)
    thick = max(min(canvas.size) * 0.09, 1.5)
    face = np.clip(1.3 - near / thick, 0, 1) * np.clip(1 + 0.4 * smooth(canvas.size, (3, 3), rng), 0.2, 1.4)
    tone = np.clip(_mean(canvas) * 0.6, 0, 255)
    return np.asarray(behind + np.clip(face, 0, 1)[..., None] * (tone - behind), np.float32)


def _profile(canvas: Canvas, sigma: float) -> Floats:
    """Depth of a stroke: 1 along its middle, falling to its flanks, (h, w)."""
    blurred = soft(canvas.spot.cover, sigma)
    return np.asarray(blurred / max(float(blurred.max()), 1e-6), np.float32)


def _towards_light(height: Floats, light: tuple[float, float]) -> Floats:
    """How far each place of a relief leans towards the light, -1 to 1."""
    relief = np.pad(height, 1, mode="edge")
    rise = np.asarray(np.gradient(relief, axis=1) * light[0] + np.gradient(relief, axis=0) * light[1])
    slope = -rise[1:-1, 1:-1]  # (h, w)
    return np.asarray(slope / max(float(np.abs(slope).max()), 1e-6), np.float32)


def _times(before: Floats, factor: NDArray[np.floating]) -> Floats:
    # What is black cannot be made brighter by a factor: some of the change is added instead.
    ground = np.maximum(before, 48)
    return np.asarray(before + ground * (factor - 1)[..., None], np.float32)


def _offset_depth(canvas: Canvas) -> Floats:
    """How deep in the shadow of its own edge a place in a hole lies: 1 under the edge towards the light."""
    reach = max(min(canvas.size) * 0.18, 1.0)
    moved = filters.shifted(canvas.mask.astype(np.float32), -canvas.light[1] * reach, -canvas.light[0] * reach)
    return soft(1 - np.asarray(moved, np.float32), reach * 0.4)


def _mean(canvas: Canvas) -> Floats:
    """(3,)"""
    return np.asarray(canvas.before[canvas.mask].mean(axis=0), np.float32)


_PAINTERS: dict[Kind, Callable[[Canvas, np.random.Generator], Floats]] = {
    "scratch": _scratch,
    "crack": _crack,
    "dent": _dent,
    "stain": _stain,
    "hole": _hole,
    "missing": _missing,
    "extra": _extra,
    "thread": _thread,
    "print": _print,
    "chip": _chip,
}
