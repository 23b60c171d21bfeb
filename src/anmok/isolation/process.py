"""One process from its start to its end: the channels to it, the models in it, and what it died of."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anmok.errors import AnmokError
from anmok.isolation.bounds import OUT_OF_MEMORY, Bounds
from anmok.isolation.channel import Channel, Garbled, Lost
from anmok.isolation.codec import error_from_tree, packed, unpacked

_IDLE = 4  # channels that are kept for the next call
_LOOK = 0.05  # seconds between two looks at the memory
_END = 5.0  # seconds that a process has to go in peace
_ILL = (LookupError, TypeError, ValueError, AttributeError, AnmokError)  # what an answer that is none trips over


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A model that a process should have: its number there, the name to load, and how. ``card`` is for messages."""

    key: int
    name: str
    card: str
    settings: Mapping[str, Any]


class Process:
    """A running child. Safe to share between threads: every call has a channel to itself.

    The child ends when the control socket closes, so also when this process dies. It is no member of the terminal's
    process group: an interrupt is for the parent, which drains.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._idle: list[Channel] = []
        self._loaded: dict[int, dict[str, Any]] = {}
        self._cause = ""
        self._is_over = False
        self.started = time.monotonic()
        self._control, theirs = socket.socketpair()
        try:
            with theirs:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", bounds.program, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what is printed there is for people; our own stdout may be read by a program
                    env=bounds.environment(),
                    process_group=0,
                )
        except OSError:
            self._control.close()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def resident_bytes(self) -> int:
        """What it holds at this moment; 0 where the system does not say, or it has ended."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return 0

    def ensure(self, order: Order) -> dict[str, Any]:
        """Loads a model unless it is there; what the process says of it: ``maker`` and ``nbytes``.

        Raises:
            Lost: the process is gone.
            AnmokError: as ``anmok.load``.
        """
        facts = self._loaded.get(order.key)
        if facts is not None:
            return facts
        with self._loading:  # one at a time: whoever came second finds it there
            facts = self._loaded.get(order.key)
            if facts is None:
                words = {"do": "load", "key": order.key, "name": order.name}
                facts = self._loaded[order.key] = self.ask(words, dict(order.settings))
        return facts

    def forget(self, key: int) -> None:
        """Lets go of a model; one that is not there changes nothing. A process that hangs is not waited for: it does
        it when it goes on.

        Raises:
            Lost: the process is gone, or hangs.
        """
        if self._loaded.pop(key, None) is not None:
            self.ask({"do": "unload", "key": key}, None, seconds=_END)

    def ask(
        self, words: Mapping[str, Any], value: object, *, is_copied: bool = False, seconds: float | None = None
    ) -> Any:
        """One question, one answer.

        Args:
            words: what is to be done.
            value: with what.
            is_copied: the arrays of an answer that does not copy them by itself.
            seconds: for the answer; None waits as long as the process lives.

        Raises:
            Lost: the process is gone, or its answer is none or too late.
            Exception: what it raised.
        """
        parcel = packed(value)
        with self._lent() as channel:
            channel.wait(seconds)
            channel.send(words, parcel)
            reply, block = channel.receive()
            answer = read(reply, block, is_copied=is_copied)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open(self) -> Channel:
        """A channel of one's own.

        Raises:
            Lost: the process is gone.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"c"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise Lost(f"takes no more channels ({error.strerror})") from None
        return Channel(ours)

    def watch(self, memory_bytes: int) -> None:
        """Returns when the process is gone: it died, or was told to end and did, or was killed for not doing so.

        Args:
            memory_bytes: a process that holds more is killed; 0 sets no bound.
        """
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while not poll.poll(_LOOK * 1000 if memory_bytes else None):
            held = self.resident_bytes()
            if held > memory_bytes:
                self.kill(f"it held {held / 1e6:,.0f} MB of memory, and {memory_bytes / 1e6:,.0f} MB are its bound")
        try:
            self._child.wait(_END)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        with self._lock:
            idle, self._idle = self._idle, []
            self._is_over = True
        for channel in idle:
            channel.close()
        self._control.close()

    def kill(self, cause: str = "") -> None:
        """Ends it now. The first cause that was given stands."""
        with self._lock:
            self._cause = self._cause or cause
        self._child.kill()

    def hang_up(self) -> None:
        """Tells it to end. Takes no lock, and does not wait."""
        with contextlib.suppress(OSError):  # it has ended
            self._control.shutdown(socket.SHUT_RDWR)

    def obituary(self) -> str:
        """What it died of, without a number or a path of this machine."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_END)
        code = self._child.returncode
        if self._cause:
            return self._cause
        if code == OUT_OF_MEMORY:
            return "it ran out of memory"
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"it ended with {code}"

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Channel]:
        """A channel for one question; it is kept where the answer came whole and little memory goes with it."""
        with self._lock:
            channel = self._idle.pop() if self._idle else None
        channel = channel or self.open()
        is_whole = False
        try:
            yield channel
            is_whole = True
        finally:
            with self._lock:
                is_kept = is_whole and not (self._is_over or channel.is_large or len(self._idle) >= _IDLE)
                if is_kept:
                    self._idle.append(channel)
            if not is_kept:
                channel.close()


def read(reply: Mapping[str, Any], block: memoryview, *, is_copied: bool) -> Any:
    """The answer in a message, or the error in it, which is returned.

    Raises:
        Garbled: neither.
    """
    try:
        if "error" in reply:
            return error_from_tree(reply["error"])
        return unpacked(reply["value"], block, is_copied=is_copied)
    except _ILL as error:
        raise Garbled(f"sent an answer that is none ({type(error).__name__}: {error})") from None
