"""What the engine knows of one model: its queue, its threads, its state and its counts."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from anmok.catalogue import Card
from anmok.engine.limits import Limits
from anmok.engine.pacing import Company, Pace
from anmok.engine.queueing import Batch, Queue
from anmok.engine.residency import Resident
from anmok.engine.tickets import Answer, Ticket
from anmok.errors import AnmokError
from anmok.load import Model
from anmok.results import Failure

State: TypeAlias = Literal["absent", "waiting", "loading", "ready", "failed"]

_LOAD_GUESS = 5.0  # seconds, of a model that was never loaded


@dataclass(frozen=True, slots=True)
class Named:
    """What stands behind a name: a card's name or an adapter's folder, and the most of the queue's items that may be
    for it."""

    target: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model, at one moment. ``nbytes`` is what it holds, or has set aside while it loads.

    Counts are since the engine was made: ``requests`` let in, of which so many were ``answered``, ``expired``,
    ``cancelled`` or ``refused`` (the load failed, or the engine closed); ``items`` answered in ``batches``, of which
    so many were ``retried`` item by item, and so many items ``failed``.
    """

    name: str
    state: State
    nbytes: int
    is_pinned: bool
    queued: int  # requests
    queued_items: int
    running_items: int
    requests: int
    answered: int
    expired: int
    cancelled: int
    refused: int
    batches: int
    items: int
    failed: int
    retried: int
    largest: int  # items in the largest batch
    batch_seconds: dict[str, float]  # by task, the running mean
    loads: int
    load_seconds: float  # of the last load
    evictions: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """All models that were ever asked for, and what they share. ``items`` and ``nbytes`` are of accepted requests."""

    models: tuple[ModelStatus, ...]
    items: int
    nbytes: int
    rejected: int  # requests that the door turned away
    budget_bytes: int
    model_bytes: int
    cached_states: int
    cached_bytes: int
    cache_hits: int
    cache_misses: int
    is_closing: bool


@dataclass(slots=True, eq=False)
class Line:
    """The way to one model. The engine's lock guards all of it; ``wake`` is that lock's condition."""

    name: str
    target: str  # what ``load`` is called with
    card: Card
    wake: threading.Condition
    share: float = 1.0  # of the queue's items
    queue: Queue = field(default_factory=Queue)
    company: Company = field(default_factory=Company)
    paces: dict[str, Pace] = field(default_factory=dict)  # by task
    counts: Counter[str] = field(default_factory=Counter)
    aside: deque[Batch] = field(default_factory=deque)  # with clips, taken from the queue and not yet begun
    readers: int = 0  # threads that answer those
    loads: list[Future[None]] = field(default_factory=list)  # whoever waits for the load
    state: State = "absent"
    model: Model | None = None
    error: AnmokError | None = None  # of the last load
    is_pinned: bool = False
    nbytes: int = 0
    running: int = 0  # items in work
    used: float = -math.inf
    loaded: float = -math.inf
    started: float = -math.inf  # the load
    failed: float = -math.inf
    load_seconds: float = 0.0
    largest: int = 0

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.queue.items

    def pace(self, task: str) -> Pace:
        return self.paces.setdefault(task, Pace())

    def record(self, task: str, answers: Sequence[Answer], seconds: float, is_retried: bool) -> None:
        """One batch more. The time of one that was taken apart says nothing of the next."""
        if is_retried:
            self.counts["retried"] += 1
        else:
            self.pace(task).record(len(answers), seconds)
        self.counts["batches"] += 1
        self.counts["items"] += len(answers)
        self.counts["failed"] += sum(isinstance(one, Failure) for one in answers)
        self.largest = max(self.largest, len(answers))

    def forget(self, ticket: Ticket) -> None:
        """Takes a settled request out of what was put aside: its items are let go of now, not when its turn comes."""
        before = sum(batch.size for batch in self.aside)
        left = (tuple(part for part in batch.parts if part.ticket is not ticket) for batch in self.aside)
        self.aside = deque(replace(one, parts=parts) for one, parts in zip(self.aside, left, strict=True) if parts)
        self.running -= before - sum(batch.size for batch in self.aside)

    def backlog(self, limits: Limits) -> float:
        """Seconds that the items here will take, as measured; 1.0 where nothing was measured yet."""
        if not self.queue.items and not self.running:
            return 0.0
        if not any(pace.batches for pace in self.paces.values()):
            return 1.0
        counts = Counter({ticket.ask.task: 0 for ticket in self.queue})
        for ticket in self.queue:
            counts[ticket.ask.task] += ticket.left
        mean = sum(pace.batch_seconds for pace in self.paces.values()) / len(self.paces)
        waiting = sum(self.pace(task).expected(count, limits) for task, count in counts.items())
        return (waiting + (mean / 2 if self.running else 0.0)) / limits.lanes

    def until_loaded(self, now: float) -> float:
        """Seconds until a load that is under way is likely to end."""
        expected = self.load_seconds or _LOAD_GUESS
        return max(1.0, self.started + expected - now if self.state == "loading" else expected)

    def resident(self) -> Resident:
        is_held = self.is_pinned or self.state == "loading" or not self.is_idle
        return Resident(self.name, self.nbytes, self.used, self.loaded, is_held)

    def status(self) -> ModelStatus:
        counts = self.counts
        return ModelStatus(
            name=self.name,
            state=self.state,
            nbytes=self.nbytes if self.state in ("loading", "ready") else 0,
            is_pinned=self.is_pinned,
            queued=len(self.queue),
            queued_items=self.queue.items,
            running_items=self.running,
            requests=counts["requests"],
            answered=counts["answered"],
            expired=counts["expired"],
            cancelled=counts["cancelled"],
            refused=counts["refused"],
            batches=counts["batches"],
            items=counts["items"],
            failed=counts["failed"],
            retried=counts["retried"],
            largest=self.largest,
            batch_seconds={task: pace.batch_seconds for task, pace in self.paces.items()},
            loads=counts["loads"],
            load_seconds=self.load_seconds,
            evictions=counts["evictions"],
        )
