"""What a visitor takes from the tab where he labelled to the one where he climbs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from anmok.ui.holding import Held
from anmok.ui.sessions import Sessions

_VISITORS: Final = 64  # on their way at a time; the others have changed their minds


@dataclass(frozen=True, slots=True)
class Labelled:
    """``folder`` is a name that `anmok.ui.sources.folder_of` knows; ``table`` has an image, a label and a stream in
    each line."""

    folder: str
    table: Path


class Hands(Held[Labelled]):
    """Each visitor's labels, from the click in one tab until the other one opens."""

    def __init__(self) -> None:
        super().__init__(_VISITORS)


_ALL: WeakKeyDictionary[Sessions, Hands] = WeakKeyDictionary()
_ALL_LOCK: Final = threading.Lock()


def hands_of(sessions: Sessions) -> Hands:
    """Those of the page that has those sessions, in whatever language it is shown."""
    with _ALL_LOCK:
        return _ALL.setdefault(sessions, Hands())
