"""Do probabilities mean what they say? One temperature, and the figures that tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from anmok.errors import BadData, BadRequest
from anmok.evidence.costs import checked_probabilities
from anmok.evidence.intervals import Interval, group_numbers, likeness
from anmok.evidence.resampling import resampled_sums
from anmok.evidence.splits import folds

Array = NDArray[np.float64]

LEAST_IMAGES = 30  # below, a temperature says more about the images than about the model
COLDEST, HOTTEST = 0.05, 20.0
BINS = 15
_RESAMPLES = 2_000
_BY_CHANCE = 500
_LEAST_CHANCE = 1e-12
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Bin:
    """Images of like confidence: how many, what they claim on average, what they keep."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How far probabilities can be believed.

    nll: mean -log of the chance given to the truth (nats). brier: mean squared distance from the truth, over all
    classes, 0 to 2. ece: mean distance between confidence and accuracy over bins of equally many images, with its
    interval. ece_by_chance: what a perfectly calibrated model with the same confidences would show on as many images,
    mean and 95th percentile; an ``ece`` below the latter is no sign of anything. overconfidence: mean confidence minus
    accuracy.
    """

    nll: float
    brier: float
    ece: float
    ece_interval: Interval
    ece_by_chance: tuple[float, float]
    overconfidence: float
    bins: tuple[Bin, ...]
    n: int

    @property
    def is_shown_wrong(self) -> bool:
        """The distance is more than chance explains in 95 of 100 cases."""
        return self.ece > self.ece_by_chance[1]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The temperature of one artefact: logits are divided by it. ``after`` is cross-fitted: no image is judged at a
    temperature that it helped to find. is_fitted: false below 30 images, where the temperature stays 1.
    """

    temperature: float
    is_fitted: bool
    before: Reliability
    after: Reliability


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Array:
    """(n, K) probabilities of (n, K) logits. Raises `BadRequest` unless the temperature is above 0."""
    if not temperature > 0:
        raise BadRequest(f"a temperature of {temperature}: want a number above 0")
    return np.asarray(special.softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature in [0.05, 20] with the least negative log-likelihood; 1.0 below 30 images.

    logits: (n, K) of images that the model was not fitted on (out of fold); labels: (n,) int. Guo et al. (2017), "On
    calibration of modern neural networks". The likelihood is convex in 1 / T, so there is one optimum. Raises
    `BadData`.
    """
    rows, truth = checked_logits(logits, labels)
    if truth.size < LEAST_IMAGES:
        return 1.0
    above = rows - rows[np.arange(truth.size), truth][:, None]  # (n, K) over the true class

    def loss(log_temperature: float) -> float:
        return float(special.logsumexp(above * np.exp(-log_temperature), axis=1).mean())

    ends = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    found = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    best = min((float(found.x), *ends), key=loss)  # the bounded search stops short of the ends
    return float(np.exp(best))


def refit(logits: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0) -> Calibration:
    """What to do whenever an artefact changed (trained on, quantised, cut to other labels): the temperature anew.

    logits: (n, K) out of fold, at temperature 1. groups: (n,), kept together where the temperature is cross-fitted and
    where the interval is drawn. Raises `BadData`.
    """
    rows, truth = checked_logits(logits, labels)
    before = reliability(softmax(rows), truth, groups, seed=seed)
    if truth.size < LEAST_IMAGES:
        return Calibration(1.0, False, before, before)
    group = group_numbers(groups, truth.size)
    chance, fold = softmax(rows), np.zeros(truth.size, dtype=np.intp)
    if group.max() >= 1:
        fold = folds(truth, group, min(_FOLDS, int(group.max()) + 1), seed)
    for k in np.unique(fold):
        others = np.flatnonzero(fold != k)
        held = fold == k
        chance[held] = softmax(rows[held], temperature(rows[others], truth[others]) if others.size else 1.0)
    return Calibration(temperature(rows, truth), True, before, reliability(chance, truth, groups, seed=seed))


def reliability(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bins: int = BINS,
    seed: int = 0,
) -> Reliability:
    """`Reliability` of ``probabilities`` (n, K) against ``labels`` (n,) int.

    Noise only ever adds to a sum of distances. The interval of the ECE comes from a bootstrap of groups (n,): above its
    percentile, below the same one reflected, and down to what is left when all that chance may add is taken away. It is
    wide rather than wrong. Raises `BadData`, `BadRequest` for fewer than one bin.
    """
    chance = checked_probabilities(probabilities)
    _, truth = checked_logits(chance, labels)
    if bins < 1:
        raise BadRequest(f"{bins} bins: want at least 1")
    n = truth.size
    confidence, correct = chance.max(axis=1), (chance.argmax(axis=1) == truth).astype(np.float64)  # (n,), (n,)
    code = _equal_mass(confidence, bins)  # (n,)
    gaps = np.bincount(code, weights=correct - confidence)  # (M,)
    ece = float(np.abs(gaps).sum() / n)
    rng, group = np.random.default_rng(seed), group_numbers(groups, n)
    drawn = _drawn_ece(code, correct - confidence, group, rng)  # (B,)
    low, high = 2 * ece - float(np.quantile(drawn, 0.975)), float(np.quantile(drawn, 0.975))
    effect = likeness(correct - confidence, np.abs(correct - confidence), group).careful(0.95)
    chance_alone = _by_chance(code, confidence, rng) * effect**0.5  # (B,)
    most = float(np.quantile(chance_alone, 0.975))
    true_chance = np.maximum(chance[np.arange(n), truth], _LEAST_CHANCE)
    return Reliability(
        nll=float(-np.log(true_chance).mean()),
        brier=float((chance**2).sum(axis=1).mean() + 1 - 2 * chance[np.arange(n), truth].mean()),
        ece=ece,
        ece_interval=Interval(float(max(min(low, ece - most), 0.0)), float(min(max(high, ece), 1.0))),
        ece_by_chance=(float(chance_alone.mean()), float(np.quantile(chance_alone, 0.95))),
        overconfidence=float(confidence.mean() - correct.mean()),
        bins=_table(code, confidence, correct),
        n=n,
    )


def checked_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """(n, K) float64 and (n,) class numbers. Raises `BadData`."""
    rows, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or rows.size == 0 or not np.isfinite(rows).all():
        raise BadData(f"logits of shape {rows.shape}: want (n, K) finite numbers, n > 0")
    if truth.shape != rows.shape[:1] or truth.dtype.kind not in "iu":
        raise BadData(
            f"labels of shape {truth.shape}, type {truth.dtype}: want one class number for each of {len(rows)}"
        )
    if truth.min() < 0 or truth.max() >= rows.shape[1]:
        raise BadData(f"labels from {truth.min()} to {truth.max()}: want 0 to {rows.shape[1] - 1}")
    return rows, truth.astype(np.intp)


def _equal_mass(confidence: Array, bins: int) -> NDArray[np.intp]:
    """(n,) bin of each image; equal confidences share one, so that no order of the images plays a part."""
    edges = np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.unique(np.searchsorted(np.unique(edges), confidence, side="left"), return_inverse=True)[1]


def _drawn_ece(code: NDArray[np.intp], gap: Array, group: NDArray[np.intp], rng: np.random.Generator) -> Array:
    """(B,) ECE of resampled groups, the bins kept."""
    count, groups = int(code.max()) + 1, int(group.max()) + 1
    cells = np.bincount(group * count + code, weights=gap, minlength=groups * count).reshape(groups, count)  # (G, M)
    sizes = np.bincount(group).astype(np.float64)[:, None]  # (G, 1)
    sums = resampled_sums(np.hstack([cells, sizes]).astype(np.float32), _RESAMPLES, rng)  # (B, M + 1)
    return np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / np.maximum(sums[:, -1], 1), dtype=np.float64)


def _by_chance(code: NDArray[np.intp], confidence: Array, rng: np.random.Generator) -> Array:
    """(B,) ECE where every image is right with the chance that is claimed for it, each on its own."""
    count, n = int(code.max()) + 1, code.size
    drawn = np.empty(_BY_CHANCE)
    for i in range(drawn.size):
        right = rng.random(n) < confidence
        drawn[i] = np.abs(np.bincount(code, weights=right - confidence, minlength=count)).sum() / n
    return drawn


def _table(code: NDArray[np.intp], confidence: Array, correct: Array) -> tuple[Bin, ...]:
    found = []
    for k in range(int(code.max()) + 1):
        own, right = confidence[code == k], correct[code == k]
        found.append(Bin(float(own.min()), float(own.max()), own.size, float(own.mean()), float(right.mean())))
    return tuple(found)
