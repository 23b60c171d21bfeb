"""How Moondream cuts a picture: once as a whole, and in tiles that overlap, and how their maps are joined again.

Source: vikhyat/moondream (Apache-2.0) at 44146f1, moondream/torch/image_crops.py and vision.py.

Two things are done in another way, with the same numbers. The tiles stay together as the enlarged picture that they
are cut from, so that what overlaps is not kept twice and pictures of one tiling share one shape. And where there is
one tile alone, it is the whole picture at the same size: the net sees it once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anmok import geometry

Size = tuple[int, int]  # height and width


@dataclass(frozen=True, slots=True)
class Cutting:
    """``crop`` and ``patch`` are sides in pixels, ``margin`` is how far neighbours reach into each other on each side,
    in patches, and ``most`` the number of tiles that is aimed at."""

    crop: int = 378
    patch: int = 14
    margin: int = 4
    most: int = 12

    @property
    def grid(self) -> int:
        """Patches along a side of a tile."""
        return self.crop // self.patch

    @property
    def edge(self) -> int:
        """The margin in pixels."""
        return self.margin * self.patch

    @property
    def window(self) -> int:
        """Pixels from one tile to the next."""
        return self.crop - 2 * self.edge


def tiling(size_hw: Size, cutting: Cutting) -> Size:
    """Rows and columns of tiles for a picture of that size. A long strip may get more than ``most``, as published."""
    inner = tuple(side - 2 * cutting.edge for side in size_hw)
    if min(inner) <= cutting.window:
        return 1, 1
    down, across = (math.ceil(side / cutting.window) for side in inner)
    if down * across > cutting.most:
        share = math.sqrt(cutting.most / (down * across))
        return max(1, math.floor(down * share)), max(1, math.floor(across * share))
    rows = max(math.floor(math.sqrt(cutting.most * inner[0] / inner[1])), down)
    columns = max(math.floor(math.sqrt(cutting.most * inner[1] / inner[0])), across)
    if rows * columns > cutting.most:
        if columns > rows:
            columns = cutting.most // rows
        else:
            rows = cutting.most // columns
    return max(1, rows), max(1, columns)


def canvas(image: NDArray[np.uint8], cutting: Cutting) -> NDArray[np.uint8]:
    """A picture (H, W, 3) enlarged or reduced so that its tiles fill it, and the whole of it below.

    Returns:
        uint8 (rows * window + 2 * edge + crop, columns * window + 2 * edge, 3), the whole picture in the lower left
        corner; (crop, crop, 3) where there is one tile, which is the whole.
    """
    rows, columns = tiling((image.shape[0], image.shape[1]), cutting)
    whole, _ = geometry.resized(image, (cutting.crop, cutting.crop), "lanczos")  # (crop, crop, 3)
    if (rows, columns) == (1, 1):
        return whole
    height, width = (count * cutting.window + 2 * cutting.edge for count in (rows, columns))
    out = np.zeros((height + cutting.crop, width, 3), np.uint8)
    out[:height] = geometry.resized(image, (height, width), "lanczos")[0]
    out[height:, : cutting.crop] = whole
    return out


def tiles(canvases: Tensor, cutting: Cutting) -> tuple[Tensor, Tensor]:
    """Canvases (B, 3, h, w), normalised, to the whole pictures (B, 3, crop, crop) and their tiles
    (B, rows, columns, 3, crop, crop)."""
    crop, window = cutting.crop, cutting.window
    if canvases.shape[2] == crop:
        return canvases, canvases[:, None, None]  # (B, 1, 1, 3, crop, crop)
    whole = canvases[:, :, -crop:, :crop]  # (B, 3, crop, crop)
    large = canvases[:, :, :-crop]  # (B, 3, h - crop, w)
    cut = large.unfold(2, crop, window).unfold(3, crop, window)  # (B, 3, rows, columns, crop, crop)
    return whole, cut.permute(0, 2, 3, 1, 4, 5)  # (B, rows, columns, 3, crop, crop)


def joined(maps: Tensor, margin: int) -> Tensor:
    """Maps of the tiles (B, rows, columns, g, g, D) to one map each (B, h, w, D): where two of them overlap, each gives
    the half that lies nearer to its middle."""
    strips = []
    for row in range(maps.shape[1]):
        band = _kept(maps[:, row], margin, row, maps.shape[1])  # (B, columns, g or less, g, D)
        parts = [_kept(band[:, i], margin, i, band.shape[1]) for i in range(band.shape[1])]
        strips.append(torch.cat(parts, 2))  # (B, g or less, w, D)
    return torch.cat(strips, 1)  # (B, h, w, D)


def pooled(maps: Tensor, grid: int) -> Tensor:
    """Maps (B, h, w, D) to (B, grid * grid, D), each the mean of its share."""
    small = functional.adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), (grid, grid))  # (B, D, grid, grid)
    return small.flatten(2).transpose(1, 2)  # (B, grid * grid, D)


def _kept(maps: Tensor, margin: int, place: int, count: int) -> Tensor:
    """The part of a tile, along axis 2, that no neighbour gives; at the ends all of it is kept."""
    start = 0 if place == 0 else margin
    stop = maps.shape[2] - (0 if place == count - 1 else margin)
    return maps[:, :, start:stop]
