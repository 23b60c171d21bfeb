"""What errors cost: not every mistake is as dear, and not every kind is as common as in the test.

A matrix says what each answer to each kind of image costs. Predictions then have an expected cost per image,
probabilities have the answer that is cheapest to give, and two models are compared by what they cost on the
same images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.compare import Contrast, trial
from anmok.evidence.intervals import (
    Estimate,
    Interval,
    accuracy,
    group_numbers,
    likeness,
    strata_of_groups,
    t_quantile,
    two_way,
    z_quantile,
)
from anmok.evidence.mix import Mix, mix_of, shares
from anmok.evidence.resampling import resampled_sums
from anmok.evidence.verdict import Candidate, Recommendation, Verdict, judge, recommend

Array = NDArray[np.float64]

_TIE = 1e-9  # of the largest cost: answers as cheap as that are equally cheap


@dataclass(frozen=True, slots=True, eq=False)
class ClassCost:
    """One true class: its share of what will come, what an image of it costs, on ``cost.n`` test images."""

    share: float
    cost: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedCost:
    """Cost per image where the model will work. by_class: what it is made of, None without images of a class.

    constant: the answer that is cheapest to give without looking; constant_cost: what that costs.
    """

    cost: Estimate
    by_class: tuple[ClassCost | None, ...]
    constant: int
    constant_cost: float


@dataclass(frozen=True, slots=True)
class Saving:
    """What B costs less than A per image, in the unit of the costs, and the word for it.

    saved: above 0 where B is cheaper. interval90: for "same". images_needed: see `Verdict`. contrast: the same in
    units of the largest difference that an answer can make (``span``).
    """

    saved: float
    interval: Interval
    interval90: Interval
    verdict: Verdict
    margin: float
    span: float


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What answers cost.

    matrix: (K, K) float, row = what the image shows, column = what the model says; the right answer must be the
    cheapest of its row. prevalence: (K,) share of each class where the model will work, in any unit; None takes the
    mix of the test images as it is. Raises `BadRequest`.
    """

    matrix: Array
    prevalence: Array | None = None

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2 or not np.isfinite(matrix).all():
            raise BadRequest(f"costs of shape {matrix.shape}: want (K, K) finite numbers, truth by answer, K >= 2")
        wrong = matrix + np.diag(np.full(len(matrix), np.inf))  # (K, K) but for right answers
        bad = np.flatnonzero(wrong.min(axis=1) <= np.diag(matrix))
        if bad.size:
            raise BadRequest(
                f"a wrong answer to class {bad[0]} costs no more than the right one: rows are what the image shows, "
                "columns what the model says"
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)
        if self.prevalence is not None:
            object.__setattr__(self, "prevalence", shares(self.prevalence, len(matrix)))

    @property
    def span(self) -> float:
        """The largest difference that an answer to one image can make."""
        return float(np.ptp(self.matrix, axis=1).max())

    def mix(self, truth: ArrayLike) -> Mix:
        """How test images with classes ``truth`` (n,) stand for what will come. Raises `BadData`."""
        return mix_of(truth, self.prevalence, np.ptp(self.matrix, axis=1))

    def per_image(self, truth: ArrayLike, predicted: ArrayLike) -> Array:
        """(S, n) cost of the answers ``predicted`` (n,) or (S, n) to images ``truth`` (n,). Raises `BadData`."""
        real, answer = np.asarray(truth), np.atleast_2d(np.asarray(predicted))  # (n,), (S, n)
        if real.ndim != 1 or real.size == 0 or answer.ndim != 2 or answer.shape[1] != real.size:
            raise BadData(f"truth has shape {real.shape}, predicted {answer.shape}: want (n,), and (n,) or (S, n)")
        for name, numbers in (("truth", real), ("predicted", answer)):
            if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= len(self.matrix):
                raise BadData(f"{name}: want class numbers from 0 to {len(self.matrix) - 1}, as the costs have them")
        return np.asarray(self.matrix[real, answer])

    def worth(self, truth: ArrayLike, predicted: ArrayLike) -> Array:
        """(S, n) in [0, 1]: 1 for the right answer, less by what another costs more than it, over ``span``."""
        cost = self.per_image(truth, predicted)
        return np.asarray(1 - (cost - np.diag(self.matrix)[np.asarray(truth)]) / self.span)

    def decide(self, probabilities: ArrayLike, learned: ArrayLike | None = None) -> NDArray[np.intp]:
        """(n,) cheapest answers by expectation, from calibrated ``probabilities`` (n, K); ties to the likelier class.

        learned: (K,) prevalence that the model learned from, where it is another one than ``prevalence``; the
        probabilities are moved from one to the other by Bayes' rule. Elkan (2001), "The foundations of
        cost-sensitive learning". Raises `BadData`, `BadRequest`.
        """
        chance = checked_probabilities(probabilities)
        if chance.shape[1] != len(self.matrix):
            raise BadData(f"probabilities of {chance.shape[1]} classes, costs of {len(self.matrix)}: want the same")
        if learned is not None:
            if self.prevalence is None:
                raise BadRequest("a learned prevalence, but none to move to: give the costs a prevalence as well")
            before = shares(learned, len(self.matrix))
            if (before <= 0).any():
                raise BadRequest("a class that was not learned from: every class needs a learned prevalence above 0")
            chance = chance * (self.prevalence / before)  # (n, K)
            chance = chance / np.maximum(chance.sum(axis=1, keepdims=True), 1e-300)
        expected = chance @ self.matrix  # (n, K)
        is_cheapest = expected <= expected.min(axis=1, keepdims=True) + _TIE * self.span
        return np.asarray(np.where(is_cheapest, chance, -1.0).argmax(axis=1))

    def expected(
        self,
        truth: ArrayLike,
        predicted: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        seed: int = 0,
        resamples: int = 10_000,
    ) -> ExpectedCost:
        """Cost per image of ``predicted`` (n,) or (S, n), each class counted at its prevalence.

        The interval is a bootstrap of ``groups`` (n,) within the true classes; as a bootstrap is blind to what did
        not happen, it always holds the interval joined from Wilson's of each class (MOVER: Zou & Donner 2008,
        "Construction of confidence limits about effect measures"). Raises `BadData`.
        """
        mix, cost = self.mix(truth), self.per_image(truth, predicted)
        group = group_numbers(groups, mix.stratum.size)
        by_class = tuple(self._class_cost(k, mix, cost, group) for k in range(len(self.matrix)))
        linear = mix.linear(cost)  # (S, n)
        each, value = linear.mean(axis=0), float(linear.mean())  # (n,)
        excess = (cost - np.diag(self.matrix)[mix.stratum]).mean(axis=0) / self.span  # (n,)
        alike = likeness(each, excess * mix.weight / mix.amplitude.max(), group, mix)
        moved = _moved(each - value, mix, group, resamples, np.random.default_rng(seed))  # (B,)
        drawn = self._drawn(linear, mix, moved, alike.careful(0.95))
        joined = _joined(value, by_class)
        interval = Interval(min(drawn.low, joined.low), max(drawn.high, joined.high))
        always = mix.share @ self.matrix  # (K,)
        return ExpectedCost(
            Estimate(value, interval, mix.stratum.size, mix.stratum.size / alike.careful(0.95)),
            by_class,
            int(always.argmin()),
            float(always.min()),
        )

    def compare(
        self,
        truth: ArrayLike,
        predicted: tuple[ArrayLike, ArrayLike],
        groups: ArrayLike | None = None,
        *,
        margin: float,
        seed: int,
        resamples: int = 10_000,
    ) -> Saving:
        """What B saves over A per image: ``predicted`` = (A, B), each (n,) or (S, n), on the same images.

        margin: the smallest saving per image that matters, in the unit of the costs. The two-level bootstrap of
        `compare.trial`, each class counted at its prevalence. Raises `BadData`, `BadRequest`.
        """
        pair = [(name, self.worth(truth, answer)) for name, answer in zip("AB", predicted, strict=True)]
        tried = trial(pair, groups, seed=seed, resamples=resamples, mix=self.mix(truth))
        contrast = tried.contrasts([("A", "B")])[0]
        return self.saving(contrast, margin)

    def saving(self, contrast: Contrast, margin: float) -> Saving:
        """A contrast of `worth` in the unit of the costs. Raises `BadRequest` for a margin outside (0, span)."""
        verdict = judge(contrast, self._share(margin))
        return Saving(
            saved=contrast.gain * self.span,
            interval=_times(contrast.interval, self.span),
            interval90=_times(contrast.interval90, self.span),
            verdict=verdict,
            margin=margin,
            span=self.span,
        )

    def recommend(
        self,
        truth: ArrayLike,
        answers: Sequence[tuple[str, float, ArrayLike]],
        groups: ArrayLike | None = None,
        *,
        margin: float,
        seed: int,
    ) -> Recommendation:
        """`verdict.recommend` by what answers cost: the cheapest rung shown to waste at most ``margin`` per image.

        answers: name, what the rung itself costs (any unit, for the order alone), predictions (n,) or (S, n). The
        numbers of the recommendation are shares of ``span``; only its reason is in the unit of the costs. Raises
        `BadData`, `BadRequest`.
        """
        rungs = [Candidate(name, cost, self.worth(truth, answer)) for name, cost, answer in answers]
        found = recommend(rungs, groups, self._share(margin), seed=seed, mix=self.mix(truth))
        chosen = next(one for one in found.standings if one.name == found.name)
        most = chosen.worst_shortfall * self.span
        said = f"shown to cost at most {margin:g} more" if found.is_decided else "not shown, but the best guess,"
        return replace(found, reason=f"{found.name}: {said} per image than any other ({most:.3g} at most)")

    def _share(self, margin: float) -> float:
        if not 0 < margin < self.span:
            raise BadRequest(f"a margin of {margin:g} per image: want a cost between 0 and {self.span:g}")
        return margin / self.span

    def _class_cost(self, k: int, mix: Mix, cost: Array, group: NDArray[np.intp]) -> ClassCost | None:
        rows = np.flatnonzero(mix.stratum == k)
        if not rows.size:
            return None
        least, reach = float(self.matrix[k].min()), float(np.ptp(self.matrix[k]))
        found = accuracy((cost[:, rows] - least) / reach, group[rows])
        interval = Interval(least + reach * found.interval.low, least + reach * found.interval.high)
        return ClassCost(
            float(mix.share[k]), Estimate(least + reach * found.value, interval, found.n, found.effective_n)
        )

    def _drawn(self, linear: Array, mix: Mix, moved: Array, effect: float) -> Interval:
        """Percentiles over resampled groups, brought to the variance that few groups and draws ask for."""
        n, value = linear.shape[1], float(linear.mean())
        by_image, by_draw = two_way(linear).parts(0.95)
        heavy = float(mix.amplitude.sum() ** 2 / (mix.amplitude @ mix.amplitude))  # images that carry the weight
        stretch = t_quantile(0.95, max(heavy - 1, 1)) / z_quantile(0.95)
        wanted = math.sqrt(by_image * effect / n + by_draw) * stretch
        spread = float(moved.std())
        if spread <= 1e-12 * self.span:
            return Interval(value - z_quantile(0.95) * wanted, value + z_quantile(0.95) * wanted)
        low, high = value + np.quantile(moved, [0.025, 0.975]) * wanted / spread
        least, most = mix.share @ self.matrix.min(axis=1), mix.share @ self.matrix.max(axis=1)
        return Interval(float(max(low, least)), float(min(high, most)))


