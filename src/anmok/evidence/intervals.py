"""How sure an accuracy is: intervals that hold near 100 %, for grouped images and for several support draws.

Images are seldom independent: frames of one video, cells of one module, photos of one day answer alike. Every
interval here therefore takes ``groups``, one integer per image, and treats the *group* as the unit that was drawn
at random. Singleton groups (or ``None``) give the ordinary interval, to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from anmok.errors import BadData, BadRequest

Metric = Callable[[NDArray, NDArray], float]  # (truth (n,), predicted (n,)) -> a share between 0 and 1
_CHUNK = 4_000_000  # group weights held at once while resampling: 16 MB of float32


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


@dataclass(frozen=True, slots=True)
class Spread:
    """Variance of a mean over grouped images.

    ``sampled``: groups being random, Bell & McCaffrey (2002), "Bias reduction in standard errors for linear
    regression with multi-stage samples", for a mean. ``independent``: as if no image knew its group. ``worst``: as
    if every group answered with one voice; no intra-group correlation can exceed it. ``freedom``: degrees of
    freedom of ``sampled`` (Satterthwaite), small when few groups carry the weight.
    """

    sampled: float
    independent: float
    worst: float
    freedom: float

    def variance(self, level: float, n: int) -> float:
        """Variance to use with a normal quantile: few-group corrected, between ``independent`` and ``worst``."""
        inflation = (t_quantile(level, self.freedom) / t_quantile(level, max(n - 1.0, 1.0))) ** 2
        return float(min(max(self.sampled, self.independent) * inflation, self.worst))


def z_quantile(level: float) -> float:
    """Two-sided normal quantile: 1.96 for 0.95. Raises `BadRequest` for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise BadRequest(f"a confidence level lies between 0 and 1, not {level}: use 0.95")
    return float(-stats.norm.ppf((1 - level) / 2))


def t_quantile(level: float, freedom: float) -> float:
    """Two-sided Student quantile; ``freedom`` need not be whole."""
    return float(-stats.t.ppf((1 - level) / 2, freedom))


def wilson(correct: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of Wilson (1927) for a share; ``n`` may be an effective, non-integer size.

    Unlike the textbook p +- 1.96 s it keeps its promise near 0 and 1: 50 of 50 right gives 93 % to 100 %.
    Raises `BadRequest` unless n > 0 and 0 <= correct <= n.
    """
    if not (n > 0 and 0 <= correct <= n):
        raise BadRequest(f"{correct} correct of {n}: a share needs 0 <= correct <= n and n > 0")
    z, p = z_quantile(level), correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    low = 0.0 if correct == 0 else float(max(centre - half, 0.0))
    high = 1.0 if correct == n else float(min(centre + half, 1.0))
    return Interval(low, high, level)


def group_numbers(groups: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """(n,) numbers 0..G-1 of arbitrary group ids; ``None`` means that every image is its own group."""
    if groups is None:
        return np.arange(n)
    ids = np.asarray(groups)
    if ids.shape != (n,):
        raise BadData(f"groups have shape {ids.shape}, the images are {n}: give one group per image")
    return np.unique(ids, return_inverse=True)[1]


def spread(values: ArrayLike, groups: ArrayLike | None) -> Spread:
    """`Spread` of the mean of ``values`` (n,) when whole groups are drawn at random. Raises `BadData` when empty."""
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or y.size == 0 or not np.isfinite(y).all():
        raise BadData(f"want a non-empty (n,) array of finite numbers, got shape {y.shape}")
    n, group = y.size, group_numbers(groups, y.size)
    size = np.bincount(group).astype(np.float64)  # (G,)
    rest = y - y.mean()
    total = np.bincount(group, weights=rest)  # (G,)
    squares = float(rest @ rest)
    independent = squares / (n * max(n - 1, 1))
    worst = independent * float(size @ size) / n
    if size.size == 1:
        return Spread(worst, independent, worst, 1.0)
    sampled = float(np.sum(total**2 / (1 - size / n))) / n**2
    pairs = float(size @ (size - 1))
    alike = (float(total @ total) - squares) / pairs / (squares / n) if pairs and squares else 0.0
    weight = size * (1 + (size - 1) * np.clip(alike, 0.0, 1.0))  # (G,) each group's part of the variance
    freedom = max(float(weight.sum() ** 2 / (weight @ weight)) - 1, 1.0)
    return Spread(sampled, independent, worst, freedom)


def design_effect(values: ArrayLike, groups: ArrayLike | None) -> float:
    """How many grouped images carry the information of one independent image, >= 1.

    The ratio of the group-wise variance of the mean of ``values`` (n,) to the ordinary one, never above the ratio
    that groups answering with one voice would have. Constant values say nothing about likeness: the worst case.
    """
    parts = spread(values, groups)
    if parts.independent == 0:
        n = np.asarray(values).size
        size = np.bincount(group_numbers(groups, n))
        return float(size @ size) / n
    return float(np.clip(parts.sampled, parts.independent, parts.worst) / parts.independent)


def accuracy(correct: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Accuracy with an interval that stays honest for grouped images, few groups and several support draws.

    correct: (n,) bool or float in [0, 1], or (S, n) for S support draws judged on the same n images.
    groups: (n,) int or None. The interval is Wilson's at the effective sample size (Korn & Graubard 1998,
    "Confidence intervals for proportions with small expected number of positive counts"), with Student's quantile
    where groups or draws are few. One draw speaks for its own support set only. Raises `BadData`.
    """
    table = correct_table(correct)  # (S, n)
    draws, n = table.shape
    each = table.mean(axis=0)  # (n,)
    value = float(each.mean())
    parts, size = spread(each, groups), np.bincount(group_numbers(groups, n))
    binomial = value * (1 - value) * n / max(n - 1, 1)
    variance = _few_errors(parts, value, level, table)
    if draws > 1:
        ratio = t_quantile(level, draws - 1) / z_quantile(level)
        variance += float(table.mean(axis=1).var(ddof=1)) / draws * ratio**2
    floor = n * n / float(size @ size) if draws == 1 else 1.0
    effective = min(float(n), binomial / variance) if variance > 0 else floor
    return Estimate(value, wilson(value * effective, effective, level), n, effective)


def correct_table(correct: ArrayLike) -> NDArray[np.float64]:
    """(S, n) float64 from (n,) or (S, n) bool or float in [0, 1]. Raises `BadData`."""
    table = np.atleast_2d(np.asarray(correct, dtype=np.float64))  # (S, n)
    if table.ndim != 2 or table.size == 0 or not ((table >= 0) & (table <= 1)).all():
        raise BadData(f"correct must be a non-empty (n,) or (S, n) array within [0, 1], got shape {table.shape}")
    return table
