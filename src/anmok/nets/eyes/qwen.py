"""How Qwen2-VL, 2.5-VL and 3-VL look, and EXAONE 4.5 and HyperCLOVA X SEED Think with them: the picture as it is, in
patches of which each 2 x 2 become one token.

Source: Wang et al., "Qwen2-VL" (2024, arXiv:2409.12191); Bai et al., "Qwen2.5-VL Technical Report" (2025,
arXiv:2502.13923); Meng et al., "DeepStack" (2024, arXiv:2406.04334). The nets are transformers'
``Qwen2VLForConditionalGeneration``, ``Qwen2_5_VLForConditionalGeneration``, ``Qwen3VLForConditionalGeneration`` (and
``Qwen3VLMoeForConditionalGeneration``, whose layers have experts),
``Exaone4_5_ForConditionalGeneration`` and ``HyperCLOVAXVisionV2ForConditionalGeneration``; pictures go through
``Qwen2VLImageProcessor``.

Qwen's language model wants more than the rows. A token has three positions (time, height, width): all tokens of a
picture are at one time, and the text after it goes on behind its longer side, so positions and number of tokens part.
Qwen3-VL adds to each of its first layers rows of its own (DeepStack); here they lie behind the ordinary ones, in one
row of (1 + L) * D. ``Qwen.extras`` makes of both what the language model is called with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import (
    Exaone4_5_ForConditionalGeneration,
    HyperCLOVAXVisionV2ForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from anmok.errors import BadMedia
from anmok.nets.eyes import Grid, Place, Size
from anmok.nets.eyes.levels import CLIP_MEAN, CLIP_STD, HALF, Levels

Net = (
    Qwen2VLForConditionalGeneration
    | Qwen2_5_VLForConditionalGeneration
    | Qwen3VLForConditionalGeneration
    | Exaone4_5_ForConditionalGeneration
    | HyperCLOVAXVisionV2ForConditionalGeneration
)

_LONGEST: Final = 200  # times as long as wide
# Model types with three positions a token.
_GRIDDED: Final = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"})


@dataclass(frozen=True, slots=True)
class QwenRules:
    """``patch`` in pixels; ``merge`` x ``merge`` patches are one token. A picture is resized so that it has
    ``fewest`` to ``most`` pixels. Weights that see films take ``times`` frames at once; a picture is shown so often."""

    patch: int
    levels: Levels
    fewest: int
    most: int
    merge: int = 2
    times: int = 2

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> QwenRules:
        """What a ``preprocessor_config.json`` says, in the older words or the newer; what it leaves out is as Qwen2-VL
        has it."""
        size = content.get("size") or {}
        fewest = content.get("min_pixels") or size.get("shortest_edge") or QWEN2.fewest
        most = content.get("max_pixels") or size.get("longest_edge") or QWEN2.most
        return cls(
            int(content.get("patch_size", QWEN2.patch)),
            Levels.of(content, QWEN2.levels),
            int(fewest),
            int(most),
            int(content.get("merge_size", QWEN2.merge)),
            int(content.get("temporal_patch_size", QWEN2.times)),
        )

    def prepared(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture (H, W, 3), resized: (3, h, w).

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        size_hw = smart_size((image.shape[0], image.shape[1]), self)
        return self.levels.numbers(self.levels.resized(image, size_hw))


QWEN2: Final = QwenRules(14, Levels(CLIP_MEAN, CLIP_STD), 56 * 56, 28 * 28 * 16384)  # Qwen2-VL and 2.5-VL
QWEN3: Final = QwenRules(16, Levels(HALF, HALF), 256 * 256, 4096 * 4096)


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One conversation as a language model reads it: ``is_picture`` bool (T,) says which tokens are image tokens,
    ``sizes`` are those of its pictures in order, and the grids of its clips, ``rows`` (M, W) the packed rows of all of
    them."""

    is_picture: Tensor
    sizes: tuple[Place, ...]
    rows: Tensor


