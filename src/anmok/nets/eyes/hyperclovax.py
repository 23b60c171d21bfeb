"""How HyperCLOVA X SEED Vision looks: the whole picture in one tile, then the picture in a grid of at most nine; each
tile becomes 81 tokens, those of the padding are taken out, and each line ends with a learned one.

Source: NAVER Cloud, HyperCLOVAX-SEED-Vision-Instruct-3B (2025). The arithmetic is that of its processor and net as they
stand in NAVER's code for transformers (``HCXVisionImageProcessor``) and in vLLM (``hyperclovax_vision.py``). The tower
is SigLIP, the connector Honeybee's C-Abstractor.

Frames of a video are one tile each. Nine in a row are a canvas, of which the first frame becomes 81 tokens and each of
the others 9. How the published processor makes a frame square could not be read: here it is padded, as the whole
picture is, and a last canvas that is not full has no empty tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets import honeybee
from anmok.nets.cut_tower import Tower, cut_config, cut_state, patches, tower_class
from anmok.nets.eyes import Size
from anmok.nets.eyes.anyres import best_canvas
from anmok.nets.eyes.levels import HALF, Canvas, Levels, tiles_of
from anmok.nets.pretrained import fill, filled

IMAGE_TOKEN: Final = "<|dummy3|>"
VIDEO_TOKEN: Final = "<|_unuse_missing_100270|>"
CANVAS: Final = 9  # frames
LAYER: Final = -2  # of the tower, where config.json does not say
_TOWER, _PROJECTOR, _LANGUAGE, _NEWLINE = "vision_model.", "mm_projector.", "language_model.", "image_newline"


@dataclass(frozen=True, slots=True)
class HyperClovaRules:
    """``tile`` in pixels; ``canvases`` are the sizes (height, width) that a picture may be fitted into, each of whole
    tiles. A tile becomes ``queries`` tokens, a frame of a video ``slow`` or ``fast``; all three are square numbers."""

    tile: int
    canvases: tuple[Size, ...]
    levels: Levels
    queries: int = 81
    slow: int = 81
    fast: int = 9
    is_padded: bool = True  # the whole picture, to a square; else it is squashed
    is_unpadded: bool = True  # the tokens of the grid, whose lines have ends then
    has_slow_ends: bool = False  # only the first and the last frame of a video are slow

    def __post_init__(self) -> None:
        if not self.canvases or any(side % self.tile for size in self.canvases for side in size):
            raise BadWeights(f"possible_resolutions: want sizes of whole tiles of {self.tile} pixels")
        if any(count < 1 or math.isqrt(count) ** 2 != count for count in (self.queries, self.slow, self.fast)):
            raise BadWeights(f"num_queries_vis_abstractor: {self.queries}, {self.slow}, {self.fast}: want squares")

    @classmethod
    def of(cls, config: Mapping[str, Any], processor: Mapping[str, Any]) -> HyperClovaRules:
        """What ``config.json`` and ``preprocessor_config.json`` say.

        Raises:
            BadWeights: one tile for each picture, or another connector than the C-Abstractor.
        """
        if not config.get("anyres") or config.get("mm_projector_type", "cabstractor") != "cabstractor":
            raise BadWeights("config.json: want anyres and mm_projector_type 'cabstractor', as the 3B model has them")
        tile = int(config["vision_config"]["image_size"])
        given = processor.get("possible_resolutions") or config.get("possible_resolutions")
        most, has_one = int(config.get("max_num_grids", CANVAS)), bool(config.get("use_1x1_grid", False))
        queries = config.get("num_queries_vis_abstractor_image", config.get("num_queries_vis_abstractor", 81))
        return cls(
            tile,
            tuple((int(height), int(width)) for height, width in given) if given else canvases(most, tile, has_one),
            Levels.of(processor, Levels(HALF, HALF)),
            int(queries),
            int(config.get("num_queries_vis_abstractor_video_slow", 81)),
            int(config.get("num_queries_vis_abstractor_video_fast", 9)),
            bool(processor.get("pad_to_square", True)),
            bool(config.get("unpad", True)),
            bool(config.get("first_last_frames_slow", False)),
        )


class Sight(nn.Module):
    """What lies before the language model, under the names of the published checkpoint."""

    def __init__(self, tower: Tower, projector: honeybee.CAbstractor) -> None:
        super().__init__()
        self.vision_model = tower
        self.mm_projector = projector
        self.image_newline = nn.Parameter(torch.zeros(projector.config.outputs))

    @classmethod
    def filled(cls, config: Mapping[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype, name: str) -> Sight:
        """With the tensors of a checkpoint, those of the language model left out (``parted``).

        Raises:
            BadWeights: a tensor is missing, left over, or of another shape.
        """
        tower_config = cut_config(config["vision_config"], int(config.get("use_nth_layer", LAYER)), name)
        whole = {key.removeprefix(_TOWER): tensor for key, tensor in state.items() if key.startswith(_TOWER)}
        tower = filled(tower_class(tower_config), tower_config, cut_state(whole, tower_config), dtype, name)
        with torch.device("meta"):
            sight = cls(tower, honeybee.CAbstractor(connector_config(config)))
        rest = {key: tensor for key, tensor in state.items() if not key.startswith(_TOWER)}
        known = {f"{_TOWER}{key}": tensor for key, tensor in tower.state_dict().items()}
        return fill(sight, rest | known, dtype, name)


class HyperClova:
    """Eyes for pictures; ``image_token`` is the token's text."""

    def __init__(self, net: Sight, rules: HyperClovaRules, image_token: str = IMAGE_TOKEN) -> None:
        self._net, self._rules, self._image_token = net, rules, image_token
        self._side = math.isqrt(rules.queries)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to its tiles float32 (T, 3, tile, tile), the whole picture first, then row by
        row."""
        whole = whole_tile(image, self._rules)[None]  # (1, tile, tile, 3)
        canvas_hw = best_canvas((image.shape[0], image.shape[1]), self._rules.canvases)
        grid = centred(image, canvas_size((image.shape[0], image.shape[1]), canvas_hw), canvas_hw, self._rules.levels)
        return self._rules.levels.numbers(np.concatenate([whole, tiles_of(grid, self._rules.tile)]))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 3, tile, tile) to rows (B, T * queries, D), padding among them."""
        seen = patches(self._net.vision_model, batch.flatten(0, 1))  # (B * T, N, C)
        projector = self._net.mm_projector
        rows = projector.pooled(projector.mapped(seen), self._rules.queries)  # (B * T, Q, D)
        return rows.reshape(len(batch), -1, rows.shape[-1])  # (B, T * Q, D)

    def slot(self, size_hw: Size) -> str:
        lines, length = self._lines(size_hw)
        return self._image_token * (self._rules.queries + lines * (length + self._rules.is_unpadded))

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        grid_h, grid_w = self._grid(size_hw)
        whole, tiles = rows[: self._rules.queries], rows[self._rules.queries :]
        field = tiles.reshape(grid_h, grid_w, self._side, self._side, -1)  # (R, C, q, q, D)
        field = field.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (R * q, C * q, D)
        lines, length = self._lines(size_hw)
        top, left = (field.shape[0] - lines) // 2, (field.shape[1] - length) // 2
        field = field[top : top + lines, left : left + length]  # (H, W, D)
        if self._rules.is_unpadded:
            ends = self._net.image_newline.to(rows).expand(lines, 1, -1)  # (H, 1, D)
            field = torch.cat([field, ends], dim=1)  # (H, W + 1, D)
        return torch.cat([whole, field.flatten(0, 1)])  # (M, D)

    def _grid(self, size_hw: Size) -> Size:
        """Rows and columns of tiles."""
        height, width = best_canvas(size_hw, self._rules.canvases)
        return height // self._rules.tile, width // self._rules.tile

    def _lines(self, size_hw: Size) -> Size:
        """Lines of the grid's tokens and how many are in each, without its end."""
        rows, columns = self._grid(size_hw)
        field_hw = (rows * self._side, columns * self._side)
        return unpadded(size_hw, field_hw) if self._rules.is_unpadded else field_hw


