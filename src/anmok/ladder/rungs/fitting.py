"""From a support set to a fitted rung, with every choice made inside that support set by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.splits import folds
from anmok.ladder.rungs import clap, clip_adapter, closed_form, linear, tiled, tip
from anmok.ladder.rungs.mixed import SHARES, USUAL, Extra, mixture
from anmok.ladder.rungs.order import LEARNED, MADE
from anmok.ladder.rungs.prolip import prolip
from anmok.ladder.rungs.support import FEW, INNER_FOLDS, Support
from anmok.load import Answerer, Head

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Towers:
    """The text side for the user's classes: unit rows (K, D), projection (F, D), factor and offset on cosines.
    ``is_makeshift``: the projection was put between two models that never saw each other, as `mini`'s."""

    texts: Array
    projection: Array
    temperature: float
    bias: float
    is_makeshift: bool = False

    def zero_shot(self) -> Head:
        """The head that asks the names alone, on features."""
        bias = np.full(len(self.texts), self.bias, np.float32)
        return Head(self.texts * self.temperature, bias, projection=self.projection, is_normalised=True)


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """The development pool: all that a rung may ever see. ``flipped`` are the features of the mirror images;
    ``made``: made pictures, for rung R alone."""

    features: Array  # (n, F)
    labels: Labels  # (n,)
    groups: Labels  # (n,)
    classes: int
    towers: Towers | None
    flipped: Array | None = None
    seed: int = 0
    made: Extra | None = None

    def shuffled(self) -> Material:
        """With permuted labels: the control that must land at chance."""
        order = np.random.default_rng(self.seed).permutation(len(self.labels))
        return replace(self, labels=self.labels[order])


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    head: Answerer
    variant: str  # what was chosen
    chosen_from: int  # candidates compared on the support's own labels


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    fit: Callable[[Labels], Head]  # rows of the support -> head
    strength: float | None = None  # of a logistic regression


def available(towers: Towers | None, has_made: bool = False) -> tuple[str, ...]:
    """The learned rungs that this model and, with ``has_made``, made pictures allow: without a text tower there is no
    projection to tune."""
    learned = LEARNED if towers is not None else LEARNED[:2]
    return (*learned, *MADE) if has_made else learned


def fit(rung: str, material: Material, support: Labels) -> Fitted:
    """The rung on the images ``support`` (indices into the pool)."""
    rarest = _rarest(material.labels[support], material.classes)
    if rung == "1":
        return _chosen(_closed_forms(material, support, rarest), material, support, rarest)
    if rung == "2":
        return _chosen(_linear_heads(material, support, rarest), material, support, rarest)
    if rung == "3":
        return Fitted(_projection(material, support), "lambda = 1 / shots", 1)
    if rung == "T":
        return _chosen(_on_tiles(material, support, rarest), material, support, rarest)
    if rung == "R":
        return _with_made(material, support, rarest)
    return _beside_names(rung, material, support)


def _beside_names(rung: str, material: Material, support: Labels) -> Fitted:
    """What is learned beside the zero-shot head, which stays in the answer."""
    assert material.towers is not None
    zero_shot = material.towers.zero_shot()
    flipped = None if material.flipped is None else material.flipped[support]
    rows, labels, groups = material.features[support], material.labels[support], material.groups[support]
    seen = Support(rows, labels, groups, material.classes, flipped)
    if rung == "3a":
        return Fitted(clip_adapter.bottleneck(seen, zero_shot, material.seed), f"share {clip_adapter.SHARE:g}", 1)
    if rung == "3d":
        return Fitted(clap.clap(seen, zero_shot), "held by the names", 1)
    fixed = tip.MEASURED if material.towers.is_makeshift else tip.PUBLISHED
    choose = tip.choose if rung == "3b" else tip.choose_learned
    chosen = choose(seen, zero_shot, material.seed, fixed)
    return Fitted(tip.answerer(seen, zero_shot, chosen, material.seed), str(chosen), chosen.compared)


def plain_linear(material: Material, support: Labels) -> Fitted:
    """Logistic regression on standardised features alone, its strength chosen inside the support: what a tower and
    its head are tuned from."""
    rarest = _rarest(material.labels[support], material.classes)
    return _chosen(_logistic(material, support, rarest), material, support, rarest)


def _on_tiles(material: Material, support: Labels, rarest: int) -> Sequence[_Candidate]:
    """Of a material whose features are joined."""
    rows, labels = material.features[support], material.labels[support]
    can_choose = _can_choose(material, support, rarest)
    return [_Candidate(name, run) for name, run in tiled.heads(rows, labels, material.classes, can_choose)]


