"""The threads that serve models: each takes a batch from its model's queue, has it answered, and takes the next.

A clip can take minutes to decode. Whatever has one, or a sound, goes to threads beside the queue, where no other
request waits behind it: the net is theirs for a few frames at a time, and for the answer. Of one model so many batches
are read at once as ``_READERS`` says; the rest stand in line for that, deadlines and all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from anmok.engine.answering import Caught, answered
from anmok.engine.books import Books
from anmok.engine.deadlines import expire
from anmok.engine.encodings import Encodings
from anmok.engine.limits import Limits
from anmok.engine.lines import Line
from anmok.engine.queueing import Batch
from anmok.engine.tickets import Answer, Ticket
from anmok.inputs import Clip, Conversation, Item
from anmok.load import Model
from anmok.load.states import preparing

_READERS: Final = 4  # threads; as with pictures, decoders gain little beyond the processor's cores


@dataclass(frozen=True, slots=True)
class Batched:
    """What an observer is told of each batch: ``waited`` has the seconds in the queue of each request in it. Of
    ``seconds`` so many were ``prepared``, for reading and resizing pictures; 0 where that was in another process."""

    name: str
    task: str
    items: int
    waited: tuple[float, ...]
    seconds: float
    is_retried: bool
    prepared: float = 0.0


class Crew:
    """Starts the workers. A worker ends when its model has been sent away."""

    def __init__(
        self,
        books: Books,
        limits: Limits,
        clock: Callable[[], float],
        encodings: Encodings,
        observe: Callable[[Batched], None] | None,
    ) -> None:
        self._books = books
        self._limits = limits
        self._clock = clock
        self._encodings = encodings
        self._observe = observe
        self.threads: list[threading.Thread] = []

    def serve(self, line: Line, model: Model) -> None:
        """Starts the threads of a model that has come. With the lock, for which they wait."""
        for lane in range(self._limits.lanes):
            self._start(f"anmok-{line.name}-{lane}", self._work, line, model)

    def _start(self, name: str, work: Callable[[Line, Model], None], line: Line, model: Model) -> None:
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        thread = threading.Thread(target=work, args=(line, model), name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    def _work(self, line: Line, model: Model) -> None:
        while self._work_once(line, model):
            pass

    def _work_once(self, line: Line, model: Model) -> bool:
        """One batch. Its locals go with it, so that nothing is kept alive while the worker sleeps."""
        with self._books.lock:
            batch = self._taken(line, model)
            if batch is None:
                return False
            now = self._clock()
            live, late = self._live(batch, now)
            line.running += live.size
            reading, live = _apart(live)
            if reading.parts:
                self._put_aside(line, model, reading)
            if line.queue.items:
                line.wake.notify()  # for the other lanes
            line.used = now
        expire(late)
        if live.parts:
            self._answer(line, model, live, now)
        return True

    def _live(self, batch: Batch, now: float) -> tuple[Batch, list[Ticket]]:
        """What of it is still to be answered, and whom to tell that it is too late. With the lock."""
        late = [part.ticket for part in batch.parts if part.ticket.is_late(now)]
        late = [ticket for ticket in late if self._books.settle(ticket, "expired")]
        return replace(batch, parts=tuple(part for part in batch.parts if not part.ticket.is_settled)), late

    def _put_aside(self, line: Line, model: Model, batch: Batch) -> None:
        """For the next reader; starts one where there are few. With the lock."""
        line.aside.append(batch)
        if line.readers < _READERS:
            line.readers += 1
            self._start(f"anmok-{line.name}-clips", self._read, line, model)

    def _read(self, line: Line, model: Model) -> None:
        while self._read_once(line, model):
            pass

    def _read_once(self, line: Line, model: Model) -> bool:
        with self._books.lock:
            if not line.aside or line.model is not model:
                line.readers -= 1
                return False
            batch, now = min(line.aside, key=lambda one: one.parts[0].ticket.rank), self._clock()
            line.aside.remove(batch)
            live, late = self._live(batch, now)
            line.running -= batch.size - live.size
            self._books.changed.notify_all()
        expire(late)
        if live.parts:
            self._answer(line, model, live, now)
        return True

    def _taken(self, line: Line, model: Model) -> Batch | None:
        """Sleeps until there is a batch; None when the model has been sent away. With the lock."""
        while line.model is model:
            head = line.queue.head()
            if head is None:
                line.wake.wait()
                continue
            pace = line.pace(head.ask.task)
            here, enough = line.queue.like(head), pace.enough(self._limits)
            if here < enough:
                now, waiting = self._clock(), line.queue.items
                wait = line.company.wait(pace, self._limits, head.arrived, waiting, now)
                if wait > 0:
                    line.wake.wait(wait)
                    continue
            shared = math.ceil(here / 2) if line.queue.callers(head) > 1 else here
            return line.queue.take(head, min(pace.size(self._limits), max(enough, shared)))
        return None

    def _answer(self, line: Line, model: Model, batch: Batch, started: float) -> None:
        preparing.seconds = 0.0
        answers, is_retried = answered(model, batch.items, batch.ask, self._encodings)
        prepared = preparing.seconds
        ended = self._clock()
        with self._books.lock:
            line.running -= batch.size
            line.used = ended
            line.record(batch.ask.task, answers, ended - started, is_retried)
            done = self._filled(batch, answers)
            line.company.leave(batch.size, line.queue.items, ended)
            if line.is_idle:
                self._books.changed.notify_all()
        waited = tuple(started - part.ticket.arrived for part in batch.parts)
        self._tell(Batched(line.name, batch.ask.task, batch.size, waited, ended - started, is_retried, prepared))
        for ticket in done:
            ticket.answer()

    def _filled(self, batch: Batch, answers: Sequence[Answer]) -> list[Ticket]:
        """Those of whom this was the last part. With the lock."""
        done, start = [], 0
        for part in batch.parts:
            mine = answers[start : start + len(part.items)]
            start += len(part.items)
            if part.ticket.fill(part.start, mine) and self._books.settle(part.ticket, "answered"):
                done.append(part.ticket)
        return done

    def _tell(self, batched: Batched) -> None:
        if self._observe is None:
            return
        caught = Caught()
        with caught:
            self._observe(batched)
        if caught.error is not None:
            caught.told(batched.name, "the observer of batches failed")


def _apart(batch: Batch) -> tuple[Batch, Batch]:
    """The requests with clips or sounds, and those without."""
    moving = tuple(part for part in batch.parts if any(_is_long(item) for item in part.items))
    still = tuple(part for part in batch.parts if part not in moving)
    return replace(batch, parts=moving), replace(batch, parts=still)


def _is_long(item: Item) -> bool:
    """May it take long to read?"""
    return isinstance(item, Clip) or (isinstance(item, Conversation) and bool(item.clips or item.sounds))
