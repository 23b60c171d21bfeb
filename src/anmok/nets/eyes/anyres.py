"""How LLaVA-NeXT and LLaVA-OneVision look: the whole picture in one tile, then the picture in a grid of tiles, of
whose tokens those of the padding are taken out and each line ends with a learned one.

Source: Liu et al., "LLaVA-NeXT" (2024, llava-vl.github.io); Li et al., "LLaVA-OneVision: Easy Visual Task Transfer"
(2024, arXiv:2408.03326), github.com/LLaVA-VL/LLaVA-NeXT; the nets are transformers'
``LlavaNextForConditionalGeneration``, ``LlavaNextVideoForConditionalGeneration`` and
``LlavaOnevisionForConditionalGeneration``. Frames of a video are one tile each, of whose tokens a quarter is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import (
    LlavaNextForConditionalGeneration,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)

from anmok.errors import BadWeights
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import CLIP_MEAN, CLIP_STD, HALF, Canvas, Levels, tiles_of
from anmok.nets.eyes.square import SquareRules, padded_square, patch_tokens, selected, squared

Net = (
    LlavaNextForConditionalGeneration | LlavaNextVideoForConditionalGeneration | LlavaOnevisionForConditionalGeneration
)

_SLACK: Final = 1.1  # a side may be so much longer than what the most tiles give


@dataclass(frozen=True, slots=True)
class AnyResRules:
    """``tile`` in pixels; ``canvases`` are the sizes (height, width) that a picture may be fitted into, each of whole
    tiles. The tokens of the grid are made fewer where they are more than those of ``most`` tiles (0: never).

    With several pictures in a prompt LLaVA-OneVision gives each one tile, padded to a square: ``is_alone=False``.
    """

    tile: int
    canvases: tuple[Size, ...]
    levels: Levels
    most: int = 0
    is_alone: bool = True

    def __post_init__(self) -> None:
        if not self.canvases or any(side % self.tile for size in self.canvases for side in size):
            raise BadWeights(f"image_grid_pinpoints: want sizes of whole tiles of {self.tile} pixels")

    @classmethod
    def of(cls, content: Mapping[str, Any], config: Any) -> AnyResRules:
        """What a ``preprocessor_config.json`` and the net's configuration say.

        Raises:
            BadWeights: sizes that are not of whole tiles.
        """
        default = ONEVISION if config.model_type == "llava_onevision" else NEXT
        size = content.get("crop_size") or content.get("size") or {"height": default.tile}
        tile = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
        canvases = content.get("image_grid_pinpoints") or config.image_grid_pinpoints
        aspect = str(getattr(config, "vision_aspect_ratio", "anyres"))
        return cls(
            int(tile or default.tile),
            tuple((int(height), int(width)) for height, width in canvases),
            Levels.of(content, default.levels),
            int(aspect.removeprefix("anyres_max_")) if aspect.startswith("anyres_max_") else 0,
        )


NEXT: Final = AnyResRules(
    336, ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)), Levels(CLIP_MEAN, CLIP_STD)
)
ONEVISION: Final = AnyResRules(
    384,
    tuple((384 * rows, 384 * columns) for rows in range(1, 7) for columns in range(1, 7)),
    Levels(HALF, HALF),
    most=9,
)


class AnyRes:
    """Eyes of the nets named above; ``image_token`` is the token's text."""

    def __init__(self, net: Net, rules: AnyResRules, image_token: str = "<image>") -> None:
        self._net: Any = net
        self._rules, self._image_token = rules, image_token
        tower: Any = net.config.vision_config
        self._side = rules.tile // tower.patch_size  # patches along a tile
        self._a_tile = patch_tokens(net.config, rules.tile)

    @property
    def of_a_tile(self) -> int:
        """Rows of one."""
        return self._a_tile

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to its tiles float32 (T, 3, tile, tile), the whole picture first, then row by
        row."""
        tile, levels = self._rules.tile, self._rules.levels
        if not self._rules.is_alone:
            return levels.numbers(padded_square(image, tile, levels)[None])
        whole = levels.resized(image, (tile, tile))[None]  # (1, tile, tile, 3)
        canvas = fitted(image, best_canvas((image.shape[0], image.shape[1]), self._rules.canvases), levels)
        return levels.numbers(np.concatenate([whole, tiles_of(canvas, tile)]))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 3, tile, tile) to rows (B, T * n, D), padding among them."""
        tiles = batch.flatten(0, 1).to(self._net.dtype)  # (B * T, 3, tile, tile)
        rows: Tensor = self._net.model.multi_modal_projector(selected(self._net.model, tiles))  # (B * T, n, D)
        return rows.reshape(len(batch), -1, rows.shape[-1])  # (B, T * n, D)

    def slot(self, size_hw: Size) -> str:
        if not self._rules.is_alone:
            return self._image_token * (self._a_tile + 1)
        height, width = self._lines(size_hw)
        return self._image_token * (self._a_tile + height * (width + 1))

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        newline: Tensor = self._net.model.image_newline  # (D,)
        newline = newline.to(rows)
        if not self._rules.is_alone:
            return torch.cat([rows, newline[None]])  # (n + 1, D)
        grid_h, grid_w = self._grid(size_hw)
        tiles = rows[self._a_tile :].reshape(grid_h, grid_w, self._side, self._side, -1)  # (R, C, h, w, D)
        field = tiles.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)  # (D, R * h, C * w)
        height, width = unpadded(size_hw, (field.shape[1], field.shape[2]))
        top, left = (field.shape[1] - height) // 2, (field.shape[2] - width) // 2
        field = field[:, top : top + height, left : left + width]  # (D, H, W)
        lines = self._lines(size_hw)
        if lines != (height, width):
            field = functional.interpolate(field[None], lines, mode="bilinear")[0]  # (D, H', W')
        ends = newline[:, None, None].expand(-1, lines[0], 1)  # (D, H', 1)
        flat = torch.cat([field, ends], dim=2).flatten(1).T  # (H' * (W' + 1), D)
        return torch.cat([rows[: self._a_tile], flat])  # (M, D)

    def _grid(self, size_hw: Size) -> Size:
        """Rows and columns of tiles."""
        height, width = best_canvas(size_hw, self._rules.canvases)
        return height // self._rules.tile, width // self._rules.tile

    def _lines(self, size_hw: Size) -> Size:
        """Lines of the grid's tokens and how many are in each, without its end."""
        rows, columns = self._grid(size_hw)
        height, width = unpadded(size_hw, (rows * self._side, columns * self._side))
        if self._rules.most:
            ratio = math.sqrt(height * width / (self._rules.most * self._side**2))
            if ratio > _SLACK:
                return int(height // ratio), int(width // ratio)
        return height, width


def frame_rules(content: Mapping[str, Any]) -> SquareRules:
    """How a frame becomes a square, by the ``preprocessor_config.json`` of these nets. Its ``do_pad`` is about the
    number of tiles in a batch, where LLaVA 1.5's is about the square.

    Raises:
        BadWeights: it does not lead to a square.
    """
    return SquareRules.of({name: value for name, value in content.items() if name != "do_pad"})


class Frames:
    """Eyes for single frames of a video, of the nets that take videos: LLaVA-NeXT-Video and LLaVA-OneVision.

    A film is its frames one after the other; ``film_slot`` and ``film`` add what the family puts at its end.
    """

    def __init__(
        self,
        net: LlavaNextVideoForConditionalGeneration | LlavaOnevisionForConditionalGeneration,
        rules: SquareRules,
        video_token: str = "<video>",
    ) -> None:
        self._net: Any = net
        self._rules, self._video_token = rules, video_token
        config: Any = net.config
        self._is_onevision = config.model_type == "llava_onevision"
        self._side: int = rules.size // config.vision_config.patch_size  # patches along a frame
        # OneVision keeps the last column and line of an odd number, its predecessor does not.
        self._pooled: int = -(-self._side // 2) if self._is_onevision else self._side // config.spatial_pool_stride

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One frame uint8 (H, W, 3) to float32 (3, size, size)."""
        return self._rules.levels.numbers(squared(image, self._rules))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) to rows (B, n, D)."""
        model = self._net.model
        states = selected(model, batch.to(self._net.dtype))  # (B, N, V)
        if not self._is_onevision:
            rows: Tensor = model.multi_modal_projector(model.vision_resampler(states))  # (B, n, D)
            return rows
        projected: Tensor = model.multi_modal_projector(states)  # (B, N, D)
        field = projected.transpose(1, 2).reshape(len(batch), -1, self._side, self._side)  # (B, D, h, w)
        field = functional.interpolate(field, (self._pooled, self._pooled), mode="bilinear")  # (B, D, h', w')
        return field.flatten(2).transpose(1, 2)  # (B, n, D)

    def slot(self, size_hw: Size) -> str:
        return self._video_token * self._pooled**2

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows

    def film_slot(self, count: int) -> str:
        """The text that stands for a film of so many frames."""
        return self._video_token * (count * self._pooled**2 + int(self._is_onevision))

    def film(self, frames: Tensor) -> Tensor:
        """Rows of all frames (F, n, D) as they stand in a prompt, (M, D)."""
        flat = frames.flatten(0, 1)  # (F * n, D)
        if not self._is_onevision:
            return flat
        newline: Tensor = self._net.model.image_newline  # (D,)
        return torch.cat([flat, newline.to(flat)[None]])  # (F * n + 1, D)


def best_canvas(size_hw: Size, canvases: tuple[Size, ...]) -> Size:
    """The canvas that keeps most of the picture's pixels; of those that keep as many, the one that wastes least."""
    height, width = size_hw
    best, kept, wasted = canvases[0], 0, float("inf")
    for canvas in canvases:
        scale = min(canvas[1] / width, canvas[0] / height)
        keeps = min(int(width * scale) * int(height * scale), width * height)
        wastes = canvas[0] * canvas[1] - keeps
        if keeps > kept or (keeps == kept and wastes < wasted):
            best, kept, wasted = canvas, keeps, wastes
    return best


def fitted(image: Canvas, canvas_hw: Size, levels: Levels) -> Canvas:
    """A picture uint8 (H, W, 3), resized in proportion, in the middle of a black canvas (h, w, 3)."""
    height, width = image.shape[:2]
    across, down = canvas_hw[1] / width, canvas_hw[0] / height
    if across < down:
        size = (min(math.ceil(height * across), canvas_hw[0]), canvas_hw[1])
    else:
        size = (canvas_hw[0], min(math.ceil(width * down), canvas_hw[1]))
    canvas = np.zeros((*canvas_hw, 3), np.uint8)
    top, left = (canvas_hw[0] - size[0]) // 2, (canvas_hw[1] - size[1]) // 2
    canvas[top : top + size[0], left : left + size[1]] = levels.resized(image, size)
    return canvas


def unpadded(size_hw: Size, field_hw: Size) -> Size:
    """How much of a field of tokens is the picture's: as many lines, or columns, are taken off on both sides. A strip
    may have none left."""
    height, width = size_hw
    if width / height > field_hw[1] / field_hw[0]:
        lines = int(round(height * (field_hw[1] / width), 7))
        return field_hw[0] - (field_hw[0] - lines) // 2 * 2, field_hw[1]
    columns = int(round(width * (field_hw[0] / height), 7))
    return field_hw[0], field_hw[1] - (field_hw[1] - columns) // 2 * 2
