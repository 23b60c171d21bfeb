"""How strange a picture is, and where: the answer of ``inspect``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.results.basic import Result, frozen
from anmok.results.maps import packed


@dataclass(frozen=True, eq=False, slots=True)
class AnomalyMap(Result):
    """How strange one picture is to a memory of good ones.

    ``score`` is 0 or more on the memory's own scale, larger when stranger; ``map`` is float32 (H, W), pixels of the
    caller's picture, on the scale of the patches' distances. ``threshold`` is the score above which a picture is called
    strange. ``p_value`` is the share (1 + good pictures at least as strange) / (n + 1) of the n good pictures that the
    memory was tried on: small is strange, and never smaller than 1 / (n + 1).
    """

    score: float
    map: NDArray[np.float32]
    threshold: float | None = None
    p_value: float | None = None

    def __post_init__(self) -> None:
        if self.map.ndim != 2:
            raise BadRequest(f"AnomalyMap.map: want (H, W), got {self.map.shape}")
        if not math.isfinite(self.score):
            raise BadRequest(f"AnomalyMap.score {self.score}: want a number")
        size = (int(self.map.shape[0]), int(self.map.shape[1]))
        object.__setattr__(self, "map", frozen(self.map, size, "AnomalyMap.map"))

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.map.shape[0], self.map.shape[1]

    @property
    def is_strange(self) -> bool | None:
        """``None`` where nobody said how strange is too strange."""
        return None if self.threshold is None else self.score > self.threshold

    @property
    def peak_xy(self) -> tuple[int, int]:
        """The strangest pixel."""
        row, column = np.unravel_index(int(self.map.argmax()), self.map.shape)
        return int(column), int(row)

    def facts(self) -> dict[str, Any]:
        return {
            "size": list(self.size_hw),
            "score": self.score,
            "threshold": self.threshold,
            "is_strange": self.is_strange,
            "p_value": self.p_value,
            "peak": list(self.peak_xy),
        }

    def to_dict(self) -> dict[str, Any]:
        return self.facts() | {"map": packed(self.map)}
