"""A process and those that come after it: watched, restarted with a growing pause, and asked twice at the most."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from anmok.errors import Closing, Refused, WorkerDied
from anmok.isolation.bounds import Bounds
from anmok.isolation.catching import Caught
from anmok.isolation.channel import Garbled, Lost
from anmok.isolation.process import Order, Process

T = TypeVar("T")

log: Final = logging.getLogger("anmok.isolation")

TRIES: Final = 2
_SOON = 1.0  # seconds; the least that a caller is told to wait


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process, at one moment. ``pid`` is None in the pause after a death; ``deaths`` counts all of them.

    ``retry_after`` are the seconds that are left of the pause.
    """

    name: str
    models: tuple[str, ...]
    pid: int | None
    resident_bytes: int
    deaths: int
    retry_after: float


class Worker:
    """The process of one model or group, for as long as somebody holds it: a model, a call, a stream.

    A thread of its own starts the process, watches it, and after a death starts the next one, with the same models.
    """

    def __init__(self, name: str, bounds: Bounds) -> None:
        self._name = name
        self._bounds = bounds
        self._changed = threading.Condition()
        self._orders: dict[int, Order] = {}
        self._process: Process | None = None
        self._holders = 0
        self.is_ending = False
        self._deaths = 0
        self._row = 0  # deaths without a healthy life in between
        self._resumes = 0.0  # time.monotonic, of the next start
        self._thread = threading.Thread(target=self._tend, name=f"anmok-apart-{name}", daemon=True)
        self._thread.start()

    def hold(self) -> bool:
        """False where it is too late: the last holder has gone."""
        with self._changed:
            if not self.is_ending:
                self._holders += 1
            return not self.is_ending

    def release(self) -> bool:
        """The last holder takes the process with him, and is told so. Does not wait."""
        with self._changed:
            self._holders -= 1
            is_last = not self._holders
            if is_last:
                self.end()
        return is_last

    def end(self) -> None:
        """Ends the process, whatever it is at, and whoever asks is answered with ``Closing``. Does not wait."""
        with self._changed:
            self.is_ending = True
            if self._process is not None:
                self._process.hang_up()
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether the process is gone for good."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Until the process is gone."""
        self._thread.join()

    def keep(self, order: Order) -> dict[str, object]:
        """Loads a model, here and in every process to come; what the process says of it.

        Raises:
            WorkerDied: it died of that, twice.
            AnmokError: as ``anmok.load``.
        """
        facts = self.call(order, lambda process: process.ensure(order))
        with self._changed:
            self._orders[order.key] = order
        return facts

    def forget(self, order: Order) -> None:
        """Lets go of a model, here and in every process to come."""
        with self._changed:
            self._orders.pop(order.key, None)
            process = self._process
        caught = Caught()
        with caught:
            if process is not None:
                process.forget(order.key)
        if caught.error is not None and not isinstance(caught.error, Lost):
            log.warning("%s: could not be unloaded", order.card, exc_info=caught.error)

    def call(self, order: Order, work: Callable[[Process], T], tries: int = TRIES) -> T:
        """Has something done in a process that has the model; where it dies, again in the next one.

        Raises:
            WorkerDied: the last one died too, or the pause before the next is longer than a caller waits.
            Closing: this is being shut down.
            Exception: what ``work`` raises.
        """
        dead = None
        for _ in range(tries):
            process = self._present(order, dead)
            try:
                process.ensure(order)
                return work(process)
            except Lost as error:
                dead = self.bury(process, error)
        raise self.died(order, dead)

    def bury(self, process: Process, error: Lost) -> Process:
        """After a call that was lost: the process is dead, or it is now."""
        process.kill(f"it {error}" if isinstance(error, Garbled) else "")
        return process

    def died(self, order: Order, process: Process | None) -> Refused:
        """The error for whoever was at work with a process that died."""
        cause = "" if process is None else f" ({process.obituary()})"
        with self._changed:
            if self.is_ending:
                return Closing(f"{order.card}: the server is shutting down", _SOON)
            after = max(_SOON, self._resumes - time.monotonic())
        return WorkerDied(f"{order.card}: its process died at work{cause}; try again in {after:.0f} s", after)

    def status(self) -> ProcessStatus:
        """A snapshot."""
        with self._changed:
            process, deaths = self._process, self._deaths
            models = tuple(order.card for order in self._orders.values())
            left = max(0.0, self._resumes - time.monotonic()) if process is None else 0.0
        if process is None:
            return ProcessStatus(self._name, models, None, 0, deaths, left)
        return ProcessStatus(self._name, models, process.pid, process.resident_bytes(), deaths, left)

    def _present(self, order: Order, dead: Process | None) -> Process:
        """The process, which is another one than ``dead``; waits for a start, and for a pause that is short."""
        with self._changed:
            while True:
                if self.is_ending:
                    raise Closing(f"{order.card}: the server is shutting down", _SOON)
                process = self._process
                if process is not None and process is not dead:
                    return process
                left = self._resumes - time.monotonic()
                if process is None and left > self._bounds.patience_seconds:
                    raise WorkerDied(
                        f"{order.card}: its process died, and the next one is not started yet; "
                        f"try again in {left:.0f} s",
                        left,
                    )
                self._changed.wait()

    def _tend(self) -> None:
        """The thread's life."""
        while True:
            caught = Caught()
            with caught:
                self._live()
            with self._changed:
                self._process = None
                if self.is_ending:
                    self._changed.notify_all()
                    return
                pause = self._bounds.pause(self._row)
                self._resumes = time.monotonic() + pause
                self._changed.notify_all()
                if caught.error is not None:
                    log.error("process %s: cannot be started", self._name, exc_info=caught.error)
                self._changed.wait_for(lambda: self.is_ending, pause)

    def _live(self) -> None:
        """One process, from its start to its death."""
        self._row += 1  # also where there is no start
        process = Process(self._bounds)
        with self._changed:
            self._process = process
            if self.is_ending:
                process.hang_up()
            orders = tuple(self._orders.values())
            self._changed.notify_all()
        try:
            if orders:
                name = f"{self._thread.name}-load"
                threading.Thread(target=self._warm, args=(process, orders), name=name, daemon=True).start()
        finally:
            process.watch(self._bounds.memory_bytes)
        with self._changed:
            if self.is_ending:
                return
            self._deaths += 1
            if time.monotonic() - process.started >= self._bounds.healthy_seconds:
                self._row = 1
            row = self._row
        log.warning(
            "process %s (%d) died: %s; the next one starts in %.1f s",
            self._name, process.pid, process.obituary(), self._bounds.pause(row),
        )  # fmt: skip

    def _warm(self, process: Process, orders: tuple[Order, ...]) -> None:
        """Loads what the process before had, so that the next caller need not wait. One that fails is tried again
        by whoever asks for it."""
        for order in orders:
            with self._changed:
                is_wanted = order.key in self._orders
            caught = Caught()
            with caught:
                if is_wanted:
                    process.ensure(order)
            with self._changed:
                is_wanted = order.key in self._orders
            if isinstance(caught.error, Lost):
                return
            if caught.error is not None:
                log.error("%s: could not be loaded again", order.card, exc_info=caught.error)
            elif not is_wanted:
                self.forget(order)
