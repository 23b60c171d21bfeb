"""Files that the page makes for its visitors: a folder of this server's own, bounded, and gone when it ends."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict, deque
from functools import cache
from pathlib import Path
from typing import Final

from anmok.files import cannot_write

_ANSWERS: Final = 6  # of one visitor, that can still be downloaded
_VISITORS: Final = 64


@cache
def uploads() -> Path:
    """The folder for everything that gradio keeps, uploads as well; nobody else on this machine can read it.

    It is named to gradio by its environment variable, which is read whenever a file comes.
    """
    named = os.environ.get("GRADIO_TEMP_DIR")
    if named:
        return Path(named)
    folder = Path(tempfile.mkdtemp(prefix="anmok-page-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


class Sessions:
    """A place for each answer's files. Of each visitor the last few answers are kept, of visitors the last few dozen;
    a name holds 128 random bits, so that nobody comes upon somebody else's. Safe to share between threads."""

    def __init__(self, folder: Path, *, answers: int = _ANSWERS, visitors: int = _VISITORS) -> None:
        self._folder = folder
        self._answers = answers
        self._visitors = visitors
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, deque[Path]] = OrderedDict()

    def place(self, visitor: str) -> Path:
        """A new empty folder.

        Args:
            visitor: gradio's ``session_hash``; "" for a caller without one.

        Raises:
            CannotWrite: the disk refuses.
        """
        fresh = self._folder / "answers" / secrets.token_hex(16)
        with cannot_write(self._folder):
            fresh.mkdir(parents=True)
        with self._lock:
            mine = self._kept.setdefault(visitor, deque())
            self._kept.move_to_end(visitor)
            mine.append(fresh)
            gone = [mine.popleft() for _ in range(len(mine) - self._answers)]
            while len(self._kept) > self._visitors:
                gone += self._kept.popitem(last=False)[1]
        for old in gone:
            shutil.rmtree(old, ignore_errors=True)
        return fresh
