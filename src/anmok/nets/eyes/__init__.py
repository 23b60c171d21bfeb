"""How families of vision-language models look: from a picture to the tokens that stand for it in a prompt.

The work is cut so that a picture is seen once, whatever is asked about it: ``prepare`` and ``encode`` make what is
kept; ``slot`` and ``packed`` put it into a prompt. Where the tiles of a picture lie follows from its size alone, so
the number of tokens is known before the net runs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]  # height and width, in pixels of the caller's picture


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
