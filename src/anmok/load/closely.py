"""A model that looks at every photo twice: whole, as ever, and tile by tile. What a head on tiles stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadMedia, Unsupported
from anmok.geometry import Pixels, View
from anmok.inputs import Encoded, Text
from anmok.results import Embedding, Scores
from anmok.tasks import Classifies, Classify, Embed
from anmok.tiles import MOST, Tiling, cut, joined

TILES: Final = "tiles"  # the name of the joined features among the maps of a state

_AT_ONCE: Final = 16  # views in one pass of the net


def margin_of(tiling: Tiling, pixels: Pixels) -> int:
    """Pixels of the photo that a tile needs around itself, where a card cuts the middle out of what it is shown."""
    return round(tiling.size * (1 / pixels.crop - 1) / 2) if pixels.fit == "crop" else 0


def mark(tiling: Tiling) -> str:
    """What tells these states from those of the model that looks once, in the name of their maker."""
    return f"+tiles:{tiling.size}:{tiling.overlap}"


class Closely:
    """The states are those of the base for the whole photo, and ``tiles`` float32 (3 F,) beside them. A view keeps the
    photo as it is: its tiles would be some times as large."""

    def __init__(self, name: str, base: Any, tiling: Tiling, pixels: Pixels) -> None:
        self._name = name
        self._base = base
        self._tiling = tiling
        self._margin = margin_of(tiling, pixels)

    @property
    def nbytes(self) -> int:
        return int(self._base.nbytes)

    def prepare(self, image: NDArray[np.uint8]) -> View:
        """Raises:
        BadMedia: a photo of more tiles than anybody waits for.
        """
        height, width = image.shape[:2]
        count = self._tiling.count(height, width)
        if count > MOST:
            raise BadMedia(
                f"{width} x {height} pixels would be {count:,} tiles, and {self._name} looks at {MOST}: "
                "make the photo smaller"
            )
        whole: View = self._base.prepare(image)
        return View(np.ascontiguousarray(image.transpose(2, 0, 1)), whole.frame)  # (3, H, W)

    def encode(self, batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        """uint8 (B, 3, H, W) to the base's maps (B, ...) and ``tiles`` (B, 3 F)."""
        photos = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))  # (B, H, W, 3)
        wholes = np.stack([self._base.prepare(photo).pixels for photo in photos])  # (B, 3, h, w)
        maps: dict[str, NDArray[np.generic]] = dict(self._base.encode(wholes))
        features = np.asarray(maps["features"], np.float32)  # (B, F)
        rows = [joined(features[i], self._features(photo)) for i, photo in enumerate(photos)]
        return {**maps, TILES: np.stack(rows)}  # (B, 3 F)

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        """Labels that the head does not have, by the whole photo.

        Raises:
            Unsupported: a base that reads no labels.
        """
        if not isinstance(self._base, Classifies):
            raise Unsupported(f"{self._name} reads no labels: it knows those of its head alone")
        answers: list[Scores] = self._base.classify(states, ask)
        return answers

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        """The whole photo."""
        answers: list[Embedding] = self._base.embed(states, ask)
        return answers

    def _features(self, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of all tiles of one photo (H, W, 3): (T, F)."""
        corners = self._tiling.corners(*photo.shape[:2])
        rows = []
        for start in range(0, len(corners), _AT_ONCE):
            some = corners[start : start + _AT_ONCE]
            parts = (cut(photo, corner, self._tiling.size, self._margin) for corner in some)
            views = [self._base.prepare(part).pixels for part in parts]  # each (3, h, w)
            rows.append(np.asarray(self._base.encode(np.stack(views))["features"], np.float32))
        return np.concatenate(rows)  # (T, F)
