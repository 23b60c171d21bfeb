"""Which image is for what: drawn from its name and the seed, before anybody has labelled anything.

A third of the images is kept apart for measuring, and asked about in random order: whatever number of them has been
answered is a simple random sample of the folder. The others teach, in whatever order teaches most. An image never
changes sides, also where others are added to the folder later, since each draw looks at one name alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

Stream = Literal["teach", "measure"]

EVERY: Final = 3  # of so many images one measures
SHARED: Final = 0.3  # of the measuring images, those that every labeller is shown: one image in ten


class Streams:
    """``measure`` and ``teach`` are numbers of images, each in its random order; ``shared`` is what all are shown.

    Args:
        names: of the images.
        seed: of the draw.
        has_shared: False where no two people are to be compared.
    """

    def __init__(self, names: Sequence[str], seed: int, *, has_shared: bool = True) -> None:
        draws = np.array([_draws(name, seed) for name in names]).reshape(-1, 3)  # (n, 3) in [0, 1)
        is_measure = draws[:, 0] < 1 / EVERY
        order = np.argsort(draws[:, 1], kind="stable")
        self.measure: tuple[int, ...] = tuple(int(i) for i in order if is_measure[i])
        self.teach: tuple[int, ...] = tuple(int(i) for i in order if not is_measure[i])
        self.shared = frozenset(i for i in self.measure if has_shared and draws[i, 2] < SHARED)
        self.of: tuple[Stream, ...] = tuple("measure" if one else "teach" for one in is_measure)


def _draws(name: str, seed: int) -> tuple[float, float, float]:
    """Side, rank, and whether all are shown it: three uniform numbers."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    first, second, third = (int.from_bytes(digest[i : i + 6], "big") / 2**48 for i in (0, 6, 12))
    return first, second, third
