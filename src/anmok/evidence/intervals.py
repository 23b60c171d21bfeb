"""How sure an accuracy is: intervals that hold near 100 %, for grouped images and for several support draws.

Images are seldom independent: frames of one video, cells of one module, photos of one day answer alike. Every
interval here therefore takes ``groups``, one integer per image, and treats the *group* as the unit that was
drawn at random. Singleton groups (or ``None``) give the ordinary interval, to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from anmok.errors import BadData, BadRequest
from anmok.evidence.mix import Mix

# (truth (n,), predicted (n,)) -> a share between 0 and 1
Metric = Callable[[NDArray[np.generic], NDArray[np.generic]], float]
# Weight of the worst case where no group saw an event: intervals then cover 94 % or more, and 81 % without
_DOUBT = 2.0


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``, holding the truth in a share ``level`` of all repetitions."""

    low: float
    high: float
    level: float = 0.95

    @property
    def half_width(self) -> float:
        """Half the distance from ``low`` to ``high``."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its interval, the number of images ``n`` and how many independent images they are worth."""

    value: float
    interval: Interval
    n: int
    effective_n: float


def z_quantile(level: float) -> float:
    """Two-sided normal quantile: 1.96 for 0.95. Raises `BadRequest` for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise BadRequest(f"a confidence level lies between 0 and 1, not {level}: use 0.95")
    return float(-special.ndtri((1 - level) / 2))


def t_quantile(level: float, freedom: float) -> float:
    """Two-sided Student quantile; ``freedom`` need not be whole."""
    return float(-special.stdtrit(freedom, (1 - level) / 2))


def wilson(correct: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of Wilson (1927) for a share; ``n`` may be an effective, non-integer size.

    Unlike the textbook p +- 1.96 s it keeps its promise near 0 and 1: 50 of 50 right gives 93 % to 100 %.
    Raises `BadRequest` unless n > 0 and 0 <= correct <= n.
    """
    if not (0 < n < np.inf and 0 <= correct <= n):
        raise BadRequest(f"{correct} correct of {n}: a share needs 0 <= correct <= n and n > 0")
    z, p = z_quantile(level), float(correct / n)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2))
    low = 0.0 if correct == 0 else max(centre - half, 0.0)
    high = 1.0 if correct == n else min(centre + half, 1.0)
    return Interval(low, high, level)


