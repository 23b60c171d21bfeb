"""How large a batch, and how long to wait for it, by what batches took until now.

Size: a batch of b items takes about a + c b, fitted to what batches took. As many items go into one as take
``batch_seconds`` together, and never fewer than a / c, of which the fixed part is half of the time: where a pass costs
a second however few it serves, smaller batches would only make all of them slower. From 1 to ``batch_items``. While
all batches had one size, a and c cannot be told apart, and one twice as large is tried where its time allows. The
first batch of a task, of which nothing is known, is small: it may be of clips that take minutes each.

Half of it: where more than ``enough`` items of several callers wait, of which the fixed part is a tenth, a batch takes
half of them. The other half is at hand when it ends, and while that one is at work the answers of the first go out and
the next requests come in. Where all went into one batch, everybody would be answered at once, and the net would stand
still until they ask again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anmok.engine.limits import Limits

_FIRST = 4  # items in a batch of unknown cost
_WEIGHT = 0.3  # of the newest batch in the running means
_LONG = 0.05  # of the newest batch in the means of the fit
_SAME = 0.25  # variance of the items below which all batches count as of one size
_LEAST = 1e-9  # seconds of an item: noise can make it none
_ROUNDING = 1e-6  # items
_TENTH = 10  # the fixed part of a batch that is enough is as small a part as this
_TRIAL = 8  # times ``batch_seconds`` that a larger batch may take when it is tried


@dataclass(slots=True)
class Pace:
    """Running means over the batches of one task. The first batch warms caches up: the second one replaces it."""

    batches: int = 0
    batch_seconds: float = 0.0
    item_seconds: float = 0.0
    _items: float = 0.0  # the long means of the fit
    _seconds: float = 0.0
    _variance: float = 0.0  # of the items of a batch
    _covariance: float = 0.0  # of items and seconds

    def record(self, items: int, seconds: float) -> None:
        weight = _WEIGHT if self.batches >= 2 else 1.0
        self.batches += 1
        self.batch_seconds += weight * (seconds - self.batch_seconds)
        self.item_seconds += weight * (seconds / items - self.item_seconds)
        self._fit(items, seconds)

    def size(self, limits: Limits) -> int:
        """Items that the next batch may hold."""
        if self.item_seconds <= 0:
            return min(_FIRST, limits.batch_items)
        wanted = limits.batch_seconds / self.item_seconds
        line = self._line()
        if line is not None:
            fixed, slope = line
            wanted = max(math.ceil(fixed / slope), (limits.batch_seconds - fixed) / slope)
        elif wanted < self._items:
            wanted = max(wanted, min(2 * self._items, _TRIAL * wanted))
        return max(1, min(limits.batch_items, int(wanted + _ROUNDING)))

    def enough(self, limits: Limits) -> int:
        """Items from which on a larger batch would serve hardly more in the same time; where that is not known, all
        that a batch may hold."""
        line = self._line()
        size = self.size(limits)
        if line is None:
            return size
        fixed, slope = line
        return max(1, min(size, math.ceil(_TENTH * fixed / slope)))

    def expected(self, items: int, limits: Limits) -> float:
        """Seconds that so many items will take, in batches as they are made now."""
        line = self._line()
        if line is None:
            return items * self.item_seconds
        fixed, slope = line
        return math.ceil(items / self.size(limits)) * fixed + items * slope

    def _line(self) -> tuple[float, float] | None:
        """Seconds of a pass, and of each item in it; None where they cannot be told apart."""
        if self._variance < _SAME:
            return None
        slope = max(self._covariance / self._variance, _LEAST)
        return max(0.0, self._seconds - slope * self._items), slope

    def _fit(self, items: int, seconds: float) -> None:
        weight = max(_LONG, 1.0 / max(1, self.batches - 1))
        aside, above = items - self._items, seconds - self._seconds
        self._items += weight * aside
        self._seconds += weight * above
        self._variance = (1.0 - weight) * (self._variance + weight * aside * aside)
        self._covariance = (1.0 - weight) * (self._covariance + weight * aside * above)

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
