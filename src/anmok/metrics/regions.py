"""Masks against masks: label maps by mean IoU, single objects by region and by contour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.metrics.annotations.value import Mask, bool_mask

Bools = NDArray[np.bool_]
BOUND = 0.008  # of the diagonal: how far a contour may be off, as DAVIS has it


@dataclass(frozen=True, slots=True)
class LabelMapScores:
    """From 0 to 1. A class that neither truth nor prediction has is ``None`` and left out of the means; one that is
    only predicted has an IoU of 0. ``accuracy`` is the share of right pixels, ``mean_accuracy`` the mean recall of the
    classes that the truth has.
    """

    mean_iou: float | None
    accuracy: float | None
    mean_accuracy: float | None
    per_class: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"per_class": list(self.per_class)}


def confusion(
    truth: NDArray[np.integer], found: NDArray[np.integer], classes: int, *, ignore: int | None = 255
) -> NDArray[np.int64]:
    """How many pixels of each class (row) were called what (column), int64 (K, K). Add those of many pictures.

    Args:
        truth: class of each pixel, integers (H, W).
        found: the same of the prediction.
        classes: K.
        ignore: pixels of this value in the truth do not count.

    Raises:
        BadRequest: maps of two sizes or of fractions, or a class that is not below K.
    """
    if {truth.dtype.kind, found.dtype.kind} - set("iub"):
        raise BadRequest(f"label maps: want whole numbers, got {truth.dtype} and {found.dtype}")
    if truth.shape != found.shape:
        raise BadRequest(f"label maps: truth {truth.shape}, prediction {found.shape}; want the same size")
    counts = np.ones(truth.shape, np.bool_) if ignore is None else truth != ignore
    rows, columns = truth[counts].astype(np.int64), found[counts].astype(np.int64)  # (n,)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise BadRequest(
                f"label maps: {name} has classes {values.min()} to {values.max()}, want 0 to {classes - 1}"
            )
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def label_map_scores(matrix: NDArray[np.integer]) -> LabelMapScores:
    """Mean IoU and accuracies from a confusion matrix (K, K), truth down the rows.

    Raises:
        BadRequest: the matrix is not square, or has negative counts.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015).
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (matrix < 0).any():
        raise BadRequest(f"confusion matrix: want counts (K, K), got {matrix.shape}")
    right, there, called = np.diag(matrix), matrix.sum(1), matrix.sum(0)  # (K,)
    union = there + called - right
    ious = [float(r / u) if u else None for r, u in zip(right, union, strict=True)]
    recalls = [float(r / t) for r, t in zip(right, there, strict=True) if t]
    total = int(matrix.sum())
    return LabelMapScores(
        mean([iou for iou in ious if iou is not None]),
        int(right.sum()) / total if total else None,
        mean(recalls),
        tuple(ious),
    )


def region_iou(truth: Mask, found: Mask, void: Bools | None = None) -> float:
    """Intersection over union of two masks, DAVIS' J; 1 where both are empty. ``void`` pixels do not count.

    Raises:
        BadRequest: masks of two sizes.
    """
    a, b = _same_size(truth, found, void)
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def boundary_f(truth: Mask, found: Mask, void: Bools | None = None, bound: float = BOUND) -> float:
    """The F measure of the contours of two masks, DAVIS' F; 1 where both are empty.

    A contour pixel is right where the other contour lies within a disk around it. Precision is the right share of
    the found contour, recall that of the true one.

    Args:
        truth: the true mask, bool (H, W) or runs.
        found: the found one.
        void: pixels (H, W) that do not count: both masks are cleared there.
        bound: radius of the disk in shares of the diagonal, rounded up; from 1 on in pixels.

    Raises:
        BadRequest: masks of two sizes, or a bound that is not above 0.

    Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR
    2016); davisvideochallenge/davis2017-evaluation, metrics.py.
    """
    if not bound > 0:
        raise BadRequest(f"bound {bound}: must be above 0")
    true, ours = (contour(mask) for mask in _same_size(truth, found, void))
    n_true, n_ours = int(np.count_nonzero(true)), int(np.count_nonzero(ours))
    if not n_true or not n_ours:
        return float(n_true == n_ours)
    radius = math.ceil(bound * math.hypot(*true.shape)) if bound < 1 else int(bound)
    window = _window(true | ours)
    true, ours = true[window], ours[window]
    precision = int(np.count_nonzero(ours & dilated(true, radius))) / n_ours
    recall = int(np.count_nonzero(true & dilated(ours, radius))) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: Bools) -> Bools:
    """Pixels (H, W) that differ from their neighbour to the right, below, or right below. The frame is no contour."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def dilated(mask: Bools, radius: int) -> Bools:
    """Every pixel (H, W) within ``radius`` of one that is set.

    A disk is a stack of rows: the mask is widened to the left and right step by step, while the row comes nearer to
    the centre: 4 x radius passes over bytes. For a contour of 480 x 854 pixels and a radius of 8 that took 0.6 ms where
    ``scipy.ndimage.binary_dilation`` took 42.
    """
    out = np.zeros_like(mask)
    wide, half = mask.copy(), 0
    for rise in range(radius, -1, -1):
        while half < math.isqrt(radius * radius - rise * rise):
            half += 1
            wide[:, half:] |= mask[:, :-half]
            wide[:, :-half] |= mask[:, half:]
        rest = max(0, len(mask) - rise)
        out[rise:] |= wide[:rest]
        out[:rest] |= wide[rise:]
    return out


def mean(values: Sequence[float]) -> float | None:
    """``None`` of nothing."""
    return float(np.mean(values)) if values else None


def _same_size(truth: Mask, found: Mask, void: Bools | None) -> tuple[Bools, Bools]:
    a, b = bool_mask(truth), bool_mask(found)
    if a.shape != b.shape or (void is not None and void.shape != a.shape):
        sizes = " and ".join(str(one.shape) for one in (a, b, void) if one is not None)
        raise BadRequest(f"masks: sizes {sizes}; want the same")
    return (a, b) if void is None else (a & ~void, b & ~void)


def _window(mask: Bools) -> tuple[slice, slice]:
    """The box around what is set: nothing outside of it can be a match."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
