"""What models answer, as annotations: to be judged, or to be written as labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anmok.errors import BadRequest
from anmok.metrics.annotations.value import Annotations, from_images
from anmok.results import Detections, Masks

UNNAMED = "object"  # the class of masks without a label


def from_results(
    files: Sequence[str], results: Sequence[Detections | Masks], *, has_scores: bool = True
) -> Annotations:
    """One result per picture, of boxes or of masks (whose boxes go with them; empty masks have none and are left out).

    Args:
        files: names of the pictures.
        results: what a model answered for them. Labels that differ between pictures are joined in the order of
            their first appearance; masks without labels are all called ``object``.
        has_scores: keep the scores. Without them the boxes are labels, as ``anmok label`` writes them.

    Raises:
        BadRequest: not as many results as files, or boxes mixed with masks.
    """
    kinds = {type(one) for one in results}
    if len(files) != len(results) or len(kinds) > 1:
        raise BadRequest(f"annotations: want one result for each of {len(files)} files, all of one kind")
    kept = [
        one[[i for i, rle in enumerate(one.rles) if rle.counts]] if isinstance(one, Masks) else one for one in results
    ]
    classes = list(dict.fromkeys(label for one in kept for label in one.labels or (UNNAMED,)))
    number = {label: i for i, label in enumerate(classes)}
    return from_images(
        files,
        classes,
        [one.xyxy for one in kept],
        [np.array([number[name or UNNAMED] for name in one.names], np.int64) for one in kept],
        [one.scores for one in kept] if has_scores else None,
        [one.size_hw for one in kept],
        [one.rles for one in kept if isinstance(one, Masks)] if Masks in kinds else None,
    )
