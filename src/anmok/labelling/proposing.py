"""Boxes that a model proposes, a little ahead of the people who judge them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from anmok import catalogue, media
from anmok.engine import Engine
from anmok.errors import BadMedia
from anmok.inputs import Source
from anmok.labelling.background import Background
from anmok.labelling.box_book import proposals_line
from anmok.labelling.photos import Photos, answered
from anmok.labelling.streams import Streams
from anmok.load import Model, load
from anmok.results import Detections, Failure
from anmok.tasks import Detect

_AT_ONCE = 4


@runtime_checkable
class Finder(Protocol):
    """Anything that finds boxes; its name stands in the file of strokes."""

    @property
    def name(self) -> str: ...

    def find(self, images: Sequence[Source], ask: Detect) -> list[Detections | Failure]:
        """One answer per image, in order."""
        ...


@dataclass(frozen=True, slots=True)
class ServedFinder:
    """A model of an engine."""

    engine: Engine
    name: str

    def find(self, images: Sequence[Source], ask: Detect) -> list[Detections | Failure]:
        """As `Finder`."""
        return self.engine.run(self.name, images, ask)


class LoadedFinder:
    """A model of this process. Given by name, it is loaded by the first question."""

    def __init__(self, model: str | Model) -> None:
        if isinstance(model, str) and not model.startswith((".", "/", "~")):
            catalogue.card(model)  # a misspelt name fails here and now
        self._model = model
        self.name = model if isinstance(model, str) else model.card.name

    def find(self, images: Sequence[Source], ask: Detect) -> list[Detections | Failure]:
        """As `Finder`."""
        if isinstance(self._model, str):
            self._model = load(self._model)
        answers = self._model.map(images, ask)
        return list(answers)


class NoFinder:
    """Proposes nothing: people draw all boxes. It still reads the pictures, for their sizes."""

    name = ""

    def find(self, images: Sequence[Source], ask: Detect) -> list[Detections | Failure]:
        """As `Finder`."""
        answers: list[Detections | Failure] = []
        for image in images:
            try:
                height, width = media.read(image).shape[:2]
            except BadMedia as error:
                answers.append(Failure("", error))
            else:
                answers.append(Detections.none(ask.labels or (), (int(height), int(width))))
        return answers


def finder_of(model: str | Model | Finder | None) -> Finder:
    """What proposes boxes.

    Raises:
        UnknownModel: no card of that name.
    """
    if model is None:
        return NoFinder()
    return LoadedFinder(model) if isinstance(model, str | Model) else model


class Proposer:
    """Works in one thread, which ends with the session.

    Args:
        photos, streams: of the session; one measuring image for two teaching ones, each in its random order.
        ask: the question.
    """

    def __init__(self, photos: Photos, streams: Streams, ask: Detect) -> None:
        self._photos, self._ask = photos, ask
        self.background = Background()
        self.broken: set[int] = set()
        self._order = list(_interleaved(streams))[::-1]  # the next one last

    def start(
        self, finder: Finder, is_open: Callable[[int], bool], keep: Callable[[Sequence[dict[str, Any]]], None]
    ) -> None:
        """Begins to propose. ``is_open``: has this image no proposals yet? ``keep``: writes lines to the file."""
        self.background.start(lambda: self._propose(finder, is_open, keep))

    def _propose(
        self, finder: Finder, is_open: Callable[[int], bool], keep: Callable[[Sequence[dict[str, Any]]], None]
    ) -> bool:
        now: list[int] = []
        while self._order and len(now) < _AT_ONCE:
            number = self._order.pop()
            if is_open(number):
                now.append(number)
        found = answered(
            self._photos, now, lambda data: self.background.patiently(lambda: finder.find(data, self._ask))
        )
        if found is None:
            return False
        self.broken |= found.broken
        lines = [(self._photos.names[i], one) for i, one in found.answers.items()]
        if lines:
            keep([proposals_line(*line) for line in lines])
        return bool(now)


def _interleaved(streams: Streams) -> Iterator[int]:
    teach, measure = iter(streams.teach), iter(streams.measure)
    while True:
        some = [*(one for one in (next(teach, None), next(teach, None), next(measure, None)) if one is not None)]
        if not some:
            return
        yield from some
