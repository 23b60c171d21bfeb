"""Models that note what reaches them, wait at a door and trip over what they are told to; and a loader of them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.engine import (
    Engine,
    Limits,
    ModelStatus,
)
from anmok.inputs import Item
from anmok.load import Model, load
from anmok.results import Detections, Embedding, Scores
from anmok.tasks import Ask, Classify

COLOURS = {"red": (220, 30, 30), "green": (30, 190, 40), "blue": (40, 50, 220)}
NAMES = tuple(COLOURS)
ASK = Classify(NAMES)
PLENTY = 2**30
UNHURRIED = Limits(batch_seconds=60.0)  # so that a slow machine does not make the batches smaller

on_cpu: Callable[[str], Model] = partial(load, device="cpu")


def picture(seed: int, colour: str | None = None, size_hw: tuple[int, int] = (24, 28)) -> NDArray[np.uint8]:
    """Noise around a colour, by default the one that the seed's place in the row says."""
    rng = np.random.default_rng(seed)
    middle = np.asarray(COLOURS[colour or NAMES[seed % len(NAMES)]])
    return np.clip(middle + rng.normal(0, 20, (*size_hw, 3)), 0, 255).astype(np.uint8)


def png(seed: int) -> bytes:
    target = io.BytesIO()
    pillow.fromarray(picture(seed)).save(target, "PNG")
    return target.getvalue()


class Watched(Model):
    """A fake model that notes what reaches it, can be held at its door, and trips over what it is told to."""

    def __init__(self, model: Model, nbytes: int | None = None) -> None:
        super().__init__(model.card, model.kind, model._setup)
        self.seen: list[tuple[int, Ask[Any, Any]]] = []  # items and ask of each call
        self.items: list[Item] = []
        self.encoded = 0
        self.door = threading.Event()
        self.door.set()
        self.arrived = threading.Semaphore(0)  # one for each call
        self.poison: BaseException | None = None  # raised for pictures of one pixel
        self.is_closed = False
        self._nbytes = nbytes

    def run(self, items: Sequence[Item], ask: Any) -> Any:
        self.seen.append((len(items), ask))
        self.items += items
        self.arrived.release()
        assert self.door.wait(10)
        if self.poison is not None and any(isinstance(one, np.ndarray) and one.size == 3 for one in items):
            raise self.poison
        return super().run(items, ask)

    def encode(self, images: Sequence[Any]) -> Any:
        self.encoded += len(images)
        return super().encode(images)

    def close(self) -> None:
        self.is_closed = True
        self.kind = self._looker = cast(Any, None)  # as the real one, without its tidying of all memory

    @property
    def memory_bytes(self) -> int:
        return super().memory_bytes if self._nbytes is None else self._nbytes


class Stable:
    """A loader of watched models: ``stable["fake"]`` is the last one of that name."""

    def __init__(self, nbytes: dict[str, int] | None = None) -> None:
        self.models: dict[str, Watched] = {}
        self.loads: list[str] = []
        self.closed: list[set[str]] = []  # models that were closed when each load began
        self.nbytes = nbytes or {}
        self.door = threading.Event()
        self.door.set()
        self.error: Exception | None = None

    def __call__(self, name: str) -> Model:
        self.loads.append(name)
        self.closed.append({other for other, model in self.models.items() if model.is_closed})
        assert self.door.wait(10)
        if self.error is not None:
            raise self.error
        self.models[name] = Watched(on_cpu(name), self.nbytes.get(name))
        return self.models[name]

    def __getitem__(self, name: str) -> Watched:
        return self.models[name]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("anmok")}


def of(engine: Engine, name: str) -> ModelStatus:
    [found] = [one for one in engine.status().models if one.name == name]
    return found


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)


@contextmanager
def held(model: Watched, engine: Engine, name: str = "fake") -> Iterator[Future[Any]]:
    """The worker stands at the model's door with a first request; at the end it goes through."""
    model.door.clear()
    while model.arrived.acquire(blocking=False):
        pass
    first = engine.submit(name, [picture(0)], Classify(("held",)))
    assert model.arrived.acquire(timeout=10)
    try:
        yield first
    finally:
        model.door.set()


def label(answer: Any) -> str:
    assert isinstance(answer, Scores)
    return str(answer.labels[int(answer.scores.argmax())])


def difference(one: Any, other: Any) -> float:
    """The largest between two answers of a kind."""
    assert type(one) is type(other)
    if isinstance(one, Scores):
        return float(np.abs(one.scores - other.scores).max())
    if isinstance(one, Embedding):
        return float(np.abs(one.vector - other.vector).max())
    assert isinstance(one, Detections)
    assert one.class_ids.tolist() == other.class_ids.tolist()
    return float(max(np.abs(one.xyxy - other.xyxy).max(initial=0), np.abs(one.scores - other.scores).max(initial=0)))


@contextmanager
def warmed(stable: Stable) -> Iterator[Engine]:
    """An engine that has loaded ``fake``; nothing of it is left afterwards."""
    with Engine(PLENTY, stable, limits=UNHURRIED) as made:
        made.load("fake").result(10)
        made.run("fake", [picture(0)], ASK)  # a first batch is small
        stable["fake"].seen.clear()
        yield made
    status = made.status()
    assert (status.items, status.nbytes, threads()) == (0, 0, set())
