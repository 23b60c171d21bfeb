"""What one event leaves for the next one of the same visitor."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """The last of each of so many visitors, until it is taken. Safe to share between threads."""

    def __init__(self, visitors: int) -> None:
        self._visitors = visitors
        self._lock = threading.Lock()
        self._held: OrderedDict[str, T] = OrderedDict()

    def give(self, visitor: str, what: T) -> None:
        """Instead of what this visitor was given before.

        Args:
            visitor: gradio's ``session_hash``.
            what: for the next event.
        """
        with self._lock:
            self._held.pop(visitor, None)
            self._held[visitor] = what
            while len(self._held) > self._visitors:
                self._held.popitem(last=False)

    def take(self, visitor: str) -> T | None:
        """What this visitor was given, once; None where there is nothing."""
        with self._lock:
            return self._held.pop(visitor, None)

    def seen(self, visitor: str) -> T | None:
        """The same, which stays."""
        with self._lock:
            return self._held.get(visitor)
