"""From a support set to a fitted rung, with every choice made inside that support set by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.splits import folds
from anmok.ladder.rungs import closed_form, linear
from anmok.ladder.rungs.prolip import prolip
from anmok.load import Head

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

FEW = 5  # images of the rarest class below which choosing costs more than it brings
INNER_FOLDS = 3
LEARNED = ("1", "2", "3")


@dataclass(frozen=True, slots=True, eq=False)
class Towers:
    """The text side for the user's classes: unit rows (K, D), projection (F, D), factor and offset on cosines."""

    texts: Array
    projection: Array
    temperature: float
    bias: float


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """The development pool: all that a rung may ever see. ``flipped`` are the features of the mirror images."""

    features: Array  # (n, F)
    labels: Labels  # (n,)
    groups: Labels  # (n,)
    classes: int
    towers: Towers | None
    flipped: Array | None = None
    seed: int = 0

    def shuffled(self) -> Material:
        """With permuted labels: the control that must land at chance."""
        order = np.random.default_rng(self.seed).permutation(len(self.labels))
        return Material(
            self.features, self.labels[order], self.groups, self.classes, self.towers, self.flipped, self.seed
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    head: Head
    variant: str  # what was chosen
    chosen_from: int  # candidates compared on the support's own labels


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    fit: Callable[[Labels], Head]  # rows of the support -> head


def available(towers: Towers | None) -> tuple[str, ...]:
    """The learned rungs that this model allows: without a text tower there is no projection to tune."""
    return LEARNED if towers is not None else LEARNED[:2]


def fit(rung: str, material: Material, support: Labels) -> Fitted:
    """The rung on the images ``support`` (indices into the pool)."""
    rarest = _rarest(material.labels[support], material.classes)
    if rung == "1":
        return _chosen(_closed_forms(material, support, rarest), material, support, rarest)
    if rung == "2":
        return _chosen(_linear_heads(material, support, rarest), material, support, rarest)
    return Fitted(_projection(material, support), "lambda = 1 / shots", 1)


def _closed_forms(material: Material, support: Labels, rarest: int) -> Sequence[_Candidate]:
    features, labels = material.features[support], material.labels[support]

    def means(rows: Labels) -> Head:
        return closed_form.prototype(features[rows], labels[rows], material.classes)

    def discriminant(rows: Labels) -> Head:
        return closed_form.gda(features[rows], labels[rows], material.classes)

    nearest, gaussian = (
        _Candidate("nearest class mean", means),
        _Candidate("Gaussian discriminant", discriminant),
    )
    return (nearest,) if rarest < 2 else (gaussian, nearest)


def _linear_heads(material: Material, support: Labels, rarest: int) -> Sequence[_Candidate]:
    features, labels = material.features[support], material.labels[support]
    data = linear.standardise(features)

    def logistic(strength: float) -> _Candidate:
        def run(rows: Labels) -> Head:
            return linear.logistic(data.part(rows), labels[rows], material.classes, strength)

        return _Candidate(f"logistic regression, C = {strength:g}", run)

    heads: list[_Candidate] = []
    towers = material.towers
    if towers is not None:

        def with_names(rows: Labels) -> Head:
            return linear.cross_modal(features[rows], labels[rows], towers.texts, towers.projection)

        heads.append(_Candidate("logistic regression with the class names", with_names))
    strengths = linear.STRENGTHS if rarest >= FEW else (linear.FIXED_STRENGTH,)
    return [*heads, *(logistic(strength) for strength in strengths)]


def _projection(material: Material, support: Labels) -> Head:
    assert material.towers is not None
    towers = material.towers
    rows, labels = material.features[support], material.labels[support]
    if material.flipped is not None:
        rows = np.concatenate([rows, material.flipped[support]])
        labels = np.concatenate([labels, labels])
    shots = len(support) / material.classes
    return prolip(rows, labels, towers.texts, towers.projection, towers.temperature, shots)


def _chosen(candidates: Sequence[_Candidate], material: Material, support: Labels, rarest: int) -> Fitted:
    """The candidate with the best inner accuracy; the earlier one at a tie; the first where nothing can be chosen."""
    everything = np.arange(len(support))
    has_groups = len(np.unique(material.groups[support])) >= 2 * INNER_FOLDS
    if len(candidates) == 1 or rarest < FEW or not has_groups:
        return Fitted(candidates[0].fit(everything), candidates[0].name, 1)
    labels = material.labels[support]
    fold = folds(labels, material.groups[support], INNER_FOLDS, material.seed)
    hits = np.zeros(len(candidates))
    for k in range(INNER_FOLDS):
        train, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(train) == 0 or len(held) == 0:
            continue
        for i, candidate in enumerate(candidates):
            head = candidate.fit(train)
            hits[i] += (predict(head, material.features[support[held]]) == labels[held]).sum()
    best = candidates[int(np.argmax(hits))]
    return Fitted(best.fit(everything), best.name, len(candidates))


def predict(head: Head, features: Array) -> Labels:
    """(n, F) to class indices (n,)."""
    return np.asarray(head.logits(features).argmax(1), np.int64)


def _rarest(labels: Labels, classes: int) -> int:
    counts = np.bincount(labels, minlength=classes)
    return int(counts[counts > 0].min())
