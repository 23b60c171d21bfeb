"""A vision-language model on the held-out pictures: how likely it holds each class to be the answer.

On rung V0 it is asked about the picture alone. On rung V some pictures of the pool stand before it, each with its
label as the answer; no picture is shown to a question about one of its own group.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anmok.choosing import asked
from anmok.errors import AnmokError, BadRequest
from anmok.evidence.splits import folds
from anmok.inputs import Encoded
from anmok.ladder.asking.examples import nearest
from anmok.ladder.beside import Beside
from anmok.ladder.evaluate import Evaluated, Price, fixed, tuned_step
from anmok.ladder.plan import Plan
from anmok.ladder.rungs.order import RUNGS
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.skipped import Skipped, too_long
from anmok.load import Model, load
from anmok.load.decision import logits_of
from anmok.tasks import Chats, Classify, Encoder

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

ALONE: Final = "V0"
SHOWN: Final = "V"
MOST: Final = 8  # examples: more make an answer dearer than the models of the rungs below are in a hundred
SHARE: Final = 0.5  # of what is left of the budget
_REHEARSED: Final = 3  # pictures that are timed before
_KEPT: Final = 2**28  # bytes of examples as the model sees them


def opened(plan: Plan, beside: Beside) -> Model | str:
    """The model that is asked, or why there is none."""
    found = beside.vlm
    try:
        found = load(plan.vlm) if found is None else found
    except AnmokError as error:  # no weights, no licence: the rest of the climb stands without it
        return str(error)
    if isinstance(found, str):
        return found
    if not isinstance(found.kind, Chats):
        return f"{found.card.name} does not talk; take it as the model of the ladder, --model"
    if not found.kind.most_pictures or not isinstance(found.kind, Encoder):
        return f"{found.card.name} only reads: it looks at no picture"
    if "classify" not in found.card.tasks:
        return f"{found.card.name} does not say how likely a label is"
    return found


def climb_asked(key: str, ground: Ground, model: Model, seconds: float, count: int) -> Evaluated | Skipped:
    """One of the two rungs within ``seconds``, or the reason for leaving it out. ``count``: folds, where the pictures
    that answer are the pool's own."""
    most = 0 if key == ALONE else min(MOST, model.kind.most_pictures - 1)
    if key == SHOWN and most < 1:
        return Skipped(
            key, f"{model.card.name} takes one picture in a conversation: no example beside the one asked about"
        )
    asking = Asking(ground, model, most, _fold(ground, count))
    try:
        needed = asking.rehearsed(seconds) * len(ground.scene.test)
        if key == SHOWN and asking.used == {0}:
            return Skipped(key, f"not one example fits into the context of {model.card.name}")
        if needed > seconds:
            return Skipped(key, too_long(needed, SHARE))
        asking.used.clear()
        start = time.perf_counter()
        rows, told = [], ground.told(RUNGS[key].name)
        for done, row in enumerate(asking.answers(ground.scene.test)):
            rows.append(row)
            if told is not None:
                told(done + 1, len(ground.scene.test))
    except BadRequest as error:  # the question alone is too long: a hundred classes, a small context
        return Skipped(key, str(error))
    return _evaluated(key, asking, np.stack(rows), (time.perf_counter() - start) / len(rows))


def zero_shot_logits(model: Model, ground: Ground, rows: Labels) -> Array:
    """(n, K) of pictures of the pool, by their rows."""
    return np.stack([*Asking(ground, model, 0, None).answers(ground.scene.pool[rows])])


