"""How well scores set two kinds of images apart: the area under the ROC curve, with an interval that holds at 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from anmok.errors import BadData
from anmok.evidence.intervals import Estimate, Interval, group_numbers, t_quantile, z_quantile

Array = NDArray[np.float64]
Groups = tuple[ArrayLike | None, ArrayLike | None]

_EDGE = 1e-12


def auroc(lower: ArrayLike, higher: ArrayLike, groups: Groups = (None, None), level: float = 0.95) -> Estimate:
    """Probability that one of ``higher`` (m,) has a larger score than one of ``lower`` (n,), ties counted half.

    The interval is of the score type and stays inside [0, 1] also where the two do not overlap: Newcombe (2006),
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", method 5. It is widened by as
    much as the variance of DeLong et al. (1988), summed within groups (Obuchowski 1997, "Nonparametric analysis of
    clustered ROC curve data"), exceeds the one that method assumes. groups: of ``lower`` (n,) and of ``higher`` (m,); a
    group may lie in both. Raises `BadData`.
    """
    below, above = _checked(lower, "lower"), _checked(higher, "higher")
    over, under = _placements(below, above)  # (m,), (n,)
    value = float(over.mean())
    group = group_numbers(_ids(groups, below.size, above.size), below.size + above.size)
    widen = _widening(over, under, group, value)

    def distance(truth: float) -> float:
        return (value - truth) ** 2 - z_quantile(level) ** 2 * widen * _assumed(truth, under.size, over.size)

    # at 0 and at 1 the distance is 0 as well, so the search stays inside
    low = 0.0 if value <= _EDGE else _crossing(distance, 0.0, min(value, 1 - _EDGE))
    high = 1.0 if value >= 1 - _EDGE else _crossing(distance, 1.0, max(value, _EDGE))
    return Estimate(value, Interval(low, high, level), over.size + under.size, (over.size + under.size) / widen)


def delong_variance(lower: ArrayLike, higher: ArrayLike) -> float:
    """Variance of the AUROC of independent images, DeLong, DeLong & Clarke-Pearson (1988). Raises `BadData`."""
    below, above = _checked(lower, "lower"), _checked(higher, "higher")
    if min(below.size, above.size) < 2:
        raise BadData(f"{below.size} and {above.size} scores: a variance needs two of each kind")
    over, under = _placements(below, above)
    return float(over.var(ddof=1) / over.size + under.var(ddof=1) / under.size)


def _crossing(distance: Callable[[float], float], outside: float, inside: float) -> float:
    """Where ``distance``, above 0 ``outside`` and below it ``inside``, is 0."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if distance(middle) > 0 else (outside, middle)
    return outside


def _placements(below: Array, above: Array) -> tuple[Array, Array]:
    """(m,) share of ``below`` (n,) under each of ``above``; (n,) share of ``above`` over each of ``below``."""
    n, m = below.size, above.size
    ranks = stats.rankdata(np.concatenate([below, above]))  # (n + m,)
    over = (ranks[n:] - stats.rankdata(above)) / n
    under = 1 - (ranks[:n] - stats.rankdata(below)) / m
    return over, under


def _widening(over: Array, under: Array, group: NDArray[np.intp], value: float) -> float:
    """Variance within groups over the one assumed; where nothing varies, as if a group were one image."""
    m, n = over.size, under.size
    size = np.bincount(group).astype(np.float64)  # (G,)
    alone = float(size @ size) / (n + m)
    parts = np.concatenate([(under - value) / n, (over - value) / m])  # (n + m,)
    total = np.bincount(group, parts)  # (G,)
    counted = float(total @ total) * size.size / max(size.size - 1, 1)
    assumed = _assumed(value, n, m)
    if assumed <= 0 or counted <= 1e-12:
        return alone
    fewest = min(np.unique(group[:n]).size, np.unique(group[n:]).size)
    few = t_quantile(0.95, max(fewest - 1, 1)) / t_quantile(0.95, max(min(n, m) - 1, 1))
    return min(max(counted / assumed, 1.0) * few**2, max(alone, 1.0) * max(float(parts @ parts) / assumed, 1.0))


def _assumed(truth: float, n: int, m: int) -> float:
    """Hanley & McNeil's (1982) variance of an AUROC ``truth``, both sizes in its inner terms evened out."""
    even = (n + m) / 2 - 1
    inner = 1 + even * ((1 - truth) / (2 - truth) + truth / (1 + truth))
    return truth * (1 - truth) * inner / (n * m)


def _ids(groups: Groups, n: int, m: int) -> NDArray[np.generic] | None:
    """(n + m,) ids of both kinds; images without groups are ones of their own."""
    if groups[0] is None and groups[1] is None:
        return None
    if groups[0] is not None and groups[1] is not None:
        first, second = np.asarray(groups[0]), np.asarray(groups[1])
        if first.shape != (n,) or second.shape != (m,):
            raise BadData(f"groups have shapes {first.shape} and {second.shape}: want ({n},) and ({m},)")
        return np.concatenate([first, second])
    known, alone = (groups[0], m) if groups[1] is None else (groups[1], n)
    numbers = group_numbers(known, n + m - alone)
    single = int(numbers.max()) + 1 + np.arange(alone)
    return np.concatenate([numbers, single] if groups[1] is None else [single, numbers])


def _checked(scores: ArrayLike, name: str) -> Array:
    found = np.asarray(scores, dtype=np.float64)
    if found.ndim != 1 or found.size == 0 or not np.isfinite(found).all():
        raise BadData(f"{name} has shape {found.shape}: want a non-empty (n,) array of finite scores")
    return found
