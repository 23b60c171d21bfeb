"""The patches of every picture, once: what all rungs of the anomaly ladder stand on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok import media, pairing
from anmok.errors import Unsupported, Untranslatable
from anmok.inputs import Encoded
from anmok.inspecting import ANGLES, harmonic, prompts, strangeness, turned, windows
from anmok.load import Model
from anmok.tasks import Classify, Projects

Array = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

_BATCH = 16
_WINDOWS = (2, 3)  # cells a side, as WinCLIP's
_MOST = 512  # pixels: larger pictures are turned on a copy of this side, which is more than any canvas here


@dataclass(slots=True, eq=False)
class Sight:
    """``patches``: float16 (h, w, C) of each picture, by its index. ``worded``: how strange the words find it, where
    the model reads. ``turns``: the patches of a picture turned by 45 degrees and its multiples, made when asked."""

    model: Model  # one that sees patches
    paths: Sequence[Path]
    patches: Mapping[int, NDArray[np.float16]]
    worded: NDArray[np.float64] | None
    no_words: str  # why there are none
    ms_per_image: float
    turns: dict[int, list[Array]] = field(default_factory=dict)

    def rows(self, index: int) -> Array:
        """float32 (h, w, C)."""
        return self.patches[index].astype(np.float32)

    def turned(self, index: int) -> list[Array]:
        """Of all eight directions, the picture as it is first."""
        if index not in self.turns:
            image = _small(media.read(self.paths[index]))
            states = self.model.encode([turned(image, angle) for angle in ANGLES[1:]])
            self.turns[index] = [self.rows(index), *(state.maps["patches"].astype(np.float32) for state in states)]
        return self.turns[index]


def see(paths: Sequence[Path], model: Model, size: int, thing: str, progress: Progress | None = None) -> Sight:
    """Looks at all pictures, every one of which can be read. Without a ``thing`` no words are asked.

    Raises:
        Unsupported: the model shows no patches.
        BadMedia: a picture vanished or changed since it was found readable.
    """
    close = model.inspector(size)
    words, why = _words(model, thing) if thing else (None, "no name of the thing")
    patches: dict[int, NDArray[np.float16]] = {}
    worded = np.zeros(len(paths))
    spent = 0.0
    for start in range(0, len(paths), _BATCH):
        chunk = list(paths[start : start + _BATCH])
        began = time.perf_counter()
        states = close.encode(chunk)
        spent += time.perf_counter() - began
        for index, state in enumerate(states, start):
            patches[index] = state.maps["patches"].astype(np.float16)
            if words is not None:
                worded[index] = _said(state, *words)
        if progress is not None:
            progress("patches", min(start + _BATCH, len(paths)), len(paths))
    per_image = spent / max(len(paths), 1) * 1e3
    return Sight(close, paths, patches, worded if words is not None else None, why, per_image)


def ask_words(model: Model, thing: str) -> tuple[Projects, Array]:
    """The text tower, and its unit vectors (2, D) for the good and the bad state of the thing.

    Raises:
        Unsupported: the model reads no text.
        Untranslatable: the thing's name is in a language that it does not read.
    """
    towers = model.towers
    good, bad = prompts(thing)
    return towers, towers.text_vectors(Classify(("good", "bad"), descriptions=(good, bad)))


def said(features: Array, cells: Array | None, towers: Projects, texts: Array) -> float:
    """How strange the words find one picture: its ``features`` (F,), and where there are ``cells`` (h, w, F) the mean
    of that and of the strangest place in the harmonic map of 2 x 2 and 3 x 3 windows, as WinCLIP adds them."""
    whole = float(strangeness(pairing.image_vectors(features[None], towers), texts)[0])
    if cells is None:
        return whole
    maps = []
    for side in _WINDOWS:
        views = windows(cells, side)  # (h', w', F)
        rows = pairing.image_vectors(views.reshape(-1, views.shape[-1]), towers)  # (h' w', D)
        maps.append(harmonic(strangeness(rows, texts).reshape(len(views), -1), (len(cells), cells.shape[1]), side))
    return (whole + float(np.mean(maps, axis=0).max())) / 2


def _words(model: Model, thing: str) -> tuple[tuple[Projects, Array] | None, str]:
    try:
        return ask_words(model, thing), ""
    except (Unsupported, Untranslatable) as error:
        return None, str(error)


def _said(state: Encoded, towers: Projects, texts: Array) -> float:
    cells = state.maps.get("cells")
    return said(state.features, None if cells is None else cells.astype(np.float32), towers, texts)


def _small(image: media.Image) -> media.Image:
    from PIL import Image as pillow

    if max(image.shape[:2]) <= _MOST:
        return image
    picture = pillow.fromarray(image)
    picture.thumbnail((_MOST, _MOST), pillow.Resampling.BICUBIC)
    return np.asarray(picture)
