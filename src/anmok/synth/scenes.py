"""What is known of a good picture before anything is put into it: the part, the light, the small parts on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anmok.media import Image
from anmok.synth import filters
from anmok.synth.filters import Mask
from anmok.synth.noise import Floats

_RING = 0.03  # of the shorter side: the border that is taken for background
_SPREAD, _LEAST_STEP = 5.0, 14.0  # how far from the border's colours the part is: in its spreads, in grey levels
_PART_SHARE = (0.02, 0.92)  # of the picture; outside of it the estimate is not trusted
_MOST_ON_RING = 0.3
_LEAST_KEPT = 0.6  # of what was found, once shadows are taken from it
_SMALLEST = 0.002  # of the picture, for a component of the part
_DETAIL = (25.0, 20, 0.08)  # a small part: levels, pixels at least, share at most
_MANY = 250  # components, large and small: the threads of a weave or the grain of a stone, not parts on it
_LEAST_SLOPE = 6.0  # levels from one side to the other
_GREY = 2  # levels by which the channels of a grey picture may differ
_RIM = 0.03  # of the shorter side
_PLACES = 20_000


@dataclass(frozen=True, eq=False)
class Detail:
    """A small part in a picture: where its window begins, and its mask bool (h, w)."""

    top: int
    left: int
    mask: Mask


@dataclass(frozen=True, eq=False)
class Scene:
    """``image`` uint8 (H, W, 3) and ``inside`` bool (H, W): where the part is. Without background it is everywhere."""

    image: Image
    inside: Mask

    @property
    def has_background(self) -> bool:
        return self._share < 1

    @cached_property
    def _share(self) -> float:
        return float(self.inside.mean())

    @cached_property
    def is_grey(self) -> bool:
        """No channel differs from another: what is painted must have no colour either."""
        red, green, blue = np.moveaxis(self.image[::4, ::4].astype(np.int16), 2, 0)  # (h, w) each
        return int(max(np.abs(red - green).max(), np.abs(green - blue).max())) <= _GREY

    @cached_property
    def luminance(self) -> Floats:
        """float32 (H, W), 0 to 255."""
        return np.asarray(self.image @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)

    @cached_property
    def light(self) -> float | None:
        """The direction, in radians, towards the brighter side of the part; None where there is none to speak of."""
        (across, down, _), _ = self._light_slope
        return float(np.arctan2(down, across)) if np.hypot(across, down) > _LEAST_SLOPE else None

    @cached_property
    def _light_slope(self) -> tuple[tuple[float, float, float], float]:
        """A plane through the luminance of the part: per width, per height, and in the middle; and its mean."""
        small, inside = self.luminance[::8, ::8], self.inside[::8, ::8]
        y, x = np.nonzero(inside)
        if len(y) < 16:
            return (0.0, 0.0, 1.0), 1.0
        height, width = small.shape
        plane = np.stack([x / width - 0.5, y / height - 0.5, np.ones(len(x))], axis=1)  # (n, 3)
        values = small[inside]  # (n,)
        slope, *_ = np.linalg.lstsq(plane, values, rcond=None)
        across, down, middle = (float(one) for one in slope)
        return (across, down, middle), float(values.mean())

    def brightness(self, row: float, column: float) -> float:
        """Of the light alone at a place of the part, 1 on average."""
        slope, centre = self._light_slope
        height, width = self.inside.shape
        value = slope[0] * (column / width - 0.5) + slope[1] * (row / height - 0.5) + slope[2]
        return float(np.clip(value / max(centre, 1), 0.5, 2))

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Rows and columns (n, 2) of pixels of the part, evenly thinned out."""
        return _thinned(self.inside)

    @cached_property
    def rim(self) -> NDArray[np.int64]:
        """Rows and columns (n, 2) of the part's outermost pixels that do not lie on the picture's own border."""
        edge = self.inside & ~filters.shrunk(self.inside, is_outside=True)
        edge[[0, -1]] = edge[:, [0, -1]] = False
        return _thinned(edge)

    @cached_property
    def outside(self) -> Floats:
        """The background's plane of colours: float32 (3, 3), a row of (per column, per row, constant) each channel."""
        return _plane(self.image, ~self.inside) if self.has_background else np.zeros((3, 3), np.float32)

    def background(self, top: int, left: int, size_hw: tuple[int, int]) -> Floats:
        """The background's colours in a window, float32 (h, w, 3)."""
        return _on_plane(self.outside, self.image.shape[:2], (top, left, *size_hw))

    @cached_property
    def details(self) -> tuple[Detail, ...]:
        """Small parts that stand out from what is around them: pads, prints, screws, one part of many."""
        step, least, most = _DETAIL
        size = self.inside.size
        around = filters.mean_around(self.luminance, max(min(self.inside.shape) // 6, 3))  # (H, W)
        apart = np.abs(self.luminance - around)
        is_out = filters.soft(apart, 1.0) > max(step, _otsu(apart))
        if self.has_background:  # the rim of a part stands out too, and is no part on it
            is_out &= filters.depth(self.inside) > max(_RIM * min(self.inside.shape), 4)
        found = _components(is_out, least, most * size)
        if self.has_background:
            parts = _components(self.inside, least, most * size)
            found = parts if len(parts) >= 4 else found + parts
        return tuple(found)


def look(image: Image, part: Mask | None, is_everywhere: bool) -> Scene:
    """A scene with the given part, or the one that is found."""
    if is_everywhere:
        return Scene(image, np.ones(image.shape[:2], np.bool_))
    return Scene(image, foreground(image) if part is None else part)


def foreground(image: Image) -> Mask:
    """Where the part is, bool (H, W), if the picture's border shows an even background; everywhere otherwise.

    The border's colours are fitted by a plane per channel. What is far from it is the part, with its holes filled.
    """
    everywhere = np.ones(image.shape[:2], np.bool_)
    height, width = image.shape[:2]
    ring = max(round(_RING * min(height, width)), 2)
    border = everywhere.copy()
    border[ring:-ring, ring:-ring] = False
    if min(height, width) < 4 * ring:
        return everywhere
    plane = _plane(image, border)
    background = _on_plane(plane, (height, width), (0, 0, height, width))  # (H, W, 3)
    far = _widest(image - background)  # (H, W)
    spread = 1.4826 * float(np.median(far[border]))
    is_part = filters.soft(far, 0.8) > max(_SPREAD * spread, _LEAST_STEP)
    if not _PART_SHARE[0] < is_part.mean() or is_part[border].mean() > 2 * _MOST_ON_RING:
        return everywhere  # a surface without an edge, as most are
    is_part = _without_shadow(image, background, is_part, far)
    is_part = filters.filled(filters.opened(is_part, 2))
    labels, count = filters.labelled(is_part)
    areas = np.bincount(labels.ravel(), minlength=count + 1)  # (count + 1,)
    is_kept = areas >= _SMALLEST * areas.sum()
    is_kept[0] = False
    is_part = is_kept[labels]
    is_sound = _PART_SHARE[0] < is_part.mean() < _PART_SHARE[1] and is_part[border].mean() < _MOST_ON_RING
    return is_part if is_sound else everywhere


def _without_shadow(image: Image, background: Floats, is_part: Mask, far: Floats) -> Mask:
    """A shadow is the background made darker, in all channels by the same factor. Where most of what was found is
    of that kind, the part has no colour of its own, and only how far it is from the background can tell."""
    product, square = (np.einsum("hwc,hwc->hw", one, background) for one in (image.astype(np.float32), background))
    scale = product / np.maximum(square, 1)  # (H, W)
    apart = _widest(image - scale[..., None] * background)
    is_shadow = (apart < _LEAST_STEP) & (scale < 1) & (scale > 0.35)
    for rest in (is_part & ~is_shadow, is_part & (far > _otsu(far))):
        if rest.sum() > _LEAST_KEPT * is_part.sum():
            return rest
    return is_part


def _plane(image: Image, where: Mask) -> Floats:
    """Least squares without the tenth that fits worst: (3, 3)."""
    y, x = _thinned(where).T
    height, width = where.shape
    rows = np.stack([x / width, y / height, np.ones(len(x))], axis=1)  # (n, 3)
    colours = image[y, x].astype(np.float64)  # (n, 3)
    slope, *_ = np.linalg.lstsq(rows, colours, rcond=None)  # (3, 3)
    off = _widest(colours - rows @ slope)  # (n,)
    keep = off <= np.quantile(off, 0.9)
    slope, *_ = np.linalg.lstsq(rows[keep], colours[keep], rcond=None)
    return np.asarray(slope.T, np.float32)


def _widest(change: NDArray[np.floating]) -> Floats:
    """The largest difference of the three channels, (..., 3) to (...); much quicker than ``max`` over so short an
    axis."""
    size = np.abs(change)
    return np.asarray(np.maximum(np.maximum(size[..., 0], size[..., 1]), size[..., 2]), np.float32)


def _on_plane(plane: Floats, size_hw: tuple[int, ...], window: tuple[int, int, int, int]) -> Floats:
    top, left, tall, wide = window
    x = (np.arange(left, left + wide, dtype=np.float32) / size_hw[1])[None, :, None]
    y = (np.arange(top, top + tall, dtype=np.float32) / size_hw[0])[:, None, None]
    return np.asarray(x * plane[:, 0] + y * plane[:, 1] + plane[:, 2], np.float32)  # (h, w, 3)


def _thinned(mask: Mask) -> NDArray[np.int64]:
    found = np.flatnonzero(mask)
    # A stride that divides the width would keep whole columns alone; a prime hardly ever does.
    stride = 1 if len(found) <= _PLACES else len(found) // _PLACES * 2 + 1
    return np.stack(np.divmod(found[::stride], mask.shape[1]), axis=1)  # (n, 2)


def _otsu(values: Floats) -> float:
    """The threshold that parts a histogram best. Source: Otsu 1979."""
    counts, edges = np.histogram(values, 128)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    mass = np.cumsum(counts * edges[:-1])
    low, high = mass[:-1] / np.maximum(below, 1), (mass[-1] - mass[:-1]) / np.maximum(above, 1)
    return float(edges[1 + int(np.argmax(below * above * (high - low) ** 2))])


def _components(mask: Mask, least: float, most: float) -> list[Detail]:
    """Connected parts of a fitting size that do not touch the picture's border."""
    labels, count = filters.labelled(mask)
    if count > _MANY:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    height, width = mask.shape
    found = []
    for number, window in enumerate(filters.windows(labels), start=1):
        rows, columns = window
        is_free = rows.start > 0 and columns.start > 0 and rows.stop < height and columns.stop < width
        if is_free and least <= areas[number] <= most:
            solid = filters.filled(labels[window] == number)
            found.append(Detail(rows.start, columns.start, solid))
    return found