def checked_probabilities(probabilities: ArrayLike) -> Array:
    """(n, K) float64, rows that sum to 1 within 0.001. Raises `BadData`."""
    chance = np.asarray(probabilities, dtype=np.float64)
    if chance.ndim != 2 or chance.size == 0 or not np.isfinite(chance).all() or chance.min() < -1e-6:
        raise BadData(f"probabilities of shape {chance.shape}: want (n, K), none below 0, n > 0")
    if np.abs(chance.sum(axis=1) - 1).max() > 1e-3:
        raise BadData("probabilities whose rows do not sum to 1: were logits given? Put them through softmax first")
    return chance


def _moved(rest: Array, mix: Mix, group: NDArray[np.intp], resamples: int, rng: np.random.Generator) -> Array:
    """(B,) what resampled groups move the mean by; ``rest`` (n,) are the images' distances from it."""
    totals = np.bincount(group, weights=rest)[:, None].astype(np.float32)  # (G, 1)
    sums = resampled_sums(totals, resamples, rng, strata_of_groups(mix.stratum, group))  # (B, 1)
    return np.asarray(sums[:, 0] / rest.size, dtype=np.float64)


def _joined(value: float, by_class: Sequence[ClassCost | None]) -> Interval:
    parts = [part for part in by_class if part is not None]
    down = sum((part.share * (part.cost.value - part.cost.interval.low)) ** 2 for part in parts)
    up = sum((part.share * (part.cost.interval.high - part.cost.value)) ** 2 for part in parts)
    return Interval(value - math.sqrt(down), value + math.sqrt(up))


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.low * factor, interval.high * factor, interval.level)