def group_numbers(groups: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """(n,) numbers 0..G-1 of any group ids; ``None`` makes every image its own group. Raises `BadData`."""
    if groups is None:
        return np.arange(n)
    ids = np.asarray(groups)
    if ids.shape != (n,):
        raise BadData(f"groups have shape {ids.shape} for {n} images: give one group per image")
    return np.unique(ids, return_inverse=True)[1]


def correct_table(correct: ArrayLike) -> NDArray[np.float64]:
    """(S, n) float64 from (n,) or (S, n) bool or float in [0, 1]. Raises `BadData`."""
    table = np.atleast_2d(np.asarray(correct, dtype=np.float64))  # (S, n)
    if table.ndim != 2 or table.size == 0 or not ((table >= 0) & (table <= 1)).all():
        raise BadData(f"correct needs shape (n,) or (S, n), n > 0, values in [0, 1]; it has shape {table.shape}")
    return table


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much alike images of one group answer, and how well that is known.

    effect: see `design_effect`. worst: what it would be if groups answered with one voice. freedom: degrees
    of freedom of ``effect`` (Satterthwaite), few where few groups carry the weight. doubt: share of the worst
    case to mix in, for groups look independent when each of three errors falls into another group.
    """

    n: int
    effect: float
    worst: float
    freedom: float
    doubt: float

    def careful(self, level: float) -> float:
        """The design effect with which an interval of ``level`` with a normal quantile holds."""
        ratio = t_quantile(level, self.freedom) / t_quantile(level, max(self.n - 1, 1))
        effect = min(self.effect * ratio**2, self.worst)
        return effect + (self.worst - effect) * self.doubt


def likeness(values: ArrayLike, events: ArrayLike, groups: ArrayLike | None, mix: Mix | None = None) -> Likeness:
    """`Likeness` of ``values`` (n,); ``events`` (n,) in [0, 1]: how far each departs from the common answer.

    mix: of images that do not count alike; ``values`` are then its linear ones. Source:
    Bell & McCaffrey (2002), "Bias reduction in standard errors for linear regression with multi-stage
    samples", for a mean. Raises `BadData` for values that are not finite and groups of another length.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or y.size == 0 or not np.isfinite(y).all():
        raise BadData(f"want a non-empty (n,) array of finite numbers, got shape {y.shape}")
    n, group = y.size, group_numbers(groups, y.size)
    amplitude = np.ones(n) if mix is None else mix.amplitude  # (n,)
    size = np.bincount(group, weights=amplitude)  # (G,)
    own = np.bincount(group, weights=amplitude**2)  # (G,)
    single = float(own.sum())
    worst = float(size @ size) / single
    per_group = np.bincount(group, weights=np.asarray(events, dtype=np.float64))  # (G,)
    touched = float(np.minimum(per_group, 1.0).sum())
    untouched = _DOUBT * (1 - touched / size.size)
    doubt = untouched / (touched + untouched)
    rest = y - y.mean()
    total, squares = np.bincount(group, weights=rest), float(rest @ rest)  # (G,)
    if size.size == 1 or squares <= 1e-12 * n:
        return Likeness(n, worst, worst, max(size.size - 1.0, 1.0), doubt)
    leverage = size / n if mix is None else mix.leverage(group)  # (G,)
    sampled = float(np.sum(total**2 / (1 - leverage)))
    effect = min(max(sampled / squares * (n - 1) / n, 1.0), worst)
    pairs = float(size @ size) - single
    alike = (float(total @ total) - squares) / pairs * single / squares if pairs > 1e-9 * single else 0.0
    weight = own + (size**2 - own) * min(max(alike, 0.0), 1.0)  # (G,) each group's part of the variance
    freedom = max(float(weight.sum() ** 2 / (weight @ weight)) - 1, 1.0)
    return Likeness(n, effect, worst, freedom, doubt)


def design_effect(values: ArrayLike, groups: ArrayLike | None) -> float:
    """How many grouped images carry the information of one independent image, >= 1.

    The variance of the mean of ``values`` (n,) with whole groups drawn at random, over its variance with
    images drawn at random. At most what groups answering with one voice would have; constant values, which
    say nothing about likeness within groups, get just that. Raises `BadData`.
    """
    return likeness(values, np.zeros(np.shape(values)), groups).effect


@dataclass(frozen=True, slots=True)
class TwoWay:
    """Variances within a table (S, n): between images, of what is left over, between means of draws."""

    draws: int
    images: float
    left_over: float
    among_draws: float

    def parts(self, level: float) -> tuple[float, float]:
        """Variance of one image, and what the draws add to the variance of the mean of all.

        What a draw does to single images also shows between the means of the draws; it is counted there
        alone. That part holds the squared ratio of Student's to the normal quantile of ``level``.
        """
        return max(self.images - self.left_over / self.draws, 0.0), self.among_draws * self._per_draw(level)

    def outlook(self, level: float, n: int) -> tuple[float, float]:
        """The same two, but with everything that more than the ``n`` images would lower in the first."""
        return self.images, max(self.among_draws - self.left_over / n, 0.0) * self._per_draw(level)

    def _per_draw(self, level: float) -> float:
        if self.draws == 1:
            return 0.0
        return (t_quantile(level, self.draws - 1) / z_quantile(level)) ** 2 / self.draws


def two_way(table: NDArray[np.float64]) -> TwoWay:
    """Two-way analysis of variance of ``table`` (S, n); a single draw leaves nothing over."""
    between = float(table.mean(axis=0).var())
    if len(table) == 1:
        return TwoWay(1, between, 0.0, 0.0)
    means = table.mean(axis=1, keepdims=True)  # (S, 1)
    left_over = float((table - means).var(axis=0, ddof=1).mean())
    return TwoWay(len(table), between, left_over, float(means.var(ddof=1)))


def accuracy(correct: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Accuracy with an interval that stays honest for grouped images, few groups and several support draws.

    correct: (n,) bool or float in [0, 1], or (S, n) for S support draws judged on the same n images. groups:
    (n,). The interval is Wilson's at the effective sample size (Korn & Graubard 1998, "Confidence intervals
    for proportions with small expected number of positive counts"). The draws add the variance of their mean;
    a single draw speaks for its own support set only. Raises `BadData`.
    """
    table = correct_table(correct)  # (S, n)
    n, each = table.shape[1], table.mean(axis=0)  # (n,)
    value = float(each.mean())
    effective = n / likeness(each, 1 - each if value > 0.5 else each, groups).careful(level)
    if len(table) > 1:
        by_image, by_draw = two_way(table).parts(level)
        variance = by_image / effective + by_draw
        effective = min(float(n), value * (1 - value) / variance) if variance > 0 else effective
    return Estimate(value, wilson(min(value * effective, effective), effective, level), n, effective)


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the classes of ``truth`` (n,) of the share that ``predicted`` (n,) gets right."""
    real, guess = _labels(truth, predicted)
    _, code, count = np.unique(real, return_inverse=True, return_counts=True)  # (n,), (C,)
    return float(np.mean(np.bincount(code, weights=real == guess) / count))


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean F1 over the classes in ``truth`` (n,) or ``predicted`` (n,); a class never hit counts 0."""
    real, guess = _labels(truth, predicted)
    names, code = np.unique(np.concatenate([real, guess]), return_inverse=True)  # (C,), (2n,)
    counts = np.bincount(code, minlength=names.size)  # (C,) real + guessed
    hits = np.bincount(code[: real.size][real == guess], minlength=names.size)  # (C,)
    return float(np.mean(2 * hits / counts))


def metric_interval(
    metric: Metric,
    truth: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """95 % interval of a metric in [0, 1] by a bootstrap of groups within strata (default: the true classes).

    Percentiles, widened for few groups by Student's quantile. A bootstrap sees nothing but what happened and
    is blind near 100 %, so the interval always holds Wilson's for a mean of class-wise shares with as many
    effective images. Raises `BadData` for shapes that disagree, `BadRequest` for a metric outside [0, 1].
    """
    real, guess = _labels(truth, predicted)
    n, value = real.size, float(metric(real, guess))
    if not 0 <= value <= 1:
        raise BadRequest(f"the metric gave {value}: an interval is defined for metrics between 0 and 1")
    group = group_numbers(groups, n)
    kind = real if strata is None else np.asarray(strata)  # (n,)
    if kind.shape != real.shape:
        raise BadData(f"strata have shape {kind.shape} for {n} images: give one stratum per image")
    stratum = strata_of_groups(kind, group)  # (G,)
    per_class = np.unique(real, return_counts=True)[1]  # (C,)
    share = accuracy(real == guess, group).effective_n / n
    size = share * per_class.size**2 / float(np.sum(1 / per_class))
    floor = wilson(min(value * size, size), size)
    freedom = stratum.size - np.unique(stratum).size
    if freedom < 1:
        return floor
    rng = np.random.default_rng(seed)
    rows = (np.repeat(np.arange(n), times[group]) for times in _resampled(stratum, resamples, rng))
    samples = np.array([metric(real[index], guess[index]) for index in rows])  # (B,)
    stretch = t_quantile(0.95, freedom) / z_quantile(0.95) * np.sqrt(stratum.size / freedom)
    low, high = value + (np.quantile(samples, [0.025, 0.975]) - value) * stretch
    return Interval(float(max(min(low, floor.low), 0.0)), float(min(max(high, floor.high), 1.0)))


def _labels(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    real, guess = np.asarray(truth), np.asarray(predicted)
    if real.ndim != 1 or real.shape != guess.shape or real.size == 0:
        raise BadData(f"truth has shape {real.shape}, predicted {guess.shape}: want two non-empty (n,) arrays")
    return real, guess


def strata_of_groups(strata: NDArray[np.generic], group: NDArray[np.intp]) -> NDArray[np.intp]:
    """(G,) the commonest stratum of each group; strata of a single group, which cannot vary, are merged."""
    names, code = np.unique(strata, return_inverse=True)  # (H,), (n,)
    pair, count = np.unique(group * names.size + code, return_counts=True)  # (P,), (P,)
    last = np.lexsort((count, pair // names.size))  # (P,) by group, the commonest stratum last
    ends = np.flatnonzero(np.diff(pair[last] // names.size, append=-1))  # (G,)
    major = pair[last][ends] % names.size  # (G,)
    sizes = np.bincount(major, minlength=names.size)  # (H,)
    lonely = sizes[major] == 1  # (G,)
    major[lonely] = names.size if lonely.sum() > 1 else int(sizes.argmax())
    return np.unique(major, return_inverse=True)[1]


def _resampled(stratum: NDArray[np.intp], resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Per resample, (G,) how often each group is drawn, with replacement within its stratum."""
    order = np.argsort(stratum, kind="stable")  # (G,)
    size = np.bincount(stratum)[stratum[order]]  # (G,) of the stratum at each place
    first = np.searchsorted(stratum[order], stratum[order])  # (G,) where it begins
    for _ in range(resamples):
        drawn = order[first + (rng.random(order.size) * size).astype(np.intp)]  # (G,)
        yield np.bincount(drawn, minlength=order.size)
