"""At most so many false alarms: the threshold, what it misses, and how many defects it takes to claim anything.

"Overkill" is the share of good parts that are called defective. Its promise can be meant in two ways, and they are
kept apart: *on average* over all development sets that might have been drawn, or *with 95 % confidence* for the one
that was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from anmok.errors import BadData, BadRequest
from anmok.evidence.compare import Contrast, paired
from anmok.evidence.exact import exact_upper, images_to_claim, least_images
from anmok.evidence.intervals import Estimate, accuracy, group_numbers, likeness

Array = NDArray[np.float64]
Promise = Literal["on average", "with confidence", "none"]
Reason = Literal["shown", "too few defects", "too many missed", "not enough to tell"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """An image is an alarm where its score is *above* ``value``.

    at_most: the overkill asked for. promise: what holds of it; "none" where there are too few good images, and
    ``value`` is then the highest score seen. reachable: the overkill that is promised in the same sense. allowed: good
    development images above. needed: good images, independent ones, from which on the promise can be made.
    """

    value: float
    at_most: float
    promise: Promise
    reachable: float
    allowed: int
    n_good: int
    effective_n: float
    needed: int


@dataclass(frozen=True, slots=True)
class Overkill:
    """What a threshold does on test images: shares of defects missed and of good images alarmed."""

    threshold: float
    missed: Estimate
    overkill: Estimate
    n_missed: int
    n_alarmed: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether "the miss rate is below ``below``" may be said, and what it would take.

    upper: exact one-sided bound of the miss rate. smallest: the lowest bound that so many defects could ever show, with
    none missed. least_defects: how many it takes with none missed. needed_defects: how many it takes, four times in
    five, were the miss rate what it looks like; None where that is not below, or too near. least_photos,
    needed_photos: the same in photos, at the share of defects found. Defects are counted as independent ones in
    ``effective_defects``; the numbers needed are multiplied by how many that takes.
    """

    is_shown: bool
    reason: Reason
    below: float
    defects: int
    effective_defects: float
    missed: int
    photos: int
    upper: float
    smallest: float
    least_defects: int
    needed_defects: int | None
    least_photos: int
    needed_photos: int | None


def threshold(
    scores: ArrayLike,
    is_defect: ArrayLike,
    at_most: float,
    confidence: float | None = None,
    groups: ArrayLike | None = None,
) -> Threshold:
    """The lowest threshold that promises an overkill of at most ``at_most``.

    scores: (n,) higher = more like a defect, of development images, out of fold: a model's scores of images that it was
    fitted on promise nothing. Only the good images are used. confidence: None promises it on average (the quantile of
    split conformal prediction); 0.95 promises that in 95 of 100 development sets the overkill to come is below (Wilks
    1941, "Determination of sample sizes for setting tolerance limits"), with images of one group (n,) counted for what
    they are worth. The promise is for the models of the folds; one refitted on everything is like them, no more. Raises
    `BadData`, `BadRequest`.
    """
    value, defect = _checked(scores, is_defect)
    if not 0 < at_most < 1 or (confidence is not None and not 0 < confidence < 1):
        raise BadRequest(
            f"at most {at_most} overkill, confidence {confidence}: want shares between 0 and 1, 0.01 for 1 %"
        )
    good = ~defect
    if not good.any():
        raise BadData("no good development image: an overkill cannot be promised without one")
    group = group_numbers(groups, value.size)[good]
    order = np.argsort(-value[good], kind="stable")
    good_scores, group = value[good][order], np.unique(group[order], return_inverse=True)[1]  # (m,) highest first
    if confidence is None:
        return _on_average(good_scores, at_most)
    return _with_confidence(good_scores, group, at_most, confidence)


def measure(scores: ArrayLike, is_defect: ArrayLike, threshold: float, groups: ArrayLike | None = None) -> Overkill:
    """Misses and false alarms of ``threshold`` on test images, with Wilson's intervals at effective sizes.

    scores: (n,) float. is_defect: (n,) bool. groups: (n,). Raises `BadData` where either kind is missing.
    """
    value, defect = _checked(scores, is_defect)
    if defect.all() or not defect.any():
        raise BadData(f"{int(defect.sum())} defects among {defect.size} test images: want some of both kinds")
    is_alarm, group = value > threshold, group_numbers(groups, value.size)
    missed, alarmed = ~is_alarm[defect], is_alarm[~defect]
    return Overkill(
        threshold=threshold,
        missed=accuracy(missed, group[defect]),
        overkill=accuracy(alarmed, group[~defect]),
        n_missed=int(missed.sum()),
        n_alarmed=int(alarmed.sum()),
    )


def compare(is_missed: tuple[ArrayLike, ArrayLike], groups: ArrayLike | None = None, *, seed: int) -> Contrast:
    """Which of two detectors misses less at its own threshold; a gain above 0 is in favour of B.

    is_missed: of A and of B, (d,) or (S, d) bool over the same defects; groups: (d,). Raises `BadData`.
    """
    found_a, found_b = (1.0 - np.asarray(missed, dtype=np.float64) for missed in is_missed)
    return paired(found_a, found_b, groups, seed=seed)


