"""Answer only what one is sure of: how risk falls with coverage, and a threshold that keeps a promise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.exact import exact_upper, least_images
from anmok.evidence.intervals import Estimate, accuracy, group_numbers, likeness

Array = NDArray[np.float64]

_STEPS = 20  # coverages that are tried: 5 %, 10 %, ... 100 %
_STARTS = 4  # from where to try downwards; each has a quarter of the doubt


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """confidence: (m,) distinct values, the highest first; coverage, risk: (m,) share answered where the confidence is
    at least that, and share of errors among them. aurc: area under the curve, mean risk over all coverages; best_aurc:
    that of an order which has all errors last; random_aurc: that of no order.
    """

    confidence: Array
    coverage: Array
    risk: Array
    aurc: float
    best_aurc: float
    random_aurc: float


@dataclass(frozen=True, slots=True)
class Abstention:
    """Answer where the confidence is at least ``threshold``; infinite (never) where nothing could be promised.

    at_most: errors among the answered. bound: exact upper bound of these at the threshold, at the confidence that it
    was tried with. coverage: share answered in the development set. errors: seen among the answered. needed:
    independent answered images from which on the promise can be made, none of them wrong.
    """

    threshold: float
    at_most: float
    confidence: float
    bound: float
    coverage: float
    answered: int
    errors: int
    needed: int

    @property
    def is_promised(self) -> bool:
        """Some images are answered with the promise."""
        return bool(np.isfinite(self.threshold))


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """On test images: share answered, share of errors among them (None where nothing is answered)."""

    coverage: Estimate
    error: Estimate | None


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """The curve of ``confidence`` (n,), higher = surer, and ``correct`` (n,) bool.

    Geifman & El-Yaniv (2017), "Selective classification for deep neural networks". Images of one confidence are
    answered together, each share of them at their common risk. Raises `BadData`.
    """
    sure, right = _checked(confidence, correct)
    values, code = np.unique(-sure, return_inverse=True)  # (m,) highest confidence first, (n,)
    count, wrong = np.bincount(code), np.bincount(code, weights=~right)  # (m,), (m,)
    answered, errors = np.cumsum(count), np.cumsum(wrong)  # (m,), (m,)
    n, total = sure.size, float(errors[-1])
    before = np.repeat(errors - wrong, count)  # (n,) errors of the surer ones
    within = np.concatenate([np.arange(1, c + 1) for c in count]) * np.repeat(wrong / count, count)  # (n,)
    places = np.arange(1, n + 1)
    best = np.maximum(places - (n - total), 0) / places  # (n,)
    return RiskCoverage(
        confidence=-values,
        coverage=answered / n,
        risk=errors / answered,
        aurc=float(((before + within) / places).mean()),
        best_aurc=float(best.mean()),
        random_aurc=total / n,
    )


def threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    at_most: float,
    groups: ArrayLike | None = None,
    *,
    certainty: float = 0.95,
) -> Abstention:
    """The threshold with the most answers that, in 95 of 100 development sets, has at most ``at_most`` errors in them.

    confidence: (n,), correct: (n,) bool, out of fold. Thresholds are tried from few answers to many and only as long as
    the exact bound of Clopper and Pearson stays below, so that trying many costs little: fixed-sequence testing after
    Angelopoulos et al. (2021), "Learn then test", from four starts that share the doubt. groups: (n,) count for what
    they are worth. Raises `BadData`, `BadRequest`.
    """
    sure, right = _checked(confidence, correct)
    if not (0 < at_most < 1 and 0 < certainty < 1):
        raise BadRequest(
            f"at most {at_most} errors at certainty {certainty}: want shares between 0 and 1, 0.01 for 1 %"
        )
    group, level = group_numbers(groups, sure.size), 1 - (1 - certainty) / _STARTS
    needed = least_images(0, at_most, level)
    cuts = np.unique(np.quantile(sure, 1 - np.arange(1, _STEPS + 1) / _STEPS, method="lower"))[::-1]  # highest first
    steps = [(float(cut), _bound(sure >= cut, right, group, level)) for cut in cuts if (sure >= cut).sum() >= needed]
    best: tuple[float, float] | None = None
    # the starts depend on how many are answered alone, never on which answers are right
    for start in sorted({round(i * len(steps) / _STARTS) for i in range(_STARTS)}):
        for cut, bound in steps[start:]:
            if bound > at_most:
                break
            best = (cut, bound) if best is None or cut < best[0] else best
    if best is None:
        return Abstention(np.inf, at_most, certainty, 1.0, 0.0, 0, 0, needed)
    is_answered = sure >= best[0]
    return Abstention(
        threshold=best[0],
        at_most=at_most,
        confidence=certainty,
        bound=best[1],
        coverage=float(is_answered.mean()),
        answered=int(is_answered.sum()),
        errors=int((~right[is_answered]).sum()),
        needed=needed,
    )


def measure(confidence: ArrayLike, correct: ArrayLike, threshold: float, groups: ArrayLike | None = None) -> Answered:
    """What ``threshold`` does on test images, with intervals. Raises `BadData`."""
    sure, right = _checked(confidence, correct)
    is_answered, group = sure >= threshold, group_numbers(groups, sure.size)
    error = accuracy(~right[is_answered], group[is_answered]) if is_answered.any() else None
    return Answered(accuracy(is_answered, group), error)


def _bound(is_answered: NDArray[np.bool_], right: NDArray[np.bool_], group: NDArray[np.intp], level: float) -> float:
    wrong = (~right[is_answered]).astype(np.float64)
    effect = max(likeness(wrong, wrong, group[is_answered]).careful(0.95), 1.0)
    return exact_upper(float(wrong.sum()) / effect, wrong.size / effect, level)


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if sure.ndim != 1 or sure.size == 0 or sure.shape != right.shape or right.dtype != np.bool_:
        raise BadData(
            f"confidence has shape {sure.shape}, correct {right.shape} {right.dtype}: want (n,) and (n,) bool"
        )
    if not np.isfinite(sure).all():
        raise BadData(f"confidence {np.flatnonzero(~np.isfinite(sure))[0]} is not a finite number")
    return sure, right
