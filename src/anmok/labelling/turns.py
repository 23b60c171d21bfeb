"""Whose turn it is with which image: what lies before each labeller stays there until it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from anmok.labelling.streams import EVERY, Stream, Streams

_ABSENT = 600.0  # seconds without a word after which what lies before somebody is given to others


class Answered(Protocol):
    """What the replay knows of who has done what."""

    def by_whom(self, number: int) -> Collection[str]: ...

    def counts(self, by: str) -> tuple[int, int]:
        """Images that this person has answered: teaching, measuring."""
        ...


class Turns:
    """Hands out images: one in three measures, the rest teaches; an image that is not shared goes to one person.

    Not safe between threads: the session has a lock.
    """

    def __init__(self, streams: Streams, answered: Answered, clock: Callable[[], float] = time.monotonic) -> None:
        self._streams = streams
        self._answered = answered
        self._clock = clock
        self._before: dict[str, list[int]] = {}
        self._seen: dict[str, float] = {}
        self.chosen: set[int] = set()  # handed out because the plan says so
        self.broken: set[int] = set()  # cannot be read: nobody is shown them

    def next(self, by: str, count: int, plan: Iterable[int]) -> list[int]:
        """The next ``count`` images for this person, fewer where there are no more.

        Args:
            by: who asks. Asking again gives the same, as long as they are not answered.
            count: how many.
            plan: teaching images, the one that teaches most first; when they are used up, the others follow.
        """
        self._seen[by] = self._clock()
        mine = self._before.setdefault(by, [])
        mine[:] = [one for one in mine if one not in self.broken and self._is_open(one, by)]
        if len(mine) < count:
            taken = set(mine) | self._lent(by)
            sources: dict[Stream, Iterator[int]] = {
                "teach": self._teach(by, taken, plan),
                "measure": self._measure(by, set(mine), taken),
            }
            while len(mine) < count and (one := self._one(by, mine, sources)) is not None:
                mine.append(one)
        return mine[:count]

    def done(self, by: str, number: int) -> None:
        """It is answered."""
        mine = self._before.get(by, [])
        if number in mine:
            mine.remove(number)

    def again(self, by: str, number: int) -> None:
        """It comes back, before all others."""
        self.done(by, number)
        self._before.setdefault(by, []).insert(0, number)

    def _one(self, by: str, mine: list[int], sources: dict[Stream, Iterator[int]]) -> int | None:
        teach, measure = self._answered.counts(by)
        kinds = [self._streams.of[one] for one in mine]
        teach, measure = teach + kinds.count("teach"), measure + kinds.count("measure")
        wanted: Stream = "measure" if measure < (teach + measure + 1) // EVERY else "teach"
        other: Stream = "teach" if wanted == "measure" else "measure"
        found = next(sources[wanted], None)
        return next(sources[other], None) if found is None else found

    def _teach(self, by: str, taken: set[int], plan: Iterable[int]) -> Iterator[int]:
        given: set[int] = set()
        for is_plan, source in ((True, plan), (False, self._streams.teach)):
            for one in source:
                if one not in taken and one not in given and one not in self.broken and self._is_open(one, by):
                    given.add(one)
                    if is_plan:
                        self.chosen.add(one)
                    yield one

    def _measure(self, by: str, mine: set[int], taken: set[int]) -> Iterator[int]:
        for one in self._streams.measure:
            is_taken = one in (mine if one in self._streams.shared else taken)
            if not is_taken and one not in self.broken and self._is_open(one, by):
                yield one

    def _is_open(self, number: int, by: str) -> bool:
        people = self._answered.by_whom(number)
        return by not in people if number in self._streams.shared else not people

    def _lent(self, by: str) -> set[int]:
        """What lies before others who are still there."""
        late = self._clock() - _ABSENT
        return {
            one for who, held in self._before.items() if who != by and self._seen.get(who, 0) > late for one in held
        }
