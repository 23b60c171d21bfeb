"""Masks as runs: a binary mask without its empty surroundings, a few hundred bytes instead of two million."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest

_MAX_SIDE = 65_536  # pixels; what a hostile file may claim


@dataclass(frozen=True, slots=True)
class Rle:
    """A binary mask of a picture ``size_hw``, kept as the runs of its bounding box.

    ``box_xywh`` is the smallest box around the mask, whole pixels, all zeros where the mask is empty. ``counts`` are
    the lengths of alternating runs inside that box as little-endian uint32, down the columns (COCO's order),
    starting with a run of zeros. Equal masks are equal values.
    """

    size_hw: tuple[int, int]
    box_xywh: tuple[int, int, int, int]
    counts: bytes

    def __post_init__(self) -> None:
        height, width = self.size_hw
        left, top, wide, high = self.box_xywh
        is_inside = min(left, top, wide, high) >= 0 and left + wide <= width and top + high <= height
        if not is_inside or not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
            raise BadRequest(
                f"mask: box {self.box_xywh} (x, y, width, height) does not lie in a picture {self.size_hw}"
            )
        if len(self.counts) % 4 or int(self.runs.sum()) != wide * high:
            raise BadRequest(f"mask: runs of {int(self.runs.sum())} pixels do not fill a box of {wide * high}")

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Rle:
        """A mask bool (H, W)."""
        if mask.ndim != 2 or mask.dtype != np.bool_ or 0 in mask.shape:
            raise BadRequest(f"mask: want bool (H, W), got {mask.dtype} {mask.shape}")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        size = (int(mask.shape[0]), int(mask.shape[1]))
        if not rows.size:
            return cls(size, (0, 0, 0, 0), b"")
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        counts = _runs(mask[top:bottom, left:right])
        return cls(size, (left, top, right - left, bottom - top), counts.astype("<u4").tobytes())

    @property
    def runs(self) -> NDArray[np.int64]:
        """Lengths of the runs (R,), zeros first."""
        return np.frombuffer(self.counts, "<u4").astype(np.int64)

    @property
    def area(self) -> int:
        """In pixels."""
        return int(self.runs[1::2].sum())

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The box around the mask, right and lower edge exclusive."""
        left, top, width, height = self.box_xywh
        return float(left), float(top), float(left + width), float(top + height)

    def crop(self) -> NDArray[np.bool_]:
        """The mask inside its box, bool (h, w)."""
        _, _, width, height = self.box_xywh
        values = np.arange(self.runs.size) % 2 == 1
        return np.repeat(values, self.runs).reshape(width, height).T  # (h, w)

    def mask(self) -> NDArray[np.bool_]:
        """The whole mask, bool (H, W)."""
        left, top, width, height = self.box_xywh
        whole = np.zeros(self.size_hw, np.bool_)
        whole[top : top + height, left : left + width] = self.crop()
        return whole

    def iou(self, other: Rle) -> float:
        """Intersection over union with another mask of the same picture; 0 where both are empty."""
        if self.size_hw != other.size_hw:
            raise BadRequest(f"mask: pictures of {self.size_hw} and {other.size_hw} cannot be compared")
        mine, its = np.asarray(self.xyxy, np.int64), np.asarray(other.xyxy, np.int64)
        left, top = np.maximum(mine[:2], its[:2]).tolist()
        right, bottom = np.minimum(mine[2:], its[2:]).tolist()
        if left >= right or top >= bottom:
            return 0.0
        both = self._window(left, top, right, bottom) & other._window(left, top, right, bottom)
        shared = int(np.count_nonzero(both))
        return shared / (self.area + other.area - shared)

    def to_coco(self) -> dict[str, Any]:
        """``{"size": [H, W], "counts": "..."}``, as pycocotools writes it."""
        height, width = self.size_hw
        left, top, wide, high = self.box_xywh
        tall = np.zeros((height, wide), np.bool_)
        tall[top : top + high] = self.crop()
        runs = _runs(tall) if wide else np.zeros(1, np.int64)
        runs[0] += left * height
        tail = (width - left - wide) * height
        if tail and runs.size % 2:
            runs[-1] += tail
        elif tail:
            runs = np.append(runs, tail)
        return {"size": [height, width], "counts": _compressed(runs)}

    @classmethod
    def from_coco(cls, rle: dict[str, Any]) -> Rle:
        """From COCO's form, compressed (text or bytes) or plain (a list of runs).

        Raises:
            BadRequest: the runs do not fill the picture.
        """
        try:
            height, width = (int(side) for side in rle["size"])
            counts = rle["counts"]
            runs = _expanded(counts) if isinstance(counts, str | bytes) else np.asarray(counts, np.int64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadRequest(f"mask: not a COCO RLE with size and counts ({error})") from None
        is_sound = 0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE and runs.ndim == 1
        # Each run by itself first: the sum of runs that no picture holds may come out right beyond 64 bits.
        is_sound = is_sound and bool(((runs >= 0) & (runs <= height * width)).all())
        if not is_sound or int(runs.sum()) != height * width:
            raise BadRequest(f"mask: COCO runs do not fill a picture of {height} x {width}")
        box, counts = _cropped(runs, height)
        return cls((height, width), box, counts.astype("<u4").tobytes())

    def _window(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
        """The part of the mask inside a window that lies in its box."""
        x, y, _, _ = self.box_xywh
        return self.crop()[top - y : bottom - y, left - x : right - x]


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Alternating runs down the columns, zeros first."""
    flat = mask.T.ravel()  # (w * h,)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return np.concatenate([[0], runs]) if flat[0] else runs


def _cropped(runs: NDArray[np.int64], height: int) -> tuple[tuple[int, int, int, int], NDArray[np.int64]]:
    """Runs down the columns of a whole picture to those of the box around its ones, and that box as x, y, width,
    height. The picture itself, which may be large, is never made."""
    ends = np.cumsum(runs)
    starts, stops = ends[: runs.size // 2 * 2 : 2], ends[1::2]  # (R,) each, of the runs of ones
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not starts.size:
        return (0, 0, 0, 0), np.zeros(0, np.int64)
    (first, low), (last, high) = np.divmod(starts, height), np.divmod(stops - 1, height)  # column and row
    is_tall = bool((first != last).any())  # from the foot of one column to the head of the next
    top, bottom = (0, height) if is_tall else (int(low.min()), int(high.max()) + 1)
    left, right, side = int(first[0]), int(last[-1]) + 1, bottom - top
    starts, stops = (first - left) * side + low - top, (last - left) * side + high - top + 1
    is_apart = starts[1:] > stops[:-1]  # in the box one run may begin where the one before ends
    edges = np.stack([starts[np.append(True, is_apart)], stops[np.append(is_apart, True)]], 1).ravel()
    counts = np.diff(edges, prepend=0, append=(right - left) * side)
    return (left, top, right - left, side), counts if counts[-1] else counts[:-1]


def _compressed(runs: NDArray[np.int64]) -> str:
    """COCO's text form: from the third run on the difference to the run two before, in groups of five bits.

    Source: pycocotools, common/maskApi.c (rleToString).
    """
    values = runs.copy()
    values[3:] -= runs[1:-2]
    letters = bytearray()
    for value in values.tolist():
        is_more = True
        while is_more:
            group = value & 0x1F
            value >>= 5
            is_more = value != -1 if group & 0x10 else value != 0
            letters.append((group | 0x20 if is_more else group) + 48)
    return letters.decode("ascii")


def _expanded(text: str | bytes) -> NDArray[np.int64]:
    """The inverse of ``_compressed``."""
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii") if isinstance(text, str) else text:
        group = letter - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError("a letter that no COCO RLE has")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return np.asarray(runs, np.int64)
