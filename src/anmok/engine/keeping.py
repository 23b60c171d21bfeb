"""Models in memory: loaded by threads of their own, within a budget of bytes, and sent away when others need the room.

A load never runs in a thread that serves requests: a model that takes twenty seconds to come holds up nobody who asks
for another one.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from anmok.engine.answering import Caught
from anmok.engine.limits import Limits
from anmok.engine.lines import Line
from anmok.engine.residency import victims
from anmok.engine.tickets import Ticket
from anmok.errors import AnmokError, Busy, Closing, DoesNotFit, Loading
from anmok.load import Model

Loader: TypeAlias = Callable[[str], Model]

_POLL = 0.05  # seconds; time passes without telling anybody


class Keeper:
    """Loads and evicts. Methods that say so are called with the engine's lock held.

    ``serve`` starts the threads of a model that is ready; ``dropped`` takes the requests of one that is not to be had
    out of the books. Both are called with the lock held.
    """

    def __init__(
        self,
        budget_bytes: int,
        loader: Loader,
        limits: Limits,
        clock: Callable[[], float],
        room: threading.Condition,
        lines: Mapping[str, Line],
    ) -> None:
        self.budget_bytes = budget_bytes
        self._loader = loader
        self._limits = limits
        self._clock = clock
        self._room = room  # of the engine's lock
        self._lines = lines
        self._waiting: deque[Line] = deque()
        self._threads: set[threading.Thread] = set()
        self.is_closing = False
        self.serve: Callable[[Line, Model], None] = lambda line, model: None
        self.dropped: Callable[[Line], list[Ticket]] = lambda line: []

    @property
    def model_bytes(self) -> int:
        """Held or set aside. With the lock."""
        return sum(line.nbytes for line in self._present())

    @property
    def threads(self) -> list[threading.Thread]:
        """That load at this moment. With the lock."""
        return list(self._threads)

    def now(self) -> float:
        """By the engine's clock."""
        return self._clock()

    def want(self, line: Line) -> None:
        """Begins to load, unless the model is there or on its way. With the lock.

        Raises:
            AnmokError: the last load failed, not long ago; its error again.
        """
        if line.state not in ("absent", "failed"):
            return
        if line.error is not None and self._clock() - line.failed < self._limits.retry_seconds:
            raise again(line.error)
        if len(self._threads) < self._limits.loaders:
            thread = threading.Thread(target=self._load_all, name="anmok-loader", daemon=True)
            thread.start()  # it waits for the lock
            self._threads.add(thread)
        line.state = "waiting"
        self._waiting.append(line)

    def wanted(self, line: Line, future: Future[None]) -> None:
        """As ``want``; the future is done when the model is there. With the lock."""
        if line.state == "ready":
            future.set_result(None)
            return
        self.want(line)
        line.loads.append(future)

    def unload(self, line: Line) -> Model | None:
        """Sends a model away; the caller closes it after the lock. None where it was not there. With the lock.

        Raises:
            Busy: it has work.
            Loading: it is on its way.
        """
        if line.state in ("waiting", "loading"):
            raise Loading(f"{line.name} is being loaded; unload it afterwards", line.until_loaded(self._clock()))
        if not line.is_idle:
            raise Busy(f"{line.name} has work; try again", line.backlog(self._limits) or 1.0)
        return self._evicted(line) if line.state == "ready" else None

    def end(self) -> list[Model]:
        """Loads nothing more, and sends all models away, at work or not; the caller closes them. With the lock."""
        self.is_closing = True
        self._room.notify_all()
        return [self._evicted(line) for line in self._lines.values() if line.model is not None]

    def _load_all(self) -> None:
        """A loader's life: one load after the other, until none is waiting."""
        while True:
            with self._room:
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                line = self._waiting.popleft()
            self._bring(line)

    def _bring(self, line: Line) -> None:
        caught = Caught()
        with caught:
            for future in self._load(line):
                if future.set_running_or_notify_cancel():
                    future.set_result(None)
            return
        error = caught.told(line.name, "could not be loaded")
        with self._room:
            line.state, line.error, line.failed = "failed", error, self._clock()
            futures, line.loads = line.loads, []
            tickets = self.dropped(line)
            self._room.notify_all()
        for ticket in tickets:
            ticket.refuse(again(error))
        refuse_loads(futures, error)

    def _load(self, line: Line) -> list[Future[None]]:
        """Room, model, and room again where the model turned out larger than its card says."""
        needed = line.nbytes or line.card.params * self._limits.parameter_bytes
        while True:
            with self._room:
                gone = self._make_room(line, needed)
                line.state, line.nbytes, line.started = "loading", needed, self._clock()
            _close(gone)
            model = self._loader(line.target)
            gone = []
            try:
                with self._room:
                    needed = line.nbytes = model.memory_bytes
                    fitting = self._fitting(line)
                    if fitting is not None:
                        gone = fitting
                        return self._ready(line, model)
                    line.state = "waiting"  # for more room than was thought
            finally:
                _close(gone)
                if line.model is not model:
                    model.close()

    def _ready(self, line: Line, model: Model) -> list[Future[None]]:
        """Returns who waited for it. With the lock."""
        if self.is_closing:
            raise Closing("the engine is shutting down")
        self.serve(line, model)
        now = self._clock()
        line.load_seconds = now - line.started
        line.model, line.state, line.error = model, "ready", None
        line.loaded = line.used = now
        line.counts["loads"] += 1
        waiting, line.loads = line.loads, []
        return waiting

    def _make_room(self, line: Line, needed: int) -> list[Model]:
        """Waits until so many bytes are free, and returns the models that went. With the lock, which it lets go of.

        Raises:
            DoesNotFit: the model is too large, whatever goes.
            Loading: the others were at work for too long.
        """
        given_up = self._clock() + self._limits.room_seconds
        while True:
            if self.is_closing:
                raise Closing("the engine is shutting down")
            line.nbytes = needed
            gone = self._fitting(line)
            if gone is not None:
                return gone
            if self._clock() >= given_up:
                raise Loading(f"{line.name} needs {needed:,} bytes, and the models that hold them are at work", 5.0)
            self._room.wait(_POLL)

    def _fitting(self, line: Line) -> list[Model] | None:
        """Sends away what has to go for ``line.nbytes``; None where that is not possible now. With the lock."""
        others = [one for one in self._present() if one is not line]
        pinned = sum(one.nbytes for one in others if one.is_pinned)
        if line.nbytes > self.budget_bytes - pinned:
            beside = f", of which pinned models hold {pinned:,}" if pinned else ""
            raise DoesNotFit(
                f"{line.name} needs {line.nbytes:,} bytes; the budget for models is {self.budget_bytes:,}{beside}"
            )
        residents = [one.resident() for one in others]
        stay = self._limits.stay_seconds
        names = victims(residents, line.nbytes, self.budget_bytes, now=self._clock(), stay_seconds=stay)
        if names is None:
            return None
        for name in names:
            self._lines[name].counts["evictions"] += 1
        return [self._evicted(self._lines[name]) for name in names]

    def _evicted(self, line: Line) -> Model:
        """Takes the model out; its threads see that and end. With the lock."""
        model = line.model
        assert model is not None
        line.model, line.state = None, "absent"
        line.wake.notify_all()
        self._room.notify_all()
        return model

    def _present(self) -> list[Line]:
        return [line for line in self._lines.values() if line.state in ("loading", "ready")]


def refuse_loads(futures: Sequence[Future[None]], error: AnmokError) -> None:
    """Tells those who wait for a load that it will not be; without the lock."""
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_exception(again(error))


def again(error: AnmokError) -> AnmokError:
    """The same error as an object of its own: each caller raises one, and a traceback is written on it."""
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    return fresh


def _close(models: list[Model]) -> None:
    for model in models:
        model.close()
