"""Climbs that go on while nobody looks: one thread each, two at a time, found again by whoever may see them.

Everything is in memory. A server that ends takes its climbs with it; the features that were computed stay in the
cache, so that the same climb is short the second time.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from anmok.engine.answering import Caught
from anmok.errors import AnmokError, BadRequest, Busy
from anmok.ladder.outcome import Outcome, Step
from anmok.ui.sessions import Sessions
from anmok.ui.unpacking import remove
from anmok.weights.cache import sha256_of

State: TypeAlias = Literal["waiting", "running", "done", "stopped", "failed"]

_AT_ONCE: Final = 2
_WAITING: Final = 6
_KEPT: Final = 12  # that have ended
_POLL: Final = 0.1  # seconds
_SHARED: Final = "folder:"


class Stopped(Exception):
    """Somebody had enough: carried out of the ladder by what it tells its progress to."""


@dataclass(slots=True, eq=False)
class Job:
    """One climb. Its thread writes, everybody reads; each field changes at one stroke.

    ``steps``: the rungs that have answered. ``outcome``: only where ``state`` is "done". ``folder``: of its files.
    """

    key: str
    called: str
    model: str
    folder: Path
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    steps: tuple[Step, ...] = ()
    outcome: Outcome | None = None
    error: AnmokError | None = None
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)
    _enough: threading.Event = field(default_factory=threading.Event)

    @property
    def is_shared(self) -> bool:
        """Of a folder that all visitors see; others are found by their key alone."""
        return self.key.startswith(_SHARED)

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    def stop(self) -> None:
        """As soon as the ladder says where it is."""
        self._enough.set()

    def is_enough(self) -> bool:
        return self._enough.is_set()

    def progressed(self, stage: str, done: int, total: int) -> None:
        """What the ladder tells. Raises `Stopped` where somebody had enough before a rung has answered."""
        if self._enough.is_set() and not self.steps:
            raise Stopped
        self.stage, self.done, self.total = stage, done, total

    def arrived(self, step: Step) -> None:
        """A rung has answered: from here on the ladder itself ends the climb, and what stood is kept."""
        self.steps = (*self.steps, step)

    def wait(self, seconds: float) -> bool:
        """Whether it ended in time."""
        return self.ended.wait(seconds)


Work: TypeAlias = Callable[[Job], None]


class Jobs:
    """The climbs of one server, by key. Safe to share between threads."""

    def __init__(self, at_once: int = _AT_ONCE, waiting: int = _WAITING, kept: int = _KEPT) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._turns = threading.Semaphore(at_once)
        self._most = at_once + waiting
        self._kept = kept

    def start(self, key: str, called: str, model: str, folder: Path, work: Work) -> Job:
        """Begins in a thread of its own, or waits for a turn. Where the key has a climb that is not over, that one is
        returned, and the folder removed.

        Args:
            folder: for the files of this climb, which go when the climb is forgotten.

        Raises:
            Busy: enough of them wait already.
        """
        with self._lock:
            known = self._jobs.get(key)
            if known is None or known.is_over:
                if sum(not one.is_over for one in self._jobs.values()) >= self._most:
                    remove(folder)
                    raise Busy("as many climbs as this server takes are under way; try again when one has ended", 60.0)
                job = Job(key, called, model, folder)
                gone = [] if known is None else [self._jobs.pop(key)]
                self._jobs[key] = job
                over = [one for one in self._jobs.values() if one.is_over]
                gone += [self._jobs.pop(one.key) for one in over[: max(0, len(over) - self._kept)]]
                threading.Thread(target=self._run, args=(job, work), name="anmok-climb", daemon=True).start()
            else:
                job, gone = known, []
        for old in gone:
            remove(old.folder)
        if job is known:
            remove(folder)
        return job

    def get(self, key: str) -> Job:
        """The climb of that key.

        Raises:
            BadRequest: there is none: it was forgotten, or the server began anew.
        """
        with self._lock:
            job = self._jobs.get(key)
        if job is None:
            raise BadRequest("that climb is not known here any more; start it again")
        return job

    def shared(self) -> list[Job]:
        """Those of the server's own folders, the newest first."""
        with self._lock:
            return [job for job in reversed(self._jobs.values()) if job.is_shared]

    def _run(self, job: Job, work: Work) -> None:
        while not self._turns.acquire(timeout=_POLL):
            if job.is_enough():
                job.state = "stopped"
                job.ended.set()
                return
        try:
            self._work(job, work)
        finally:
            self._turns.release()
            job.seconds = time.monotonic() - job.started
            job.ended.set()

    @staticmethod
    def _work(job: Job, work: Work) -> None:
        job.state = "running"
        caught = Caught()
        with caught:
            work(job)
        if isinstance(caught.error, Stopped):
            job.state = "stopped"
        elif caught.error is not None:
            job.error, job.state = caught.told(job.called, "the climb failed"), "failed"


def key_of_folder(name: str, labels: Path | None = None) -> str:
    """The same for everybody who climbs on that folder with the same labels."""
    return f"{_SHARED}{name}" + ("" if labels is None else f"#{sha256_of(labels)[:16]}")


def key_of_zip() -> str:
    """Nobody guesses it."""
    return f"zip:{secrets.token_hex(16)}"


_ALL: WeakKeyDictionary[Sessions, Jobs] = WeakKeyDictionary()
_ALL_LOCK: Final = threading.Lock()


def jobs_of(sessions: Sessions) -> Jobs:
    """The climbs of the page that has those sessions, in whatever language it is shown."""
    with _ALL_LOCK:
        return _ALL.setdefault(sessions, Jobs())
