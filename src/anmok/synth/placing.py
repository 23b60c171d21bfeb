"""Where a defect goes and how large it is: shapes of a drawn size, held to the part and clear of one another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anmok.synth import filters, shapes
from anmok.synth.filters import Mask
from anmok.synth.noise import Floats, log_uniform
from anmok.synth.painting import Spot
from anmok.synth.recipes import Kind, Recipe
from anmok.synth.scenes import Detail, Scene

Corner = tuple[int, int]

THIN: tuple[Kind, ...] = ("scratch", "crack", "thread")
OF_PARTS: tuple[Kind, ...] = ("missing", "extra")
OWN_CONTRAST: tuple[Kind, ...] = (*OF_PARTS, "chip")
OPAQUE: tuple[Kind, ...] = ("hole", "thread")  # they set their tone themselves, and no surface shows through
_LONGEST = {"scratch": 0.8, "crack": 0.6, "thread": 0.7}  # of the picture's shorter side
_FATTEST = 0.025  # area over length squared; a thin thing that is larger has to be longer
_ROUGHNESS: dict[Kind, float] = {"dent": 0.1, "stain": 0.55, "hole": 0.14, "chip": 0.22}
_CLEAR = 3  # pixels between two defects
_LEAST_LINE = 0.3  # of a line, which may well end where the part does
_LEAST_WHOLE = 0.6  # of a shape that must lie on the part; less looks cut off
_LARGE = 200  # pixels, for a part that can do without its outermost ones
_MORE, _AROUND = 0.12, 6  # what goes with a part that is missing, as a share of it; pixels to fill it from


def can_have(kind: Kind, scene: Scene) -> bool:
    """Only a part that lies on a background has an edge that can chip; only small parts can be missing."""
    if kind == "chip":
        return scene.has_background and len(scene.rim) > 0
    return kind not in OF_PARTS or len(scene.details) > 0


def propose(kind: Kind, scene: Scene, taken: Mask, recipe: Recipe, rng: np.random.Generator) -> Spot | None:
    """A spot whose area lies in the recipe's range, or None: draw again."""
    low, high = (share * taken.size for share in recipe.area)
    most = max(low, min(high, _FATTEST * (_LONGEST[kind] * min(taken.shape)) ** 2)) if kind in THIN else high
    target = log_uniform(max(low, 1), max(most, 1), rng)
    if kind in OF_PARTS:
        detail = scene.details[int(rng.integers(len(scene.details)))]
        spot = _removed(detail, scene) if kind == "missing" else _moved(detail, scene, rng)
    else:
        spot = _shaped(kind, scene, target, rng)
    if spot is None:
        return None
    free = spot.cover * ~taken[spot.window]
    if kind not in (*OF_PARTS, "thread"):  # a thread may hang over the edge
        free = free * scene.inside[spot.window]
    area, whole = int(np.count_nonzero(free)), int(np.count_nonzero(spot.cover))
    is_whole = kind == "chip" or area >= (_LEAST_LINE if kind in THIN else _LEAST_WHOLE) * whole
    if not (low <= area <= high and area > 0 and is_whole) or not _is_one(free > 0, kind):
        return None
    return replace(spot, cover=free)


def occupy(taken: Mask, spot: Spot) -> None:
    """The spot and a little around it cannot be used again."""
    rows, columns = spot.window
    top, left = max(rows.start - _CLEAR, 0), max(columns.start - _CLEAR, 0)
    around = np.pad(spot.cover > 0, ((rows.start - top, _CLEAR), (columns.start - left, _CLEAR)))
    grown = filters.grown(around, _CLEAR)
    place = taken[top : top + grown.shape[0], left : left + grown.shape[1]]
    place |= grown[: place.shape[0], : place.shape[1]]


def _is_one(mask: Mask, kind: Kind) -> bool:
    """A round thing that the part's edge cuts in two would be two defects under one box."""
    return kind in THIN or kind == "print" or filters.labelled(mask, is_diagonal=True)[1] == 1


def _shaped(kind: Kind, scene: Scene, target: float, rng: np.random.Generator) -> Spot | None:
    cover = shapes.sized(_shape(kind, scene, target, rng), target * (2 if kind == "chip" else 1))
    cover = np.where(cover >= shapes.EDGE, cover, 0)
    places = scene.rim if kind == "chip" else scene.places
    row, column = places[int(rng.integers(len(places)))]
    height, width = cover.shape
    return _held(cover, (int(row) - height // 2, int(column) - width // 2), scene.inside.shape)


def _shape(kind: Kind, scene: Scene, target: float, rng: np.random.Generator) -> shapes.Shape:
    if kind in THIN:
        fatness = target / (_LONGEST[kind] * min(scene.inside.shape)) ** 2
        draw = {"scratch": shapes.scratch, "crack": shapes.crack, "thread": shapes.thread}[kind]
        return draw(rng, fatness)
    return shapes.band(rng) if kind == "print" else shapes.blob(rng, roughness=_ROUGHNESS[kind])


def _held(cover: Floats, corner: Corner, size_hw: tuple[int, ...]) -> Spot | None:
    """A cover put at a corner, cut to the picture."""
    top, left = corner
    rows = slice(max(-top, 0), min(size_hw[0] - top, cover.shape[0]))
    columns = slice(max(-left, 0), min(size_hw[1] - left, cover.shape[1]))
    inside = cover[rows, columns]
    if 0 in inside.shape or not inside.any():
        return None
    is_lost = np.count_nonzero(inside) < _LEAST_WHOLE * np.count_nonzero(cover)
    return None if is_lost else Spot(max(top, 0), max(left, 0), np.ascontiguousarray(inside, np.float32))


def _removed(detail: Detail, scene: Scene) -> Spot | None:
    """A little more than the small part itself, so that no rim and no shadow of it stays."""
    more = max(3, round(_MORE * min(detail.mask.shape)))
    around = more + _AROUND
    gone = filters.grown(np.pad(detail.mask, around), more).astype(np.float32)
    return _held(gone, (detail.top - around, detail.left - around), scene.inside.shape)


def _moved(detail: Detail, scene: Scene, rng: np.random.Generator) -> Spot | None:
    """A small part, turned or mirrored, at another place; it brings its own shading along."""
    height, width = detail.mask.shape
    pixels = scene.image[detail.top : detail.top + height, detail.left : detail.left + width].astype(np.float32)
    # Its outermost pixels are half background, which would show where it lies on another part.
    cover = _edge(filters.shrunk(detail.mask) if detail.mask.sum() >= _LARGE else detail.mask)
    if rng.random() < 0.5:
        cover, pixels = cover[:, ::-1], pixels[:, ::-1]
    tall, wide = scene.inside.shape
    row, column = int(rng.integers(0, tall - height + 1)), int(rng.integers(0, wide - width + 1))
    # The light of the new place, not that of the old one.
    light = scene.brightness(row, column) / scene.brightness(detail.top, detail.left)
    return Spot(row, column, np.ascontiguousarray(cover), np.asarray(pixels * light, np.float32))


def _edge(mask: Mask) -> Floats:
    """A mask whose outermost pixels count for half."""
    inner = filters.shrunk(mask)
    return np.where(mask, np.where(inner, 1.0, 0.6), 0.0).astype(np.float32)
