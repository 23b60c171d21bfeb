"""`LabelSession`: images in, answers in, and at any moment how far the result can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anmok.errors import BadRequest
from anmok.labelling.book import SKIP, UNSURE, Book, Stroke
from anmok.labelling.exporting import Exported, written
from anmok.labelling.looking import Looker, looker_of
from anmok.labelling.photos import Photos, checked_labels
from anmok.labelling.sitting import Sitting, checked_name, checked_seconds
from anmok.labelling.standing import Known, Standing, standing
from anmok.labelling.streams import Stream, Streams
from anmok.labelling.strokes import Line, StrokeFile, now
from anmok.labelling.teaching import chances
from anmok.labelling.thinking import Lesson, Thinker
from anmok.labelling.turns import Turns
from anmok.load import Model

STROKES, LOOKS = "strokes.jsonl", "looks.sqlite"
MODEL = "mini"


@dataclass(frozen=True, slots=True)
class Task:
    """An image to be labelled. ``path`` is below the folder. ``proposals`` are labels with the head's probability,
    or before there is a head with the score of the label as a word, best first; none where nothing is known, and none
    on a measuring image: whoever saw the head's guess would agree with it too often. ``is_chosen``: it comes now
    because it teaches most, as far as is known; others come in random order."""

    id: str
    path: str
    stream: Stream
    proposals: tuple[tuple[str, float], ...] = ()
    is_chosen: bool = False


class LabelSession(Sitting):
    """Labelling one folder, by one or several people. Safe to share between threads.

    One image in three measures and the others teach (`anmok.labelling.streams`). The head learns from teaching images
    alone, also when all are labelled, and only measuring images say how good it is. ``answer`` returns when the
    stroke is on the disk. ``next`` never waits for the model.

    >>> with LabelSession.open(Path("photos"), ("good", "defect"), store=Path("labels")) as session:
    ...     [task] = session.next()
    ...     session.answer(task, "good", seconds=1.3)
    ...     session.verdict().head.estimate
    """

    def __init__(
        self, photos: Photos, labels: tuple[str, ...], store: Path, *, by: str, looker: Looker | None, seed: int
    ) -> None:
        """Use `open`."""
        checked_name(by)  # before anything is written
        self._streams = Streams(photos.names, seed)
        self._thinker = Thinker(photos, self._streams, labels, seed)
        file = StrokeFile(store / STROKES, {"kind": "labels", "labels": list(labels), "seed": seed})
        super().__init__(photos, labels, by, file, self._thinker.background)
        self._book = Book(photos.number)
        self._turns = Turns(self._streams, self._book)
        self._turns.broken = self._thinker.broken
        self._store, self._seed = store, seed
        self._take(self._file.read())
        if looker is not None:
            self._thinker.start(looker, store / LOOKS, self._lesson)

    @classmethod
    def open(
        cls,
        folder: Path,
        labels: Sequence[str] = ("good", "defect"),
        *,
        store: Path,
        by: str = "a",
        model: str | Model | Looker | None = MODEL,
        seed: int = 0,
    ) -> LabelSession:
        """Begins a session, or goes on with the one in ``store``.

        Args:
            folder: the images; nothing outside it is ever shown.
            labels: the classes.
            store: a folder for the strokes and what the model saw; made where it is missing.
            by: whose answers these are where a call does not say.
            model: a card's name, a loaded model, ``Served(engine, name)``, or None: images then come in random order
                and nothing is measured.
            seed: of the draw of measuring images; fixed from the first stroke on.

        Raises:
            BadData: no images, or a damaged file of strokes.
            BadRequest: labels that cannot be used, or other labels or another seed than the session was begun with.
            UnknownModel: no card of that name.
            CannotWrite: the store cannot be written.
        """
        checked = checked_labels(labels, (SKIP, UNSURE))
        if len(checked) < 2:
            raise BadRequest(f"labels {', '.join(checked)}: want at least two, such as good and defect")
        looker = None if model is None else looker_of(model)
        return cls(Photos(Path(folder)), checked, Path(store), by=by, looker=looker, seed=seed)

    def next(self, count: int = 1, *, by: str = "") -> list[Task]:
        """What this person is shown next, at most ``count``; the same again until it is answered.

        Less than ``count`` where the folder comes to its end.
        """
        if count < 1:
            raise BadRequest(f"count {count}: want at least 1")
        with self._lock:
            self._take(self._file.read())
            numbers = self._turns.next(self._who(by), count, self._thinker.thought.plan)
        return [self._task(number) for number in numbers]

    def answer(self, task: Task | str, answer: str, *, by: str = "", seconds: float = 0.0) -> None:
        """Takes one answer, and returns when it is on the disk. A second one by the same person replaces the first.

        Args:
            task: what ``next`` gave, or its id.
            answer: a label, ``"skip"`` or ``"unsure"``.
            by: who says so.
            seconds: how long it took, for the pace.

        Raises:
            BadRequest: an unknown id or answer.
            CannotWrite: the disk refuses; the image will be asked about again.
        """
        if answer not in (*self._labels, SKIP, UNSURE):
            raise BadRequest(f"answer {answer[:40]!r}: want {', '.join(self._labels)}, {SKIP} or {UNSURE}")
        number = self._number(task)
        name = self._photos.names[number]
        who = self._who(by)
        stroke = Stroke(name, number, who, answer, checked_seconds(seconds), self._streams.of[number])
        self._append({**stroke.line, "at": now()})

    def undo(self, *, by: str = "") -> Task:
        """Takes back this person's last answer, also one of an earlier day; the image comes next again.

        Raises:
            BadRequest: there is none.
            CannotWrite: the disk refuses.
        """
        who = self._who(by)
        with self._lock:
            self._take(self._file.read())
            last = self._book.last(who)
            if last is None:
                raise BadRequest(f"nothing to undo: {who} has no answers here")
            self._append({"do": "undo", "by": who, "at": now()})
        if last.number < 0:
            raise BadRequest(f"{last.name}: is not in the folder any more; its answer was taken back")
        return self._task(last.number)

    def verdict(self, *, wait: float = 0.0) -> Standing:
        """How it stands, from what is known now.

        Args:
            wait: seconds to give the model for looking at everything and learning from everything first.
        """
        if wait:
            self.settled(wait)
        with self._lock:
            self._take(self._file.read())
            known = Known(
                self._photos,
                self._streams,
                self._book,
                self._thinker.seen,
                self._thinker.thought,
                self._labels,
                self._seed,
                len(self._thinker.broken),
                self._thinker.background.trouble,
                self._file.torn,
            )
            return standing(known)

    def export(self, folder: Path | None = None) -> Exported:
        """Tables and a test folder for ``anmok ladder``, into ``folder`` or ``export`` below the store.

        Raises:
            BadData: nothing is labelled yet.
            CannotWrite: the disk refuses.
        """
        with self._lock:
            self._take(self._file.read())
            labels = {number: label for number, (_, label) in self._book.verdicts().items() if label}
        return written(self._photos, self._streams, labels, folder or self._store / "export")

    def _append(self, line: Line) -> None:
        with self._lock:
            self._take(self._file.append([line]))

    def _take(self, lines: Sequence[Line]) -> None:
        """Replays what is new. With the lock."""
        for line in lines:
            stroke = self._book.apply(line)
            if stroke is not None and stroke.number >= 0:
                (self._turns.again if line["do"] == "undo" else self._turns.done)(stroke.by, stroke.number)
        if lines:
            self._thinker.background.wake()

    def _task(self, number: int) -> Task:
        stream = self._streams.of[number]
        proposals = self._proposals(number) if stream == "teach" else ()
        is_chosen = stream == "teach" and number in self._turns.chosen
        return Task(self._photos.ids[number], self._photos.names[number], stream, proposals, is_chosen)

    def _proposals(self, number: int) -> tuple[tuple[str, float], ...]:
        seen, head = self._thinker.seen, self._thinker.thought.head
        if not seen.is_seen[number]:
            return ()
        if head is not None:
            [scores] = chances(head.logits(seen.features[number][None]))  # (K,)
        elif seen.words.shape[1]:
            scores = seen.words[number]
        else:
            return ()
        ranked = sorted(zip(self._labels, scores.tolist(), strict=True), key=lambda one: -one[1])
        return tuple(ranked)

    def _lesson(self) -> Lesson:
        with self._lock:
            verdicts = self._book.verdicts()
            version = self._book.version
        index = {label: i for i, label in enumerate(self._labels)}
        taught = {i: index[label] for i, (_, label) in verdicts.items() if label and self._streams.of[i] == "teach"}
        return Lesson(version, taught, verdicts.keys())
