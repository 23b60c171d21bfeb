"""Is B better than A? Paired comparisons on the same images, for grouped images and several support draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import (
    Interval,
    Likeness,
    TwoWay,
    correct_table,
    group_numbers,
    likeness,
    strata_of_groups,
    two_way,
)
from anmok.evidence.mix import Mix
from anmok.evidence.resampling import resampled_sums

_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Contrast:
    """What B gains over A on the same images.

    gain: accuracy of B minus accuracy of A. interval: of 95 %, or more where several contrasts were planned
    (its ``level`` says). interval90: for "same". p: two-sided, the level at which the interval touches 0;
    p_adjusted: after Holm. disagreement: share of (draw, image) pairs on which only one of the two is right.
    design_effect: how many images carry the information of one independent image. image_variance: the part of
    the gain's variance that more test images lower; draw_variance: the part that only more support draws
    lower.
    """

    name_a: str
    name_b: str
    gain: float
    interval: Interval
    interval90: Interval
    p: float
    p_adjusted: float
    disagreement: float
    n_images: int
    n_groups: int
    n_draws: int
    design_effect: float
    image_variance: float
    draw_variance: float

    def is_same(self, margin: float) -> bool:
        """Two one-sided tests at 5 % (Schuirmann 1987): the 90 % interval lies inside (-margin, margin)."""
        return -margin < self.interval90.low and self.interval90.high < margin


@dataclass(frozen=True, slots=True, eq=False)
class Gain:
    """The resampled gain of B over A; it gives an interval of any level.

    likeness: of the images' gains within groups, an event being a disagreement. table: variances between
    images and between draws. by_image, by_draw: (B,) what the resampled images and draws move the gain by, of
    variance 1 (or constant 0). noise: (B,) standard normal. heaviest: how many images the one that counts most
    is worth.
    """

    value: float
    disagreement: float
    likeness: Likeness
    table: TwoWay
    by_image: NDArray[np.float64]
    by_draw: NDArray[np.float64]
    noise: NDArray[np.float64]
    heaviest: float = 1.0

    def interval(self, level: float) -> Interval:
        """Percentiles of the resampled gain, its parts scaled so that few groups or draws keep the level.

        The noise stands for two made-up images, one each way, as in Bonett & Price (2012), "Adjusted Wald
        confidence interval for a difference of binomial proportions based on paired data". Without it ten
        images without a disagreement would pass for proof that two models are the same. For grouped images
        each of the two weighs as much as a design effect.
        """
        worth = self.likeness.careful(level) / self.likeness.n
        image, draws = self.table.parts(level)
        made_up = worth * self.heaviest * 2**0.5
        moved = self.by_image * (image * worth) ** 0.5 + self.by_draw * draws**0.5 + self.noise * made_up
        tail = (1 - level) / 2
        low, high = self.value + np.quantile(moved, [tail, 1 - tail])
        return Interval(float(max(low, -1.0)), float(min(high, 1.0)), level)

    def outlook(self, level: float) -> tuple[float, float]:
        """Variance of the gain that more images would lower, and that which only more draws would lower."""
        image, draws = self.table.outlook(level, self.likeness.n)
        return image * self.likeness.careful(level) / self.likeness.n, draws

    def p_value(self) -> float:
        """Two-sided: the smallest alpha whose interval leaves 0 out; at least 2 / (resamples + 1)."""
        low, high = 2 / (self.noise.size + 1), 1.0
        if self._leaves_zero_out(low):
            return low
        while high - low > 0.01 * low:
            alpha = (low * high) ** 0.5
            low, high = (low, alpha) if self._leaves_zero_out(alpha) else (alpha, high)
        return high

    def _leaves_zero_out(self, alpha: float) -> bool:
        interval = self.interval(1 - alpha)
        return interval.low > 0 or interval.high < 0


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Several models on the same test images, resampled together: first support draws, then whole groups.

    correct: model -> (S, n); models may have different numbers of draws. Draw s is the same support set for
    all of them, and a model with a single row (zero-shot) is compared with every draw; else the first draws
    that both have are compared. means: model -> (B, S) accuracy per draw on the resampled images. mix: how the
    images count, where they do not count alike.
    """

    correct: dict[str, NDArray[np.float64]]
    group: NDArray[np.intp]
    means: dict[str, NDArray[np.float32]]
    seed: int
    mix: Mix | None = None

    def value(self, name: str) -> float:
        """Mean of model ``name`` over draws and images, as the images count."""
        return float(_linear(self.correct[name], self.mix).mean())

    def gain(self, name_a: str, name_b: str) -> Gain:
        """`Gain` of ``name_b`` over ``name_a``. Raises `BadRequest` for an unknown name."""
        for name in (name_a, name_b):
            if name not in self.correct:
                raise BadRequest(f"no model {name!r} in this comparison: it has {', '.join(self.correct)}")
        rows = [len(self.correct[name]) for name in (name_a, name_b)]
        draws = max(rows) if min(rows) == 1 else min(rows)
        difference = self.correct[name_b][:draws] - self.correct[name_a][:draws]  # (S, n)
        resampled = self.means[name_b][:, :draws] - self.means[name_a][:, :draws].astype(np.float64)  # (B, S)
        rng = np.random.default_rng((self.seed, draws))
        chosen = rng.multinomial(draws, np.full(draws, 1 / draws), size=len(resampled)) / draws  # (B, S)
        linear = _linear(difference, self.mix)  # (S, n)
        per_draw = linear.mean(axis=1)  # (S,)
        weight = np.ones(1) if self.mix is None else self.mix.weight  # (n,) or (1,)
        heaviest = 1.0 if self.mix is None else float(self.mix.amplitude.max())
        events = np.abs(difference).mean(axis=0) * weight  # (n,)
        return Gain(
            value=float(linear.mean()),
            disagreement=float(events.mean()),
            likeness=likeness(linear.mean(axis=0), events / heaviest, self.group, self.mix),
            table=two_way(linear),
            by_image=_standard(np.einsum("bs,bs->b", chosen, resampled - per_draw)),
            by_draw=_standard(chosen @ per_draw - per_draw.mean()),
            noise=rng.standard_normal(len(resampled)),
            heaviest=heaviest,
        )

    def contrasts(self, pairs: Sequence[tuple[str, str]]) -> tuple[Contrast, ...]:
        """One `Contrast` per planned pair (a, b); p-values and intervals adjusted together, Holm (1979)."""
        gains = [self.gain(a, b) for a, b in pairs]
        p = np.array([gain.p_value() for gain in gains])
        parts = zip(pairs, gains, p, holm(p), _holm_levels(p), strict=True)
        n_groups = int(self.group.max()) + 1
        return tuple(_contrast(pair, gain, n_groups, (q, r), level) for pair, gain, q, r, level in parts)


