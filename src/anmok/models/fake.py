"""A model without weights, for tests: mean colours of a 4 x 4 grid, and labels that name colours.

It is a real model in every respect but talent: the same asks, batching, states and errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anmok import geometry, pairing
from anmok.inputs import Encoded, Text
from anmok.results import Embedding, Scores
from anmok.tasks import Classify, Embed, Setup

_GRID = 4
_PATCH = 2  # pixels
_COLOURS = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "white": (1, 1, 1),
    "black": (-1, -1, -1),
}


class Fake:
    """features: 4 x 4 cells x RGB = 48 values in [-1, 1]; the shared space is their mean colour."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        # Each cell contributes equally to the picture's colour.
        self.projection = np.tile(np.eye(3, dtype=np.float32), (_GRID * _GRID, 1))  # (48, 3)
        self.temperature = 10.0
        self.bias = -5.0 if setup.scoring == "sigmoid" else 0.0

    @classmethod
    def from_files(cls, setup: Setup) -> Fake:
        return cls(setup)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Fake:
        return cls(setup)

    @property
    def nbytes(self) -> int:
        return self.projection.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        size = batch.shape[-1] // _GRID
        cells = batch.reshape(-1, 3, _GRID, size, _GRID, size).mean((3, 5))  # (B, 3, 4, 4)
        features: NDArray[np.float32] = cells.transpose(0, 2, 3, 1).reshape(len(batch), -1)  # (B, 48)
        return {"features": features}

    def patches(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Mean colours of squares of two pixels (B, h, w, 3), and those of the grid."""
        rows, columns = batch.shape[2] // _PATCH, batch.shape[3] // _PATCH
        squares = batch[:, :, : rows * _PATCH, : columns * _PATCH].reshape(-1, 3, rows, _PATCH, columns, _PATCH)
        patches: NDArray[np.float32] = squares.mean((3, 5)).transpose(0, 2, 3, 1)  # (B, h, w, 3)
        return {"patches": patches, **self.encode(batch)}

    def text_vectors(self, ask: Classify) -> NDArray[np.float32]:
        return pairing.text_vectors(ask, self._setup.text, self._setup.languages, _read)

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        return pairing.classified(states, ask, self, self._setup.scoring, self._setup.languages)

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        return pairing.embedded(states, ask, self, _read)


def _read(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([_text_vector(text) for text in texts])


def _text_vector(text: str) -> NDArray[np.float32]:
    named = [np.asarray(rgb, np.float32) for colour, rgb in _COLOURS.items() if colour in text.lower()]
    if named:
        return pairing.unit(np.mean(named, 0))  # (3,)
    digest = hashlib.sha256(text.encode()).digest()[:3]
    return pairing.unit(np.frombuffer(digest, np.uint8).astype(np.float32) / 127.5 - 1.0)  # (3,)
