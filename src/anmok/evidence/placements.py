"""Does one ranking beat another? AUROC in the machinery of accuracies: groups, draws, paired contrasts, verdicts.

An AUROC is a mean over pictures in disguise. A defect's *placement* is the share of good pictures that it stands above,
a good picture's the share of defects that stand above it; the mean over either kind is the AUROC, and the variances of
the two add up (DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves", 1988). So each picture gets one number whose mean over all is the AUROC and whose variance is
its variance, and `compare` works on these as it does on right and wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.compare import Gain, Trial
from anmok.evidence.intervals import Estimate, Interval, group_numbers, two_way, z_quantile
from anmok.evidence.ranking import auroc
from anmok.evidence.resampling import resampled_sums

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


def placements(scores: ArrayLike, is_defect: ArrayLike) -> Array:
    """(S, n) from scores (n,) or (S, n), larger is stranger, and bool (n,): of each defect the share of good pictures
    below it, of each good picture the share of defects above it; a tie counts one half.

    Raises:
        BadData: one kind only, or shapes that do not fit.
    """
    table, defect = _checked(scores, is_defect)
    found = np.empty_like(table)  # (S, n)
    for row, values in zip(found, table, strict=True):
        row[defect] = _below(np.sort(values[~defect]), values[defect])
        row[~defect] = 1 - _below(np.sort(values[defect]), values[~defect])
    return found


def linear(scores: ArrayLike, is_defect: ArrayLike) -> Array:
    """(S, n): numbers whose plain mean is the AUROC and the variance of whose mean is the AUROC's. Raises `BadData`."""
    placed = placements(scores, is_defect)  # (S, n)
    defect = np.asarray(is_defect, np.bool_)
    value = placed[:, defect].mean(axis=1, keepdims=True)  # (S, 1)
    many = int(defect.sum())
    weight = np.where(defect, defect.size / many, defect.size / (defect.size - many))  # (n,)
    return np.asarray(value + (placed - value) * weight)


def auroc_of_draws(
    scores: ArrayLike, is_defect: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """AUROC of scores (n,) or (S, n), the mean over S support draws judged on the same n pictures.

    Of one draw it is `auroc`. Of several, each side of the interval is the mean of the draws' own, widened by what the
    draws differ by; a single draw speaks for its own support set only. Raises `BadData`.
    """
    table, defect = _checked(scores, is_defect)
    group = group_numbers(groups, defect.size)
    each = [auroc(row[~defect], row[defect], (group[~defect], group[defect]), level) for row in table]
    if len(each) == 1:
        return each[0]
    value = float(np.mean([one.value for one in each]))
    drawn = z_quantile(level) ** 2 * two_way(linear(table, defect)).parts(level)[1]
    below = float(np.mean([one.value - one.interval.low for one in each]))
    above = float(np.mean([one.interval.high - one.value for one in each]))
    low, high = value - float(np.hypot(below, drawn**0.5)), value + float(np.hypot(above, drawn**0.5))
    effective = float(np.mean([one.effective_n for one in each]))
    return Estimate(value, Interval(max(low, 0.0), min(high, 1.0), level), defect.size, effective)


@dataclass(frozen=True, slots=True, eq=False)
class RankingTrial(Trial):
    """A `Trial` of rankings: ``correct`` holds the linear numbers; ``rarer``: pictures of the rarer kind."""

    rarer: int = 1

    def gain(self, name_a: str, name_b: str) -> Gain:
        """`Gain` in AUROC of ``name_b`` over ``name_a``. One made-up picture of the rarer kind weighs as much as all
        pictures over that kind's."""
        plain = Trial.gain(self, name_a, name_b)
        # A change shows once among the defects and once among the good pictures: half of it is how often two differ.
        halved = min(plain.disagreement / 2, 1.0)
        return dataclasses.replace(plain, heaviest=self.group.size / self.rarer, disagreement=halved)


def ranking_trial(
    scores: Iterable[tuple[str, ArrayLike]],
    is_defect: ArrayLike,
    groups: ArrayLike | None,
    *,
    seed: int,
    resamples: int = 10_000,
) -> RankingTrial:
    """Rankings of the same pictures, resampled together, to first order; whole groups are drawn.

    scores: name and (n,) or (S, n) of each, S support draws. is_defect: bool (n,). groups: (n,). Raises `BadData`,
    `BadRequest`.
    """
    named = list(scores)
    tables = {name: linear(table, is_defect) for name, table in named}
    if len(tables) < max(len(named), 1) or resamples < 100:
        raise BadRequest(f"{len(named)} rankings, {resamples} resamples: want different names, and 100 resamples")
    defect = np.asarray(is_defect, np.bool_)
    group = group_numbers(groups, defect.size)
    rows = np.concatenate(list(tables.values()))  # (R, n)
    means = rows.mean(axis=1)  # (R,)
    totals = np.stack([np.bincount(group, weights=row - mean) for row, mean in zip(rows, means, strict=True)], 1)
    sums = resampled_sums(totals.astype(np.float32), resamples, np.random.default_rng(seed))  # (B, R)
    moved = np.asarray(sums / defect.size + means, np.float32)
    edges = np.cumsum([len(table) for table in tables.values()])[:-1]
    per_name = dict(zip(tables, np.split(moved, edges, axis=1), strict=True))
    return RankingTrial(tables, group, per_name, seed, rarer=int(min(defect.sum(), (~defect).sum())))


def _below(ordered: Array, values: Array) -> Array:
    """(m,) the share of ``ordered`` below each value, ties halved."""
    both = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return np.asarray(both / (2 * ordered.size))


def _checked(scores: ArrayLike, is_defect: ArrayLike) -> tuple[Array, Bools]:
    table, defect = np.atleast_2d(np.asarray(scores, np.float64)), np.asarray(is_defect, np.bool_)
    if table.ndim != 2 or defect.shape != table.shape[1:] or not np.isfinite(table).all():
        raise BadData(f"scores {table.shape} for {defect.shape} pictures: want (n,) or (S, n) finite numbers")
    if not defect.any() or defect.all():
        raise BadData(f"{int(defect.sum())} defects among {defect.size} pictures: a ranking needs both kinds")
    return table, defect