class Qwen:
    """Eyes of the nets named above; ``image_token`` is the token's text, without the ones around it, which are in
    the chat template."""

    def __init__(self, net: Net, rules: QwenRules, image_token: str = "<|image_pad|>") -> None:
        self._net: Any = net
        self._rules, self._image_token = rules, image_token
        self._is_gridded = net.config.model_type in _GRIDDED
        self._levels = len(getattr(net.config.vision_config, "deepstack_visual_indexes", ()))

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3), resized: float32 (3, h, w).

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        return self._rules.prepared(image)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, h, w) to rows (B, N, D), or (B, N, (1 + L) * D) where the net adds rows to L of its layers."""
        return self.seen(batch[:, None].expand(-1, self._rules.times, -1, -1, -1))

    def seen(self, moments: Tensor) -> Tensor:
        """What stands for moments of a clip, (B, times, 3, h, w), each of so many frames as the tower takes at once: as
        ``encode``. A moment is seen by itself, as transformers' towers do it as well where they are given many."""
        patches = patched(moments, self._rules)  # (B * P, F)
        height, width = moments.shape[3] // self._rules.patch, moments.shape[4] // self._rules.patch
        grids = torch.tensor([[1, height, width]] * len(moments), device=moments.device)  # (B, 3)
        seen = self._net.model.get_image_features(patches.to(self._net.dtype), grids, return_dict=True)
        rows = torch.stack(list(seen.pooler_output))  # (B, N, D)
        if not self._levels:
            return rows
        return torch.cat([rows, *(torch.stack(list(deep)) for deep in seen.deepstack_features)], dim=2)

    def patches(self, batch: Tensor) -> Tensor:
        """(B, 3, h, w) to the rows that the tower takes (B * P, 3 * times * patch * patch)."""
        return patched(batch[:, None].expand(-1, self._rules.times, -1, -1, -1), self._rules)

    def slot(self, size_hw: Size) -> str:
        rows, columns = self.grid(size_hw)
        return self._image_token * (rows * columns)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows

    def grid(self, size_hw: Size) -> tuple[int, int]:
        """Rows and columns of a picture's tokens."""
        height, width = smart_size(size_hw, self._rules)
        side = self._rules.patch * self._rules.merge
        return height // side, width // side

    def positions(self, prompt: Prompt) -> Tensor:
        """Time, height and width of each token: int64 (3, T)."""
        device = prompt.is_picture.device
        parts: list[Tensor] = []
        grids = (one if isinstance(one, Grid) else Grid(1, *self.grid(one)) for one in prompt.sizes)
        told, place = prompt.is_picture.tolist(), 0
        at = 0
        while at < len(told):
            if told[at]:
                moments, rows, columns, pace = next(grids)
                times = (torch.arange(moments) * pace).long()  # (M,)
                lattice = torch.meshgrid(times, torch.arange(rows), torch.arange(columns), indexing="ij")
                parts.append(torch.stack(lattice).flatten(1) + place)  # (3, M * R * C)
                at, place = at + moments * rows * columns, place + max(rows, columns)
            else:
                end = next((later for later in range(at, len(told)) if told[later]), len(told))
                parts.append((torch.arange(end - at) + place).expand(3, -1))  # (3, n)
                at, place = end, place + end - at
        return torch.cat(parts, dim=1).to(device)

    def next_position(self, prompt: Prompt) -> int:
        """Of the first token of the answer, in all three; each one after it has one more."""
        if not self._is_gridded:
            return len(prompt.is_picture)
        return int(self.positions(prompt).max()) + 1

    def extras(self, prompt: Prompt, kept: int = 0) -> dict[str, Any]:
        """What the language model is called with beside ``inputs_embeds``, mask and cache, for the tokens from
        ``kept`` on, those before being in the cache.

        Returns:
            Nothing for EXAONE and HyperCLOVA X. For Qwen ``position_ids`` int64 (3, 1, T - kept); with DeepStack also
            ``visual_pos_masks`` bool (1, T - kept) and ``deepstack_visual_embeds``, for each layer (M', D).
        """
        if not self._is_gridded:
            return {}
        extras: dict[str, Any] = {"position_ids": self.positions(prompt)[:, None, kept:]}
        if self._levels and prompt.sizes:
            left = prompt.rows[int(prompt.is_picture[:kept].sum()) :]  # (M', (1 + L) * D)
            _, *deep = left.chunk(1 + self._levels, dim=1)
            extras |= {"visual_pos_masks": prompt.is_picture[None, kept:], "deepstack_visual_embeds": deep}
        return extras


def patched(moments: Tensor, rules: QwenRules) -> Tensor:
    """(B, times, 3, h, w) to the rows that a tower takes (B * P, 3 * times * patch * patch): the patches of one token
    together."""
    count, times, _, height, width = moments.shape
    rows, columns = height // rules.patch // rules.merge, width // rules.patch // rules.merge
    cut = moments.reshape(count, times, 3, rows, rules.merge, rules.patch, columns, rules.merge, rules.patch)
    cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)  # (B, R, C, m, m, 3, times, p, p)
    return cut.reshape(count * rows * columns * rules.merge**2, -1)  # (B * P, F)


def together(extras: Sequence[Mapping[str, Any]], longest: int) -> dict[str, Any]:
    """The extras of prompts that are read in one batch, each padded on its left to ``longest`` tokens."""
    told: dict[str, Any] = {}
    if all("position_ids" in one for one in extras):
        padded = [functional.pad(one["position_ids"], (longest - one["position_ids"].shape[-1], 0)) for one in extras]
        told["position_ids"] = torch.cat(padded, dim=1)  # (3, B, T)
    deep = [one["deepstack_visual_embeds"] for one in extras if "deepstack_visual_embeds" in one]
    if deep:
        masks = [
            one.get("visual_pos_masks", torch.zeros(1, longest, dtype=torch.bool, device=deep[0][0].device))
            for one in extras
        ]
        told["visual_pos_masks"] = torch.cat([functional.pad(mask, (longest - mask.shape[1], 0)) for mask in masks])
        told["deepstack_visual_embeds"] = [torch.cat(layer) for layer in zip(*deep, strict=True)]  # (sum of M, D) each
    return told


def smart_size(size_hw: Size, rules: QwenRules) -> Size:
    """Height and width of whole tokens, as near to the picture's as the number of pixels allows.

    Raises:
        BadMedia: a strip more than 200 times as long as wide.
    """
    height, width = size_hw
    if max(size_hw) / min(size_hw) > _LONGEST:
        raise BadMedia(f"a picture of {width} x {height} pixels: no more than {_LONGEST} times as long as wide; cut it")
    side = rules.patch * rules.merge
    high, wide = round(height / side) * side, round(width / side) * side
    if high * wide > rules.most:
        by = math.sqrt(height * width / rules.most)
        return max(side, math.floor(height / by / side) * side), max(side, math.floor(width / by / side) * side)
    if high * wide < rules.fewest:
        by = math.sqrt(rules.fewest / (height * width))
        return math.ceil(height * by / side) * side, math.ceil(width * by / side) * side
    return high, wide
