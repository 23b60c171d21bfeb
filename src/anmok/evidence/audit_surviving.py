"""What is left of an accuracy: measured on clean test images, or, where none are clean, estimated from the
control.

*Measured*: test images without a copy and without a group-mate among the images that the model could learn
from.

*Estimated*: under a random split nearly every test image has group-mates on the other side, and no image is
clean. Then the test images are weighted. A control that never sees a pixel says of each whether its
neighbours gave the label away. In each class the images whose neighbours did are weighted down to the share
they have when whole groups are held out. A model that only repeats its neighbours then falls to the control's
group-wise accuracy; one to which they mean nothing keeps its own. It is post-stratification (Holt & Smith
1979, "Post Stratification") and as good as the control is a picture of the leak: the way to know is to split
by groups and predict again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.audit_rows import Rows
from anmok.evidence.controls import fold_table, guesses
from anmok.evidence.intervals import (
    Estimate,
    accuracy,
    balanced_accuracy,
    group_numbers,
    macro_f1,
    metric_interval,
    t_quantile,
    wilson,
    z_quantile,
)
from anmok.evidence.metadata import Column

Basis = Literal["measured", "estimated", "none"]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
MIN_CLEAN = 30  # test images, and 8 groups of them, below which a clean part is too small to measure on
MIN_CLEAN_GROUPS = 8
_RESAMPLES = 500
_UNSEEN = 1.25  # variance that resamples of groups do not show: that of the folds, and of the commonest class
_REPEATS = 3  # of the folds that hold whole groups out


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """How the test images lie to the others, all (m,) over the tested rows."""

    tested: NDArray[np.intp]  # row numbers
    has_copy: NDArray[np.bool_]
    has_mate: NDArray[np.bool_]

    @property
    def is_clean(self) -> NDArray[np.bool_]:
        """Neither a copy nor a group-mate on another side."""
        return ~(self.has_copy | self.has_mate)


def standing(rows: Rows, copies: NDArray[np.intp] | None, group: NDArray[np.intp] | None) -> Standing:
    """Who has a copy or a mate on a side that the model could learn from. copies, group: (n,) or None.

    Without a split nobody knows the sides: no image counts as having either.
    """
    tested = np.flatnonzero(rows.is_tested)
    nobody = np.zeros(tested.size, dtype=bool)
    if not rows.has_split:
        return Standing(tested, nobody, nobody)
    return Standing(
        tested,
        nobody if copies is None else _on_other_side(copies, rows.side)[tested],
        nobody if group is None else _on_other_side(group, rows.side)[tested],
    )


def measured(rows: Rows, index: NDArray[np.intp], group: NDArray[np.intp] | None, seed: int) -> dict[str, Estimate]:
    """Every metric on the rows of ``index`` (m,), with intervals by group (n,)."""
    truth, answer = rows.label[index], rows.predicted[index]  # (m,), (m,)
    whole = None if group is None else group[index]
    first = accuracy(truth == answer, whole)
    found = {"accuracy": first}
    for name, metric in (("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)):
        value = float(metric(truth, answer))
        interval = metric_interval(metric, truth, answer, whole, seed=seed, resamples=_RESAMPLES)
        found[name] = Estimate(value, interval, index.size, first.effective_n)
    return found


def estimated(
    rows: Rows, index: NDArray[np.intp], column: Column, group: NDArray[np.intp], seed: int
) -> dict[str, Estimate]:
    """Every metric on the rows of ``index`` (m,), weighted as if whole groups (n,) had been held out."""
    is_told = _told(rows, column, seed)[index]  # (m,) bool: the neighbours give the label away
    expected = _told_by_groups(rows, column, group, seed)  # (n,) in [0, 1]
    truth, answer = rows.label[index], rows.predicted[index]  # (m,), (m,)
    number = group_numbers(group, len(rows.names))  # (n,)
    known = np.flatnonzero(rows.label >= 0)

    def metrics(times: NDArray[np.float64]) -> Mapping[str, float]:
        """times: (G,) how often each group counts."""
        each = times[number]  # (n,)
        share = _share(rows.label[known], expected[known], each[known], len(rows.classes))  # (C,)
        weight = each[index] * _weights(truth, is_told, each[index], share)  # (m,)
        return _weighted(truth, answer, weight, len(rows.classes))

    n_groups = int(number.max()) + 1
    value = metrics(np.ones(n_groups))
    rng = np.random.default_rng(seed)
    times = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=_RESAMPLES).astype(np.float64)  # (B, G)
    samples = [metrics(one) for one in times]
    spread = {name: _UNSEEN * float(np.var([one[name] for one in samples])) for name in METRICS}
    tested_groups = np.unique(number[index]).size
    return {name: _estimate(value[name], spread[name], index.size, tested_groups) for name in METRICS}


def shifted(estimate: Estimate, by: float) -> Estimate:
    """The estimate with value and interval moved by ``by``, within [0, 1]."""
    low, high = estimate.interval.low + by, estimate.interval.high + by
    interval = type(estimate.interval)(min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0), estimate.interval.level)
    return Estimate(min(max(estimate.value + by, 0.0), 1.0), interval, estimate.n, estimate.effective_n)


def _on_other_side(group: NDArray[np.intp], side: NDArray[np.str_]) -> NDArray[np.bool_]:
    """(n,) has the row's group an image on another side than the row's own?"""
    code = np.unique(side, return_inverse=True)[1]  # (n,)
    pairs = np.unique(np.stack([group_numbers(group, side.size), code]), axis=1)  # (2, P)
    sides = np.bincount(pairs[0])  # (G,)
    return sides[group_numbers(group, side.size)] > 1


def _told(rows: Rows, column: Column, seed: int) -> NDArray[np.bool_]:
    """(n,) does the control guess the label right from the rows on other sides? Unknown sides: from random
    folds.
    """
    known = rows.label >= 0  # (n,)
    side = np.unique(rows.side, return_inverse=True)[1]  # (n,)
    if not rows.has_split:
        table = fold_table(rows.label[known], None, seed=seed, repeats=1)
        side[known] = 0 if table is None else table[0]
    is_told = np.zeros(known.size, dtype=bool)
    for one in np.unique(side[rows.is_tested]):
        asked, seen = (side == one) & rows.is_tested, (side != one) & known  # (n,), (n,)
        guess = guesses(column, column.values[seen], rows.label[seen], column.values[asked], len(rows.classes))
        is_told[asked] = guess == rows.label[asked]
    return is_told


def _told_by_groups(rows: Rows, column: Column, group: NDArray[np.intp], seed: int) -> NDArray[np.float64]:
    """(n,) how often the control is right when whole groups are held out; 0 where the label is unknown."""
    known = np.flatnonzero(rows.label >= 0)
    right = np.zeros(rows.label.size)
    table = fold_table(rows.label[known], group[known], seed=seed, repeats=_REPEATS)
    for fold in table if table is not None else ():
        for part in np.unique(fold):
            asked, seen = known[fold == part], known[fold != part]
            guess = guesses(column, column.values[seen], rows.label[seen], column.values[asked], len(rows.classes))
            right[asked] += (guess == rows.label[asked]) / _REPEATS
    return right


def _share(
    label: NDArray[np.intp], right: NDArray[np.float64], times: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    """(C,) of each class, the share that the control gets right across groups."""
    total = np.bincount(label, weights=times, minlength=classes)  # (C,)
    hits = np.bincount(label, weights=times * right, minlength=classes)  # (C,)
    return np.divide(hits, total, out=np.zeros(classes), where=total > 0)


def _weights(
    truth: NDArray[np.intp],
    is_told: NDArray[np.bool_],
    times: NDArray[np.float64],
    share: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(m,) weights that bring the told images of each class to ``share`` (C,) of it, the class keeping its
    size.

    A class with none of the told, or none of the untold, has nothing to be weighted by and keeps weight 1.
    """
    size = np.bincount(truth, weights=times, minlength=share.size)  # (C,)
    told = np.bincount(truth, weights=times * is_told, minlength=share.size)  # (C,)
    up = np.divide(share * size, told, out=np.ones(share.size), where=told > 0)  # (C,)
    down = np.divide((1 - share) * size, size - told, out=np.ones(share.size), where=size > told)  # (C,)
    is_mixed = (told > 0) & (size > told)  # (C,)
    up, down = np.where(is_mixed, up, 1.0), np.where(is_mixed, down, 1.0)  # (C,), (C,)
    return np.where(is_told, up[truth], down[truth])


