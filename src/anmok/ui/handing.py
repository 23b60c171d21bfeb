"""What a visitor takes from the tab where he labelled to the one where he climbs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from anmok.ui.sessions import Sessions

_VISITORS: Final = 64  # on their way at a time; the others have changed their minds


@dataclass(frozen=True, slots=True)
class Labelled:
    """``folder`` is a name that `anmok.ui.sources.folder_of` knows; ``table`` has an image, a label and a stream in
    each line."""

    folder: str
    table: Path


class Hands:
    """Each visitor's labels, from the click in one tab until the other one opens. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Labelled] = OrderedDict()

    def give(self, visitor: str, labelled: Labelled) -> None:
        """Instead of what this visitor was given before.

        Args:
            visitor: gradio's ``session_hash``.
            labelled: what was labelled.
        """
        with self._lock:
            self._held.pop(visitor, None)
            self._held[visitor] = labelled
            while len(self._held) > _VISITORS:
                self._held.popitem(last=False)

    def take(self, visitor: str) -> Labelled | None:
        """What this visitor was given, once."""
        with self._lock:
            return self._held.pop(visitor, None)


_ALL: WeakKeyDictionary[Sessions, Hands] = WeakKeyDictionary()
_ALL_LOCK: Final = threading.Lock()


def hands_of(sessions: Sessions) -> Hands:
    """Those of the page that has those sessions, in whatever language it is shown."""
    with _ALL_LOCK:
        return _ALL.setdefault(sessions, Hands())