def trial(
    correct: Iterable[tuple[str, ArrayLike]],
    groups: ArrayLike | None,
    *,
    seed: int,
    resamples: int = 10_000,
    mix: Mix | None = None,
) -> Trial:
    """Resample models together, on the same images.

    correct: name and (n,) or (S, n) bool or float in [0, 1] of each model. groups: (n,). mix: of images that
    do not count alike; groups are then drawn within the strata that most of their images are of. Raises
    `BadData`, `BadRequest`.
    """
    named = list(correct)
    tables = {name: correct_table(table) for name, table in named}
    if len(tables) < max(len(named), 1) or resamples < 100:
        raise BadRequest(f"{len(named)} models, {resamples} resamples: want models of different names, 100 resamples")
    widths = sorted({table.shape[1] for table in tables.values()})
    if len(widths) > 1:
        raise BadData(f"the models were tested on {widths} images: compare them on the same images in the same order")
    group = group_numbers(groups, widths[0])
    if mix is not None and mix.stratum.size != widths[0]:
        raise BadData(f"a mix of {mix.stratum.size} images for {widths[0]}: give the class of each image")
    stacked = np.concatenate(list(tables.values()))  # (R, n)
    shares = _resampled_means(stacked, group, mix, resamples, np.random.default_rng(seed))  # (B, R)
    edges = np.cumsum([len(table) for table in tables.values()])[:-1]
    return Trial(tables, group, dict(zip(tables, np.split(shares, edges, axis=1), strict=True)), seed, mix)


