"""Is this an image of a kind that the model knows? The threshold, and how well it tells near and far strangers.

Near strangers are of classes like the known ones: each class is left out in turn and plays the stranger. Far ones are
other images altogether; how well these are told says little about the near ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.conformal import quantile
from anmok.evidence.intervals import Estimate, Interval, accuracy, group_numbers
from anmok.evidence.ranking import Groups, auroc
from anmok.evidence.splits import folds
from anmok.evidence.strangeness import Scorer

Array = NDArray[np.float64]

REJECTED = 0.05
_FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """An image is strange where its score is above ``value``.

    rejected: share of known images that are to be called strange, on average. needed: images from which on that can be
    promised, ``value`` being infinite before. scores: (n,) of the known images, each against the folds without it.
    """

    value: float
    rejected: float
    needed: int
    scores: Array


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """Strangers against known images. auroc: 0.5 is guessing. fpr95: share of strangers that pass where 95 % of the
    known do.
    """

    auroc: Estimate
    fpr95: Estimate
    n_known: int
    n_strange: int


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """Each class left out in turn. by_class: its number -> `Detection`. auroc: mean over these; interval: of the mean,
    the classes taken as they are.
    """

    by_class: dict[int, Detection]
    auroc: float
    interval: Interval

    @property
    def hardest(self) -> int:
        """The class that is hardest to tell from the others."""
        return min(self.by_class, key=lambda k: self.by_class[k].auroc.value)


def threshold(
    scorer: Scorer,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    rejected: float = REJECTED,
    *,
    seed: int = 0,
) -> Cut:
    """The cut that calls a share ``rejected`` of the known images strange, by cross-validation with whole groups.

    scorer: see `strangeness`; it sees the images of the other folds. labels: (n,), for even folds. Raises `BadData`,
    `BadRequest`.
    """
    if not 0 < rejected < 1:
        raise BadRequest(f"a share of {rejected} to be rejected: want one between 0 and 1, 0.05 for 5 %")
    found = held_out(scorer, labels, groups, seed=seed)
    return Cut(quantile(found, rejected), rejected, math.ceil(1 / rejected - 1 - 1e-9), found)


def held_out(scorer: Scorer, labels: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0) -> Array:
    """(n,) scores of the known images, each against the folds without it. Raises `BadData` for a single group."""
    truth = np.asarray(labels)
    group = group_numbers(groups, truth.size)
    if truth.ndim != 1 or truth.size == 0 or group.max() < 1:
        raise BadData(
            f"{truth.size} known images in {0 if not truth.size else group.max() + 1} groups: want two groups"
        )
    fold = folds(truth, group, min(_FOLDS, int(group.max()) + 1), seed)
    found = np.full(truth.size, np.nan)
    for k in np.unique(fold):
        asked = np.flatnonzero(fold == k)
        found[asked] = scorer(np.flatnonzero(fold != k), asked)
    return found


def detection(known: ArrayLike, strange: ArrayLike, groups: Groups = (None, None)) -> Detection:
    """How well scores tell ``strange`` (m,) from ``known`` (n,) images that were held out. Raises `BadData`.

    groups: of the known (n,) and of the strange (m,).
    """
    inside, outside = np.asarray(known, dtype=np.float64), np.asarray(strange, dtype=np.float64)
    found = auroc(inside, outside, groups)
    passes = outside <= np.quantile(inside, 0.95, method="higher")
    return Detection(found, accuracy(passes, groups[1]), inside.size, outside.size)


def near(scorer: Scorer, labels: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0) -> Near:
    """Leave each class out: is it strange to a detector that knows the others? At least three classes.

    The known images are judged out of fold, as the strangers are by what knows nothing of their class; a class without
    two groups cannot be known and is left out of the comparison. Raises `BadData`.
    """
    truth = np.asarray(labels)
    group = group_numbers(groups, truth.size)
    classes = np.unique(truth)
    if classes.size < 3:
        raise BadData(f"{classes.size} classes: leaving one out needs three; give images of other kinds instead")
    by_class: dict[int, Detection] = {}
    for k in classes:
        strange = np.flatnonzero(truth == k)
        known = np.flatnonzero((truth != k) & ~np.isin(group, group[strange]))  # mates of a stranger are no judges
        if np.unique(group[known]).size < 2:
            continue
        inside = held_out(_among(scorer, known), truth[known], group[known], seed=seed)
        outside = scorer(known, strange)
        by_class[int(k)] = detection(inside, outside, (group[known], group[strange]))
    if not by_class:
        raise BadData("no class can be left out: every group of images holds several of them")
    areas = [one.auroc for one in by_class.values()]
    # the classes share their known images, so their errors are added up and not averaged away
    mean = float(np.mean([one.value for one in areas]))
    down = float(np.mean([one.value - one.interval.low for one in areas]))
    up = float(np.mean([one.interval.high - one.value for one in areas]))
    return Near(by_class, mean, Interval(mean - down, mean + up))


def _among(scorer: Scorer, rows: NDArray[np.intp]) -> Scorer:
    return lambda known, asked: scorer(rows[known], rows[asked])