class HyperClovaFrames:
    """Eyes for single frames of a video; ``video_token`` is the token's text.

    A frame is kept with both the rows that it has at a slow place and those at a fast one, since only the film knows
    where it stands.
    """

    def __init__(self, net: Sight, rules: HyperClovaRules, video_token: str = VIDEO_TOKEN) -> None:
        self._net, self._rules, self._video_token = net, rules, video_token

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One frame uint8 (H, W, 3) to float32 (3, tile, tile)."""
        return self._rules.levels.numbers(whole_tile(image, self._rules))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, tile, tile) to rows (B, slow + fast, D)."""
        projector = self._net.mm_projector
        mapped = projector.mapped(patches(self._net.vision_model, batch))  # (B, C, h, h)
        both = [projector.pooled(mapped, count) for count in (self._rules.slow, self._rules.fast)]
        return torch.cat(both, dim=1)  # (B, slow + fast, D)

    def slot(self, size_hw: Size) -> str:
        return self.film_slot(1)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        """As they are: ``film`` chooses."""
        return rows

    def film_slot(self, count: int) -> str:
        """The text that stands for a film of so many frames."""
        slow = sum(self._is_slow(frame, count) for frame in range(count))
        return self._video_token * (slow * self._rules.slow + (count - slow) * self._rules.fast)

    def film(self, frames: Tensor) -> Tensor:
        """Rows of all frames (F, slow + fast, D) as they stand in a prompt, (M, D)."""
        slow, count = self._rules.slow, len(frames)
        shown = [
            frame[:slow] if self._is_slow(number, count) else frame[slow:]  # (slow, D) or (fast, D)
            for number, frame in enumerate(frames)
        ]
        return torch.cat(shown)  # (M, D)

    def _is_slow(self, frame: int, count: int) -> bool:
        return frame in (0, count - 1) if self._rules.has_slow_ends else frame % CANVAS == 0


