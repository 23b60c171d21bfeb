"""How families of vision-language models look: from a picture to the tokens that stand for it in a prompt.

The work is cut so that a picture is seen once, whatever is asked about it: ``prepare`` and ``encode`` make what is
kept; ``slot`` and ``packed`` put it into a prompt. Where the tiles of a picture lie follows from its size alone, so
the number of tokens is known before the net runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]  # height and width, in pixels of the caller's picture


class Grid(NamedTuple):
    """How the tokens of a clip lie, or of a part of it: so many moments, in each so many lines and columns. From one
    moment to the next there are ``pace`` places in time."""

    moments: int
    rows: int
    columns: int
    pace: float = 1.0


Place = Size | Grid  # what the places of tokens follow from


class Eyes(Protocol):
    """One family's way. Without state: everything that was learned lies in the net, which the eyes hold."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to what the tower wants: all its tiles (T, 3, h, w), or, for a tower of any
        resolution, the resized picture (3, h, w). Re-entrant; runs outside the lock."""
        ...

    def encode(self, batch: Tensor) -> Tensor:
        """Prepared pictures of one shape (B, T, 3, h, w) or (B, 3, h, w) to rows (B, N, D) of the language model's
        width."""
        ...

    def slot(self, size_hw: Size) -> str:
        """The text that stands for a picture of that size in a prompt, with each image token written out."""
        ...

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        """The rows (N, D) of one picture as they stand at its image tokens, (M, D): without what was padding, with
        the ends of lines that were learned. M is the number of image tokens in ``slot``."""
        ...


class Reels(Protocol):
    """The way of a family that sees the frames of a clip together. They are kept as levels, since what is seen of them
    follows from the others. Where how large they are shown does so as well, there is ``size`` beside, of the first and
    how many there are, and ``prepare`` takes what it says."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One frame uint8 (H, W, 3) to the levels that are kept, uint8 (3, h, w). Re-entrant."""
        ...

    def reel(
        self, frames: Sequence[NDArray[np.uint8]], seconds: Sequence[float], size_hw: Size
    ) -> tuple[str, tuple[tuple[Tensor, Grid], ...]]:
        """All frames of a clip, each uint8 (3, h, w), with their times, and the size in which the first came: the text
        that stands for them in a prompt, and the rows (M, W) at its image tokens, in parts between which there may be
        words."""
        ...
