"""Controls that never see a pixel. A predictor that only knows file names must not beat the majority.

Each control guesses the label from one column of `Metadata` (or from all together): the five nearest
neighbours in a sequence or a measure, the commonest class of a category. One that works under a random split
shows what such a split is worth here; one that still works when whole groups are held out shows that the
groups are too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, spatial, stats

from anmok.errors import BadData
from anmok.evidence.compare import holm
from anmok.evidence.intervals import Estimate, accuracy, design_effect
from anmok.evidence.metadata import Column, Metadata
from anmok.evidence.splits import folds

NEIGHBOURS = 5
_TIES = 2  # further neighbours looked at, so that both sides of a tie count
_MOST_LEVELS = 50  # of a category, in the control of all columns together
_TOGETHER = "together"
_VOTES = 4_000_000  # held at once: 32 MB
ALPHA = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """How often the label was guessed from ``name`` alone, against always saying the commonest class.

    ``p``: one-sided, that the control is no better than the majority. ``correct``: (n,) how often each image
    was guessed right over the repetitions, between 0 and 1.
    """

    name: str
    accuracy: Estimate
    majority: float
    p: float
    correct: NDArray[np.float64]

    @property
    def excess(self) -> float:
        """Accuracy above the majority, as a share."""
        return self.accuracy.value - self.majority


def control(column: Column, labels: ArrayLike, fold: ArrayLike, groups: ArrayLike | None = None) -> Control:
    """Guess the label of each fold from the other folds by ``column``.

    labels: (n,) int. fold: (n,) or (R, n) int, R repetitions. groups: (n,) int or None, what the folds kept
    together; the interval and ``p`` count groups, not images. Raises `BadData` for shapes that do not fit.
    """
    truth = np.asarray(labels)
    table = np.atleast_2d(np.asarray(fold))  # (R, n)
    if truth.ndim != 1 or table.shape[1] != truth.size or len(column.values) != truth.size:
        raise BadData(f"labels {truth.shape}, folds {table.shape}, column {column.values.shape}: one row per image")
    names, code = np.unique(truth, return_inverse=True)  # (C,), (n,)
    correct = np.zeros(truth.size)
    for one in table:
        for part in np.unique(one):
            test = one == part  # (n,)
            guess = guesses(column, column.values[~test], code[~test], column.values[test], names.size)
            correct[test] += guess == code[test]
    correct /= len(table)
    commonest = int(np.bincount(code).argmax())
    majority = code == commonest  # (n,)
    return Control(
        column.name,
        accuracy(correct, groups),
        float(majority.mean()),
        _p_above(correct - majority, groups),
        correct,
    )


def guesses(
    column: Column,
    seen: NDArray[np.float64],
    labels: NDArray[np.intp],
    asked: NDArray[np.float64],
    classes: int,
) -> NDArray[np.intp]:
    """(m,) class of each row of ``asked`` (m, d), from ``seen`` (k, d) whose ``labels`` (k,) are below
    ``classes``.

    Ties go to the class that is commoner among the seen.
    """
    prior = np.bincount(labels, minlength=classes) / max(labels.size, 1)  # (C,)
    if labels.size == 0:
        return np.zeros(len(asked), dtype=np.intp)
    levels, code = np.unique(seen, axis=0, return_inverse=True)  # (U, d), (k,)
    shape = (len(levels), classes)
    counts = sparse.coo_array((np.ones(labels.size), (code.reshape(-1), labels)), shape=shape).tocsr()  # (U, C)
    if column.kind in ("category", "naming"):
        voters = _same_level(levels[:, 0], asked[:, 0])  # (m, U)
    else:
        voters = _nearest(levels, np.bincount(code.reshape(-1)), asked)  # (m, U)
    guess = np.empty(len(asked), dtype=np.intp)
    step = max(_VOTES // classes, 1)
    for start in range(0, len(asked), step):
        votes = (voters[start : start + step] @ counts).toarray()  # (b, C)
        guess[start : start + step] = np.argmax(votes + 1e-6 * prior, axis=1)
    return guess


def metadata_controls(
    metadata: Metadata, labels: ArrayLike, groups: ArrayLike | None = None, *, seed: int, repeats: int = 2
) -> tuple[Control, ...]:
    """A control per column, and one of all columns together, under a stratified five-fold split.

    The split is at random for ``groups=None``, else it keeps the groups (n,) whole. Fewer folds where a class
    or the groups are too few; no control at all where not even two folds are possible.
    """
    truth = np.asarray(labels, dtype=np.intp)
    columns = (*metadata.columns, *_together(metadata.columns))
    fold = fold_table(truth, groups, seed=seed, repeats=repeats)
    return tuple(control(column, truth, fold, groups) for column in columns) if fold is not None else ()


def beating(controls: Sequence[Control], alpha: float = ALPHA) -> tuple[Control, ...]:
    """Those that beat the majority, Holm-adjusted over all of them, the best first."""
    if not controls:
        return ()
    adjusted = holm([one.p for one in controls])
    winners = [one for one, p in zip(controls, adjusted, strict=True) if p < alpha and one.excess > 0]
    return tuple(sorted(winners, key=lambda one: -one.accuracy.value))


def fold_table(
    labels: NDArray[np.intp], groups: ArrayLike | None, *, seed: int, repeats: int
) -> NDArray[np.intp] | None:
    """(R, n) fold of each image in each repetition; None where the images cannot be divided."""
    n_groups = labels.size if groups is None else np.unique(np.asarray(groups)).size
    smallest = int(np.unique(labels, return_counts=True)[1].min()) if labels.size else 0
    k = min(5, n_groups, max(smallest, 2))
    if k < 2 or np.unique(labels).size < 2:
        return None
    whole = None if groups is None else np.asarray(groups)
    return np.stack([folds(labels, whole, k, seed + r) for r in range(repeats)])  # (R, n)


def _same_level(levels: NDArray[np.float64], asked: NDArray[np.float64]) -> sparse.csr_array:
    """(m, U) 1 at the level that an image shares; nothing for a level never seen."""
    place = np.minimum(np.searchsorted(levels, asked), levels.size - 1)  # (m,)
    is_known = (levels[place] == asked).astype(np.float64)  # (m,)
    return sparse.coo_array((is_known, (np.arange(asked.size), place)), shape=(asked.size, levels.size)).tocsr()


def _nearest(levels: NDArray[np.float64], size: NDArray[np.intp], asked: NDArray[np.float64]) -> sparse.csr_array:
    """(m, U) 1 at the nearest levels that hold five images between them, all of a tie included. size:
    (U,).
    """
    k = min(NEIGHBOURS + _TIES, len(levels))
    found = spatial.KDTree(levels).query(asked, k=k)
    distance, index = (np.asarray(part).reshape(-1, k) for part in found)  # (m, k), (m, k)
    held = np.cumsum(size[index], axis=1)  # (m, k)
    last = np.minimum((held < NEIGHBOURS).sum(axis=1), k - 1)  # (m,)
    radius = np.take_along_axis(distance, last[:, None], axis=1)  # (m, 1)
    row, rank = np.nonzero(distance <= radius * (1 + 1e-9))  # (v,), (v,)
    votes = np.ones(row.size)
    return sparse.coo_array((votes, (row, index[row, rank])), shape=(len(asked), len(levels))).tocsr()


def _together(columns: Sequence[Column]) -> tuple[Column, ...]:
    parts = [_as_numbers(column) for column in columns if column.kind != "naming"]
    return (Column(_TOGETHER, "measure", np.concatenate(parts, axis=1)),) if len(parts) > 1 else ()  # (n, d)


def _as_numbers(column: Column) -> NDArray[np.float64]:
    if column.kind != "category":
        return column.values
    code = column.values[:, 0].astype(np.intp)  # (n,)
    common = np.argsort(-np.bincount(code), kind="stable")[:_MOST_LEVELS]  # (L,)
    return np.equal(code[:, None], common).astype(np.float64)  # (n, L)


def _p_above(difference: NDArray[np.float64], groups: ArrayLike | None) -> float:
    """One-sided p that the mean of ``difference`` (n,) is not above 0, whole groups being what was drawn."""
    n = difference.size
    n_groups = n if groups is None else np.unique(np.asarray(groups)).size
    if n_groups < 2 or difference.mean() <= 0:
        return 1.0 if difference.mean() <= 0 else 0.5
    variance = float(difference.var(ddof=1)) / n * design_effect(difference, groups)
    return float(stats.t.sf(difference.mean() / np.sqrt(variance), n_groups - 1)) if variance > 0 else 0.0
