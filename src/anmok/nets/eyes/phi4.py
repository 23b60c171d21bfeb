"""Phi-4-multimodal's eyes: up to 36 crops of a picture and the whole of it once more, small.

Source: Microsoft, "Phi-4-Mini Technical Report: Compact yet Powerful Multimodal Language Models via
Mixture-of-LoRAs" (2025, arXiv:2503.01743), and the processor and net that transformers publishes for
microsoft/Phi-4-multimodal-instruct.

The picture is resized so that it fits a grid of crops, and what is left at the right and below is white. Patches that
are white only are hidden from the tower, and the lines that they would make are left out of the prompt. Where they lie
follows from the size; so that a batch may hold pictures of several sizes, ``prepare`` puts NaN there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Phi3ForCausalLM, Phi4MultimodalForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from anmok.errors import BadRequest
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import HALF, Levels

_WHITE: Final = 255
_THINNEST: Final = 10 / 448  # of a crop; the published processor refuses less
_POOL: Final = 2  # patches a side that become one token
_AT_ONCE: Final = 8  # tiles in one pass: 37 of them would fill memory


@dataclass(frozen=True, slots=True)
class Phi4Rules:
    """``size`` is a crop's side in pixels, ``most`` the crops of a picture at most, the small whole not counted."""

    size: int
    most: int
    levels: Levels

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Phi4Rules:
        """What a ``preprocessor_config.json`` says; what it leaves out is as published."""
        size = int((content.get("size") or {}).get("height", PHI4.size))
        levels = Levels.of({**content, "resample": None}, PHI4.levels)  # ``resample`` is of the small whole
        return cls(size, int(content.get("dynamic_hd", PHI4.most)), levels)


PHI4: Final = Phi4Rules(448, 36, Levels(HALF, HALF, "bilinear"))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a picture lies in its grid. Sizes are (height, width)."""

    grid_hw: Size  # crops
    image_hw: Size  # pixels of the resized picture, at the top left of the grid
    patches_hw: Size  # that the tower sees, of all crops together
    tokens_hw: Size  # rows and columns of tokens that are kept

    @property
    def crops(self) -> int:
        return self.grid_hw[0] * self.grid_hw[1]


class Phi4:
    """Eyes of ``Phi4MultimodalForCausalLM``; ``image_token`` is the token's text, id 200010 as published."""

    def __init__(
        self, net: Phi4MultimodalForCausalLM, rules: Phi4Rules = PHI4, image_token: str = "<|endoftext10|>"
    ) -> None:
        embed: Any = net.model.embed_tokens_extend.image_embed
        self._embed, self._rules, self._image_token = embed, rules, image_token
        self._patch = int(embed.config.vision_config.patch_size)
        self._side = math.isqrt(int(embed.num_img_tokens))  # tokens along a crop
        # transformers marks the tower as causal. Where no patch of a pass is hidden there is no mask either, and then
        # patches would see backwards alone; the published tower never does.
        for layer in embed.img_processor.encoder.layers:
            layer.self_attn.is_causal = False
        self._white = float(rules.levels.numbers(np.full((1, 1, 3), _WHITE, np.uint8))[0, 0, 0])

    def layout(self, size_hw: Size) -> Layout:
        """Where a picture of that size (H, W) lies.

        Raises:
            BadRequest: it is so thin that nothing would be left of it.
        """
        return _layout(size_hw, self._rules.size, self._patch, self._rules.most)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (H, W, 3) to float32 (1 + crops, 3, size, size): the whole picture, then its crops line by line.

        Raises:
            BadRequest: it is so thin that nothing would be left of it.
        """
        lay, size = self.layout((image.shape[0], image.shape[1])), self._rules.size
        canvas = np.full((lay.grid_hw[0] * size, lay.grid_hw[1] * size, 3), _WHITE, np.uint8)
        canvas[: lay.image_hw[0], : lay.image_hw[1]] = self._rules.levels.resized(image, lay.image_hw)
        numbers = self._rules.levels.numbers(canvas)  # (3, gh * size, gw * size)
        # The published processor makes the whole small out of numbers, not of levels, and without anti-aliasing.
        whole = torch.nn.functional.interpolate(torch.from_numpy(numbers)[None], (size, size), mode="bicubic")
        numbers[:, lay.patches_hw[0] * self._patch :] = np.nan
        numbers[:, :, lay.patches_hw[1] * self._patch :] = np.nan
        crops = numbers.reshape(3, lay.grid_hw[0], size, lay.grid_hw[1], size).transpose(1, 3, 0, 2, 4)
        return np.concatenate([whole.numpy(), crops.reshape(-1, 3, size, size)])  # (1 + crops, 3, size, size)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 3, size, size) to (B, T * tokens of a crop, D)."""
        tiles = batch.flatten(0, 1)  # (B * T, 3, size, size)
        seen = ~torch.isnan(tiles[:, 0, :: self._patch, :: self._patch]).contiguous()  # (B * T, patches, patches)
        filled = torch.nan_to_num(tiles, nan=self._white).to(self._embed.img_projection_up.weight.dtype)
        rows = [
            self._embed.get_img_features(filled[start : start + _AT_ONCE], seen[start : start + _AT_ONCE])
            for start in range(0, len(tiles), _AT_ONCE)
        ]
        projected = self._projected(torch.cat(rows))  # (B * T, tokens, D)
        return projected.reshape(len(batch), -1, projected.shape[-1])  # (B, T * tokens, D)

    def slot(self, size_hw: Size) -> str:
        """The image token, as often as ``packed`` has rows."""
        rows, columns = self.layout(size_hw).tokens_hw
        return self._image_token * (rows * (columns + 1) + 1 + self._side * (self._side + 1))

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        """The lines of the crops, a separator, the lines of the whole picture; a line ends with what was learned for
        that. (N, D) to (M, D)."""
        lay, side = self.layout(size_hw), self._side
        tiles = rows.reshape(1 + lay.crops, side, side, -1)  # (1 + crops, side, side, D)
        crops = tiles[1:].reshape(*lay.grid_hw, side, side, -1).transpose(1, 2)  # (gh, side, gw, side, D)
        joined = crops.flatten(2, 3).flatten(0, 1)  # (gh * side, gw * side, D)
        kept = joined[: lay.tokens_hw[0], : lay.tokens_hw[1]]
        end = self._projected(self._embed.sub_img_feature_extensor).flatten()  # (D,)
        between = self._projected(self._embed.global_img_feature_extensor)[0]  # (1, D)
        return torch.cat([_lined(kept, end), between.to(rows.dtype), _lined(tiles[0], end)])  # (M, D)

    def _projected(self, features: Tensor) -> Tensor:
        """(..., Dv) to (..., D)."""
        hidden = torch.nn.functional.gelu(self._embed.img_projection_up(features))
        projected: Tensor = self._embed.img_projection_down(hidden)
        return projected


