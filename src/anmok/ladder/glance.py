"""A folder without labels: zero-shot only, and what labels would buy. Nothing here claims an accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anmok.errors import BadData
from anmok.evidence.power import interval_for
from anmok.files import write_beside
from anmok.ladder.dataset import Dataset
from anmok.load import Model
from anmok.results import Failure, Scores
from anmok.tasks import Classify

_LABELS, _GUESS = 50, 0.8  # what the example interval assumes
_LEAST_SURE = 10

_TEXT = {
    "en": (
        "{n} images, none labelled: this is what {model} says, and nobody knows yet how often it is right.\n"
        "{shares}\n"
        "Label {labels} random images and you will know: at an accuracy of {guess:.0%} their interval would be "
        "{low:.0%} to {high:.0%}.\n"
        "How: copy {labels} images picked at random (not the easy ones) into one folder per class, then: "
        "anmok ladder that-folder/\n"
        "The images it is least sure of: {unsure}"
    ),
    "ko": (
        "이미지 {n}장에 아직 라벨이 없습니다. 아래는 {model}의 답일 뿐이며, 얼마나 맞는지는 아직 아무도 모릅니다.\n"
        "{shares}\n"
        "무작위로 고른 {labels}장에 라벨을 붙이면 알 수 있습니다. 정확도가 {guess:.0%}라면 신뢰구간은 "
        "{low:.0%}~{high:.0%}가 됩니다.\n"
        "방법: 쉬운 것만 고르지 말고 무작위로 {labels}장을 골라 클래스별 폴더에 나눠 담은 뒤 "
        "anmok ladder 폴더/ 를 실행하세요.\n"
        "모델이 가장 자신 없어 하는 이미지: {unsure}"
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    model: str
    names: tuple[str, ...]
    answers: tuple[Scores, ...]
    unread: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [{"image": n, **answer.to_dict()} for n, answer in zip(self.names, self.answers, strict=True)]
        interval = interval_for(_LABELS, _GUESS)
        would_be = {"labels": _LABELS, "accuracy": _GUESS, "low": interval.low, "high": interval.high}
        return {
            "model": self.model,
            "predictions": rows,
            "unread": list(self.unread),
            "interval_would_be": would_be,
        }

    def text(self, language: Literal["en", "ko"]) -> str:
        """A few lines for the terminal."""
        counts = Counter(answer.label for answer in self.answers)
        shares = ", ".join(f"{label} {count}" for label, count in counts.most_common())
        unsure = sorted(zip(self.names, self.answers, strict=True), key=lambda pair: pair[1].score)[:_LEAST_SURE]
        interval = interval_for(_LABELS, _GUESS)
        return _TEXT[language].format(
            n=len(self.names),
            model=self.model,
            shares=shares,
            labels=_LABELS,
            guess=_GUESS,
            low=interval.low,
            high=interval.high,
            unsure=", ".join(name for name, _ in unsure),
        )

    def write(self, folder: Path, language: Literal["en", "ko"]) -> None:
        """``predictions.parquet`` and ``summary.txt``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "image": list(self.names),
                "pred": [answer.top(1)[0][0] for answer in self.answers],
                "score": [answer.score for answer in self.answers],
            }
        )
        with write_beside(folder / "predictions.parquet") as beside:
            pq.write_table(table, beside)
        with write_beside(folder / "summary.txt") as beside:
            beside.write_text(self.text(language) + "\n", encoding="utf-8")


def glance(
    dataset: Dataset,
    model: Model,
    *,
    descriptions: Sequence[tuple[str, tuple[str, ...]]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Glance:
    """Zero-shot answers for every image that can be read. ``descriptions``: sentences of classes, instead of their
    names.

    Raises:
        BadData: not one can be read.
        Untranslatable: a class that the model's text tower cannot read.
    """
    names: list[str] = []
    answers: list[Scores] = []
    unread: list[str] = []
    described = dict(descriptions)
    sentences = tuple(described.get(name, (name,)) for name in dataset.classes) if described else None
    replies = model.map(dataset.paths, Classify(dataset.classes, descriptions=sentences))
    for name, answer in zip(dataset.names, replies, strict=True):
        if isinstance(answer, Failure):
            unread.append(name)
        else:
            names.append(name)
            answers.append(answer)
        if progress is not None:
            progress(len(names) + len(unread), len(dataset.paths))
    if not names:
        raise BadData(f"{dataset.title}: not one of its {len(unread)} images can be read")
    return Glance(model.card.name, tuple(names), tuple(answers), tuple(unread))