def canvases(most: int, tile: int, has_one: bool) -> tuple[Size, ...]:
    """All canvases of at most so many tiles; one of a single tile only where ``has_one``."""
    grids = ((rows, columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1))
    return tuple((rows * tile, columns * tile) for rows, columns in grids if has_one or rows * columns > 1)


def connector_config(config: Mapping[str, Any]) -> honeybee.Config:
    """The C-Abstractor of a ``config.json``."""
    tower = config["vision_config"]
    text = config.get("text_config") or config["language_config"]  # as the first revision called it
    return honeybee.Config(
        tokens=(int(tower["image_size"]) // int(tower["patch_size"])) ** 2,
        width=int(tower["hidden_size"]),
        queries=int(config.get("num_queries_vis_abstractor_image", config.get("num_queries_vis_abstractor", 81))),
        outputs=int(text["hidden_size"]),
        has_positions=bool(config.get("proj_pos_emb", True)),
        has_norm=bool(config.get("proj_prenorm", False)),
    )


def parted(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint in two: what ``Sight`` is filled with, and the language model under the names of
    transformers' ``LlamaForCausalLM``. What belongs to neither is in the first, where it is left over."""
    language = {key.removeprefix(_LANGUAGE): one for key, one in state.items() if key.startswith(_LANGUAGE)}
    return {key: one for key, one in state.items() if not key.startswith(_LANGUAGE)}, language


def whole_tile(image: Canvas, rules: HyperClovaRules) -> Canvas:
    """A picture uint8 (H, W, 3) in one tile: its long side brought to the tile's, the rest filled with the mean
    colour."""
    height, width, tile = image.shape[0], image.shape[1], rules.tile
    if not rules.is_padded or height == width:
        return rules.levels.resized(image, (tile, tile))
    size = (math.ceil(height / width * tile), tile) if width > height else (tile, math.ceil(width / height * tile))
    return centred(image, size, (tile, tile), rules.levels)


def canvas_size(size_hw: Size, canvas_hw: Size) -> Size:
    """The size that a picture has on its canvas: one side fills it."""
    height, width = size_hw
    across, down = canvas_hw[1] / width, canvas_hw[0] / height
    if across < down:
        return min(math.ceil(height * across), canvas_hw[0]), canvas_hw[1]
    return canvas_hw[0], min(math.ceil(width * down), canvas_hw[1])


def centred(image: Canvas, size_hw: Size, canvas_hw: Size, levels: Levels) -> Canvas:
    """A picture uint8 (H, W, 3), resized to ``size_hw``, in the middle of a canvas (h, w, 3) of the mean colour."""
    canvas = np.empty((*canvas_hw, 3), np.uint8)
    canvas[:] = [int(value * 255) for value in levels.mean]
    top, left = (canvas_hw[0] - size_hw[0]) // 2, (canvas_hw[1] - size_hw[1]) // 2
    canvas[top : top + size_hw[0], left : left + size_hw[1]] = levels.resized(image, size_hw)
    return canvas


def unpadded(size_hw: Size, field_hw: Size) -> Size:
    """How much of a field of tokens is the picture's: as many lines, or columns, are taken off on both sides.

    LLaVA's arithmetic (``eyes.anyres.unpadded``) without the rounding that transformers has put into it: the net was
    trained with what comes out here. A strip may have none left.
    """
    height, width = size_hw
    if width / height > field_hw[1] / field_hw[0]:
        lines = int(height * (field_hw[1] / width))
        return field_hw[0] - (field_hw[0] - lines) // 2 * 2, field_hw[1]
    columns = int(width * (field_hw[0] / height))
    return field_hw[0], field_hw[1] - (field_hw[1] - columns) // 2 * 2
