"""The one thread behind a session: it works while there is something to do, sleeps otherwise, and ends with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from anmok.errors import AnmokError, Closing, Refused

T = TypeVar("T")
_JOIN = 10.0  # seconds


class Background:
    """``trouble`` is what keeps it from going on; empty where nothing does."""

    def __init__(self) -> None:
        self.trouble = ""
        self.is_closing = False
        self._changed = threading.Condition()
        self._is_idle = True
        self._woken = 0  # times
        self._thread: threading.Thread | None = None

    def start(self, step: Callable[[], bool]) -> None:
        """Calls ``step`` until it has nothing to do and returns False, and again whenever somebody wakes it."""
        self._is_idle = False
        self._thread = threading.Thread(target=self._run, args=(step,), name="anmok-labelling", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        with self._changed:
            self._woken += 1
            self._is_idle = self._thread is None or not self._thread.is_alive()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Until there is nothing left to do; False where that takes longer, or something keeps it from going on."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_idle, seconds) and not self.trouble

    def patiently(self, call: Callable[[], T]) -> T | None:
        """What ``call`` returns; where an engine is busy, later. None where the session ends meanwhile."""
        while not self.is_closing:
            try:
                found = call()
            except Closing:
                raise
            except Refused as error:
                self.trouble = str(error)
                self._sleep(error.retry_after)
            else:
                self.trouble = ""
                return found
        return None

    def close(self) -> None:
        """Ends the thread; one that is stuck in a model is left behind."""
        with self._changed:
            self.is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_JOIN)

    def _run(self, step: Callable[[], bool]) -> None:
        try:
            while not self.is_closing:
                woken = self._woken
                if not step():
                    self._rest(woken)
        except AnmokError as error:
            self.trouble = str(error)
        finally:
            with self._changed:
                if not (self.is_closing or self.trouble):  # not one of our errors: its trace is in the log
                    self.trouble = "the model failed; what is labelled stays"
                self._is_idle = True
                self._changed.notify_all()

    def _rest(self, woken: int) -> None:
        """Until somebody wakes it, which may have been while it worked."""
        with self._changed:
            self._is_idle = self._woken == woken
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._woken != woken or self.is_closing)

    def _sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: self.is_closing or time.monotonic() >= ends, seconds)
