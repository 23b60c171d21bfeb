"""How LLaVA-OneVision looks at pictures: at one in tiles, at several in one tile each, padded to a square.

Source: Li et al., "LLaVA-OneVision: Easy Visual Task Transfer" (2024, arXiv:2408.03326),
github.com/LLaVA-VL/LLaVA-NeXT; the net is transformers' ``LlavaOnevisionForConditionalGeneration``. A picture is seen
before anybody knows beside how many it will stand, so it is seen in both ways: what is kept of it ends with its padded
tile.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from anmok.nets.eyes import Size
from anmok.nets.eyes.anyres import AnyRes, AnyResRules


class Among:
    """Slot and rows of a picture that stands beside others: those of its last tile, and one that ends it."""

    def __init__(self, eyes: AnyRes) -> None:
        self._eyes = eyes

    def slot(self, size_hw: Size) -> str:
        return self._eyes.slot(size_hw)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        """(N, D) to (n + 1, D)."""
        return self._eyes.packed(rows[-self._eyes.of_a_tile :], size_hw)


class OneVision:
    """Eyes for a picture by itself; ``among`` are for one of several."""

    def __init__(
        self, net: LlavaOnevisionForConditionalGeneration, rules: AnyResRules, image_token: str = "<image>"
    ) -> None:
        self._alone = AnyRes(net, rules, image_token)
        self._padded = AnyRes(net, dataclasses.replace(rules, is_alone=False), image_token)
        self.among = Among(self._padded)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to float32 (T, 3, tile, tile): whole, grid row by row, padded."""
        return np.concatenate([self._alone.prepare(image), self._padded.prepare(image)])

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 3, tile, tile) to rows (B, T * n, D)."""
        return self._alone.encode(batch)

    def slot(self, size_hw: Size) -> str:
        return self._alone.slot(size_hw)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        """(N, D) to (M, D)."""
        return self._alone.packed(rows[: -self._alone.of_a_tile], size_hw)
