"""Key points by heat maps: a person's box is cut out of the picture, and the peaks of the maps lead back into it.

Sources: J. Huang et al., "The Devil is in the Details: Delving into Unbiased Data Processing for Human Pose
Estimation" (CVPR 2020, arXiv:1911.07524) for the cut, whose corners are pixel centres on both sides; F. Zhang et al.,
"Distribution-Aware Coordinate Representation for Human Pose Estimation" (CVPR 2020, arXiv:1910.06278) for the peak
between pixels. Whole coordinates are centres of pixels here, as they are in the published data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
Kernel = Literal["linear", "cubic"]
Edge = Literal["fade", "cut", "hold"]

PADDING = 1.25  # how much larger than the person's box the cut is
_FLOOR, _CEILING = 1e-3, 50.0  # of a heat map, before the logarithm
_CUBIC = -0.75  # the sharpness of torch's and OpenCV's bicubic kernel


@dataclass(frozen=True, slots=True)
class Cut:
    """The rectangle of a picture that a net sees, in pixels of the picture.

    ``start_xy`` is where the centre of the canvas's first pixel lies, ``span_xy`` the way from there to the centre
    of its last one. Any grid over the canvas, such as a heat map, has its first and last centres at the same places.
    """

    start_xy: tuple[float, float]
    span_xy: tuple[float, float]

    def matrix(self, grid_hw: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3): from (x, y, 1) in the picture to (x, y) on a grid over the canvas."""
        scale = (np.asarray(grid_hw[::-1]) - 1) / np.asarray(self.span_xy)  # (2,)
        return np.concatenate([np.diag(scale), (-np.asarray(self.start_xy) * scale)[:, None]], axis=1)  # (2, 3)

    def to_image(self, points_xy: NDArray[np.floating], grid_hw: tuple[int, int]) -> Array:
        """Points (..., 2) on a grid over the canvas to points in the picture. They may lie outside of it."""
        share = points_xy / (np.asarray(grid_hw[::-1]) - 1)  # (..., 2)
        return np.asarray(share * np.asarray(self.span_xy) + np.asarray(self.start_xy), np.float32)


def cut_around(xyxy: NDArray[np.floating], size_hw: tuple[int, int], padding: float = PADDING) -> Cut:
    """The cut for a person's box (4,), in pixels: its centre, ``padding`` times its size, and then wider or higher
    until it has the aspect ratio of a canvas of that size. A box without area is taken as one pixel wide or high."""
    low, high = np.asarray(xyxy[:2], np.float64), np.asarray(xyxy[2:], np.float64)
    width, height = np.maximum(high - low, 1.0) * padding
    ratio = size_hw[1] / size_hw[0]
    span = np.asarray((width, width / ratio) if width > height * ratio else (height * ratio, height))
    start = (low + high) / 2 - span / 2
    return Cut((float(start[0]), float(start[1])), (float(span[0]), float(span[1])))


