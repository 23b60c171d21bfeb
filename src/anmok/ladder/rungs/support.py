"""What a rung on cached features may see: the labelled images of one draw, and folds inside them to choose by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.splits import folds

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

FEW = 5  # images of the rarest class below which choosing costs more than it brings
INNER_FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """``features`` (n, F), ``labels`` (n,) below ``classes``, ``groups`` (n,) of images that belong together;
    ``flipped`` (n, F) are the features of the mirror images, where they were looked at."""

    features: Array
    labels: Labels
    groups: Labels
    classes: int
    flipped: Array | None = None

    @property
    def rarest(self) -> int:
        """The number of images of the rarest class that has any."""
        counts = np.bincount(self.labels, minlength=self.classes)
        return int(counts[counts > 0].min())

    @property
    def shots(self) -> float:
        """Images per class."""
        return len(self.labels) / self.classes

    def views(self) -> tuple[Array, Labels]:
        """Pictures and mirror images in one: (v n, F) and (v n,)."""
        if self.flipped is None:
            return self.features, self.labels
        return np.concatenate([self.features, self.flipped]), np.concatenate([self.labels, self.labels])

    def part(self, rows: Labels) -> Support:
        """Some of the images."""
        flipped = None if self.flipped is None else self.flipped[rows]
        return Support(self.features[rows], self.labels[rows], self.groups[rows], self.classes, flipped)

    def thinned(self, most: int, seed: int) -> Support:
        """At most ``most`` images of each class, drawn at random."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        kept = [order[self.labels[order] == k][:most] for k in range(self.classes)]
        return self.part(np.sort(np.concatenate(kept)))

    def drawn(self, most: int, seed: int) -> Support:
        """At most ``most`` images in all, drawn at random: the classes stay as common as they are."""
        if len(self.labels) <= most:
            return self
        return self.part(np.sort(np.random.default_rng(seed).permutation(len(self.labels))[:most]))

    def inner_folds(self, seed: int) -> Iterator[tuple[Labels, Labels]]:
        """(train, held) rows, groups kept whole; none where there is too little to choose by."""
        if self.rarest < FEW or len(np.unique(self.groups)) < 2 * INNER_FOLDS:
            return
        fold = folds(self.labels, self.groups, INNER_FOLDS, seed)
        for k in range(INNER_FOLDS):
            train, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            if len(train) > 0 and len(held) > 0:
                yield train, held
