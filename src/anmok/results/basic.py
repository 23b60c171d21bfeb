"""What all results are, and those of ``classify`` and ``embed``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import AnmokError, BadRequest


class Result:
    """The root of all results: each turns itself into plain JSON values."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """``to_dict`` without arrays of a value per pixel: what fits a line."""
        return self.to_dict()

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)


def frozen(array: NDArray[np.generic], shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    """A float32 copy that nobody can write to.

    Raises:
        BadRequest: another shape than wanted, or a value that is no finite number.
    """
    if array.shape != shape:
        raise BadRequest(f"{what}: want shape {shape}, got {array.shape}")
    copy = np.array(array, dtype=np.float32)
    if not np.isfinite(copy).all():
        raise BadRequest(f"{what}: not a number among the values")
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True, eq=False, slots=True)
class Scores(Result):
    """How well each label fits one picture.

    ``scores`` is float32 (K,), in the order of ``labels``: a softmax over the labels (sums to 1) or one independent
    sigmoid per label, as ``scoring`` says. ``read_as`` is what the text tower was given for each label, which
    differs from the label where a Korean label was translated for an English-only tower. ``decided`` is the label
    that a decision by costs, or by a threshold of alarm, settles on; none where the likeliest label is the answer.
    """

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    scoring: Literal["softmax", "sigmoid"]
    threshold: float = 0.0
    top_k: int | None = None
    read_as: tuple[str, ...] = ()
    decided: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", frozen(self.scores, (len(self.labels),), "Scores.scores"))
        if self.read_as and len(self.read_as) != len(self.labels):
            raise BadRequest("Scores.read_as: one reading per label, or none")

    @property
    def label(self) -> str | None:
        """The best label, or the decided one; ``None`` where even the best score is below the threshold: the model
        abstains."""
        best = int(np.argmax(self.scores))
        if float(self.scores[best]) < self.threshold:
            return None
        return self.labels[best] if self.decided is None else self.decided

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    def top(self, count: int | None = None) -> list[tuple[str, float]]:
        """The best labels with their scores, best first; ties keep the caller's order."""
        order = np.argsort(-self.scores, kind="stable")[: count or self.top_k]
        return [(self.labels[i], float(self.scores[i])) for i in order]

    def to_dict(self) -> dict[str, Any]:
        ranked = [{"label": label, "score": score} for label, score in self.top()]
        answer: dict[str, Any] = {"label": self.label, "scores": ranked, "scoring": self.scoring}
        if self.read_as and self.read_as != self.labels:
            answer["read_as"] = dict(zip(self.labels, self.read_as, strict=True))
        return answer


@dataclass(frozen=True, eq=False, slots=True)
class Embedding(Result):
    """One vector, float32 (D,). ``space`` says which: ``image`` (unit length, shared with text where the model has
    a text tower), ``features`` (what heads are trained on, not normalised) or ``text`` (unit length)."""

    vector: NDArray[np.float32]
    space: Literal["image", "features", "text"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", frozen(self.vector, (self.vector.size,), "Embedding.vector"))

    def to_dict(self) -> dict[str, Any]:
        return {"space": self.space, "vector": self.vector.tolist()}


@dataclass(frozen=True, eq=False, slots=True)
class Failure(Result):
    """Stands in the place of an answer where one item of many could not be read."""

    source: str
    error: AnmokError

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source, "error": type(self.error).__name__, "message": str(self.error)}
