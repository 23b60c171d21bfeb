"""Pascal VOC's average precision at one IoU threshold, eleven points or all. No kept library has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.metrics.annotations.value import Annotations
from anmok.metrics.pairing import Paired, paired

Floats = NDArray[np.float64]
Points = Literal["all", "eleven"]


@dataclass(frozen=True, eq=False, slots=True)
class VocClass:
    """One class: ``precision`` and ``recall`` float64 (M,) after each detection, best score first.

    ``objects`` are those that count, without the difficult ones. ``ap`` is ``None`` where there is none.
    """

    ap: float | None
    precision: Floats
    recall: Floats
    objects: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "ap": self.ap,
            "objects": self.objects,
            "precision": self.precision.tolist(),
            "recall": self.recall.tolist(),
        }


@dataclass(frozen=True, eq=False, slots=True)
class VocScores:
    """``mean_ap`` over the classes that have objects, from 0 to 1; ``None`` without any object."""

    mean_ap: float | None
    iou: float
    points: Points
    per_class: Mapping[str, VocClass]
    unknown_classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        classes = {name: one.to_dict() for name, one in self.per_class.items()}
        head = {"mean_ap": self.mean_ap, "iou": self.iou, "points": self.points}
        return head | {"per_class": classes, "unknown_classes": list(self.unknown_classes)}


def voc_ap(
    truth: Annotations, found: Annotations, *, iou: float = 0.5, points: Points = "all", is_inclusive: bool = True
) -> VocScores:
    """Pascal VOC's evaluation of detections.

    A detection is right where the object of its class that it overlaps most reaches ``iou`` and no better detection
    has claimed it. Difficult objects, and COCO's crowds, count neither as found nor as missed, and a detection of one
    neither as right nor as wrong.

    Args:
        truth: the boxes that are there.
        found: the detections with scores.
        iou: the least overlap.
        points: the whole area under the curve (VOC since 2010), or the mean at the recalls 0, 0.1 ... 1 (until 2009).
            Recalls are compared as floating-point numbers, as every published implementation in Python does: nine
            of fifteen do not reach the seventh, which is a hair above 0.6.
        is_inclusive: the last row and column belong to a box, so that its width is x2 - x1 + 1, as VOC has it.

    Raises:
        BadData: pictures that do not fit each other.
        BadRequest: detections without scores, or a threshold outside (0, 1].

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge" (IJCV 2010), and its development kit.
    """
    if not 0 < iou <= 1 or points not in get_args(Points):
        raise BadRequest(f"iou {iou} must lie above 0 and not above 1, points {points!r} be 'all' or 'eleven'")
    pairs = paired(truth, found)
    best, target = _best_overlaps(truth, found, pairs, 1.0 if is_inclusive else 0.0)
    is_ignored = truth.is_difficult | truth.is_crowd
    classes = {
        label: _class_scores(k, pairs, np.where(best >= iou, target, -1), truth.class_ids, is_ignored, points)
        for k, label in enumerate(truth.classes)
    }
    values = [one.ap for one in classes.values() if one.ap is not None]
    return VocScores(float(np.mean(values)) if values else None, iou, points, classes, pairs.unknown_classes)


def _best_overlaps(
    truth: Annotations, found: Annotations, pairs: Paired, edge: float
) -> tuple[Floats, NDArray[np.int64]]:
    """For each detection the highest IoU (M,) with an object of its picture and class, and which one (M,); -1: none.

    All pairs of a picture and class lie in one flat array (P,), so that there is no loop over pictures.
    """
    kinds = max(1, len(truth.classes))
    keys = truth.image_ids * kinds + truth.class_ids  # (N,)
    order = np.argsort(keys, kind="stable")
    wanted = pairs.image_ids * kinds + pairs.class_ids  # (M,)
    start = np.searchsorted(keys[order], wanted, "left")
    counts = np.searchsorted(keys[order], wanted, "right") - start
    owner = np.repeat(np.arange(len(wanted)), counts)  # (P,)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    rivals = order[start[owner] + offset]  # (P,)
    overlap = _iou(found.xyxy[pairs.rows[owner]], truth.xyxy[rivals], edge)
    best, target = np.zeros(len(wanted)), np.full(len(wanted), -1)
    # The last one written stays: by overlap, and among equals the first object of the file.
    ascending = np.lexsort((-offset, overlap))
    best[owner[ascending]], target[owner[ascending]] = overlap[ascending], rivals[ascending]
    return best, target


def _iou(a: Floats, b: Floats, edge: float) -> Floats:
    """Of row with row (P,)."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + edge  # (P, 2)
    shared = np.maximum(sides, 0).prod(1)
    areas = [(box[:, 2:] - box[:, :2] + edge).prod(1) for box in (a, b)]
    union = areas[0] + areas[1] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float64)


def _class_scores(
    kind: int,
    pairs: Paired,
    target: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    is_ignored: NDArray[np.bool_],
    points: Points,
) -> VocClass:
    rows = np.flatnonzero(pairs.class_ids == kind)
    rows = rows[np.argsort(-pairs.scores[rows], kind="stable")]
    claims = target[rows]  # (M,)
    is_left_out = np.concatenate([is_ignored, [False]])[claims]  # -1 reads the last
    claims = claims[~is_left_out]
    _, first = np.unique(claims, return_index=True)
    is_right = np.zeros(len(claims), np.bool_)
    is_right[first] = True
    is_right &= claims >= 0
    objects = int(np.count_nonzero((class_ids == kind) & ~is_ignored))
    hits = np.cumsum(is_right, dtype=np.int64)  # (M,)
    precision = hits / np.arange(1, len(hits) + 1)
    if not objects:
        return VocClass(None, precision, np.zeros(len(hits)), 0)
    ap = _area(precision, hits, objects) if points == "all" else _eleven(precision, hits, objects)
    return VocClass(ap, precision, hits / objects, objects)


def _area(precision: Floats, hits: NDArray[np.int64], objects: int) -> float:
    """Under the curve whose precision at each recall is the best at that recall or beyond."""
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(hits, prepend=0) * ceiling).sum() / objects)


def _eleven(precision: Floats, hits: NDArray[np.int64], objects: int) -> float:
    """The mean of the best precision at or beyond each of eleven recalls."""
    ceiling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    at = np.searchsorted(hits / objects, np.linspace(0, 1, 11))  # first detection that reaches the recall
    return float(ceiling[at].mean())
