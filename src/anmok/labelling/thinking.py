"""What goes on behind a session: looking at the images, fitting the head, and saying which image teaches most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok.labelling.background import Background
from anmok.labelling.looking import Looker
from anmok.labelling.outlook import Curve, curve_of
from anmok.labelling.photos import Photos, answered
from anmok.labelling.remembering import Remembered, Row, Seen, probe_picture
from anmok.labelling.streams import Streams
from anmok.labelling.teaching import CANDIDATES, fitted, plan
from anmok.load import Head
from anmok.results import Failure

PLANNED = 32  # images ahead: more than a minute of work, and a new plan takes less than a second
_AT_ONCE = 8  # images per look: an answer waits no longer than this for the next fit
_SAVED = 64  # looks between two writes: what a kill can cost
_GROWN = 1.5  # so many times more images seen are worth another plan
_CURVE_GROWN = 1.1  # so many times more labels are worth another curve


@dataclass(frozen=True, slots=True, eq=False)
class Thought:
    """What is known at one moment. ``plan``: image numbers, the one that teaches most first; ``taught``: how many
    labels the head has learnt from; ``version``: of the answers that it rests on."""

    has_model: bool
    head: Head | None = None
    taught: int = 0
    plan: tuple[int, ...] = ()
    curve: Curve = field(default_factory=lambda: Curve("no_head"))
    version: int = -1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What may be learnt from: label numbers of teaching images, and all images that need no answer any more."""

    version: int
    labels: Mapping[int, int]
    answered: Collection[int]


class Thinker:
    """Works in one thread, which ends with the session. Before ``start`` there is none, and nothing is known.

    Args:
        photos, streams: of the session.
        labels: the classes.
        seed: for draws among equals.
    """

    def __init__(self, photos: Photos, streams: Streams, labels: tuple[str, ...], seed: int) -> None:
        self._photos, self._streams, self._labels, self._seed = photos, streams, labels, seed
        self.background = Background()
        self.seen = Seen(len(photos))
        self.broken: set[int] = set()
        self.thought = Thought(has_model=False)
        self._planned_on = 0  # images seen when the plan was made
        self._curve_on = 0  # labels taught when the curve was drawn
        self._order: list[int] = []  # to be looked at, the next one last
        self._remembered: Remembered | None = None
        self._unsaved: list[Row] = []

    def start(self, looker: Looker, path: Path, lesson: Callable[[], Lesson]) -> None:
        """Begins to look. ``path``: where looks are remembered; ``lesson``: gives the answers as they are."""
        self.thought = replace(self.thought, has_model=True)

        def step() -> bool:
            if self._remembered is None:
                return self._recall(looker, path)
            known = lesson()
            return self._learn(known) or self._draw(known) or self._look(looker, self._remembered, known)

        self.background.start(step)

    def _recall(self, looker: Looker, path: Path) -> bool:
        """What an earlier session saw, where the files are the same."""
        looks = self.background.patiently(lambda: looker.look([probe_picture()], self._labels))
        if looks is None:
            return False
        [probe] = looks
        if isinstance(probe, Failure):
            raise probe.error
        remembered = Remembered(path, probe.features)
        for name, stamp, digest, look in remembered.rows():
            number = self._photos.number.get(name)
            if number is not None and stamp == self._stamp(number):
                self.seen.put(number, digest, look)
        order = np.random.default_rng(self._seed).permutation(len(self._photos))
        self._order = [int(i) for i in order]
        self._remembered = remembered
        return True

    def _look(self, looker: Looker, remembered: Remembered, lesson: Lesson) -> bool:
        """A few images more: those that were answered, then in random order, so that a plan made meanwhile is about a
        sample."""
        now = self._unseen(lesson)
        if len(self._unsaved) >= _SAVED or not now:
            remembered.add(self._unsaved)
            self._unsaved = []
        if not now:
            return False
        looked = answered(
            self._photos, now, lambda data: self.background.patiently(lambda: looker.look(data, self._labels))
        )
        if looked is None:
            return False
        self.broken |= looked.broken
        for number, look in looked.answers.items():
            digest = hashlib.sha256(looked.contents[number]).hexdigest()
            self.seen.put(number, digest, look)
            self._unsaved.append((self._photos.names[number], self._stamp(number), digest, look))
        return True

    def _unseen(self, lesson: Lesson) -> list[int]:
        def is_open(number: int) -> bool:
            return not self.seen.is_seen[number] and number not in self.broken

        while self._order and not is_open(self._order[-1]):
            self._order.pop()
        wanted = [*filter(is_open, lesson.answered), *filter(is_open, reversed(self._order[-2 * _AT_ONCE :]))]
        return list(dict.fromkeys(wanted))[:_AT_ONCE]

    def _learn(self, lesson: Lesson) -> bool:
        """Another head and plan, where there are new answers or many more images to choose from."""
        count = int(self.seen.is_seen.sum())
        has_grown = count >= _GROWN * self._planned_on and count > self._planned_on
        rows = self._taught(lesson)
        is_known = lesson.version == self.thought.version and len(rows) == self.thought.taught
        if is_known and not has_grown:
            return False
        labels = np.array([lesson.labels[i] for i in rows], np.int64)
        head = fitted(self.seen.features[rows], labels, len(self._labels)) if len(rows) else None
        planned = self._plan(lesson, rows, head)
        self._planned_on = count
        self.thought = replace(self.thought, head=head, taught=len(rows), plan=planned, version=lesson.version)
        return True

    def _plan(self, lesson: Lesson, rows: NDArray[np.int64], head: Head | None) -> tuple[int, ...]:
        """A copy of a measuring image must not be learnt from."""
        seen = self.seen
        measuring = {seen.digests[i] for i in self._streams.measure} - {""}
        free = [i for i in self._streams.teach if seen.is_seen[i] and i not in lesson.answered]
        pool = np.array([i for i in free if seen.digests[i] not in measuring], np.int64)
        if not len(pool):
            return ()
        rng = np.random.default_rng((self._seed, len(lesson.answered)))
        pool = pool if len(pool) <= CANDIDATES else rng.choice(pool, CANDIDATES, replace=False)
        chosen = plan(seen.features[pool], seen.features[rows], head, PLANNED, rng)
        return tuple(int(pool[i]) for i in chosen)

    def _draw(self, lesson: Lesson) -> bool:
        """Another curve, where a tenth more was taught."""
        rows = self._taught(lesson)
        if len(rows) < max(_CURVE_GROWN * self._curve_on, self._curve_on + 1):
            return False
        labels = np.array([lesson.labels[i] for i in rows], np.int64)
        curve = curve_of(self.seen.features[rows], labels, len(self._labels), self._seed)
        self._curve_on = len(rows)
        self.thought = replace(self.thought, curve=curve)
        return True

    def _taught(self, lesson: Lesson) -> NDArray[np.int64]:
        return np.array(sorted(i for i in lesson.labels if self.seen.is_seen[i]), np.int64)

    def _stamp(self, number: int) -> str:
        """Changes when the file does."""
        try:
            found = (self._photos.root / self._photos.names[number]).stat()
        except OSError:
            return ""
        return f"{found.st_size}:{found.st_mtime_ns}"
