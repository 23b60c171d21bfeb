"""How InternVL 2.5, 3 and 3.5 look: the grid of tiles whose shape is nearest to the picture's, then a thumbnail.

Source: Chen et al., "How Far Are We to GPT-4V?" (2024, arXiv:2404.16821) and "Expanding Performance Boundaries of
Open-Source Multimodal Models" (2024, arXiv:2412.05271), github.com/OpenGVLab/InternVL; the net is transformers'
``InternVLForConditionalGeneration``, its pictures go through ``GotOcr2ImageProcessor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from anmok.errors import BadWeights
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import IMAGENET_MEAN, IMAGENET_STD, Levels, tiles_of


@dataclass(frozen=True, slots=True)
class InternRules:
    """``tile`` in pixels; a picture gets ``fewest`` to ``most`` tiles, and a thumbnail where it gets more than one.
    Frames of a video get one each: ``most=1``."""

    tile: int
    levels: Levels
    fewest: int = 1
    most: int = 12

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> InternRules:
        """What a ``preprocessor_config.json`` says. That ``crop_to_patches`` is off there means nothing: the
        processor turns it on for pictures.

        Raises:
            BadWeights: tiles that are no squares.
        """
        size = content.get("size") or {"height": INTERNVL.tile, "width": INTERNVL.tile}
        if size.get("height") is None or size.get("height") != size.get("width"):
            raise BadWeights(f"preprocessor_config.json: size {size} makes no square tiles")
        levels = Levels.of(content, INTERNVL.levels)
        return cls(int(size["height"]), levels, int(content.get("min_patches", 1)), int(content.get("max_patches", 12)))


INTERNVL: Final = InternRules(448, Levels(IMAGENET_MEAN, IMAGENET_STD))


@dataclass(frozen=True, slots=True)
class InternTokens:
    """The texts of the special tokens."""

    image: str = "<IMG_CONTEXT>"
    start: str = "<img>"
    end: str = "</img>"


class InternVL:
    """Eyes of ``InternVLForConditionalGeneration``."""

    def __init__(
        self, net: InternVLForConditionalGeneration, rules: InternRules, tokens: InternTokens = InternTokens()
    ) -> None:
        self._net: Any = net
        self._rules, self._tokens = rules, tokens
        tower: Any = net.config.vision_config
        self._a_tile = int((rules.tile // tower.patch_size[0]) ** 2 * net.config.downsample_ratio**2)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to its tiles float32 (T, 3, tile, tile), row by row, the thumbnail last."""
        tile, levels = self._rules.tile, self._rules.levels
        rows, columns = self.grid((image.shape[0], image.shape[1]))
        canvas = levels.resized(image, (rows * tile, columns * tile))
        tiles = tiles_of(canvas, tile)  # (R * C, tile, tile, 3)
        if len(tiles) > 1:
            tiles = np.concatenate([tiles, levels.resized(image, (tile, tile))[None]])  # (T, tile, tile, 3)
        return levels.numbers(tiles)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 3, tile, tile) to rows (B, T * n, D)."""
        tiles = batch.flatten(0, 1)  # (B * T, 3, tile, tile)
        rows: Tensor = self._net.model.get_image_features(pixel_values=tiles, return_dict=True).pooler_output
        return rows.reshape(len(batch), -1, rows.shape[-1])  # (B, T * n, D)

    def slot(self, size_hw: Size) -> str:
        rows, columns = self.grid(size_hw)
        count = rows * columns + (rows * columns > 1)
        return f"{self._tokens.start}{self._tokens.image * (self._a_tile * count)}{self._tokens.end}"

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows

    def grid(self, size_hw: Size) -> tuple[int, int]:
        """Rows and columns of tiles, without the thumbnail."""
        return nearest_grid(size_hw, self._rules)


def nearest_grid(size_hw: Size, rules: InternRules) -> tuple[int, int]:
    """Rows and columns of the grid whose shape is nearest to the picture's. Of grids equally near the one with more
    tiles, as long as the picture has more than half as many pixels as they."""
    aspect, area = size_hw[1] / size_hw[0], size_hw[0] * size_hw[1]
    every = [(rows, columns) for columns in range(1, rules.most + 1) for rows in range(1, rules.most + 1)]
    allowed = [grid for grid in every if rules.fewest <= grid[0] * grid[1] <= rules.most]
    best, least = (1, 1), float("inf")
    for rows, columns in sorted(allowed, key=lambda grid: grid[0] * grid[1]):
        difference = abs(aspect - columns / rows)
        is_better = difference == least and area > 0.5 * rules.tile**2 * rows * columns
        if difference < least or is_better:
            best, least = (rows, columns), difference
    return best