def claimable(
    is_missed: ArrayLike,
    photos: int,
    below: float = 0.05,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Claim:
    """May it be said that less than a share ``below`` of the defects is missed?

    is_missed: (d,) bool, one per defect that was tested. photos: all test photos, good ones too; they tell how rare
    defects are, and nothing of the miss rate. groups: (d,). The bound is Clopper and Pearson's (1934). Raises
    `BadData`, `BadRequest`.
    """
    missed = np.asarray(is_missed)
    if missed.ndim != 1 or missed.dtype != np.bool_ or not 0 < missed.size <= photos:
        raise BadData(f"is_missed has shape {missed.shape} and type {missed.dtype} for {photos} photos: want (d,) bool")
    defects, seen = missed.size, int(missed.sum())
    effect = _effect(missed, group_numbers(groups, defects))
    effective = defects / effect
    upper = exact_upper(seen / effect, effective, confidence)
    smallest = exact_upper(0, effective, confidence)
    least = math.ceil(least_images(0, below, confidence) * effect)
    needed = images_to_claim(seen / defects, below, confidence=confidence)
    needed = None if needed is None else math.ceil(needed * effect)
    rarity = photos / defects
    return Claim(
        is_shown=upper < below,
        reason=_reason(upper, smallest, seen / defects, below),
        below=below,
        defects=defects,
        effective_defects=effective,
        missed=seen,
        photos=photos,
        upper=upper,
        smallest=smallest,
        least_defects=least,
        needed_defects=needed,
        least_photos=math.ceil(least * rarity),
        needed_photos=None if needed is None else math.ceil(needed * rarity),
    )


def _reason(upper: float, smallest: float, share: float, below: float) -> Reason:
    if upper < below:
        return "shown"
    if smallest >= below:
        return "too few defects"
    return "too many missed" if share >= below else "not enough to tell"


def _on_average(good: Array, at_most: float) -> Threshold:
    """The k-th highest of m exchangeable scores is exceeded with probability k / (m + 1) at most."""
    m = good.size
    rank = math.floor((m + 1) * at_most + 1e-9)
    return Threshold(
        value=float(good[max(rank, 1) - 1]),
        at_most=at_most,
        promise="on average" if rank else "none",
        reachable=max(rank, 1) / (m + 1),
        allowed=max(rank, 1) - 1,
        n_good=m,
        effective_n=float(m),
        needed=math.ceil(1 / at_most - 1 - 1e-9),
    )


def _with_confidence(good: Array, group: NDArray[np.intp], at_most: float, confidence: float) -> Threshold:
    """The most good images above the threshold for which the exact bound still lies below ``at_most``."""
    m = good.size

    usual = _effect(np.arange(m) < round(m * at_most), group)  # at one threshold alone likeness is not well known

    def bound(allowed: int) -> tuple[float, float]:
        effect = max(_effect(np.arange(m) < allowed, group), usual)
        return exact_upper(allowed / effect, m / effect, confidence), m / effect

    # the design effect changes with the threshold, so the bound does not only rise: a step down where it jumps
    allowed = _largest_allowed(m, at_most, confidence)
    while allowed > 0 and bound(allowed)[0] > at_most:
        allowed = allowed - 1 if allowed < 64 else int(allowed * 0.98)
    reachable, effective = bound(allowed)
    return Threshold(
        value=float(good[allowed]),
        at_most=at_most,
        promise="with confidence" if reachable <= at_most else "none",
        reachable=reachable,
        allowed=allowed,
        n_good=m,
        effective_n=effective,
        needed=least_images(0, at_most, confidence),
    )


def _largest_allowed(m: int, at_most: float, confidence: float) -> int:
    """Of ``m`` independent images."""
    allowed = np.arange(min(int(m * at_most) + 1, m))
    is_fine = special.betainc(allowed + 1, m - allowed, at_most) >= confidence
    return max(int(is_fine.sum()) - 1, 0)


def _effect(is_event: NDArray[np.bool_], group: NDArray[np.intp]) -> float:
    values = is_event.astype(np.float64)
    events = 1 - values if values.mean() > 0.5 else values
    return max(likeness(values, events, group).careful(0.95), 1.0)


def _checked(scores: ArrayLike, is_defect: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    value, defect = np.asarray(scores, dtype=np.float64), np.asarray(is_defect)
    if value.ndim != 1 or value.size == 0 or value.shape != defect.shape or defect.dtype != np.bool_:
        raise BadData(
            f"scores have shape {value.shape}, is_defect {defect.shape} {defect.dtype}: want (n,) and (n,) bool"
        )
    if not np.isfinite(value).all():
        raise BadData(f"score {np.flatnonzero(~np.isfinite(value))[0]} is not a finite number")
    return value, defect
