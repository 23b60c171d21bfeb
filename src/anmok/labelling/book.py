"""The state of a labelling session: a replay of its strokes, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from anmok.labelling.streams import Stream

SKIP: Final = "skip"
UNSURE: Final = "unsure"

Status = Literal["open", "labelled", "disputed", "unsure", "skipped"]


@dataclass(frozen=True, slots=True)
class Stroke:
    """One answer: the number of an image, or -1 where it is no longer in the folder; a label, ``skip`` or ``unsure``;
    and the seconds that it took."""

    name: str
    number: int
    by: str
    answer: str
    seconds: float
    stream: Stream

    @property
    def line(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "do": "answer",
            "image": self.name,
            "stream": self.stream,
            "answer": self.answer,
            "by": self.by,
            "seconds": round(self.seconds, 3),
        }


class Book:
    """Who has said what. Of several answers by one person to one image the last counts; an undo takes one back.

    Args:
        numbers: of the images in the folder, by name.
    """

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        self._said: dict[int, dict[str, list[Stroke]]] = {}  # image -> person -> answers that stand
        self.by_person: dict[str, list[Stroke]] = {}  # answers that stand, in order
        self.absent: Counter[str] = Counter()  # answers to images that are not in the folder any more
        self.version = 0  # grows with each line
        self._counts: Counter[tuple[str, Stream]] = Counter()
        self._verdicts: dict[int, tuple[Status, str]] = {}

    def apply(self, line: Mapping[str, Any]) -> Stroke | None:
        """Replays a line. Returns the stroke that it made, or took back."""
        self.version += 1
        by = str(line.get("by", ""))
        if line.get("do") == "answer":
            name = str(line["image"])
            number = self._numbers.get(name, -1)
            stroke = Stroke(name, number, by, str(line["answer"]), float(line["seconds"]), line["stream"])
            self._add(stroke)
            return stroke
        if line.get("do") == "undo" and self.by_person.get(by):
            return self._take_back(by)
        return None

    def last(self, by: str) -> Stroke | None:
        """What an undo would take back."""
        mine = self.by_person.get(by)
        return mine[-1] if mine else None

    def by_whom(self, number: int) -> Collection[str]:
        """Who has answered this image, in whatever way."""
        return self._said.get(number, {}).keys()

    def counts(self, by: str) -> tuple[int, int]:
        """Images that this person has answered: teaching, measuring."""
        return self._counts[by, "teach"], self._counts[by, "measure"]

    def answers(self, number: int) -> dict[str, str]:
        """The answer of each person to an image."""
        return {by: strokes[-1].answer for by, strokes in self._said.get(number, {}).items()}

    def verdict(self, number: int) -> tuple[Status, str]:
        """What is held of an image, and its label where it has one: what most of those said who gave a label."""
        answers = self.answers(number)
        labels = Counter(one for one in answers.values() if one not in (SKIP, UNSURE)).most_common(2)
        if not labels:
            return ("open" if not answers else "unsure" if UNSURE in answers.values() else "skipped"), ""
        if len(labels) == 2 and labels[0][1] == labels[1][1]:
            return "disputed", ""
        return "labelled", labels[0][0]

    def verdicts(self) -> dict[int, tuple[Status, str]]:
        """Of all images that somebody has answered."""
        return dict(self._verdicts)

    def _add(self, stroke: Stroke) -> None:
        self.by_person.setdefault(stroke.by, []).append(stroke)
        if stroke.number < 0:
            self.absent[stroke.name] += 1
            return
        mine = self._said.setdefault(stroke.number, {}).setdefault(stroke.by, [])
        mine.append(stroke)
        self._counts[stroke.by, stroke.stream] += len(mine) == 1
        self._verdicts[stroke.number] = self.verdict(stroke.number)

    def _take_back(self, by: str) -> Stroke:
        stroke = self.by_person[by].pop()
        if stroke.number < 0:
            self.absent -= Counter([stroke.name])
            return stroke
        people = self._said[stroke.number]
        people[by].pop()
        if not people[by]:
            del people[by]
            self._counts[by, stroke.stream] -= 1
        self._verdicts[stroke.number] = self.verdict(stroke.number)
        if not people:
            del self._said[stroke.number], self._verdicts[stroke.number]
        return stroke
