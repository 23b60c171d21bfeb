"""The books of the engine: which requests are open, and the one place where a request goes out of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from anmok.engine.admission import Admission
from anmok.engine.keeping import again
from anmok.engine.limits import Limits
from anmok.engine.lines import Line
from anmok.engine.tickets import Ticket
from anmok.errors import AnmokError


class Books:
    """Holds the engine's lock. Methods are called with it, but for ``left`` and ``refuse``.

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
        line.counts[how] += 1
        self.door.leave(ticket)
        if line.is_idle or not self.open:
            self.changed.notify_all()
        return True

    def dropped(self, line: Line) -> list[Ticket]:
        """Takes out what waits for a model that does not come."""
        return [ticket for ticket in list(line.queue) if self.settle(ticket, "refused")]

    def left(self, ticket: Ticket) -> None:
        """The future is done; where that is because its caller has left, the request goes. Without the lock."""
        if ticket.future.cancelled():
            with self.lock:
                if ticket in self.open:
                    self.settle(ticket, "cancelled")


def refuse(tickets: Sequence[Ticket], error: AnmokError) -> None:
    """Tells the callers of settled requests; without the lock."""
    for ticket in tickets:
        ticket.refuse(again(error))
