"""Vectors of photos, and which of them lie nearest to another: every one is compared, so nothing is missed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.pairing import product, unit
from anmok.results import Failure

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hit:
    """One photo that was found. ``cosine`` lies between -1 and 1; what it is worth depends on the model."""

    path: Path
    cosine: float

    def to_dict(self) -> dict[str, Any]:
        return {"image": str(self.path), "cosine": self.cosine}


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The photos of a folder as vectors of one model. Safe to share between threads.

    ``paths``: n photos that could be read; ``rows`` float32 (n, D), unit length, one for each; ``maker``: the model
    with revision, preprocessing and dtype; ``failures``: what could not be read; ``computed``: how many photos the
    cache did not have.
    """

    paths: tuple[Path, ...]
    rows: Array
    maker: str
    failures: tuple[Failure, ...] = ()
    computed: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def search(self, vector: Array, count: int = 24) -> list[Hit]:
        """The nearest photos, best first; of equals the one whose name comes first.

        Args:
            vector: (D,) of the same model: `by_words`, `by_photo`, or a row of ``rows``. Any length.

        Raises:
            BadRequest: a vector of another size, or no positive count.
        """
        if count < 1:
            raise BadRequest(f"count {count}: want 1 or more")
        if vector.shape != self.rows.shape[1:]:
            raise BadRequest(f"vector {vector.shape}: this index holds vectors {self.rows.shape[1:]} of {self.maker}")
        query = unit(np.asarray(vector, np.float32))  # (D,)
        cosines = product(self.rows, query[:, None])[:, 0]  # (n,)
        best = _best(cosines, min(count, len(cosines)))  # (count,)
        return [Hit(self.paths[i], float(np.clip(cosines[i], -1.0, 1.0))) for i in best]


def _best(cosines: Array, count: int) -> NDArray[np.int64]:
    """The places of the highest values, highest first, of equals the first: as a stable sort of all has it."""
    if count < len(cosines):
        border = np.partition(cosines, len(cosines) - count)[len(cosines) - count]
        above = np.flatnonzero(cosines > border)
        level = np.flatnonzero(cosines == border)[: count - len(above)]
        places = np.sort(np.concatenate([above, level]))  # (count,)
    else:
        places = np.arange(len(cosines))
    return np.asarray(places[np.argsort(-cosines[places], kind="stable")], np.int64)