@dataclass(eq=False)
class Asking:
    """Questions to one model. ``fold`` (n,) of the pool keeps apart what may not be shown to each other; without, the
    pictures that answer are no part of the pool. ``used``: how many examples there were before questions."""

    ground: Ground
    model: Model
    most: int
    fold: Labels | None
    used: set[int] = field(default_factory=set)
    _states: OrderedDict[int, Encoded] = field(default_factory=OrderedDict)

    def rehearsed(self, seconds: float) -> float:
        """Seconds for a question, the median of some about pictures of the pool; fewer where the time is over."""
        pool, times = self.ground.scene.pool, []
        for row in np.unique(np.linspace(0, len(pool) - 1, _REHEARSED).astype(int)):
            start = time.perf_counter()
            self._logits(int(pool[row]), int(row) if self.fold is None else None)
            times.append(time.perf_counter() - start)
            if sum(times) > seconds:
                break
        return float(np.median(times))

    def answers(self, indices: Labels) -> Iterator[Array]:
        """(K,) for each picture of the scene, up to a constant the logarithms of its chances."""
        for index in indices.tolist():
            yield self._logits(index, None)

    def _logits(self, index: int, without: int | None) -> Array:
        """``without``: a row of the pool that may not be shown."""
        scene = self.ground.scene
        rows = self._examples(index, without)
        [picture] = self.model.encode([scene.dataset.paths[index]])
        while True:
            shown: list[tuple[Encoded, str]] = [
                (self._state(int(scene.pool[row])), scene.dataset.classes[scene.labels[scene.pool[row]]])
                for row in rows
            ]
            said = asked(picture, scene.dataset.classes, self.model.card.languages, shown)
            try:
                [scores] = self.model.run([said], Classify(scene.dataset.classes))
            except BadRequest:
                if not len(rows):
                    raise
                rows = rows[1:]  # without the farthest it may fit
                continue
            self.used.add(len(rows))
            return logits_of(scores).astype(np.float32)

    def _examples(self, index: int, without: int | None) -> Labels:
        """Rows of the pool."""
        material = self.ground.material
        if not self.most:
            return np.zeros(0, np.int64)
        may = np.ones(len(material.labels), np.bool_)
        if self.fold is not None:
            may = self.fold != self.fold[np.flatnonzero(self.ground.scene.pool == index)[0]]
        elif without is not None:
            may = material.groups != material.groups[without]
        allowed = np.flatnonzero(may)
        features = self.ground.scene.looked.features[index]
        return allowed[nearest(material.features[allowed], material.labels[allowed], features, self.most)]

    def _state(self, index: int) -> Encoded:
        """An example, looked at once."""
        if index not in self._states:
            [self._states[index]] = self.model.encode([self.ground.scene.dataset.paths[index]])
        self._states.move_to_end(index)
        while len(self._states) > 1 and sum(one.nbytes for one in self._states.values()) > _KEPT:
            self._states.popitem(last=False)
        return self._states[index]


def _fold(ground: Ground, count: int) -> Labels | None:
    if not ground.scene.is_development:
        return None
    return folds(ground.material.labels, ground.material.groups, count, ground.plan.seed)


def _evaluated(key: str, asking: Asking, logits: Array, seconds: float) -> Evaluated:
    """As measured; ``seconds`` for a picture. The examples of rung V are found by the ladder's own model."""
    ground, model = asking.ground, asking.model
    own = Price(seconds * 1e3, model.memory_bytes / 1e6)
    if key == ALONE:
        found = fixed(key, RUNGS[key].name, logits, None, ground.held, own, model.card.name)
        return replace(found, student=model)
    price = Price(own.ms_per_image + ground.price.ms_per_image, own.megabytes + ground.price.megabytes)
    predicted = logits.argmax(1)[None]  # (1, m)
    labels = len(ground.material.labels)
    step = tuned_step(key, _variant(asking), (ground.held, price), predicted, 0.0, (labels, 0))
    step = replace(step, cold_seconds=labels * ground.price.ms_per_image / 1e3)
    return Evaluated(step, predicted, predicted == ground.held.labels, logits, None, 0, student=model)


def _variant(asking: Asking) -> str:
    fewest, most = min(asking.used), max(asking.used)
    return f"{asking.model.card.name}, {_spread(fewest, most)} in context"


def _spread(fewest: int, most: int) -> str:
    if fewest < most:
        return f"{fewest} to {most} examples"
    return "1 example" if most == 1 else f"{most} examples"
