"""Rung T: a linear head on what the tiles of a photo have in common and on the strongest of each feature.

Three ways were measured on drawn defects and on circuit boards (docs/tiles.md): heads on single tiles whose logits are
joined (largest, mean of the three largest, noisy-or, mean), with the tiles' labels found in turns (Andrews et al.,
"Support vector machines for multiple-instance learning", NIPS 2002), and one head on joined features. The last was
better throughout: a head on single tiles has to tell a flaw from the few tiles that show one, among many that only bear
its photo's label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from anmok.ladder.rungs import linear
from anmok.load import Head
from anmok.tiles import JOINS

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Fit = Callable[[Labels], Head]  # rows -> head

STRONGEST_AND_MEAN, MEAN, EVERYTHING = (1, 2), (2,), (0, 1, 2)  # places in ``tiles.joined``
_WORDS = {STRONGEST_AND_MEAN: "strongest and mean", MEAN: "mean", EVERYTHING: "whole, strongest and mean"}


def heads(features: Array, labels: Labels, classes: int, can_choose: bool) -> Sequence[tuple[str, Fit]]:
    """What rung T may choose from, the usual first.

    Args:
        features: joined, (n, 3 F).
        labels: (n,) below ``classes``.
        classes: K.
        can_choose: whether there are images enough; otherwise the usual alone.
    """
    fixed = linear.FIXED_STRENGTH
    usual = _Part(features, STRONGEST_AND_MEAN)
    found = [usual.head(labels, classes, fixed)]
    if can_choose:
        others = [strength for strength in linear.STRENGTHS if strength != fixed]
        found += [usual.head(labels, classes, strength) for strength in others]
        found += [_Part(features, parts).head(labels, classes, fixed) for parts in (MEAN, EVERYTHING)]
    return found


class _Part:
    """Some of the joined features (n, 3 F), standardised once for all heads on them."""

    def __init__(self, features: Array, parts: tuple[int, ...]) -> None:
        self._width = features.shape[1]
        each = self._width // JOINS
        self._columns = np.concatenate([np.arange(part * each, (part + 1) * each) for part in parts])  # (P F,)
        self._data = linear.standardise(features[:, self._columns])
        self._words = _WORDS[parts]

    def head(self, labels: Labels, classes: int, strength: float) -> tuple[str, Fit]:
        """Its name, and what fits it to some of the rows."""

        def run(rows: Labels) -> Head:
            head = linear.logistic(self._data.part(rows), labels[rows], classes, strength)
            return _widened(head, self._columns, self._width)

        return f"{self._words} of the tiles, C = {strength:g}", run


def _widened(head: Head, columns: Labels, width: int) -> Head:
    """The same head on all columns: those that it does not read weigh nothing."""
    assert head.mean is not None
    assert head.scale is not None
    weight = np.zeros((len(head.bias), width), np.float32)  # (K, 3 F)
    mean, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
    weight[:, columns], mean[columns], scale[columns] = head.weight, head.mean, head.scale
    return Head(weight, head.bias, mean=mean, scale=scale)
