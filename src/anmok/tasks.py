"""Asks: frozen questions whose type fixes the type of the answer; and what a model file must offer for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Text
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
            _check_labels(self.labels)
        if self.templates is not None and not all(text.count("{}") == 1 for text in self.templates):
            raise BadRequest("templates: each sentence needs exactly one {} for the label")
        if self.templates == ():
            raise BadRequest('templates: give at least one, such as "a photo of a {}."')
        if self.descriptions is not None and len(self.descriptions) != len(self.labels or ()):
            raise BadRequest("descriptions: give one group of sentences per label")
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


def _check_labels(labels: tuple[str, ...]) -> None:
    if not labels:
        raise BadRequest("labels: give at least one")
    blank = [label for label in labels if not label.strip()]
    if blank:
        raise BadRequest("labels: one of them is empty")
    if len(set(labels)) < len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise BadRequest(f"labels: given twice: {', '.join(twice)}")


@dataclass(frozen=True, slots=True)
class TextRules:
    """How a text tower wants its text."""

    templates: tuple[str, ...] = ("{}",)
    context: int = 77  # tokens
    is_lowercased: bool = False
    is_padded: bool = False  # to the whole context


@dataclass(frozen=True, slots=True)
class Setup:
    """All that ``load`` hands to a model file: the card's facts as plain values, and where the files are."""

    name: str
    kind: str  # which of the family's configurations
    pixels: Pixels
    text: TextRules
    scoring: Literal["softmax", "sigmoid"]
    languages: tuple[str, ...]
    revision: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    files: Mapping[str, Path] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Encoder(Protocol):
    """Pictures to features. ``prepare`` is re-entrant and runs outside the model's lock."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to the net's input, float32 (3, h, w); equal shapes batch together."""
        ...

    def encode(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 3, h, w) to features float32 (B, F)."""
        ...


@runtime_checkable
class Classifies(Protocol):
    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]: ...


@runtime_checkable
class Embeds(Protocol):
    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]: ...


@runtime_checkable
class Projects(Protocol):
    """Two towers meeting in one space. What the upper rungs of the ladder start from.

    ``projection`` is (F, D): features @ projection, normalised, is the image's vector. ``text_vectors`` gives one
    unit row (C, D) per label, prompts averaged. ``temperature`` is the factor on the cosine (CLIP's
    ``exp(logit_scale)``) and ``bias`` what is added to it (SigLIP's).
    """

    @property
    def projection(self) -> NDArray[np.float32]: ...

    @property
    def temperature(self) -> float: ...

    @property
    def bias(self) -> float: ...

    def text_vectors(self, ask: Classify) -> NDArray[np.float32]: ...


@runtime_checkable
class WordVectors(Protocol):
    """A model that goes from features to the text space through class probabilities (ConSE), not by its projection.

    ``classify`` and ``embed`` answer this way; the projection is there for what can only tune a matrix.
    """

    def word_vectors(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, F) to unit rows (N, D)."""
        ...
