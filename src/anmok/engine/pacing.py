"""How large a batch, and how long to wait for it, by what batches took until now.

Size: as many items as were measured to take ``batch_seconds`` together, from 1 to ``batch_items``. The first batch of
a task, of which nothing is known, is small: it may be of clips that take minutes each.

Waiting: not at all, unless others have just been answered. Whoever was answered a moment ago is likely to ask again,
so after a batch the worker expects as many items as it has answered, and as were left waiting. Until they are there
it holds the next batch back, ``wait_share`` of the time of a batch at most, counted from the end of the last batch or
from the arrival of the first request, whichever is later. Without this, callers who ask again as soon as they are
answered split into two halves that take turns, and every batch is half as large as it could be.

A queue in which nothing happened for the time of a whole batch is idle: nobody is expected, and a request goes
straight through. So does each request of a single caller who waits for one answer before he asks again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anmok.engine.limits import Limits

_FIRST = 4  # items in a batch of unknown cost
_WEIGHT = 0.3  # of the newest batch in the running means


@dataclass(slots=True)
class Pace:
    """Running means over the batches of one task. The first batch warms caches up: the second one replaces it."""

    batches: int = 0
    batch_seconds: float = 0.0
    item_seconds: float = 0.0

    def record(self, items: int, seconds: float) -> None:
        weight = _WEIGHT if self.batches >= 2 else 1.0
        self.batches += 1
        self.batch_seconds += weight * (seconds - self.batch_seconds)
        self.item_seconds += weight * (seconds / items - self.item_seconds)

    def size(self, limits: Limits) -> int:
        """Items that the next batch may hold."""
        if self.item_seconds <= 0:
            return min(_FIRST, limits.batch_items)
        return max(1, min(limits.batch_items, int(limits.batch_seconds / self.item_seconds)))

    def patience(self, limits: Limits) -> float:
        """Seconds that a request may wait for company."""
        return min(limits.wait_seconds, limits.wait_share * self.batch_seconds)


@dataclass(slots=True)
class Company:
    """Who is expected after a batch."""

    expected: int = 0
    ended: float = -math.inf  # engine's clock

    def leave(self, answered: int, waiting: int, now: float) -> None:
        """A batch has ended, and ``waiting`` items stand in the queue."""
        self.expected = answered + waiting
        self.ended = now

    def wait(self, pace: Pace, limits: Limits, arrived: float, waiting: int, now: float) -> float:
        """Seconds for which a request that arrived then, with ``waiting`` items in the queue, is held back yet."""
        is_idle = now - self.ended > pace.batch_seconds
        if is_idle or waiting >= self.expected:
            return 0.0
        return max(0.0, max(arrived, self.ended) + pace.patience(limits) - now)
