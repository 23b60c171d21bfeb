"""What every ask is, and those of ``classify`` and ``embed``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from anmok.errors import BadRequest
from anmok.results import Embedding, Result, Scores

R = TypeVar("R", bound=Result)  # the answer
P = TypeVar("P")  # the piece that streams


class Ask(Generic[R, P]):
    """A question. Equal asks are equal values, so a server may answer them in one batch."""

    __slots__ = ()
    task: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Classify(Ask[Scores, Scores]):
    """Which label fits the picture?

    ``labels=None`` asks for the labels that an adapted model was trained on. ``templates`` are sentences with one
    ``{}``; ``None`` takes the card's. ``descriptions`` gives each label its own sentences and replaces the
    templates; they are averaged either way. Below ``threshold`` the model abstains.
    """

    task: ClassVar[str] = "classify"
    labels: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    descriptions: tuple[tuple[str, ...], ...] | None = None
    threshold: float = 0.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", check_labels(self.labels))
        if self.templates is not None and not all(text.count("{}") == 1 for text in self.templates):
            raise BadRequest("templates: each sentence needs exactly one {} for the label")
        if self.templates == ():
            raise BadRequest('templates: give at least one, such as "a photo of a {}."')
        if self.descriptions is not None and len(self.descriptions) != len(self.labels or ()):
            raise BadRequest("descriptions: give one group of sentences per label")
        if self.descriptions is not None and any(isinstance(group, str) for group in self.descriptions):
            raise BadRequest("descriptions: want a group of sentences for each label, not a sentence by itself")
        if self.descriptions is not None and not all(self.descriptions):
            raise BadRequest("descriptions: each label needs at least one sentence")
        if not 0.0 <= self.threshold <= 1.0:
            raise BadRequest(f"threshold {self.threshold}: must lie between 0 and 1")
        if self.top_k is not None and self.top_k < 1:
            raise BadRequest(f"top_k {self.top_k}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Embed(Ask[Embedding, Embedding]):
    """A vector per item. ``space="image"`` takes pictures (and ``Text`` where the model has a text tower)."""

    task: ClassVar[str] = "embed"
    space: Literal["image", "features"] = "image"

    def __post_init__(self) -> None:
        if self.space not in ("image", "features"):
            raise BadRequest(f"space {self.space!r}: want image or features")


def check_labels(given: Iterable[str]) -> tuple[str, ...]:
    """Some, none blank, none twice, as a tuple. A text is not taken for a list of its letters."""
    if isinstance(given, str):
        raise BadRequest(f"labels: want several, such as ({given!r},), and not a text")
    labels = tuple(given)
    if not labels:
        raise BadRequest("labels: give at least one")
    other = [label for label in labels if not isinstance(label, str)]
    if other:
        raise BadRequest(f"labels: want texts, got {other[0]!r}")
    blank = [label for label in labels if not label.strip()]
    if blank:
        raise BadRequest("labels: one of them is empty")
    if len(set(labels)) < len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise BadRequest(f"labels: given twice: {', '.join(twice)}")
    return labels
