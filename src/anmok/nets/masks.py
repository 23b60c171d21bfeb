"""Masks as nets give them, logits on a small grid, brought to the caller's picture.

Enlarging is bilinear, a picture's rows and columns each by themselves, so each pixel is a weighted mean of a few
cells. Where none of those cells passes the threshold the pixel cannot pass it either: only the window around a mask
is computed, one mask at a time, and a thousand masks of a large picture take the memory of one. Weights are torch's
own, so that a pixel is what ``functional.interpolate`` makes of it, but for the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anmok import geometry
from anmok.geometry import Frame, Rle

Window = tuple[int, int, int, int]  # top, bottom, left, right in pixels of the picture
Decoder = Callable[[NDArray[np.float32]], tuple[Tensor, Tensor]]

POINTS = 64  # of the grid that go through a decoder at once
SURE = 10.0  # the logit of a pixel that a mask prompt is sure of, as SAM 2 has it (20 * mask - 10)


@dataclass(frozen=True, eq=False, slots=True)
class Axis:
    """Rows, or columns, of a picture (n) as weighted means of ``cells`` neighbours on the grid.

    ``first`` int64 (n,) is the lowest cell that a pixel is made of, ``weights`` float32 (n, K) belong to the K cells
    from there on; those beyond the last that counts are zero.
    """

    first: Tensor
    weights: Tensor
    cells: int

    @classmethod
    def of(cls, cells: int, pixels: int, canvas: int = 0, used: int = 0) -> Axis:
        """From a grid to a picture; with ``canvas``, to that many pixels first, of which the first ``used`` go on."""
        shares = torch.eye(cells)[None]  # (1, cells, cells): what each cell gives to each place
        if canvas:
            shares = functional.interpolate(shares, size=canvas, mode="linear", align_corners=False)[..., :used]
        shares = functional.interpolate(shares, size=pixels, mode="linear", align_corners=False)[0].T  # (n, cells)
        counts = shares > 0
        first = counts.int().argmax(1)  # (n,)
        last = cells - 1 - counts.flip(1).int().argmax(1)  # (n,)
        taps = first[:, None] + torch.arange(int((last - first).max()) + 1)  # (n, K)
        weights = torch.where(taps < cells, shares.gather(1, taps.clamp(max=cells - 1)), 0.0)
        return cls(first, weights, cells)

    def window(self, low: int, high: int) -> tuple[int, int]:
        """The pixels that any of the cells from ``low`` up to and with ``high`` has a share in, and some beside
        them: start and end."""
        last = self.first + self.weights.shape[1] - 1
        start = int(torch.searchsorted(last, low))
        return start, max(start, int(torch.searchsorted(self.first, high, right=True)))

    def apply(self, values: Tensor, start: int, end: int) -> Tensor:
        """Values (cells, M) to the pixels of a window (end - start, M)."""
        first = self.first[start:end].to(values.device)
        weights = self.weights[start:end].to(values.device)
        out = values[first] * weights[:, :1]  # (end - start, M)
        for k in range(1, weights.shape[1]):
            out.addcmul_(values[(first + k).clamp(max=self.cells - 1)], weights[:, k : k + 1])
        return out


@dataclass(frozen=True, eq=False, slots=True)
class Enlarger:
    """From a grid (h, w) of logits to a picture (H, W)."""

    rows: Axis
    columns: Axis

    @classmethod
    def direct(cls, grid_hw: tuple[int, int], size_hw: tuple[int, int]) -> Enlarger:
        """The grid lies over the whole picture, as where a picture was squashed to the canvas."""
        return cls(Axis.of(grid_hw[0], size_hw[0]), Axis.of(grid_hw[1], size_hw[1]))

    @classmethod
    def padded(cls, grid_hw: tuple[int, int], canvas_hw: tuple[int, int], frame: Frame) -> Enlarger:
        """The grid lies over a canvas with the picture in its upper left corner: the grid is enlarged to the canvas,
        the padding cut off, and the rest brought to the picture's size."""
        height, width = frame.size_hw
        used_hw = _used(frame)
        return cls(
            Axis.of(grid_hw[0], height, canvas_hw[0], used_hw[0]),
            Axis.of(grid_hw[1], width, canvas_hw[1], used_hw[1]),
        )

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of the picture."""
        return len(self.rows.first), len(self.columns.first)


def in_picture(logits: Tensor, enlarger: Enlarger) -> Tensor:
    """(N, h, w) to float32 (N, H, W), whole: for a few masks."""
    height, width = enlarger.size_hw
    if not len(logits):
        return logits.new_zeros((0, height, width), dtype=torch.float32)
    return torch.stack([_enlarged(one, enlarger, (0, height, 0, width)).T for one in logits.float()])  # (N, H, W)


def rles(logits: Tensor, enlarger: Enlarger, cut: float = 0.0) -> tuple[Rle, ...]:
    """Logits (N, h, w) to N masks of the picture: the pixels above ``cut``.

    Where a net's masks become probabilities before they are enlarged, hand those over and cut at 0.5.
    """
    values = logits.float()
    return tuple(
        _rle(_enlarged(one, enlarger, window) > cut, window, enlarger.size_hw)
        for one, window in zip(values, _windows(values, enlarger, cut), strict=True)
    )


def stabilities(logits: Tensor, enlarger: Enlarger, cut: float = 0.0, offset: float = 1.0) -> NDArray[np.float32]:
    """How little each mask of (N, h, w) depends on the threshold, float32 (N,) in [0, 1]: the IoU of the mask cut
    ``offset`` above and ``offset`` below, in the picture. A mask that is empty both ways has 0.

    Source: Kirillov et al., "Segment Anything" (ICCV 2023, arXiv:2304.02643), appendix B.
    """
    return np.asarray([one for one, _, _ in _measured(logits, enlarger, cut, offset)], np.float32)


class Rules(Protocol):
    """How masks of all that is in a picture are found; ``anmok.tasks.Everything`` is one."""

    @property
    def points_per_side(self) -> int: ...
    @property
    def predicted_iou(self) -> float: ...
    @property
    def stability(self) -> float: ...
    @property
    def nms(self) -> float: ...
    @property
    def min_area(self) -> int: ...


def everything(
    decode: Decoder, rules: Rules, enlarger: Enlarger, frame: Frame
) -> tuple[tuple[Rle, ...], NDArray[np.float32]]:
    """Masks of all that is in a picture, with the IoUs that the net predicts for them, best first.

    ``decode`` takes points (P, 2) on the canvas, each an object of its own, and gives logits (P, M, h, w) and
    predicted IoUs (P, M). Points lie in the middle of the cells of a square grid over the picture. Of masks whose
    boxes overlap by more than ``rules.nms`` the best stays; those below ``rules.min_area`` pixels go.

    Source: Kirillov et al., "Segment Anything" (ICCV 2023, arXiv:2304.02643), appendix B, as the automatic mask
    generator of github.com/facebookresearch/segment-anything does it without crops.
    """
    height, width = frame.size_hw
    middles = (np.arange(rules.points_per_side) + 0.5) / rules.points_per_side
    grid = np.stack(np.meshgrid(middles * width, middles * height), -1).reshape(-1, 2)  # (n * n, 2), row by row
    points = frame.to_canvas(grid)
    found: list[tuple[Rle, float]] = []
    for start in range(0, len(points), POINTS):
        logits, ious = decode(points[start : start + POINTS])
        found += _good(logits.flatten(0, 1), ious.flatten(), rules, enlarger)
    if not found:
        return (), np.zeros(0, np.float32)
    boxes = np.asarray([rle.xyxy for rle, _ in found])  # (N, 4)
    # The reference's boxes end with the last pixel; of a mask one pixel wide no area would be left to overlap.
    boxes[:, 2:] -= boxes[:, 2:] - boxes[:, :2] > 1
    scores = np.asarray([score for _, score in found], np.float32)
    keep = geometry.nms(boxes, scores, rules.nms)
    return tuple(found[i][0] for i in keep), scores[keep]


def _good(logits: Tensor, ious: Tensor, rules: Rules, enlarger: Enlarger) -> list[tuple[Rle, float]]:
    """Those of the masks (N, h, w) that the net trusts (N,) and that the threshold does not matter to much."""
    if rules.predicted_iou > 0:  # at 0 all stay, below it as well
        is_kept = ious > rules.predicted_iou
        logits, ious = logits[is_kept], ious[is_kept]
    found = []
    for iou, (steady, seen, window) in zip(ious.tolist(), _measured(logits, enlarger, 0.0, 1.0), strict=True):
        if steady < rules.stability:
            continue
        rle = _rle(seen > 0, window, enlarger.size_hw)
        if rle.area >= max(rules.min_area, 1):
            found.append((rle, iou))
    return found


def as_prompt(mask: Tensor, frame: Frame, canvas_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
    """A mask of the picture, bool (H, W), as the logits (h, w) of a prompt on the grid.

    ``SURE`` inside, minus ``SURE`` outside and on what the canvas has beside the picture; on the rim in between by
    the share of the cell that the mask covers.
    """
    used_hw = _used(frame)
    whole = mask.float()[None, None]  # (1, 1, H, W)
    small = functional.interpolate(whole, size=used_hw, mode="bilinear", align_corners=False, antialias=True)
    beside = (0, canvas_hw[1] - used_hw[1], 0, canvas_hw[0] - used_hw[0])
    canvas = functional.pad(small, beside)  # (1, 1, *canvas_hw)
    share = functional.interpolate(canvas, size=grid_hw, mode="area")
    return (2 * share[0, 0] - 1) * SURE  # (h, w)


def _measured(logits: Tensor, enlarger: Enlarger, cut: float, offset: float) -> Iterator[tuple[float, Tensor, Window]]:
    """Each mask of (N, h, w) with its stability, enlarged in the window that counts."""
    values = logits.float()
    for one, window in zip(values, _windows(values, enlarger, cut - offset), strict=True):
        seen = _enlarged(one, enlarger, window)
        low, high = int((seen > cut - offset).sum()), int((seen > cut + offset).sum())  # the one holds the other
        yield high / max(low, 1), seen, window


def _used(frame: Frame) -> tuple[int, int]:
    """The part (h, w) of the canvas that the picture takes."""
    return round(frame.scale_xy[1] * frame.size_hw[0]), round(frame.scale_xy[0] * frame.size_hw[1])


def _windows(logits: Tensor, enlarger: Enlarger, low: float) -> list[Window]:
    """For each mask the part of the picture that can be above ``low``: top, bottom, left, right."""
    above = logits > low  # (N, h, w)
    sides = []
    for axis, cells in ((enlarger.rows, above.any(2)), (enlarger.columns, above.any(1))):  # (N, h), (N, w)
        first = cells.int().argmax(1).tolist()
        last = (cells.shape[1] - 1 - cells.flip(1).int().argmax(1)).tolist()
        sides.append([axis.window(a, b) for a, b in zip(first, last, strict=True)])
    is_some = above.flatten(1).any(1).tolist()
    return [(*y, *x) if some else (0, 0, 0, 0) for some, y, x in zip(is_some, *sides, strict=True)]


def _enlarged(one: Tensor, enlarger: Enlarger, window: Window) -> Tensor:
    """One mask (h, w) in a window of the picture, turned (columns, rows): the order in which runs are counted."""
    top, bottom, left, right = window
    tall = enlarger.rows.apply(one, top, bottom)  # (bottom - top, w)
    return enlarger.columns.apply(tall.T.contiguous(), left, right)  # (right - left, bottom - top)


def _rle(turned: Tensor, window: Window, size_hw: tuple[int, int]) -> Rle:
    """Runs of the picture from a mask in a window of it, bool (columns, rows)."""
    if not turned.numel():
        return Rle(size_hw, (0, 0, 0, 0), b"")
    part = Rle.of(turned.cpu().numpy().T)
    if not part.counts:
        return Rle(size_hw, (0, 0, 0, 0), b"")
    left, top, width, height = part.box_xywh
    return Rle(size_hw, (left + window[2], top + window[0], width, height), part.counts)
