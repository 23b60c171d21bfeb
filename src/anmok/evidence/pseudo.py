"""What labels are worth that a model gave: how often they are right, above which confidence, and in which class not.

Judged on images that have a label, from answers of models that did not learn from them (out of fold). What is found
holds for images without a label as far as those are of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import Estimate, accuracy

CONFIDENCES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)  # where a cut may be made
WANTED = 0.7  # of the labels that are kept, this share must be right, by the lower end of the interval
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Cut:
    """The labels that were given with at least this confidence. ``precision``: how many of them are right; none where
    none is so sure."""

    confidence: float
    count: int  # of the images judged
    share: float
    precision: Estimate | None


@dataclass(frozen=True, slots=True)
class Doubt:
    """One class. ``labelled``: of the images under its label, the share that is answered otherwise. ``answered``: of
    the images that are answered so, the share under another label. Each beside the same of all other classes."""

    index: int
    labelled: Estimate | None
    labelled_elsewhere: Estimate | None
    answered: Estimate | None
    answered_elsewhere: Estimate | None

    @property
    def is_shown(self) -> bool:
        """Contradicted more than the others, beyond what chance explains: labels are wrong, or it is harder."""
        return _above(self.labelled, self.labelled_elsewhere) or _above(self.answered, self.answered_elsewhere)


@dataclass(frozen=True, slots=True)
class PseudoAudit:
    """``chosen`` is the least confidence at which ``wanted`` of the labels are shown to be right; none: refuse them."""

    precision: Estimate  # of all labels
    cuts: tuple[Cut, ...]
    chosen: Cut | None
    wanted: float
    classes: tuple[Doubt, ...]

    @property
    def doubtful(self) -> tuple[int, ...]:
        """Classes whose labels look wrong."""
        return tuple(one.index for one in self.classes if one.is_shown)


def audit_pseudo(
    chances: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, *, wanted: float = WANTED
) -> PseudoAudit:
    """Looks at labels before anything learns from them.

    Args:
        chances: (n, K) of each class, for images whose label was not learned from.
        labels: (n,) int, what they are labelled.
        groups: (n,), images that belong together; intervals rest on groups.
        wanted: the least share of right labels.

    Raises:
        BadData: shapes do not fit, or there is no image.
        BadRequest: ``wanted`` is no share.
    """
    if not 0 < wanted < 1:
        raise BadRequest(f"wanted {wanted}: want a share between 0 and 1, such as {WANTED}")
    table, truth = np.asarray(chances, np.float64), np.asarray(labels)
    if table.ndim != 2 or not len(table) or truth.shape != (len(table),):
        raise BadData(f"chances {table.shape} and labels {truth.shape}: want (n, K) and (n,), n from 1")
    said, sure = table.argmax(1), table.max(1)  # (n,)
    group = np.arange(len(table)) if groups is None else np.asarray(groups)
    # Several cuts are looked at, and one of them chosen: each interval is as much wider.
    level = 1 - (1 - _LEVEL) / len(CONFIDENCES)
    cuts = tuple(_cut(confidence, sure, said == truth, group, level) for confidence in CONFIDENCES)
    fit = [cut for cut in cuts if cut.precision is not None and cut.precision.interval.low >= wanted]
    return PseudoAudit(
        precision=accuracy(said == truth, group),
        cuts=cuts,
        chosen=fit[0] if fit else None,
        wanted=wanted,
        classes=_doubts(said, truth, group, table.shape[1]),
    )


def _cut(
    confidence: float,
    sure: NDArray[np.float64],
    right: NDArray[np.bool_],
    group: NDArray[np.generic],
    level: float,
) -> Cut:
    kept = sure >= confidence  # (n,)
    count = int(kept.sum())
    precision = accuracy(right[kept], group[kept], level) if count else None
    return Cut(confidence, count, count / len(sure), precision)


def _doubts(
    said: NDArray[np.int64], truth: NDArray[np.int64], group: NDArray[np.generic], classes: int
) -> tuple[Doubt, ...]:
    """Two comparisons a class, so each interval at a level that holds for all of them together."""
    level, wrong = 1 - (1 - _LEVEL) / (2 * classes), said != truth

    def share(rows: NDArray[np.bool_]) -> Estimate | None:
        return accuracy(wrong[rows], group[rows], level) if rows.any() else None

    found = []
    for index in range(classes):
        is_labelled, is_answered = truth == index, said == index
        found.append(Doubt(index, share(is_labelled), share(~is_labelled), share(is_answered), share(~is_answered)))
    return tuple(found)


def _above(one: Estimate | None, others: Estimate | None) -> bool:
    return one is not None and others is not None and one.interval.low > others.interval.high
