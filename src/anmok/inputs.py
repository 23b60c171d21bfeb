"""What varies per item. What is shared by a whole call is an ask (``tasks.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.media import Source

__all__ = ["Encoded", "Item", "Source", "Text"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text. A bare ``str`` is always the path of a picture."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What a model made of one picture, once, so that many asks can share it.

    ``maker`` names card, revision, preprocessing and dtype; another model refuses the state with ``WrongState``.
    ``features`` is float32 (F,): what the model's heads are trained on. ``extra`` holds whatever else the
    family needs.
    """

    maker: str
    features: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.generic]]

    @property
    def nbytes(self) -> int:
        return int(self.features.nbytes + sum(array.nbytes for array in self.extra.values()))


Item: TypeAlias = Source | Text | Encoded