def paired(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int,
    resamples: int = 10_000,
) -> Contrast:
    """One planned contrast: B over A, each (n,) or (S, n), on the same images in ``groups`` (n,)."""
    both = trial((("A", correct_a), ("B", correct_b)), groups, seed=seed, resamples=resamples)
    return both.contrasts([("A", "B")])[0]


def mcnemar_midp(b: int, c: int) -> float:
    """Two-sided mid-p of McNemar's test; ``b`` images only A has right, ``c`` only B.

    Fagerland, Lydersen & Laake (2013), "The McNemar test for binary matched-pairs data". Raises `BadRequest`.
    """
    if b < 0 or c < 0:
        raise BadRequest(f"{b} and {c} disagreements: counts cannot be negative")
    few = min(b, c)
    return float(min(2 * stats.binom.cdf(few, b + c, 0.5) - stats.binom.pmf(few, b + c, 0.5), 1.0))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """(m,) p-values adjusted by Holm's step-down procedure (1979). Raises `BadRequest` outside [0, 1]."""
    raw = np.asarray(p, dtype=np.float64)
    if raw.ndim != 1 or not ((raw >= 0) & (raw <= 1)).all():
        raise BadRequest("p-values must be a flat sequence within [0, 1]")
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))  # (m,)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _holm_levels(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) levels whose intervals leave 0 out just when Holm rejects; the first failure stops the steps."""
    order = np.argsort(p, kind="stable")
    alpha = _ALPHA / np.arange(p.size, 0, -1)  # (m,)
    failed = np.flatnonzero(p[order] > alpha)
    if failed.size:
        alpha[failed[0] :] = alpha[failed[0]]
    levels = np.empty_like(p)
    levels[order] = 1 - alpha
    return levels


def _contrast(pair: tuple[str, str], gain: Gain, n_groups: int, p: tuple[float, float], level: float) -> Contrast:
    image_variance, draw_variance = gain.outlook(0.95)
    return Contrast(
        name_a=pair[0],
        name_b=pair[1],
        gain=gain.value,
        interval=gain.interval(float(level)),
        interval90=gain.interval(0.9),
        p=float(p[0]),
        p_adjusted=float(p[1]),
        disagreement=gain.disagreement,
        n_images=gain.likeness.n,
        n_groups=n_groups,
        n_draws=gain.table.draws,
        design_effect=gain.likeness.careful(0.95),
        image_variance=image_variance,
        draw_variance=draw_variance,
    )


def _linear(table: NDArray[np.float64], mix: Mix | None) -> NDArray[np.float64]:
    return table if mix is None else mix.linear(table)


def _resampled_means(
    rows: NDArray[np.float64],
    group: NDArray[np.intp],
    mix: Mix | None,
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(B, R) means of ``rows`` (R, n) on resampled groups (n,); of a mix, to first order."""
    n = rows.shape[1]
    if mix is None:
        stacked = np.concatenate([rows, np.ones((1, n))])  # (R + 1, n)
        sums = resampled_sums(_totals(stacked, group), resamples, rng)  # (B, R + 1)
        return np.asarray(sums[:, :-1] / sums[:, -1:])
    linear = mix.linear(rows)  # (R, n)
    means = linear.mean(axis=1)  # (R,)
    sums = resampled_sums(
        _totals(linear - means[:, None], group), resamples, rng, strata_of_groups(mix.stratum, group)
    )  # (B, R)
    return np.asarray(sums / n + means, dtype=np.float32)


def _totals(rows: NDArray[np.float64], group: NDArray[np.intp]) -> NDArray[np.float32]:
    """(G, R) sums of ``rows`` (R, n) within groups (n,)."""
    return np.stack([np.bincount(group, weights=row) for row in rows], axis=1).astype(np.float32)


def _standard(moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) scaled to variance 1; what does not vary stays 0."""
    spread = float(moved.std())
    return moved / spread if spread > 1e-12 else np.zeros_like(moved)