def _weighted(
    truth: NDArray[np.intp], answer: NDArray[np.intp], weight: NDArray[np.float64], classes: int
) -> dict[str, float]:
    size = np.bincount(truth, weights=weight, minlength=classes)  # (C,)
    hits = np.bincount(truth, weights=weight * (truth == answer), minlength=classes)  # (C,)
    given = np.bincount(answer[answer >= 0], weights=weight[answer >= 0], minlength=classes)  # (C,)
    is_real, is_named = size > 0, size + given > 0  # (C,), (C,)
    return {
        "accuracy": float(hits.sum() / max(size.sum(), 1e-12)),
        "balanced_accuracy": float(np.mean(hits[is_real] / size[is_real])) if is_real.any() else 0.0,
        "macro_f1": float(np.mean(2 * hits[is_named] / (size + given)[is_named])) if is_named.any() else 0.0,
    }


def _estimate(value: float, variance: float, n: int, n_groups: int) -> Estimate:
    """Wilson's interval at the size whose binomial variance is that of the resamples, wider for few
    groups.
    """
    ratio = t_quantile(0.95, max(n_groups - 1, 1)) / z_quantile(0.95)
    binomial = value * (1 - value)
    effective = min(float(n), binomial / (variance * ratio**2)) if variance > 0 and binomial > 0 else float(n_groups)
    effective = max(effective, 1.0)
    return Estimate(value, wilson(value * effective, effective), n, effective)
