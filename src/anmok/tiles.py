"""Corner tiles that cover a large photo and overlap, so that small things in it are looked at closely. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest

JOINS: Final = 3  # rows of F features that ``joined`` lays side by side
MOST: Final = 400  # tiles of one photo that anybody waits for
Corner: TypeAlias = tuple[int, int]  # left and top, in pixels of the photo; below 0 where it is too small for a tile


@dataclass(frozen=True, slots=True)
class Tiling:
    """``size``: the side of a tile; ``overlap``: what neighbours share at least. Both in pixels of the photo.

    Raises:
        BadRequest: no side, or tiles that overlap by more than half.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= 2 * self.overlap <= self.size:
            raise BadRequest(f"tiles of {self.size} with {self.overlap} in common: want a side, and at most half of it")

    def corners(self, height: int, width: int) -> tuple[Corner, ...]:
        """Left and top of every tile, row by row. All of the photo lies in one of them at least; a photo that is no
        larger than a tile has one, which it stands in the middle of."""
        rows, columns = self._starts(height), self._starts(width)
        return tuple((left, top) for top in rows for left in columns)

    def count(self, height: int, width: int) -> int:
        """How many tiles a photo has."""
        return len(self._starts(height)) * len(self._starts(width))

    def _starts(self, side: int) -> list[int]:
        if side <= self.size:
            return [-((self.size - side) // 2)]
        count = -(-(side - self.overlap) // (self.size - self.overlap))
        return [round(i * (side - self.size) / (count - 1)) for i in range(count)]


def cut(photo: NDArray[np.uint8], corner: Corner, size: int, margin: int = 0) -> NDArray[np.uint8]:
    """One tile of a photo (H, W, 3) with ``margin`` pixels more on each side, uint8 (s, s, 3), s = size + 2 margin.

    What lies outside the photo is its mirror image: no edge appears that is not there.
    """
    left, top = corner
    rows = _mirrored(np.arange(top - margin, top + size + margin), photo.shape[0])  # (s,)
    columns = _mirrored(np.arange(left - margin, left + size + margin), photo.shape[1])  # (s,)
    return photo[rows[:, None], columns]  # (s, s, 3)


def joined(whole: NDArray[np.float32], tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a head on tiles reads of a photo: features (F,) of the whole, of its tiles (T, F) the largest value of each
    feature, and their mean. float32 (3 F,), however many tiles there are.

    A standardised maximum is the maximum standardised, so that nothing has to be learned before the head is.
    """
    return np.concatenate([whole, tiles.max(0), tiles.mean(0)], dtype=np.float32)  # (3 F,)


def _mirrored(places: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Places on a line of ``side`` pixels that goes on as its mirror image, again and again."""
    around = places % (2 * side)
    return np.where(around < side, around, 2 * side - 1 - around)