class RowPlaces(nn.Module):
    """Phi-4's rotary positions, which up to 4,096 tokens turn by other angles than beyond (Ding et al., "LongRoPE",
    2024, arXiv:2402.13753): here each row by its own length. transformers lets the longest of a batch decide for all,
    so that an answer depends on what it was asked beside.

    In place of ``net.model.rotary_emb``; see ``with_row_places``.
    """

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        told = theirs.config.rope_parameters
        self.most = int(told["original_max_position_embeddings"])
        self._scaling = float(theirs.attention_scaling)
        short = theirs.original_inv_freq
        long, _ = ROPE_INIT_FUNCTIONS[theirs.rope_type](theirs.config, short.device, seq_len=self.most + 1)
        self.short, self.long = nn.Buffer(short.clone(), persistent=False), nn.Buffer(long, persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Positions int64 (B, T) to cosines and sines (B, T, F), of the dtype of ``x``."""
        is_long = position_ids.amax(1) >= self.most  # (B,)
        turns = torch.where(is_long[:, None], self.long, self.short)[:, None]  # (B, 1, F / 2)
        angles = (position_ids[..., None].float() * turns).repeat(1, 1, 2)  # (B, T, F)
        return (angles.cos() * self._scaling).to(x.dtype), (angles.sin() * self._scaling).to(x.dtype)


def with_row_places(net: Phi3ForCausalLM | Phi4MultimodalForCausalLM) -> int:
    """Of Phi-3 as well, which turns the same way: lets each row of a batch turn by its own length, in place. What is
    in a cache stays turned as it was: when a row grows past the number of tokens that this gives (0: no such bound),
    all of it has to be read anew, and a cache of a shorter conversation is of no use to a longer one."""
    model: Any = net.model
    if model.config.rope_parameters["rope_type"] != "longrope":
        return 0
    if not isinstance(model.rotary_emb, RowPlaces):
        model.rotary_emb = RowPlaces(model.rotary_emb)
    most: int = model.rotary_emb.most
    return most


def _lined(field: Tensor, end: Tensor) -> Tensor:
    """(rows, columns, D) to (rows * (columns + 1), D), each line with its end."""
    ends = end.to(field.dtype).expand(field.shape[0], 1, -1)  # (rows, 1, D)
    return torch.cat([field, ends], 1).flatten(0, 1)


@lru_cache(256)
def _layout(size_hw: Size, size: int, patch: int, most: int) -> Layout:
    height, width = size_hw
    rows, columns = -(-height // size), -(-width // size)
    if rows * columns > most:
        columns, rows = _nearest(width / height, height * width / size**2, most)
    scale = min(columns * size / width, rows * size / height)
    is_wide = columns * size / width < rows * size / height
    # The side that decides is filled; the other is cut to a whole number.
    image = (int(height * scale), columns * size) if is_wide else (rows * size, int(width * scale))
    if min(image) < max(1.0, _THINNEST * size):
        raise BadRequest(f"a picture of {width} x {height} is too thin for this model: cut it into parts")
    hidden = [(side * size - filled) // patch for side, filled in zip((rows, columns), image, strict=True)]
    patches = (rows * size // patch - hidden[0], columns * size // patch - hidden[1])
    tokens = (-(-patches[0] // _POOL), -(-patches[1] // _POOL))
    return Layout((rows, columns), image, patches, tokens)


def _nearest(aspect: float, crops: float, most: int) -> tuple[int, int]:
    """The grid (columns, rows) of at most that many crops whose aspect is nearest; of two that are as near the larger,
    where the picture has more than half of its pixels. ``crops`` is the picture's area."""
    grids = sorted(
        ((i, j) for i in range(1, most + 1) for j in range(1, most // i + 1)), key=lambda grid: grid[0] * grid[1]
    )
    best, least = (1, 1), math.inf
    for grid in grids:
        away = abs(aspect - grid[0] / grid[1])
        if away < least or (away == least and crops > 0.5 * grid[0] * grid[1]):
            best, least = grid, away
    return best
