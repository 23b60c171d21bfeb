"""The books of the engine: which requests are open, and the one place where a request goes out of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from anmok.engine.admission import Admission
from anmok.engine.keeping import again
from anmok.engine.limits import Limits
from anmok.engine.lines import Line
from anmok.engine.tickets import Ticket
from anmok.errors import AnmokError


class Books:
    """Holds the engine's lock. Methods are called with it, but for ``watch`` and ``refuse``.

    A request is settled once, under the lock, by whoever comes first: the worker with the last answer, the reaper of
    deadlines, its own caller who leaves, a load that failed, or the end. Its future is resolved after the lock.
    """

    def __init__(self, limits: Limits) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)  # room for a model, or no request is left
        self.door = Admission(limits)
        self.open: dict[Ticket, Line] = {}  # accepted and not settled

    def enter(self, line: Line, ticket: Ticket) -> None:
        """Lets a request in that no worker will take."""
        self.door.enter(ticket)
        self.open[ticket] = line
        line.counts["requests"] += 1

    def accept(self, line: Line, ticket: Ticket) -> None:
        self.enter(line, ticket)
        line.queue.put(ticket)
        line.wake.notify()

    def settle(self, ticket: Ticket, how: str) -> bool:
        """Takes a request out of all books; True for whoever may now answer it."""
        if not ticket.settle():
            return False
        line = self.open.pop(ticket)
        line.queue.remove(ticket)
        line.forget(ticket)
        line.counts[how] += 1
        self.door.leave(ticket)
        if line.is_idle or not self.open:
            self.changed.notify_all()
        return True

    def waiting(self) -> list[Ticket]:
        """Those of whom an item has not been begun, in a queue or put aside."""
        aside = {part.ticket for line in set(self.open.values()) for batch in line.aside for part in batch.parts}
        return [one for one in self.open if one.left or one in aside]

    def dropped(self, line: Line) -> list[Ticket]:
        """Takes out what waits for a model that does not come."""
        return [ticket for ticket in list(line.queue) if self.settle(ticket, "refused")]

    def watch(self, ticket: Ticket) -> None:
        """Where its caller leaves, which cancels the future, the request goes. Without the lock.

        A future keeps its callbacks: one that held the ticket, which holds the future, would keep pictures and answers
        in memory until the collector of circles comes by, and beside a net it seldom does.
        """
        ref = weakref.ref(ticket)

        def left(future: Future[Any]) -> None:
            one = ref() if future.cancelled() else None
            if one is not None:
                with self.lock:
                    if one in self.open:
                        self.settle(one, "cancelled")

        ticket.future.add_done_callback(left)


def refuse(tickets: Sequence[Ticket], error: AnmokError) -> None:
    """Tells the callers of settled requests; without the lock."""
    for ticket in tickets:
        ticket.refuse(again(error))
