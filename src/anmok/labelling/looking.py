"""What a model sees in the images: features for the head, and scores of the labels as words where it reads words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anmok import catalogue
from anmok.engine import Engine
from anmok.errors import Unsupported, Untranslatable
from anmok.inputs import Source
from anmok.load import Model, load
from anmok.results import Embedding, Failure
from anmok.tasks import Ask, Classify, Embed

Array = NDArray[np.float32]

EMBED: Ask[Embedding, Any] = Embed(space="features")


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """``features`` float32 (F,); ``words`` float32 (K,), how well each label fits as a word, or none where the model
    reads no words or not these."""

    features: Array
    words: Array | None = None


@runtime_checkable
class Looker(Protocol):
    """Anything that can look at images; for what is not a model or an engine of anmok."""

    def look(self, images: Sequence[Source], labels: tuple[str, ...]) -> list[Look | Failure]:
        """One look per image, in order; a ``Failure`` where one cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model of an engine: labelling shares its queue and its memory with everybody else."""

    engine: Engine
    name: str

    def look(self, images: Sequence[Source], labels: tuple[str, ...]) -> list[Look | Failure]:
        """As `Looker`; a full queue raises ``Busy``, and whoever asks tries again."""
        found = self.engine.run(self.name, images, EMBED)
        try:
            words = self.engine.run(self.name, images, Classify(labels))
        except (Unsupported, Untranslatable):
            return [one if isinstance(one, Failure) else Look(one.vector) for one in found]
        return [
            one
            if isinstance(one, Failure)
            else Look(one.vector, None if isinstance(scores, Failure) else scores.scores)
            for one, scores in zip(found, words, strict=True)
        ]


class Loaded:
    """A model of this process. Given by name, it is loaded by the first look."""

    def __init__(self, model: str | Model) -> None:
        if isinstance(model, str) and not model.startswith((".", "/", "~")):
            catalogue.card(model)  # a misspelt name fails here and now
        self._model = model

    def look(self, images: Sequence[Source], labels: tuple[str, ...]) -> list[Look | Failure]:
        """As `Looker`."""
        if isinstance(self._model, str):
            self._model = load(self._model)
        model = self._model
        answers = model.map(images, EMBED)
        found = list(answers)
        states = [model.state(one.vector) for one in found if not isinstance(one, Failure)]
        try:
            words = [scores.scores for scores in model.run(states, Classify(labels))]
        except (Unsupported, Untranslatable):
            words = []
        rows = iter(words)
        return [one if isinstance(one, Failure) else Look(one.vector, next(rows, None)) for one in found]


def looker_of(model: str | Model | Looker) -> Looker:
    """What looks at the images.

    Raises:
        UnknownModel: no card of that name.
    """
    return Loaded(model) if isinstance(model, str | Model) else model
