"""The one door: what is in the engine is bounded in items and bytes, whoever sends it and whatever model it is for."""

from __future__ import annotations

from collections.abc import Callable

from anmok.engine.limits import Limits
from anmok.engine.tickets import Ticket
from anmok.errors import Busy, TooMuch

_SHORTEST, _LONGEST = 0.1, 60.0  # seconds until the next attempt


class Admission:
    """Counts what was let in and is not settled. The engine's lock guards it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.items = 0
        self.nbytes = 0
        self.rejected = 0

    def check(self, ticket: Ticket, backlog: Callable[[], float]) -> None:
        """Whether there is room. ``backlog`` gives the seconds that the work which waits now will take, as measured.

        Raises:
            TooMuch: one request that is larger than the whole queue.
            Busy: no room now.
        """
        if ticket.size > self._limits.queue_items:
            raise TooMuch(f"{ticket.size} items in one request; at most {self._limits.queue_items}: send fewer")
        if ticket.nbytes > self._limits.queue_bytes:
            raise TooMuch(f"{ticket.nbytes:,} bytes in one request; at most {self._limits.queue_bytes:,}: send fewer")
        items, nbytes = self.items + ticket.size, self.nbytes + ticket.nbytes
        if items > self._limits.queue_items or nbytes > self._limits.queue_bytes:
            self.rejected += 1
            after = min(_LONGEST, max(_SHORTEST, backlog()))
            raise Busy(f"the queue is full ({self.items} items waiting); try again in {after:.1f} s", after)

    def check_time(self, name: str, backlog: float) -> None:
        """Whether a model's queue is short enough: ``backlog`` is the seconds that it will take.

        Raises:
            Busy: the wait would be longer than is bearable.
        """
        if backlog > self._limits.queue_seconds:
            self.rejected += 1
            after = min(_LONGEST, max(_SHORTEST, backlog - self._limits.queue_seconds))
            raise Busy(f"{name} has work for {backlog:.1f} s; try again in {after:.1f} s", after)

    def check_share(self, name: str, share: float, held: int, more: int) -> None:
        """Whether a model's own share of the queue has room beside the ``held`` items.

        Raises:
            TooMuch: one request that is larger than the share.
            Busy: no room now.
        """
        if share >= 1:
            return
        most = max(1, int(share * self._limits.queue_items))
        if more > most:
            raise TooMuch(f"{more} items in one request; at most {most} for {name}: send fewer")
        if held + more > most:
            self.rejected += 1
            raise Busy(f"the share of the queue that {name} has is full ({held} items); try again", _SHORTEST * 10)

    def enter(self, ticket: Ticket) -> None:
        self.items += ticket.size
        self.nbytes += ticket.nbytes

    def leave(self, ticket: Ticket) -> None:
        self.items -= ticket.size
        self.nbytes -= ticket.nbytes
