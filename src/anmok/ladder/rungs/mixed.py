"""Rung R, real and made pictures together: rung 2's linear head, with made pictures at a weight that real ones choose.

Real pictures alone judge, inside folds of the support, and no made picture teaches where its source judges. How many
are taken and how they are weighed is ``anmok.synth.balance``'s; what is chosen here is how much they weigh, and 0,
which is rung 2 itself, is among the choices. Every class weighs as much in all as its real pictures are, made ones or
not: else a class with made pictures would become louder, and what that alone brings be taken for the pictures' doing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.ladder.rungs import linear
from anmok.load import Head
from anmok.synth import MAX_RATIO, WEIGHT, balance

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Labels = NDArray[np.int64]

SHARES = (0.0, 0.25, 0.5, 1.0)  # what the made pictures of a class weigh together, the real ones being 1
USUAL = WEIGHT  # where there are too few real ones to choose by


@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """Made pictures. ``sources``: the groups of the real pictures that are in each; none where it was made of pictures
    that are not among the data, or of nothing real."""

    features: Array  # (k, F)
    labels: Labels  # (k,)
    sources: tuple[frozenset[int], ...]

    def of(self, groups: Labels) -> Extra:
        """Those with no source outside these groups."""
        inside = set(groups.tolist())
        rows = np.asarray([i for i, one in enumerate(self.sources) if one <= inside], np.int64)  # (j,)
        return Extra(self.features[rows], self.labels[rows], tuple(self.sources[i] for i in rows))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Real pictures, then made ones."""

    features: Array  # (n + k, F)
    labels: Labels  # (n + k,)
    weights: Double  # (n + k,)

    def logistic(self, classes: int, strength: float) -> Head:
        """Logistic regression on standardised features."""
        data = linear.standardise(self.features, self.weights)
        return linear.logistic(data, self.labels, classes, strength, self.weights)

    def cross_modal(self, texts: Array, projection: Array) -> Head:
        """Logistic regression on pictures and class names."""
        return linear.cross_modal(self.features, self.labels, texts, projection, self.weights)


def mixture(features: Array, labels: Labels, extra: Extra, share: float) -> Mixture:
    """At most ten made pictures for each real one of a class, that together weigh ``share`` of the real ones. All of a
    class weigh as much as it has real pictures, so that the penalty and the classes' shares stay rung 2's.

    Args:
        features: (n, F) of the real ones.
        labels: (n,).
        extra: made pictures that may teach here; their sources are the caller's to look at.
        share: 0 to 1.
    """
    mix = balance([str(k) for k in labels], [str(k) for k in extra.labels], MAX_RATIO, share)
    both = np.concatenate([labels, extra.labels[mix.indices]])  # (n + k,)
    weights = np.concatenate([mix.real_weights, mix.made_weights]) / mix.real_weights[0]  # (n + k,)
    for k in np.unique(labels):
        weights[both == k] *= (labels == k).sum() / weights[both == k].sum()
    return Mixture(np.concatenate([features, extra.features[mix.indices]]), both, weights)