def _with_made(material: Material, support: Labels, rarest: int) -> Fitted:
    """Rung 2's choice, then how much made pictures weigh beside the real ones; where they bring nothing, rung 2."""
    assert material.made is not None
    everything = np.arange(len(support))
    real, compared = _picked(_linear_heads(material, support, rarest), material, support, rarest)
    if not len(material.made.of(material.groups[support]).labels):
        return Fitted(real.fit(everything), f"{real.name}; no made picture may teach here", compared)
    # Where there are too few real pictures to choose by, the usual weight is taken, and the test says what it is worth.
    shares = [share for share in SHARES if share > 0] if _can_choose(material, support, rarest) else [USUAL]
    mixed = [_mixed(material, support, real.strength, share) for share in shares]
    best = mixed[0]
    if len(mixed) > 1:
        right = _right([real, *mixed], material, support)
        compared += len(mixed)
        best = mixed[int(np.argmax(right[1:].sum(1)))]
        if not _is_more(right[0], right[1:][mixed.index(best)]):
            return Fitted(real.fit(everything), f"{real.name}; made pictures brought nothing", compared)
    return Fitted(best.fit(everything), f"{real.name}; made pictures weigh {best.name} of the real ones", compared)


def _is_more(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """More pictures right, by more than one standard deviation of chance: the number of those on which the two differ
    has it as its root. With less, the best of several weights is often the luckiest one."""
    gain = int(after.sum()) - int(before.sum())
    return gain > 0 and gain**2 > int((before != after).sum())


def _mixed(material: Material, support: Labels, strength: float | None, share: float) -> _Candidate:
    """The linear head of that strength, or with the class names, on the rows and on pictures made of them."""
    towers = material.towers

    def run(rows: Labels) -> Head:
        chosen = support[rows]
        assert material.made is not None
        usable = material.made.of(material.groups[chosen])
        both = mixture(material.features[chosen], material.labels[chosen], usable, share)
        if strength is not None:
            return both.logistic(material.classes, strength)
        assert towers is not None
        return both.cross_modal(towers.texts, towers.projection)

    return _Candidate(f"{share:g}", run)


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
    heads: list[_Candidate] = []
    towers = material.towers
    if towers is not None:
        features, labels = material.features[support], material.labels[support]

        def with_names(rows: Labels) -> Head:
            return linear.cross_modal(features[rows], labels[rows], towers.texts, towers.projection)

        heads.append(_Candidate("logistic regression with the class names", with_names))
    return [*heads, *_logistic(material, support, rarest)]


def _logistic(material: Material, support: Labels, rarest: int) -> Sequence[_Candidate]:
    labels = material.labels[support]
    data = linear.standardise(material.features[support])

    def logistic(strength: float) -> _Candidate:
        def run(rows: Labels) -> Head:
            return linear.logistic(data.part(rows), labels[rows], material.classes, strength)

        return _Candidate(f"logistic regression, C = {strength:g}", run, strength)

    strengths = linear.STRENGTHS if rarest >= FEW else (linear.FIXED_STRENGTH,)
    return [logistic(strength) for strength in strengths]


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
    """The picked candidate on all of the support."""
    best, compared = _picked(candidates, material, support, rarest)
    return Fitted(best.fit(np.arange(len(support))), best.name, compared)


def _picked(
    candidates: Sequence[_Candidate], material: Material, support: Labels, rarest: int
) -> tuple[_Candidate, int]:
    """The candidate with the best inner accuracy; the earlier one at a tie; the first where nothing can be chosen.
    And how many were compared."""
    if len(candidates) == 1 or not _can_choose(material, support, rarest):
        return candidates[0], 1
    hits = _right(candidates, material, support).sum(1)
    return candidates[int(np.argmax(hits))], len(candidates)


def _right(candidates: Sequence[_Candidate], material: Material, support: Labels) -> NDArray[np.bool_]:
    """(C, n): which images of the support each candidate has right, fitted on the folds that they are not in."""
    labels = material.labels[support]
    fold = folds(labels, material.groups[support], INNER_FOLDS, material.seed)
    right = np.zeros((len(candidates), len(support)), np.bool_)
    for k in range(INNER_FOLDS):
        train, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(train) == 0 or len(held) == 0:
            continue
        for i, candidate in enumerate(candidates):
            head = candidate.fit(train)
            right[i, held] = predict(head, material.features[support[held]]) == labels[held]
    return right


def _can_choose(material: Material, support: Labels, rarest: int) -> bool:
    return rarest >= FEW and len(np.unique(material.groups[support])) >= 2 * INNER_FOLDS


def predict(head: Answerer, features: Array) -> Labels:
    """(n, F) to class indices (n,)."""
    return np.asarray(head.logits(features).argmax(1), np.int64)


def _rarest(labels: Labels, classes: int) -> int:
    counts = np.bincount(labels, minlength=classes)
    return int(counts[counts > 0].min())
