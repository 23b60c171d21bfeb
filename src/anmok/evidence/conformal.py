"""Sets of labels that hold the true one as often as promised: split conformal prediction, and how far to trust it.

The promise is about the average over calibration sets. Given the one at hand, the share that is really covered is a
draw from a Beta distribution; its range is printed beside every promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from anmok.errors import BadData, BadRequest
from anmok.evidence.calibration import checked_logits
from anmok.evidence.costs import checked_probabilities
from anmok.evidence.intervals import Estimate, Interval, accuracy, group_numbers, likeness

Array = NDArray[np.float64]
Sets = NDArray[np.bool_]
Kind = Literal["lac", "aps", "raps"]
Guarantee = Literal["split", "cross", "none"]

RAPS_PENALTY, RAPS_FREE = 0.01, 5  # per rank beyond the fifth
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Conformal:
    """A calibrated rule: a label is in the set where its score is at most the threshold of its class.

    thresholds: (K,), infinite where nothing can be left out. miss: the share of images whose label may be left out.
    guarantee: "split" promises ``floor`` = 1 - miss on average, over calibration images that the model was not fitted
    on; "none" stands for scores out of fold with a model refitted on everything, which is usual and promises nothing.
    coverage: the 90 % range of the share really covered, given as many calibration images, at their effective number.
    fallbacks: classes with too few images for a threshold of their own, which have the common one and no promise by
    class; empty where one threshold was asked for.
    """

    kind: Kind
    miss: float
    thresholds: Array
    guarantee: Guarantee
    floor: float
    coverage: Interval
    n: int
    is_by_class: bool
    fallbacks: tuple[int, ...]
    seed: int

    def sets(self, probabilities: ArrayLike) -> Sets:
        """(n, K) bool, label by label, for ``probabilities`` (n, K). Raises `BadData`."""
        chance = checked_probabilities(probabilities)
        if chance.shape[1] != self.thresholds.size:
            raise BadData(f"probabilities of {chance.shape[1]} classes, calibrated on {self.thresholds.size}")
        scored = scores(chance, self.kind, np.random.default_rng((self.seed, 1)))  # (n, K)
        return np.asarray(scored <= self.thresholds)


@dataclass(frozen=True, slots=True, eq=False)
class CrossConformal:
    """Sets from a model per fold; ``floor`` is the weaker promise that they keep, on average."""

    sets: Sets
    miss: float
    guarantee: Guarantee
    floor: float


@dataclass(frozen=True, slots=True, eq=False)
class SetReport:
    """What sets do on test images.

    covered: share that hold the truth. by_class: the same per class, None without images. mean_size; sizes: share of
    images by size of the set, 0 to K. single: share of sets of one label, those that answer; single_accuracy: how often
    that one is right, None where no set is single.
    """

    covered: Estimate
    by_class: tuple[Estimate | None, ...]
    mean_size: float
    sizes: tuple[float, ...]
    single: Estimate
    single_accuracy: Estimate | None


def scores(probabilities: Array, kind: Kind, rng: np.random.Generator | None) -> Array:
    """(n, K) how little each label fits, of probabilities (n, K).

    "lac": 1 - p (Sadinle et al. 2019, "Least ambiguous set-valued classifiers with bounded error levels"). "aps": mass
    of the labels that are likelier, and a random part of its own (Romano et al. 2020, "Classification with valid and
    adaptive coverage"); without ``rng`` all of its own. "raps": that, and 0.01 for each rank beyond the fifth
    (Angelopoulos et al. 2021, "Uncertainty sets for image classifiers using conformal prediction"). Raises
    `BadRequest`.
    """
    if kind == "lac":
        return 1 - probabilities
    if kind not in ("aps", "raps"):
        raise BadRequest(f"conformal score {kind!r}: want lac, aps or raps")
    order = np.argsort(-probabilities, axis=1, kind="stable")  # (n, K) likeliest first
    sorted_ = np.take_along_axis(probabilities, order, axis=1)
    mass = np.cumsum(sorted_, axis=1)
    if rng is not None:
        mass = mass - rng.random((len(mass), 1)) * sorted_
    if kind == "raps":
        mass = mass + RAPS_PENALTY * np.maximum(np.arange(1, mass.shape[1] + 1) - RAPS_FREE, 0)
    found = np.empty_like(mass)
    np.put_along_axis(found, order, mass, axis=1)
    return found


def quantile(values: ArrayLike, miss: float) -> float:
    """The ceil((n + 1)(1 - miss))-th smallest of ``values`` (n,); infinite where there are too few."""
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    rank = ranked.size + 1 - _left_out(ranked.size, miss)
    return float(ranked[rank - 1]) if rank <= ranked.size else math.inf


def coverage_range(n: float, miss: float, level: float = 0.9) -> Interval:
    """Where the covered share lies, in ``level`` of all calibration sets of ``n`` images that promise 1 - ``miss``.

    Beta(n + 1 - l, l), l = floor((n + 1) miss): Vovk (2012), "Conditional validity of inductive conformal predictors".
    Raises `BadRequest`.
    """
    _check_miss(miss)
    left_out = _left_out(n, miss)
    if left_out == 0:
        return Interval(1.0, 1.0, level)
    tail = (1 - level) / 2
    low, high = (float(special.betaincinv(n + 1 - left_out, left_out, q)) for q in (tail, 1 - tail))
    return Interval(low, high, level)


def least_per_class(miss: float) -> int:
    """Calibration images that a class needs for a threshold of its own: 9 at 10 %, 19 at 5 %. Raises `BadRequest`."""
    _check_miss(miss)
    return math.ceil(1 / miss - 1 - _EPSILON)


def calibrate(
    probabilities: ArrayLike,
    labels: ArrayLike,
    miss: float = 0.1,
    kind: Kind = "lac",
    groups: ArrayLike | None = None,
    *,
    is_out_of_fold: bool = False,
    seed: int = 0,
) -> Conformal:
    """One threshold for all classes.

    probabilities: (n, K) of calibration images that the model was not fitted on; labels: (n,) int. groups: (n,); they
    do not move the threshold but widen the range of what is covered. is_out_of_fold: the probabilities come from models
    of folds, and the one to be used was refitted on everything. Raises `BadData`, `BadRequest`.
    """
    _check_miss(miss)
    chance = checked_probabilities(probabilities)
    _, truth = checked_logits(chance, labels)
    own = _own_scores(chance, truth, kind, seed)  # (n,)
    cut = quantile(own, miss)
    return Conformal(
        kind=kind,
        miss=miss,
        thresholds=np.full(chance.shape[1], cut),
        guarantee="none" if is_out_of_fold else "split",
        floor=0.0 if is_out_of_fold else 1 - miss,
        coverage=_range(own, cut, miss, groups),
        n=truth.size,
        is_by_class=False,
        fallbacks=(),
        seed=seed,
    )


def calibrate_by_class(
    probabilities: ArrayLike,
    labels: ArrayLike,
    miss: float = 0.1,
    kind: Kind = "lac",
    groups: ArrayLike | None = None,
    *,
    is_out_of_fold: bool = False,
    seed: int = 0,
) -> Conformal:
    """A threshold per class (Mondrian), which keeps the promise within each one that has images enough.

    A class with fewer than `least_per_class` images gets the common threshold and stands in ``fallbacks``. ``coverage``
    is the range of the smallest class that has its own; where none has, that of the common threshold. Otherwise as
    `calibrate`.
    """
    found = calibrate(probabilities, labels, miss, kind, groups, is_out_of_fold=is_out_of_fold, seed=seed)
    chance = checked_probabilities(probabilities)
    _, truth = checked_logits(chance, labels)
    own, group = _own_scores(chance, truth, kind, seed), group_numbers(groups, truth.size)
    count = np.bincount(truth, minlength=chance.shape[1])  # (K,)
    cuts, ranges = found.thresholds.copy(), []
    for k in np.flatnonzero(count >= least_per_class(miss)):
        rows = truth == k
        cuts[k] = quantile(own[rows], miss)
        ranges.append(_range(own[rows], float(cuts[k]), miss, group[rows]))
    return Conformal(
        kind=kind,
        miss=miss,
        thresholds=cuts,
        guarantee=found.guarantee,
        floor=found.floor,
        coverage=min(ranges, key=lambda one: one.low, default=found.coverage),
        n=truth.size,
        is_by_class=True,
        fallbacks=tuple(int(k) for k in np.flatnonzero(count < least_per_class(miss))),
        seed=seed,
    )


def cross_conformal(
    test: ArrayLike,
    held: ArrayLike,
    labels: ArrayLike,
    fold: ArrayLike,
    miss: float = 0.1,
    *,
    kind: Kind = "lac",
) -> CrossConformal:
    """Sets without spending labels on calibration: every labelled image calibrates the model of the folds without it.

    test: (F, m, K) probabilities of the test images by the model of each fold. held: (n, K) out of fold, image i by the
    model of its ``fold`` (n,), 0..F-1. The set holds the labels that at least a share ``miss`` of the labelled images
    would not be ashamed of. Vovk (2015), "Cross-conformal predictors"; the promise is weaker, 1 - 2 miss and a little
    less (Barber et al. 2021, "Predictive inference with the jackknife+"), though about 1 - miss is usual. APS and RAPS
    are taken without their random part. Raises `BadData`, `BadRequest`.
    """
    _check_miss(miss)
    chance = checked_probabilities(held)
    _, truth = checked_logits(chance, labels)
    of_fold, tested = np.asarray(fold), np.asarray(test, dtype=np.float64)
    if tested.ndim != 3 or tested.shape[2] != chance.shape[1] or of_fold.shape != truth.shape:
        raise BadData(
            f"test has shape {tested.shape}, fold {of_fold.shape}: want (F, m, {chance.shape[1]}), ({truth.size},)"
        )
    if of_fold.min() < 0 or of_fold.max() >= len(tested):
        raise BadData(f"folds from {of_fold.min()} to {of_fold.max()}: want 0 to {len(tested) - 1}, one model each")
    own, n = scores(chance, kind, None)[np.arange(truth.size), truth], truth.size  # (n,)
    worse = np.zeros(tested.shape[1:])  # (m, K) labelled images that fit less
    for k, probabilities in enumerate(tested):
        ranked = np.sort(own[of_fold == k])
        new = scores(checked_probabilities(probabilities), kind, None)  # (m, K)
        worse += ranked.size - np.searchsorted(ranked, new, side="left")
    folds = len(tested)
    floor = 1 - 2 * miss - 2 * (1 - miss) * (1 - 1 / folds) / (n / folds + 1)
    return CrossConformal(np.asarray((worse + 1) / (n + 1) > miss), miss, "cross", max(floor, 0.0))


def report(sets: ArrayLike, probabilities: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None) -> SetReport:
    """What ``sets`` (n, K) bool do on test images with ``labels`` (n,). Raises `BadData`."""
    chance = checked_probabilities(probabilities)
    _, truth = checked_logits(chance, labels)
    held, group = np.asarray(sets), group_numbers(groups, truth.size)
    if held.shape != chance.shape or held.dtype != np.bool_:
        raise BadData(f"sets have shape {held.shape}, type {held.dtype}: want {chance.shape} bool")
    covered, size = held[np.arange(truth.size), truth], held.sum(axis=1)  # (n,), (n,)
    single = size == 1
    return SetReport(
        covered=accuracy(covered, group),
        by_class=tuple(
            accuracy(covered[truth == k], group[truth == k]) if (truth == k).any() else None
            for k in range(chance.shape[1])
        ),
        mean_size=float(size.mean()),
        sizes=tuple((np.bincount(size, minlength=chance.shape[1] + 1) / size.size).tolist()),
        single=accuracy(single, group),
        single_accuracy=accuracy(covered[single], group[single]) if single.any() else None,
    )


def _own_scores(chance: Array, truth: NDArray[np.intp], kind: Kind, seed: int) -> Array:
    return np.asarray(scores(chance, kind, np.random.default_rng((seed, 0)))[np.arange(truth.size), truth])


def _range(own: Array, cut: float, miss: float, groups: ArrayLike | None) -> Interval:
    """`coverage_range` at the number of images that grouped ones are worth."""
    is_out = (own > cut).astype(np.float64)
    effective = own.size / likeness(is_out, is_out, groups).careful(0.9)
    if _left_out(own.size, miss) and effective < own.size:
        left_out = _left_out(own.size, miss) * effective / own.size
        tail = (0.05, 0.95)
        low, high = (float(special.betaincinv(max(effective + 1 - left_out, 1e-9), left_out, q)) for q in tail)
        return Interval(low, high, 0.9)
    return coverage_range(own.size, miss)


def _left_out(n: float, miss: float) -> int:
    return math.floor((n + 1) * miss + _EPSILON)


def _check_miss(miss: float) -> None:
    if not 0 < miss < 1:
        raise BadRequest(f"sets that miss a share of {miss}: want a number between 0 and 1, 0.1 for 90 % coverage")
