"""What ``load`` returns: a model that answers asks, in Python exactly as behind the CLI and the server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.catalogue import Card
from anmok.errors import AnmokError, BadRequest, Unsupported, WrongState
from anmok.inputs import Encoded, Item, Source, Text
from anmok.load.adapter import Adapter
from anmok.results import Embedding, Failure, Result, Scores
from anmok.tasks import Ask, Classify, Embed, Encoder, Projects, Setup

R = TypeVar("R", bound=Result)

BATCH = 16  # beyond this a CPU gains nothing and memory grows
_DECODERS = 2


class Model:
    """A loaded model. Safe to share between threads: preparing is re-entrant, the net has one lock."""

    def __init__(self, card: Card, kind: Any, setup: Setup, adapter: Adapter | None = None) -> None:
        self.card = card
        self.adapter = adapter
        self.kind: Any = kind  # what the model file made; for models made of this one
        self._setup = setup
        self._lock = threading.Lock()
        pixels = hashlib.sha256(repr(setup.pixels).encode()).hexdigest()[:12]
        self.maker = f"{card.name}@{setup.revision}#{pixels}/{setup.dtype}"

    def run(self, items: Sequence[Item], ask: Ask[R, Any]) -> list[R]:
        """One answer per item, in order, alone or in any batch the same within 1e-5.

        Args:
            items: pictures (path, bytes, PIL, array), ``Encoded`` states, or ``Text`` for ``Embed``.
            ask: the question; its type fixes the type of the answers.

        Raises:
            Unsupported: the card does not claim the task.
            BadMedia: a picture cannot be read; ``map`` goes on instead.
            WrongState: a state of another model.
        """
        self._check(ask)
        completed = self._complete(ask)
        answers: list[R] = []
        for start in range(0, len(items), BATCH):
            states = self._states(items[start : start + BATCH])
            answers += self._answer(states, completed)
        return answers

    def encode(self, images: Sequence[Source]) -> list[Encoded]:
        """Each picture once, for many asks."""
        states: list[Encoded] = []
        for start in range(0, len(images), BATCH):
            states += cast("list[Encoded]", self._states(images[start : start + BATCH]))
        return states

    def map(
        self, items: Iterable[Item], ask: Ask[R, Any], *, on_error: Literal["return", "raise"] = "return"
    ) -> Iterator[R | Failure]:
        """As ``run`` over any number of items, decoding ahead; with ``on_error="return"`` a ``Failure`` stands in
        the place of an item that could not be read."""
        self._check(ask)
        completed = self._complete(ask)
        for batch, ready in self._ahead(items):
            yield from self._answer_each(batch, ready, completed, on_error)

    def classify(self, image: Item, labels: Sequence[str] | None = None, *, threshold: float = 0.0) -> Scores:
        """Which of the labels fits the picture?"""
        ask = Classify(None if labels is None else tuple(labels), threshold=threshold)
        return self.run([image], ask)[0]

    def embed(self, item: Item, *, space: Literal["image", "features"] = "image") -> Embedding:
        """The vector of a picture or a ``Text``."""
        return self.run([item], Embed(space))[0]

    def state(self, features: NDArray[np.float32]) -> Encoded:
        """A state from features (F,) that this very model made before, as the ladder's cache keeps them."""
        return Encoded(self.maker, features, {})

    @property
    def towers(self) -> Projects:
        """The projection and the text tower, for what is built on top of them.

        Raises:
            Unsupported: the model has no text tower.
        """
        if not isinstance(self.kind, Projects):
            raise Unsupported(f"{self.card.name} has no text tower: it embeds pictures only")
        return self.kind

    @property
    def memory_bytes(self) -> int:
        """Of the weights as they are loaded."""
        return int(self.kind.nbytes)

    def with_adapter(self, adapter: Adapter) -> Model:
        """The same net with small trained weights on top; refuses those of another base."""
        adapter.check(self.card.name, self.maker)
        return Model(self.card, self.kind, self._setup, adapter)

    def close(self) -> None:
        """Lets go of the weights; a later ``run`` raises ``BadRequest``."""
        self.kind = cast(Any, None)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Model({self.card.name!r}, device={self._setup.device!r}, dtype={self._setup.dtype!r})"

    def _check(self, ask: Ask[Any, Any]) -> None:
        if self.kind is None:
            raise BadRequest(f"{self.card.name} was closed; load it again")
        if ask.task not in self.card.tasks:
            raise Unsupported(
                f"{self.card.name} does not {ask.task}; it can {', '.join(self.card.tasks)} "
                f"(`anmok models --task {ask.task}` lists those that can)"
            )

    def _complete(self, ask: Ask[R, Any]) -> Ask[R, Any]:
        """An adapted model brings its own labels and prompts."""
        question: Any = ask  # a Classify is an Ask[Scores, Scores], which no checker can tell from R
        if isinstance(ask, Classify) and ask.labels is None:
            if self.adapter is None:
                raise BadRequest(f"{self.card.name} needs labels: --labels cat,dog")
            question = self.adapter.complete(ask)
        return cast("Ask[R, Any]", question)

    def _prepare(self, item: Item) -> NDArray[np.float32] | Encoded | Text:
        if isinstance(item, Text):
            return item
        if isinstance(item, Encoded):
            if item.maker != self.maker:
                raise WrongState(f"this state was made by {item.maker}, not by {self.maker}: encode it again")
            return item
        if not isinstance(self.kind, Encoder):
            raise Unsupported(f"{self.card.name} reads text only: pass anmok.Text")
        return self.kind.prepare(media.read(item))

    def _states(self, items: Sequence[Item]) -> list[Encoded | Text]:
        if len(items) == 1 or all(isinstance(item, Encoded | Text) for item in items):
            return self._encoded([self._prepare(item) for item in items])
        with ThreadPoolExecutor(_DECODERS) as pool:  # decoding and resizing let go of the interpreter's lock
            return self._encoded(list(pool.map(self._prepare, items)))

    def _encoded(self, ready: Sequence[NDArray[np.float32] | Encoded | Text]) -> list[Encoded | Text]:
        """Arrays become states, in groups of equal shape; what is a state already passes through."""
        states: list[Encoded | Text | None] = [None if isinstance(r, np.ndarray) else r for r in ready]
        shapes: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(ready):
            if isinstance(one, np.ndarray):
                shapes.setdefault(one.shape, []).append(index)
        for indices in shapes.values():
            batch = [cast("NDArray[np.float32]", ready[i]) for i in indices]
            for i, state in zip(indices, self._encode(batch), strict=True):
                states[i] = state
        return cast("list[Encoded | Text]", states)

    def _encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        batch = inputs[0][None] if len(inputs) == 1 else np.stack(inputs)  # (B, 3, h, w)
        with self._lock:
            features = cast(Encoder, self.kind).encode(batch)  # (B, F)
        features.flags.writeable = False
        return [Encoded(self.maker, row, {}) for row in features]

    def _answer(self, states: Sequence[Encoded | Text], ask: Ask[R, Any]) -> list[R]:
        if isinstance(ask, Classify) and any(isinstance(state, Text) for state in states):
            raise BadRequest("classify takes pictures; a text can only be embedded")
        if isinstance(ask, Classify) and self.adapter is not None and self.adapter.owns(ask):
            features = np.stack([cast(Encoded, state).features for state in states])  # (B, F)
            return cast("list[R]", self.adapter.classify(features, ask))
        with self._lock:
            return cast("list[R]", getattr(self.kind, ask.task)(states, ask))

    def _answer_each(
        self, items: Sequence[Item], ready: Sequence[Any], ask: Ask[R, Any], on_error: str
    ) -> Iterator[R | Failure]:
        good = [one for one in ready if not isinstance(one, AnmokError)]
        if on_error == "raise" and len(good) < len(ready):
            raise next(one for one in ready if isinstance(one, AnmokError))
        answers = iter(self._answer(self._encoded(good), ask) if good else [])
        for item, one in zip(items, ready, strict=True):
            if isinstance(one, AnmokError):
                yield Failure(media.describe(cast(Source, item)), one)
            else:
                yield next(answers)

    def _ahead(self, items: Iterable[Item]) -> Iterator[tuple[list[Item], list[Any]]]:
        """Batches of prepared items; the next batch is decoded while the net works on this one."""

        def prepared(item: Item) -> Any:
            try:
                return self._prepare(item)
            except AnmokError as error:
                return error

        stream = iter(items)
        with ThreadPoolExecutor(_DECODERS) as pool:
            batch = list(islice(stream, BATCH))
            waiting = [pool.submit(prepared, item) for item in batch]
            while batch:
                following = list(islice(stream, BATCH))
                ready = [future.result() for future in waiting]
                waiting = [pool.submit(prepared, item) for item in following]
                yield batch, ready
                batch = following
