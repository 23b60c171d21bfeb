"""A model of the user's own, as an ONNX graph: what it was trained to tell apart, and features for the ladder.

The folder of such a model holds ``own.json`` (labels, and what was found out of the graph by running it; written by
``anmok card new``) and the graph itself, or the path of it. A graph that is not the one that was looked at then is
refused.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok import geometry, pairing
from anmok.errors import BadWeights, Unsupported, WeightsUnavailable
from anmok.inputs import Encoded, Text
from anmok.nets.onnx_session import Plan, Session
from anmok.results import Embedding, Scores
from anmok.tasks import Classify, Embed, Setup

Array = NDArray[np.float32]

MANIFEST = "own.json"
_LEAST = 1e-30  # a chance of which the logarithm is taken; exactly 0 is what float32 makes of less


class Onnx:
    """features: the tensor that the plan names, (F,), as the graph gives it. A state also holds ``scores`` (K,) as
    the graph gives them: logits, or chances where ``is_scored``."""

    def __init__(self, setup: Setup, session: Session, plan: Plan, labels: tuple[str, ...]) -> None:
        self._setup = setup
        self._session = session
        self._plan = plan
        self._labels = labels
        exact = {_written(label): place for place, label in enumerate(labels)}
        self._places = {**{label.casefold(): place for label, place in exact.items()}, **exact}

    @classmethod
    def from_files(cls, setup: Setup) -> Onnx:
        """Raises:
        WeightsUnavailable: the graph is no longer where the card says.
        BadWeights: it is another one than the card was made of, or the card's folder is damaged.
        Unsupported: another precision than float32.
        """
        if setup.dtype != "float32":
            raise Unsupported(f"{setup.name}: an ONNX graph computes as it was exported: leave dtype at float32")
        path = setup.files[MANIFEST]
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            plan, labels = Plan(**content["plan"]), tuple(content["labels"])
            graph, digests = path.parent / content["graph"], dict(content["sha256"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadWeights(f"{path} is damaged ({error}); write the card again with `anmok card new`") from None
        check(graph.parent, digests, setup.name)
        return cls(setup, Session(graph, (plan.features,) if plan.is_inner else (), setup.device), plan, labels)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Onnx:
        raise Unsupported(f"{setup.name}: a graph of your own has no toy size; load it")

    @property
    def nbytes(self) -> int:
        return self._session.nbytes

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._labels

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, size, size) to ``features`` (B, F) and ``scores`` (B, K)."""
        rows = self._session.rows(batch, self._plan)
        found = {"features": rows[self._plan.features]}
        return found if not self._plan.scores else {**found, "scores": rows[self._plan.scores]}

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        """Some of the labels: a softmax is then one over those, each sigmoid is what it was.

        Raises:
            Unsupported: a label that the model was not trained on, or sentences for a text tower.
        """
        assert ask.labels is not None
        if ask.templates is not None or ask.descriptions is not None:
            raise Unsupported(f"{self._setup.name} has no text tower, so templates and descriptions say nothing to it")
        places = [self._place(label) for label in ask.labels]
        rows = np.stack([state.maps["scores"] for state in states])[:, places]  # (B, K)
        return [self._scored(row, ask) for row in rows]

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        if any(isinstance(state, Text) for state in states):
            raise Unsupported(f"{self._setup.name} has no text tower: it embeds pictures only")
        rows = np.stack([state.features for state in states if isinstance(state, Encoded)])  # (B, F)
        return [Embedding(row, ask.space) for row in (pairing.unit(rows) if ask.space == "image" else rows)]

    def _scored(self, row: NDArray[Any], ask: Classify) -> Scores:
        scoring = self._setup.scoring
        if self._plan.is_scored and scoring == "sigmoid":
            assert ask.labels is not None
            return Scores(ask.labels, np.clip(row, 0, 1), scoring, ask.threshold, ask.top_k)
        # The softmax of the logarithms is the chances themselves, brought to the sum of 1 among those asked for.
        return pairing.score_row(np.log(np.maximum(row, _LEAST)) if self._plan.is_scored else row, ask, scoring)

    def _place(self, label: str) -> int:
        place = self._places.get(_written(label), self._places.get(_written(label).casefold()))
        if place is None:
            near = difflib.get_close_matches(label, self._labels, n=3, cutoff=0.5) or self._labels[:5]
            raise Unsupported(
                f"{self._setup.name} was not trained on {label!r}; it knows {len(self._labels)} labels, "
                f"such as {', '.join(near)}"
            )
        return place


def check(folder: Path, digests: Mapping[str, str], name: str) -> None:
    """Every file below the folder is the one that the card was made of.

    Raises:
        WeightsUnavailable: one is gone.
        BadWeights: one has another content.
    """
    for file, wanted in digests.items():
        try:
            with (folder / file).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise WeightsUnavailable(
                f"{name}: {folder / file} cannot be read ({error.strerror}); put it back, or make the card again"
            ) from None
        if found != wanted:
            path = folder / file
            raise BadWeights(f"{name}: {path} is not what its card was made of; `anmok card new` makes another")


def _written(label: str) -> str:
    """Hangul comes apart in the names of files of some systems, and together elsewhere."""
    return unicodedata.normalize("NFC", label).strip()
