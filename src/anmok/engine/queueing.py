"""The queue of one model: requests with equal asks side by side, in the order in which they are due."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from anmok.engine.tickets import Ticket
from anmok.inputs import Item
from anmok.tasks import Ask


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Items of one request: from ``start``, ``len(items)`` of them."""

    ticket: Ticket
    start: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Items of one or several requests with one ask."""

    ask: Ask[Any, Any]
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Items in it."""
        return sum(len(part.items) for part in self.parts)

    @property
    def items(self) -> list[Item]:
        return [item for part in self.parts for item in part.items]


@dataclass(slots=True, eq=False)
class _Group:
    tickets: list[Ticket] = field(default_factory=list)  # by rank
    items: int = 0


class Queue:
    """Not safe by itself: the engine's lock guards it.

    The request with the lowest rank goes first, and those with an equal ask go with it, in their order. A request of
    more items than a batch holds is taken piece by piece, so that others get their turn in between.
    """

    def __init__(self) -> None:
        self._groups: dict[Ask[Any, Any], _Group] = {}
        self.items = 0

    def __len__(self) -> int:
        """Requests of which at least one item waits."""
        return sum(len(group.tickets) for group in self._groups.values())

    def __iter__(self) -> Iterator[Ticket]:
        for group in self._groups.values():
            yield from group.tickets

    def put(self, ticket: Ticket) -> None:
        group = self._groups.setdefault(ticket.ask, _Group())
        insort(group.tickets, ticket, key=lambda one: one.rank)
        group.items += ticket.left
        self.items += ticket.left

    def remove(self, ticket: Ticket) -> None:
        """Takes out what is left of a request; one that is not there changes nothing."""
        group = self._groups.get(ticket.ask)
        if group is not None and ticket.left and ticket in group.tickets:
            group.tickets.remove(ticket)
            self._shrink(ticket.ask, group, ticket.left)

    def head(self) -> Ticket | None:
        """The request that is due next."""
        firsts = [group.tickets[0] for group in self._groups.values()]
        return min(firsts, key=lambda one: one.rank, default=None)

    def like(self, ticket: Ticket) -> int:
        """Waiting items with the ask of this request, which waits here too."""
        return self._groups[ticket.ask].items

    def callers(self, ticket: Ticket) -> int:
        """Waiting requests with the ask of this one, itself among them."""
        return len(self._groups[ticket.ask].tickets)

    def take(self, first: Ticket, size: int) -> Batch:
        """Up to ``size`` items with the ask of ``first``, in order."""
        group = self._groups[first.ask]
        parts = []
        room = size
        while room and group.tickets:
            ticket = group.tickets[0]
            count = min(room, ticket.left)
            start = ticket.taken
            parts.append(Part(ticket, start, tuple(ticket.items[start : start + count])))
            ticket.taken += count
            room -= count
            if not ticket.left:
                group.tickets.pop(0)
        self._shrink(first.ask, group, size - room)
        return Batch(first.ask, tuple(parts))

    def _shrink(self, ask: Ask[Any, Any], group: _Group, items: int) -> None:
        group.items -= items
        self.items -= items
        if not group.tickets:
            del self._groups[ask]
