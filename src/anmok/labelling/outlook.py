"""What the next labels would buy: a narrower interval, and a better head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import Estimate
from anmok.evidence.power import interval_for
from anmok.evidence.splits import folds
from anmok.labelling.streams import EVERY
from anmok.labelling.teaching import fitted

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

NEXT: Final = 50
LEAST: Final = 30  # teaching labels below which a curve is noise
RAREST: Final = 5  # of them in the rarest class that has any
_FOLDS, _REPEATS = 5, 2
_SHARES = (0.25, 0.5, 1.0)
_STEEPEST = 1.0  # errors that fall faster than 1 / labels are luck
_RESAMPLES = 500

Why = Literal["", "few_labels", "one_class", "no_head"]


@dataclass(frozen=True, slots=True)
class Curve:
    """How the head grows with teaching labels: a development estimate, cross-validated on the teaching images.

    These are harder than the folder's, being chosen for it, so only the slope is used. ``sizes`` and ``errors`` are
    numbers of labels and shares of wrong answers; ``gain`` is what ``NEXT`` labels in all would add to the accuracy,
    ``low`` to ``high`` its spread (90 %, of the images), all as shares. ``why`` is empty, or says why nothing can
    be told.
    """

    why: Why
    sizes: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()
    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What ``labels`` more would buy, one third of them measuring, or fewer where the folder comes to its end: the
    interval's half-width now and then, as shares (None while nothing is measured), and the curve of the head."""

    labels: int
    half_width_now: float | None
    half_width_then: float | None
    curve: Curve


def outlook(measured: Estimate | None, curve: Curve, teach_left: int, measure_left: int) -> Outlook:
    """From what is measured now, and the images of each stream that nobody has answered."""
    labels = min(NEXT, teach_left + measure_left)
    if measured is None:
        return Outlook(labels, None, None, curve)
    more = min(NEXT / EVERY, measure_left)
    then = interval_for(measured.effective_n * (1 + more / measured.n), measured.value).half_width
    return Outlook(labels, measured.interval.half_width, then, curve)


def curve_of(features: Array, labels: Labels, classes: int, seed: int) -> Curve:
    """The curve from the teaching images: features (n, F), labels (n,)."""
    counts = np.bincount(labels, minlength=classes)
    if np.count_nonzero(counts) < 2:
        return Curve("one_class")
    if len(labels) < LEAST or counts[counts > 0].min() < RAREST:
        return Curve("few_labels")
    rng = np.random.default_rng(seed)
    wrong = np.zeros((len(labels), len(_SHARES)))  # (n, 3), each a mean over repeats
    for repeat in range(_REPEATS):
        fold = folds(labels, None, _FOLDS, seed + repeat)
        for k in range(_FOLDS):
            train, held = rng.permutation(np.flatnonzero(fold != k)), np.flatnonzero(fold == k)
            for column, share in enumerate(_SHARES):
                rows = train[: max(2, round(share * len(train)))]
                wrong[held, column] += _wrong(features, labels, classes, rows, held) / _REPEATS
    sizes = np.array([round(share * len(labels) * (1 - 1 / _FOLDS)) for share in _SHARES])
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=_RESAMPLES)  # (B, n)
    more = NEXT * (1 - 1 / EVERY)
    gains = _gains(weights @ wrong / len(labels), sizes, len(labels), more)  # (B,)
    errors = wrong.mean(0)
    gain = float(_gains(errors[None], sizes, len(labels), more)[0])
    low, high = np.quantile(gains, [0.05, 0.95])
    return Curve("", tuple(sizes.tolist()), tuple(errors.tolist()), gain, float(min(low, gain)), float(max(high, gain)))


def _wrong(features: Array, labels: Labels, classes: int, rows: Labels, held: Labels) -> NDArray[np.float64]:
    head = fitted(features[rows], labels[rows], classes)
    guess = np.full(len(held), labels[rows][0]) if head is None else head.logits(features[held]).argmax(1)
    return np.asarray(guess != labels[held], np.float64)


def _gains(errors: NDArray[np.float64], sizes: Labels, n: int, more: float) -> NDArray[np.float64]:
    """(B, 3) errors at ``sizes`` to gains (B,): a power law through them, carried on from n to n + more labels."""
    smooth = np.log(errors + 0.5 / n)  # (B, 3): an error of 0 is never quite 0
    x = np.log(sizes) - np.log(sizes).mean()
    slope = np.clip(-(smooth @ x) / (x @ x), 0.0, _STEEPEST)  # (B,)
    return np.asarray(errors[:, -1] * (1 - (1 + more / n) ** -slope), np.float64)