def whole(size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> Cut:
    """The cut that squashes a picture of ``size_hw`` onto the canvas, as OpenCV resizes: corner on corner."""
    step = np.asarray(size_hw[::-1]) / np.asarray(canvas_hw[::-1])  # (2,), pixels of the picture
    start, span = (step - 1) / 2, step * (np.asarray(canvas_hw[::-1]) - 1)
    return Cut((float(start[0]), float(start[1])), (float(span[0]), float(span[1])))


def sampled(
    image: NDArray[np.uint8], cut: Cut, size_hw: tuple[int, int], kernel: Kernel = "linear", edge: Edge = "fade"
) -> Array:
    """What lies under the canvas, float32 (h, w, 3) in the range of the picture (H, W, 3).

    Beyond its edge the picture fades into black within a pixel (``fade``), is black from the centres of its outermost
    pixels on (``cut``), or goes on as these are (``hold``).
    """
    height, width = image.shape[:2]
    rows = _taps(cut.start_xy[1], cut.span_xy[1], size_hw[0], height, kernel, edge)
    columns = _taps(cut.start_xy[0], cut.span_xy[0], size_hw[1], width, kernel, edge)
    first, last = int(columns[0].min()), int(columns[0].max()) + 1
    band = _mixed(image[:, first:last], rows, 0)  # (h, part of W, 3)
    return _mixed(band, (columns[0] - first, columns[1]), 1)  # (h, w, 3)


def kernel_for(cut: Cut, size_hw: tuple[int, int]) -> Kernel:
    """Linear where the cut shrinks in either direction, cubic where it only grows, as Sapiens 2 was trained."""
    scale_xy = (np.asarray(size_hw[::-1]) - 1) / np.asarray(cut.span_xy)  # (2,)
    return "linear" if scale_xy.min() < 1.0 else "cubic"


@dataclass(frozen=True, slots=True)
class Style:
    """How a family cuts people out and reads its maps. ``kernel=None`` chooses by ``kernel_for``; with ``is_whole``
    the cut is rounded to the 256 steps of a picture; ``sigma`` is that of ``peaks``."""

    size_hw: tuple[int, int]
    mean: tuple[float, float, float]  # of pixels from 0 to 1, as are the deviations
    std: tuple[float, float, float]
    kernel: Kernel | None = "linear"
    edge: Edge = "fade"
    is_whole: bool = True
    sigma: float | None = None


def located(
    people: Sequence[tuple[NDArray[np.uint8], NDArray[np.floating]]],
    style: Style,
    net: Callable[[Array], Tensor],
    part: int = 4,
) -> tuple[Array, Array]:
    """The points of every person, float32 (N, K, 2) in pixels of the picture, and their scores, float32 (N, K).

    Args:
        people: one or more of them, each a picture (H, W, 3) and a box (4,) in it.
        style: of the family.
        net: pictures float32 (B, 3, h, w), normalised, to heat maps (B, K, h', w').
        part: people in one pass of the net.
    """
    places, scores = [], []
    for start in range(0, len(people), part):
        chunk = people[start : start + part]
        cuts = [cut_around(box, style.size_hw) for _, box in chunk]
        seen = [seen_by(image, cut, style) for (image, _), cut in zip(chunk, cuts, strict=True)]
        maps = net(np.stack(seen))  # (B, K, h', w')
        tops, heights = peaks(maps, sigma=style.sigma)
        grid = (int(maps.shape[2]), int(maps.shape[3]))
        places += [cut.to_image(one, grid) for cut, one in zip(cuts, tops, strict=True)]
        scores.append(heights)
    return np.stack(places), np.concatenate(scores)  # (N, K, 2), (N, K)


def seen_by(image: NDArray[np.uint8], cut: Cut, style: Style) -> Array:
    """What a net sees of a picture (H, W, 3): the cut, float32 (3, h, w), normalised."""
    kernel = style.kernel or kernel_for(cut, style.size_hw)
    values = sampled(image, cut, style.size_hw, kernel, style.edge).transpose(2, 0, 1)  # (3, h, w)
    values = np.floor(values + 0.5) if style.is_whole else values
    mean, std = (np.asarray(one, np.float32)[:, None, None] for one in (style.mean, style.std))
    return np.ascontiguousarray((values / 255 - mean) / std, np.float32)


def merged(maps: Tensor, mirrored: Tensor, partners: NDArray[np.integer]) -> Tensor:
    """The mean of heat maps (B, K, h, w) and those of the mirrored pictures, turned back: the flip test.

    ``partners`` (K,) names the point on the other side of the body for each point, itself on the middle line.
    """
    order = torch.as_tensor(np.asarray(partners, np.int64), device=maps.device)
    return (maps + mirrored.flip(-1)[:, order]) / 2  # (B, K, h, w)


def peaks(maps: Tensor, blur: int = 11, sigma: float | None = None) -> tuple[Array, Array]:
    """Where each heat map (B, K, h, w) peaks: (x, y) on its grid, float32 (B, K, 2), and how high, float32 (B, K).

    The map is blurred by a Gaussian of ``blur`` pixels, and the peak of the parabola through its logarithm is taken.
    Without ``sigma`` the width is OpenCV's for a kernel of that size, the map ends in zeros and the blurred one is
    brought back to its old height (Sapiens); with it the map is mirrored at its edges (ViTPose).

    It differs from the published code in two places. The blur is computed around the highest pixel alone, and that
    pixel is what is brought back to its height, not the highest one of the blurred map; this shows in maps that stay
    below 0.002. And a pixel stands as it is where the blurred map has no peak near it: a flat map, or a ridge.
    """
    maps = maps.float()
    batch, count, _, width = maps.shape
    scores, flat = maps.flatten(2).max(-1)  # (B, K) each; of equal pixels the first
    column, row = flat % width, flat // width
    around = _around(maps.flatten(0, 1), row.flatten(), column.flatten(), blur, sigma)  # (B*K, 3, 3)
    if sigma is None:
        middle, old = around[:, 1:2, 1:2], scores.flatten()[:, None, None]  # (B*K, 1, 1)
        around = around * torch.where(middle > 0, old / middle.clamp_min(1e-30), torch.ones_like(old))
    step = _step(around.clamp(_FLOOR, _CEILING).log().cpu().double(), blur // 2).reshape(batch, count, 2)
    places = torch.stack([column, row], -1).cpu() + step  # (B, K, 2)
    return places.float().numpy(), scores.cpu().numpy()


def _taps(
    start: float, span: float, count: int, length: int, kernel: Kernel, edge: Edge
) -> tuple[NDArray[np.int64], Array]:
    """Which pixels of a side of ``length`` each of ``count`` samples mixes, and how: (count, taps) twice."""
    places = start + np.arange(count) * (span / max(count - 1, 1))  # (count,), pixel centres are whole
    near = np.floor(places)
    share = (places - near)[:, None]  # (count, 1)
    reach = np.arange(2) if kernel == "linear" else np.arange(-1, 3)
    away = np.abs(share - reach)  # (count, taps), in pixels
    weights = 1 - away if kernel == "linear" else _cubic(away)
    index = near[:, None].astype(np.int64) + reach  # (count, taps)
    is_seen = (index >= 0) & (index < length) | (edge == "hold")
    if edge == "cut":
        is_seen &= ((places >= 0) & (places <= length - 1))[:, None]
    return np.clip(index, 0, length - 1), np.where(is_seen, weights, 0).astype(np.float32)


def _cubic(away: NDArray[np.floating]) -> NDArray[np.floating]:
    """R. Keys, "Cubic Convolution Interpolation for Digital Image Processing" (1981): weights by distance."""
    inner = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away**2 + 1
    outer = _CUBIC * (((away - 5) * away + 8) * away - 4)
    return np.where(away <= 1, inner, np.where(away < 2, outer, 0))


def _mixed(image: NDArray[np.uint8] | Array, taps: tuple[NDArray[np.int64], Array], axis: int) -> Array:
    """(N, M, 3) with the samples of one of its first two axes in its place."""
    index, weights = taps
    shape = (-1, 1, 1) if axis == 0 else (-1, 1)
    parts = (image.take(index[:, tap], axis) * weights[:, tap].reshape(shape) for tap in range(index.shape[1]))
    total = next(parts)
    for part in parts:
        total += part
    return np.asarray(total, np.float32)


def _around(maps: Tensor, row: Tensor, column: Tensor, blur: int, sigma: float | None) -> Tensor:
    """The blurred maps (N, h, w) at pixels (N,) and their neighbours: (N, 3, 3)."""
    width = sigma if sigma is not None else 0.3 * ((blur - 1) * 0.5 - 1) + 0.8
    away = torch.arange(blur, device=maps.device) - blur // 2
    weights = torch.exp(-0.5 * (away / width) ** 2)
    weights = weights / weights.sum()  # (blur,)
    rows, is_down = _window(row, maps.shape[1], away, sigma is not None)  # (N, 3, blur)
    columns, is_across = _window(column, maps.shape[2], away, sigma is not None)
    number = torch.arange(len(maps), device=maps.device)[:, None, None, None, None]
    seen = maps[number, rows[:, :, :, None, None], columns[:, None, None]]  # (N, 3, blur, 3, blur)
    return torch.einsum("nrack,nra,nck->nrc", seen, weights * is_down, weights * is_across)


def _window(place: Tensor, side: int, away: Tensor, is_mirrored: bool) -> tuple[Tensor, Tensor]:
    """Which pixels the blur mixes at a place (N,) and beside it, and which of them there are: (N, 3, blur) twice.

    At the edge of the map its last pixel stands for the neighbour that is missing.
    """
    centres = (place[:, None] + torch.arange(-1, 2, device=place.device)).clamp(0, side - 1)  # (N, 3)
    index = centres[:, :, None] + away  # (N, 3, blur)
    is_seen = (index >= 0) & (index < side) | is_mirrored
    folded = index % (2 * side)  # the mirror image on either side, the last pixel twice, as often as it takes
    return torch.minimum(folded, 2 * side - 1 - folded), is_seen


def _step(logs: Tensor, limit: int) -> Tensor:
    """From the middle of log maps (N, 3, 3) to the top of their parabola: (N, 2), at most ``limit`` pixels."""

    def at(right: int, down: int) -> Tensor:
        return logs[:, 1 + down, 1 + right]  # (N,)

    here = at(0, 0)
    dx, dy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    eps = float(np.finfo(np.float32).eps)
    dxx = at(1, 0) - 2 * here + at(-1, 0) + eps
    dyy = at(0, 1) - 2 * here + at(0, -1) + eps
    dxy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * here - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    determinant = dxx * dyy - dxy**2
    is_peak = (determinant > eps**2) & (dxx < 0) & (dyy < 0)
    safe = torch.where(is_peak, determinant, torch.ones_like(determinant))
    step = -torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], -1) / safe[:, None]  # (N, 2)
    is_near = is_peak & (step.abs() <= limit).all(-1)
    return torch.where(is_near[:, None], step, torch.zeros_like(step))
