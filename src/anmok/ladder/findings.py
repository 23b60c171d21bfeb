"""What else the predictions show: controls, classes, confusions, doubtful labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.controls import Control as MetadataControl
from anmok.evidence.groups import DuplicateGroups
from anmok.evidence.intervals import accuracy
from anmok.evidence.splits import folds
from anmok.ladder.evaluate import Evaluated, Held
from anmok.ladder.outcome import LISTED, ClassRow, Confusion, Control, DuplicatePair, Suspect
from anmok.ladder.rungs.fitting import Material, fit, predict
from anmok.load import Head

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

_CONFUSIONS, _EXAMPLES = 8, 4
_SURE = 0.9  # how sure the other folds must be of a doubtful label
_FOLDS = 5


def controls(
    material: Material, held: Held, grey: Array, words: Head | None, metadata: Sequence[MetadataControl]
) -> tuple[Control, ...]:
    """Predictors that must fail: the majority class, shuffled labels, random words, a grey picture, metadata."""
    commonest = int(np.bincount(material.labels, minlength=material.classes).argmax())
    majority = accuracy(held.labels == commonest, held.groups)
    level = majority.value
    everything = np.arange(len(material.labels))
    shuffled = fit("2", material.shuffled(), everything).head
    blind = fit("2", material, everything).head
    rows = [
        ("majority", np.full(len(held.labels), commonest), level),
        ("shuffled labels", predict(shuffled, held.features), level),
        ("grey image", np.repeat(predict(blind, grey[None]), len(held.labels)), level),
    ]
    if words is not None:
        rows.append(("random words", predict(words, held.features), max(level, 1 / material.classes)))
    found = []
    for name, predicted, expected in rows:
        estimate = accuracy(predicted == held.labels, held.groups)
        found.append(Control(name, estimate, expected, estimate.interval.low > expected))
    for control in metadata:
        is_suspicious = control.accuracy.interval.low > control.majority
        found.append(Control(f"metadata: {control.name}", control.accuracy, control.majority, is_suspicious))
    return tuple(found)


def per_class(best: Evaluated, held: Held, names: Sequence[str], counts: Sequence[int]) -> tuple[ClassRow, ...]:
    """Recall with its interval and precision of each class, over all draws."""
    rows = []
    for index, name in enumerate(names):
        mask = held.labels == index
        said = best.predicted == index  # (S, m)
        precision = float((said & mask).sum() / said.sum()) if said.any() else None
        recall = accuracy(best.correct[:, mask], held.groups[mask])
        rows.append(ClassRow(name, int(counts[index]), int(mask.sum()), recall, precision))
    return tuple(rows)


def confusions(best: Evaluated, held: Held, test: Labels, names: Sequence[str]) -> tuple[Confusion, ...]:
    """The commonest mistakes of the first draw, with images that show them."""
    predicted = best.predicted[0]
    wrong = np.flatnonzero(predicted != held.labels)
    pairs: dict[tuple[int, int], list[int]] = {}
    for row in wrong:
        pairs.setdefault((int(held.labels[row]), int(predicted[row])), []).append(int(test[row]))
    commonest = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))[:_CONFUSIONS]
    return tuple(
        Confusion(names[truth], names[said], len(rows), tuple(rows[:_EXAMPLES])) for (truth, said), rows in commonest
    )


def suspects(key: str, material: Material, pool: Labels, names: Sequence[str]) -> tuple[Suspect, ...]:
    """Labels of the pool that models trained on the other folds contradict with confidence.

    After Northcutt et al., "Confident Learning" (JAIR 2021): out-of-fold self-confidence.
    """
    count = min(_FOLDS, len(np.unique(material.groups)))
    if count < 2:
        return ()
    fold = folds(material.labels, material.groups, count, material.seed)
    found = []
    for k in range(count):
        train, rows = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(rows) == 0 or len(np.unique(material.labels[train])) < material.classes:
            continue
        chances = _softmax(fit(key, material, train).head.logits(material.features[rows]))  # (r, K)
        said = chances.argmax(1)
        for row, guess, chance in zip(rows, said, chances, strict=True):
            if guess != material.labels[row] and chance[guess] >= _SURE:
                given = names[int(material.labels[row])]
                found.append(Suspect(int(pool[row]), given, names[int(guess)], float(chance[guess])))
    return tuple(sorted(found, key=lambda one: (-one.confidence, one.index))[:LISTED])


def pairs(duplicates: DuplicateGroups, labels: Labels) -> tuple[DuplicatePair, ...]:
    """The nearest pairs, those under two labels first."""
    rows = [
        DuplicatePair(i, j, cosine, bool(labels[i] != labels[j]), int(labels[i]), int(labels[j]))
        for i, j, cosine, _ in duplicates.pairs
    ]
    return tuple(sorted(rows, key=lambda pair: (not pair.is_conflict, -pair.cosine))[:LISTED])


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)
