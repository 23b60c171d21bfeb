"""Which models go so that another one fits: the least recently used, but none that is pinned, at work or new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory."""

    name: str
    nbytes: int
    used: float  # engine's clock: when it last had work
    loaded: float
    is_held: bool = False  # pinned, loading, or with work in its queue


def victims(
    residents: Sequence[Resident], needed: int, budget: int, *, now: float, stay_seconds: float
) -> list[str] | None:
    """The names of those that go, so that ``needed`` bytes fit into ``budget``; none where it fits as it is.

    None where it cannot be done now. A model that has just been loaded stays for ``stay_seconds``: two models that
    do not fit side by side take turns, and do not spend their time with being loaded.
    """
    excess = sum(one.nbytes for one in residents) + needed - budget
    free = [one for one in residents if not one.is_held and now - one.loaded >= stay_seconds]
    going: list[Resident] = []
    for one in sorted(free, key=lambda one: one.used):
        if excess <= 0:
            break
        going.append(one)
        excess -= one.nbytes
    if excess > 0:
        return None
    for one in reversed(going):  # a large one that came last may have made a small one's going needless
        if excess + one.nbytes <= 0:
            going.remove(one)
            excess += one.nbytes
    return [one.name for one in going]
