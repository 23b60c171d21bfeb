"""Requests whose deadline passes are answered then, even where their model is stuck or does not come."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

from anmok.engine.books import Books
from anmok.engine.tickets import Ticket
from anmok.errors import Expired


class Reaper:
    """One thread, started for the first request that has a deadline; it sleeps until the earliest of them."""

    def __init__(self, books: Books, clock: Callable[[], float]) -> None:
        self._books = books
        self._clock = clock
        self._wake = threading.Condition(books.lock)
        self._earliest = math.inf  # what the thread sleeps towards
        self._is_ending = False
        self.thread: threading.Thread | None = None

    def watch(self, deadline: float) -> None:
        """With the lock."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, name="anmok-deadlines", daemon=True)
            self.thread.start()  # it waits for the lock
        if deadline < self._earliest:
            self._earliest = deadline
            self._wake.notify()

    def end(self) -> None:
        """With the lock."""
        self._is_ending = True
        self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._books.lock:
                late = self._late()
                while not late and not self._is_ending:
                    self._wake.wait(None if math.isinf(self._earliest) else self._earliest - self._clock())
                    late = self._late()
            expire(late)
            if not late:
                return

    def _late(self) -> list[Ticket]:
        """Settles what is late, and notes the earliest deadline of the rest."""
        now = self._clock()
        due = {one: one.deadline for one in self._books.waiting() if one.deadline is not None}
        self._earliest = min((moment for moment in due.values() if moment > now), default=math.inf)
        return [one for one, moment in due.items() if moment <= now and self._books.settle(one, "expired")]


def expire(tickets: Sequence[Ticket]) -> None:
    """Tells the callers of settled requests; without the lock."""
    for ticket in tickets:
        ticket.refuse(Expired(f"{ticket.name}: the deadline passed while the request was waiting"))
