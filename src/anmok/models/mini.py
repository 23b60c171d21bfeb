"""`mini`: pictures and texts in one space without CLIP weights, so that everything works on day one, offline.

EfficientNet-Lite sees, MiniLM reads, and the names of the 1,000 ImageNet classes join them. It knows what ImageNet
and a small sentence model know, no more: a stand-in for CLIP by word vectors, and the reports say so.

``classify`` and ``embed`` go by ConSE: a picture's vector is the mean of the names' vectors of its ten likeliest
classes, weighted by their chances. Source: Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic
Embeddings" (ICLR 2014). ``projection`` is the second way, a matrix, which the ladder's upper rungs tune: the ridge
regression from the classifier's rows to the names' vectors, good because a picture's features resemble the row of
what it shows. ``benchmarks/mini_space.py`` chose between the two and set the numbers below.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anmok import pairing, words
from anmok.geometry import View
from anmok.inputs import Encoded, Text
from anmok.results import Embedding, Scores
from anmok.tasks import Classify, Embed, Setup

Array = NDArray[np.float32]

_CONSE_CLASSES = 10
_REMEMBERED = 8  # sets of labels whose vectors are kept
_RIDGE = 30.0
_TEMPERATURE = 18.8  # the factor on the cosines; 18.9 fits the map, which is no different


class _Eye(Protocol):
    class_weight: Array  # (1000, F)
    class_bias: Array  # (1000,)

    @property
    def nbytes(self) -> int: ...
    def prepare(self, image: NDArray[np.uint8]) -> View: ...
    def encode(self, batch: Array) -> dict[str, Array]: ...
    def patches(self, batch: Array) -> dict[str, Array]: ...
    def trunk(self) -> Any: ...
    def tuned(self, change: Callable[[Any], None]) -> _Eye: ...
    def probabilities(self, features: Array) -> Array: ...


class _Tongue(Protocol):
    @property
    def nbytes(self) -> int: ...
    @property
    def soft_start(self) -> int: ...
    def vectors(self, texts: Sequence[str]) -> Array: ...
    def tokens(self, texts: Sequence[str], room: int = 0) -> tuple[Any, Any]: ...
    def token_vectors(self, ids: Any) -> Any: ...
    def read_vectors(self, vectors: Any, is_token: Any) -> Any: ...


class Mini:
    """features: the 1,280 pooled channels of the eye. The shared space has the 384 dimensions of the tongue."""

    def __init__(self, setup: Setup, names: Sequence[str]) -> None:
        self._setup = setup
        self.eye: _Eye = setup.parts["vision"]
        self._tongue: _Tongue = setup.parts["text"]
        self.names = self._tongue.vectors(names)  # (1000, D)
        self.projection = joined(self.eye.class_weight, self.names, _RIDGE)  # (F, D)
        self.temperature = _TEMPERATURE
        self.bias = 0.0
        self._remembered = lru_cache(_REMEMBERED)(self._fresh_vectors)

    @classmethod
    def from_files(cls, setup: Setup) -> Mini:
        return cls(setup, words.imagenet_names())

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Mini:
        return cls(setup, words.imagenet_names()[: len(setup.parts["vision"].class_bias)])

    @property
    def nbytes(self) -> int:
        return self.eye.nbytes + self._tongue.nbytes + self.projection.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return self.eye.prepare(image)

    def trunk(self) -> Any:
        return self.eye.trunk()

    def tuned(self, change: Callable[[Any], None]) -> Mini:
        """The same tongue and the same map between the two; the eye alone has changed."""
        tuned = copy.copy(self)
        tuned.eye = self.eye.tuned(change)
        return tuned

    def encode(self, batch: Array) -> dict[str, Array]:
        return self.eye.encode(batch)

    def patches(self, batch: Array) -> dict[str, Array]:
        return self.eye.patches(batch)

    def text_vectors(self, ask: Classify) -> Array:
        return self._remembered(ask)

    def word_vectors(self, features: Array) -> Array:
        """ConSE: (N, F) to unit rows (N, D)."""
        return conse(self.eye.probabilities(features), self.names)

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        return pairing.classified(states, ask, self, self._setup.scoring, self._setup.languages)

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        return pairing.embedded(states, ask, self, self._tongue.vectors)

    @property
    def soft_start(self) -> int:
        return self._tongue.soft_start

    def tokens(self, texts: Sequence[str], room: int = 0) -> tuple[Any, Any]:
        """The tongue's, as the two below."""
        return self._tongue.tokens(texts, room)

    def token_vectors(self, ids: Any) -> Any:
        return self._tongue.token_vectors(ids)

    def read_vectors(self, vectors: Any, is_token: Any) -> Any:
        return self._tongue.read_vectors(vectors, is_token)

    def _fresh_vectors(self, ask: Classify) -> Array:
        rows = pairing.text_vectors(ask, self._setup.text, self._setup.languages, self._tongue.vectors)  # (K, D)
        rows.flags.writeable = False
        return rows


def conse(chances: Array, names: Array) -> Array:
    """The chances of C classes (N, C) and their names' vectors (C, D) to unit rows (N, D)."""
    likeliest = np.argsort(-chances, axis=1, kind="stable")[:, :_CONSE_CLASSES]  # (N, 10)
    weights = np.take_along_axis(chances, likeliest, 1)[:, :, None]  # (N, 10, 1)
    return pairing.unit((weights * names[likeliest]).sum(1))  # (N, D)


def joined(class_weight: Array, names: Array, penalty: float) -> Array:
    """The map (F, D) that takes each classifier row (C, F) closest to its name's vector (C, D), both centred."""
    rows = (class_weight - class_weight.mean(0)).astype(np.float64)
    texts = (names - names.mean(0)).astype(np.float64)
    square = rows.T @ rows + penalty * np.eye(rows.shape[1])  # (F, F)
    return np.linalg.solve(square, rows.T @ texts).astype(np.float32)
