"""How Idefics3, SmolVLM and SmolVLM2 look: a grid of tiles, then the whole picture in one tile.

Source: Laurençon et al., "Building and better understanding vision-language models" (2024, arXiv:2408.12637);
Marafioti et al., "SmolVLM: Redefining small and efficient multimodal models" (2025, arXiv:2504.05299),
github.com/huggingface/smollm; the nets are transformers' ``Idefics3ForConditionalGeneration`` and
``SmolVLMForConditionalGeneration``.

A picture is enlarged, or made smaller, until its long side has ``longest`` pixels, so that the number of tiles
follows from its shape alone: even a picture of one pixel fills the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import Idefics3ForConditionalGeneration, SmolVLMForConditionalGeneration

from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import HALF, Levels, tiles_of

_BOUND: Final = 4096  # pixels of a side, whatever the configuration says


@dataclass(frozen=True, slots=True)
class IdeficsRules:
    """``longest`` and ``tile`` in pixels. Without ``is_split`` a picture is one tile, as frames of a video are."""

    tile: int
    longest: int
    levels: Levels
    is_split: bool = True

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> IdeficsRules:
        """What a ``preprocessor_config.json`` says; what it leaves out is as SmolVLM-256M has it."""
        tile = int((content.get("max_image_size") or {}).get("longest_edge", SMOLVLM_SMALL.tile))
        longest = int((content.get("size") or {}).get("longest_edge", 4 * tile))
        levels = Levels.of(content, SMOLVLM_SMALL.levels)
        return cls(tile, longest, levels, bool(content.get("do_image_splitting", True)))


SMOLVLM_SMALL: Final = IdeficsRules(512, 2048, Levels(HALF, HALF, "lanczos"))  # 256M, 500M: 64 tokens a tile
SMOLVLM_LARGE: Final = IdeficsRules(384, 1536, Levels(HALF, HALF, "lanczos"))  # 2.2B: 81 tokens a tile


@dataclass(frozen=True, slots=True)
class IdeficsTokens:
    """The texts of the special tokens."""

    image: str = "<image>"
    around: str = "<fake_token_around_image>"
    whole: str = "<global-img>"


class Idefics:
    """Eyes of ``Idefics3ForConditionalGeneration`` and ``SmolVLMForConditionalGeneration``."""

    def __init__(
        self,
        net: Idefics3ForConditionalGeneration | SmolVLMForConditionalGeneration,
        rules: IdeficsRules,
        tokens: IdeficsTokens = IdeficsTokens(),
    ) -> None:
        self._net: Any = net
        self._rules, self._tokens = rules, tokens
        tower: Any = net.config.vision_config
        side = rules.tile // tower.patch_size  # patches along a tile
        self._a_tile = side**2 // net.config.scale_factor**2

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to its tiles float32 (T, 3, tile, tile), row by row, the whole picture last."""
        rules = self._rules
        first = rules.levels.resized(image, _first_size(image.shape[0], image.shape[1], rules.longest))
        if not rules.is_split:
            return rules.levels.numbers(rules.levels.resized(first, (rules.tile, rules.tile))[None])
        rows, columns = _grid(first.shape[0], first.shape[1], rules.tile)
        canvas = rules.levels.resized(first, (rows * rules.tile, columns * rules.tile))
        tiles = tiles_of(canvas, rules.tile)  # (R * C, tile, tile, 3)
        if len(tiles) > 1:
            whole = rules.levels.resized(canvas, (rules.tile, rules.tile))
            tiles = np.concatenate([tiles, whole[None]])  # (T, tile, tile, 3)
        return rules.levels.numbers(tiles)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 3, tile, tile) to rows (B, T * n, D)."""
        model = self._net.model
        tiles = batch.flatten(0, 1).to(self._net.dtype)  # (B * T, 3, tile, tile)
        states = model.vision_model(tiles).last_hidden_state  # (B * T, P, V)
        rows: Tensor = model.connector(states)  # (B * T, n, D)
        return rows.reshape(len(batch), -1, rows.shape[-1])  # (B, T * n, D)

    def slot(self, size_hw: Size) -> str:
        rows, columns = self.grid(size_hw)
        tokens, images = self._tokens, self._tokens.image * self._a_tile
        whole = f"{tokens.around}{tokens.whole}{images}{tokens.around}"
        if (rows, columns) == (1, 1):
            return whole
        lines = [
            "".join(f"{tokens.around}<row_{row + 1}_col_{column + 1}>{images}" for column in range(columns)) + "\n"
            for row in range(rows)
        ]
        return f"{''.join(lines)}\n{whole}"

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows

    def grid(self, size_hw: Size) -> tuple[int, int]:
        """Rows and columns of tiles; (1, 1) where there is only the whole picture."""
        if not self._rules.is_split:
            return 1, 1
        return _grid(*_first_size(*size_hw, self._rules.longest), self._rules.tile)


def _first_size(height: int, width: int, longest: int) -> Size:
    """The long side brought to ``longest`` and the other, made even, in proportion; both within the bound. In the
    order of transformers' operations: a rounding decides over a whole row of tiles."""
    aspect = width / height
    if width >= height:
        across, down = longest, int(longest / aspect)
        down += down % 2
    else:
        across, down = int(longest * aspect), longest
        across += across % 2
    across, down = max(across, 1), max(down, 1)
    aspect = across / down
    if across >= down and across > _BOUND:
        across, down = _BOUND, int(_BOUND / aspect)
    elif down > across and down > _BOUND:
        across, down = int(_BOUND * aspect), _BOUND
    return max(down, 1), max(across, 1)


def _grid(height: int, width: int, tile: int) -> tuple[int, int]:
    """Rows and columns of tiles that a picture of the first size is stretched to."""
    aspect = width / height
    if width >= height:
        columns = math.ceil(width / tile)
        return math.ceil(int(columns * tile / aspect) / tile), columns
    rows = math.ceil(height / tile)
    return rows, math.ceil(int(rows * tile * aspect) / tile)
