"""Boxes as rows (N, 4): ``xyxy`` corners in pixels, right and lower edge exclusive, unless a name says otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def area(xyxy: Floats) -> NDArray[np.float32]:
    """(N, 4) to (N,), in square pixels; a box turned inside out has none."""
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)  # (N, 2)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def from_cxcywh(cxcywh: Floats) -> NDArray[np.float32]:
    """Centre and size (..., 4) to corners (..., 4), in the same unit."""
    half = cxcywh[..., 2:] / 2
    return np.asarray(np.concatenate([cxcywh[..., :2] - half, cxcywh[..., :2] + half], axis=-1), np.float32)


def to_xywh(xyxy: Floats) -> NDArray[np.float32]:
    """Corners (..., 4) to left, top, width, height (..., 4): COCO's form."""
    return np.asarray(np.concatenate([xyxy[..., :2], xyxy[..., 2:] - xyxy[..., :2]], axis=-1), np.float32)


def clipped(xyxy: Floats, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """(..., 4) kept inside a picture of that size."""
    height, width = size_hw
    return np.asarray(np.clip(xyxy, 0, (width, height, width, height)), np.float32)


def iou(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Intersection over union of every box of ``a`` (N, 4) with every box of ``b`` (M, 4): (N, M). Without area: 0."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])  # (N, M, 2)
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])  # (N, M, 2)
    sides = np.maximum(bottom_right - top_left, 0)
    shared = sides[..., 0] * sides[..., 1]  # (N, M)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float32).tiny), np.float32)


def nms(
    xyxy: Floats, scores: Floats, threshold: float, class_ids: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: the indices (K,) that stay, best score first; ties keep their order.

    A box goes where one with a higher score overlaps it by more than ``threshold`` (IoU). With ``class_ids`` (N,)
    only boxes of one class suppress each other.
    """
    order = np.argsort(-scores, kind="stable")
    groups = np.zeros(len(scores), np.int64) if class_ids is None else class_ids
    kept: list[int] = []
    while order.size:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        overlap = iou(xyxy[best : best + 1], xyxy[rest])[0]  # (M,)
        order = rest[(overlap <= threshold) | (groups[rest] != groups[best])]
    return np.asarray(kept, np.int64)
