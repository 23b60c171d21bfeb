"""One rung, fitted on support sets of the pool, answered on the held-out images. No other module predicts them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import accuracy, balanced_accuracy, macro_f1
from anmok.ladder.outcome import Step
from anmok.ladder.rungs.fitting import Fitted, Material, fit, predict
from anmok.ladder.rungs.order import RUNGS
from anmok.load import Answerer, Model

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The images that answer for the rungs: the sealed test set, or a held-out fold."""

    features: Array  # (m, F)
    labels: Labels  # (m,)
    groups: Labels  # (m,)


@dataclass(frozen=True, slots=True)
class Price:
    """What the model itself costs, whichever rung stands on it."""

    ms_per_image: float
    megabytes: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    step: Step
    predicted: Labels  # (S, m)
    correct: NDArray[np.bool_]  # (S, m)
    logits: Array | None  # (m, K) of the first draw
    head: Answerer | None  # of the first draw
    chosen_from: int
    change: Mapping[str, Array] | None = None  # to the picture tower, where the rung tunes it
    student: Model | None = None  # on which head and change stand, where that is not the ladder's own model


def learned(
    key: str, shots: int | None, material: Material, supports: Sequence[Labels], held: Held, price: Price
) -> Evaluated:
    """A learned rung on each support set (indices into the pool)."""
    start = time.perf_counter()
    fitted = [fit(key, material, support) for support in supports]
    seconds = (time.perf_counter() - start) / len(supports)
    predicted = np.stack([predict(one.head, held.features) for one in fitted])  # (S, m)
    labels = len(supports[0])
    views = 2 if key.startswith("3") and material.flipped is not None else 1
    cost = _Cost(seconds, labels * views + _made(key, material), fitted[0].head.nbytes / 1e6)
    step = _step(_Label(key, RUNGS[key].name, _variant(fitted), shots, labels), predicted, held, cost, price)
    return Evaluated(
        step,
        predicted,
        predicted == held.labels,
        fitted[0].head.logits(held.features),
        fitted[0].head,
        max(one.chosen_from for one in fitted),
    )


def _made(key: str, material: Material) -> int:
    """Made pictures that the rung looks at."""
    return 0 if key != "R" or material.made is None else len(material.made.labels)


def fixed(
    key: str, rung: str, logits: Array, head: Answerer | None, held: Held, price: Price, variant: str = ""
) -> Evaluated:
    """A rung that learned nothing: zero-shot, from its logits (m, K)."""
    predicted = logits.argmax(1)[None]  # (1, m)
    cost = _Cost(0.0, 0, 0.0 if head is None else head.nbytes / 1e6)
    step = _step(_Label(key, rung, variant, 0, 0), predicted, held, cost, price)
    return Evaluated(step, predicted, predicted == held.labels, logits, head, 0)


def cross_fitted(key: str, material: Material, fold: Labels, held: Held, price: Price) -> Evaluated:
    """Where there is no test set: each image is answered by a rung fitted, choices included, on the other folds.

    ``held`` are the material's own images, in order. The head is fitted on all of them, for shipping.
    """
    start = time.perf_counter()
    logits = np.zeros((len(held.labels), material.classes), np.float32)
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        logits[rows] = fit(key, material, np.flatnonzero(fold != k)).head.logits(held.features[rows])
    everything = fit(key, material, np.arange(len(held.labels)))
    seconds = (time.perf_counter() - start) / (len(np.unique(fold)) + 1)
    predicted = logits.argmax(1)[None]  # (1, m)
    labels = len(held.labels)
    cost = _Cost(seconds, labels + _made(key, material), everything.head.nbytes / 1e6)
    step = _step(_Label(key, RUNGS[key].name, everything.variant, None, labels), predicted, held, cost, price)
    return Evaluated(step, predicted, predicted == held.labels, logits, everything.head, everything.chosen_from)


def averaged(shots: int, found: Sequence[Evaluated], held: Held) -> Evaluated:
    """One rung at ``shots`` labels a class, from a run on each of several draws."""
    first = found[0]
    predicted = np.concatenate([one.predicted for one in found])  # (S, m)
    step, correct = first.step, predicted == held.labels
    step = replace(
        step,
        shots=shots,
        draws=len(predicted),
        accuracy=accuracy(correct, held.groups),
        balanced_accuracy=float(np.mean([balanced_accuracy(held.labels, row) for row in predicted])),
        macro_f1=float(np.mean([macro_f1(held.labels, row) for row in predicted])),
        seconds=float(np.mean([one.step.seconds for one in found])),
        cold_seconds=float(np.mean([one.step.cold_seconds for one in found])),
    )
    return replace(first, step=step, predicted=predicted, correct=correct)


def tuned_step(
    key: str,
    variant: str,
    stage: tuple[Held, Price],
    predicted: Labels,
    seconds: float,
    kept: tuple[int, int],
) -> Step:
    """The step of a rung that was fitted once, elsewhere, on all labels of the pool.

    Args:
        key: of the rung.
        variant: what was chosen.
        stage: the images that answer, and what the model costs.
        predicted: (1, m).
        seconds: that it took.
        kept: labels used, and bytes of what was learned.
    """
    held, price = stage
    labels, nbytes = kept
    cost = _Cost(seconds, labels, nbytes / 1e6)
    return _step(_Label(key, RUNGS[key].name, variant, None, labels), predicted, held, cost, price)


@dataclass(frozen=True, slots=True)
class _Label:
    key: str
    rung: str
    variant: str
    shots: int | None
    labels: int


@dataclass(frozen=True, slots=True)
class _Cost:
    seconds: float
    pictures: int  # that have to be looked at before
    head_megabytes: float


def _step(label: _Label, predicted: Labels, held: Held, cost: _Cost, price: Price) -> Step:
    correct = predicted == held.labels
    return Step(
        key=label.key,
        rung=label.rung,
        variant=label.variant,
        shots=label.shots,
        labels=label.labels,
        draws=len(predicted),
        accuracy=accuracy(correct, held.groups),
        balanced_accuracy=float(np.mean([balanced_accuracy(held.labels, row) for row in predicted])),
        macro_f1=float(np.mean([macro_f1(held.labels, row) for row in predicted])),
        seconds=cost.seconds,
        cold_seconds=cost.seconds + cost.pictures * price.ms_per_image / 1e3,
        ms_per_image=price.ms_per_image,
        megabytes=price.megabytes + cost.head_megabytes,
        head_megabytes=cost.head_megabytes,
    )


def _variant(fitted: Sequence[Fitted]) -> str:
    """What most draws chose."""
    names = [one.variant for one in fitted]
    return max(sorted(set(names)), key=names.count)
