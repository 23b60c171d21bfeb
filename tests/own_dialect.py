"""Calls in our own dialect, and a server whose model waits for the test."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import anmok.server.engines
from anmok.load import Model, load
from anmok.results import Embedding, Result, Scores
from anmok.server.settings import Settings
from anmok.wire import result_to_json
from battery import picture
from serving import FAKES, Running, png, running, scene

PICTURES = [png(picture((20 + i, 30), i)) for i in range(32)]


def film(frames: int) -> bytes:
    """A GIF in which a red box goes right by five pixels a frame."""
    pictures = [pillow.fromarray(scene({"red": (5 * i, 10, 5 * i + 20, 30)})) for i in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


FILM = film(8)


@pytest.fixture(name="server", scope="module")
def server_fixture() -> Iterator[Running]:
    with running(Settings(models=FAKES[:3])) as found:
        yield found


class Gate:
    """Models that wait: for ``loads`` before they are there, for ``opens`` before a batch or frame, once they were
    asked for more than ``start`` items or frames. ``asked`` is set when one waits."""

    def __init__(self, start: int = 0) -> None:
        self.loads, self.opens, self.asked = threading.Event(), threading.Event(), threading.Event()
        self.loads.set()
        self.count = 0
        self.start = start

    def load(self, name: str, **settings: Any) -> Model:
        assert self.loads.wait(20)
        model = load(name, **settings)
        for verb in ("classify", "embed", "detect"):
            if verb in model.card.tasks:
                setattr(model.kind, verb, self._held(getattr(model.kind, verb)))
        if "track" in model.card.tasks:
            follow = model.kind.follow
            model.kind.follow = lambda ask: self._session(follow(ask))
        return model

    def _session(self, session: Any) -> Any:
        session.step = self._held(session.step)
        return session

    def _held(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def held(*given: Any) -> Any:
            self.count += len(given[0]) if isinstance(given[0], list) else 1
            if self.count > self.start:
                self.asked.set()
                assert self.opens.wait(20)
            return call(*given)

        return held


@contextlib.contextmanager
def gated(gate: Gate, settings: Settings) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", gate.load)
        with running(settings) as found:
            try:
                yield found
            finally:
                gate.opens.set()
                gate.loads.set()


def same(one: Result, other: Result) -> bool:
    """Every number and every label of it."""
    return type(one) is type(other) and result_to_json(one) == result_to_json(other)


def check_near(one: Result, other: Result) -> None:
    if isinstance(one, Scores):
        assert isinstance(other, Scores)
        assert [label for label, _ in one.top()] == [label for label, _ in other.top()]
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-5)  # the promise of design.md
    else:
        assert isinstance(one, Embedding)
        assert isinstance(other, Embedding)
        np.testing.assert_allclose(one.vector, other.vector, rtol=0, atol=1e-5)  # the promise of design.md
