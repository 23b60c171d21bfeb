"""Answers of many pictures as one value that the writers of label formats take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anmok.errors import BadRequest
from anmok.metrics.annotations import Annotations, from_images
from anmok.results import Detections, Masks

NAMELESS = "object"  # the class of masks that have no name


def annotated(placed: Sequence[tuple[str, Detections | Masks]]) -> Annotations:
    """One row per box or mask, with its score. Empty masks are left out: no format has a place for them.

    Args:
        placed: a picture's name and its answer; all answers are to the same ask.

    Raises:
        BadRequest: answers with different labels, or boxes among masks.
    """
    results = [result for _, result in placed]
    if len({(type(result), result.labels) for result in results}) > 1:
        raise BadRequest("annotations: the answers are to different questions; write them to different files")
    full = [_whole(result) for result in results]
    labels = results[0].labels if results else ()
    is_masked = bool(full) and isinstance(full[0], Masks)
    return from_images(
        [name for name, _ in placed],
        labels or (NAMELESS,),
        [result.xyxy for result in full],
        [np.maximum(result.class_ids, 0) for result in full],
        [result.scores for result in full],
        [result.size_hw for result in full],
        [list(result.rles) for result in full if isinstance(result, Masks)] if is_masked else None,
    )


def _whole(result: Detections | Masks) -> Detections | Masks:
    if isinstance(result, Detections):
        return result
    return result[[index for index, rle in enumerate(result.rles) if rle.counts]]
