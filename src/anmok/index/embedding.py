"""Who makes the vectors: a model of this process, or one that an engine serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from anmok import words
from anmok.catalogue import Card
from anmok.engine import Engine
from anmok.errors import BadMedia, BadRequest, Closing, Refused, Unsupported
from anmok.inputs import Item, Source, Text
from anmok.load import Model
from anmok.results import Embedding, Failure
from anmok.tasks import Embed

Array = NDArray[np.float32]
T = TypeVar("T")

_LONGEST: Final = 2000  # letters of a question
_PATIENCE: Final = 5.0  # seconds between two tries, at the most


class Embedder(Protocol):
    """Makes the vectors of an index."""

    @property
    def card(self) -> Card: ...

    @property
    def maker(self) -> str:
        """The model with revision, preprocessing and dtype: vectors of different makers do not mix."""
        ...

    def embed(self, items: Sequence[Item]) -> list[Embedding | Failure]:
        """One vector per item, in the space that pictures and texts share."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model of this process."""

    model: Model

    @property
    def card(self) -> Card:
        return self.model.card

    @property
    def maker(self) -> str:
        return self.model.maker

    def embed(self, items: Sequence[Item]) -> list[Embedding | Failure]:
        answers = self.model.map(items, Embed())
        return list(answers)


@dataclass(frozen=True, slots=True)
class Served:
    """A model of an engine: the index shares its queue and its memory with everybody else, and waits where the queue
    is full. ``name`` is the served one, ``card`` that of the model; ``priority`` as ``Engine.submit`` takes it."""

    engine: Engine
    name: str
    card: Card
    priority: int = 0

    @property
    def maker(self) -> str:
        with self.engine.lend(self.name) as model:
            return model.maker

    def embed(self, items: Sequence[Item]) -> list[Embedding | Failure]:
        return self._patiently(lambda: self.engine.run(self.name, items, Embed(), priority=self.priority))

    def _patiently(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except Closing:
                raise
            except Refused as error:
                time.sleep(min(error.retry_after, _PATIENCE))


def by_words(embedder: Model | Embedder, text: str) -> Array:
    """What is looked for, as a vector (D,). Korean is read through our tables where the model reads English only.

    Raises:
        BadRequest: no text, or a very long one.
        Unsupported: the model reads no text.
        Untranslatable: Korean that neither the model nor the tables know.
    """
    card = embedder.card
    if not card.languages:
        raise Unsupported(f"{card.name} reads no words: show it a photo, or take a model that does, such as mini")
    if not text.strip() or len(text) > _LONGEST:
        raise BadRequest(f"words to look for: want 1 to {_LONGEST:,} letters, got {len(text.strip()):,}")
    [read] = words.english((text.strip(),), card.languages)
    return _one(embedder, Text(read))


def by_photo(embedder: Model | Embedder, photo: Source) -> Array:
    """A photo to find the like of, as a vector (D,).

    Raises:
        BadMedia: it cannot be read.
    """
    return _one(embedder, photo)


def embedder_of(one: Model | Embedder) -> Embedder:
    """Models of this process as they are."""
    return Loaded(one) if isinstance(one, Model) else one


def _one(embedder: Model | Embedder, item: Item) -> Array:
    [found] = embedder_of(embedder).embed([item])
    if isinstance(found, Failure):
        raise found.error
    return found.vector


def checked(found: Sequence[Embedding | Failure]) -> Sequence[Embedding | Failure]:
    """The same, where every failure is a picture's own fault.

    Raises:
        AnmokError: whatever else keeps the model from answering.
    """
    for one in found:
        if isinstance(one, Failure) and not isinstance(one.error, BadMedia):
            raise one.error
    return found
