"""Detections brought to the pictures and classes of the ground truth that they are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.metrics.annotations.value import Annotations, picture_key


@dataclass(frozen=True, eq=False, slots=True)
class Paired:
    """The rows of the detections that count, in their own order.

    ``rows`` int64 (M,) are their indices, ``image_ids`` and ``class_ids`` int64 (M,) those of the ground truth,
    ``scores`` float64 (M,). ``unknown_classes`` names classes that the ground truth does not have: their detections
    are left out, as COCO's evaluation does.
    """

    rows: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    unknown_classes: tuple[str, ...]


def paired(truth: Annotations, found: Annotations) -> Paired:
    """Pictures are matched by path without suffix or, where that does not reach, by file name; classes by name.

    Raises:
        BadData: detections for a picture that the ground truth does not list, or two pictures of one name.
        BadRequest: the detections have no scores.
    """
    if len(found) and found.scores is None:
        raise BadRequest("detections: every box needs a score")
    images, classes = _images(truth, found), {label: i for i, label in enumerate(truth.classes)}
    kinds = np.array([classes.get(label, -1) for label in found.classes], np.int64)
    class_ids = kinds[found.class_ids]  # (N,)
    rows = np.flatnonzero(class_ids >= 0)
    scores = np.zeros(0) if found.scores is None else found.scores
    seen = {found.classes[i] for i in np.unique(found.class_ids)}
    return Paired(
        rows, images[found.image_ids[rows]], class_ids[rows], scores[rows], tuple(sorted(seen - classes.keys()))
    )


def _images(truth: Annotations, found: Annotations) -> NDArray[np.int64]:
    """For each picture of the detections (J,) the index of the same picture in the ground truth."""
    used = [found.files[i] for i in np.unique(found.image_ids)]
    lost: list[str] = []
    for key in (picture_key, _name):
        theirs, ours = [key(file) for file in truth.files], [key(file) for file in found.files]
        index = {name: i for i, name in enumerate(theirs)}
        missing = [file for file in used if key(file) not in index]
        is_clear = len(index) == len(theirs) and len(set(ours)) == len(ours)
        if is_clear and not missing:
            return np.array([index.get(name, -1) for name in ours], np.int64)
        if key is picture_key and not is_clear:
            raise BadData("annotations: two pictures share a name but for its suffix; they cannot be told apart")
        lost = lost or missing
    others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    raise BadData(
        f"detections for {lost[0]!r}{others}: the ground truth does not list the picture; one without objects needs "
        "an entry, or an empty file, there too"
    )


def _name(file: str) -> str:
    return picture_key(file).rsplit("/", 1)[-1]
