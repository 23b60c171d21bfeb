"""LLaVA 1.5's way of looking: one square, of which every patch is a token.

Source: Liu et al., "Improved Baselines with Visual Instruction Tuning" (CVPR 2024, arXiv:2310.03744),
github.com/haotian-liu/LLaVA; the net is transformers' ``LlavaForConditionalGeneration``. LLaVA-Med and VideoLLaMA2
look the same way.

The weights were trained on pictures padded to a square with the mean colour. The ``preprocessor_config.json`` of the
converted checkpoints says that the middle is to be cut out instead, which loses the ends of a long picture; ``PAD``
and ``CROP`` name both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from anmok import geometry
from anmok.errors import BadWeights
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import CLIP_MEAN, CLIP_STD, Canvas, Levels

Way = Literal["pad", "crop", "squash"]

_AT_ONCE: Final = 1 << 24  # padded pixels in memory at once
_MOST: Final = 1 << 27  # padded pixels that are resized at all; a picture of 11,000 x 11,000 has as many


@dataclass(frozen=True, slots=True)
class SquareRules:
    """The square's side in pixels, and how a picture becomes one. ``short`` is what the short side is brought to
    before the middle is cut out; only ``crop`` has it."""

    size: int
    way: Way
    levels: Levels
    short: int = 0

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> SquareRules:
        """What a ``preprocessor_config.json`` says.

        Raises:
            BadWeights: it does not lead to a square.
        """
        levels = Levels.of(content, CROP.levels)
        size = _sides(content.get("size") or CROP.size, "shortest_edge")
        cut = _sides(content.get("crop_size") or {}, "height", "width")
        edge, crop = size.get("shortest_edge"), cut.get("height")
        if crop != cut.get("width") or not (edge or 0 < size.get("height", 0) == size.get("width")):
            raise BadWeights(f"preprocessor_config.json: size {size} and crop_size {cut} make no square")
        side = edge or size["height"]
        if content.get("do_pad"):
            return cls(side, "pad", levels)
        if edge and content.get("do_center_crop", True):
            return cls(crop or side, "crop", levels, side)
        if not edge:
            return cls(side, "squash", levels)
        raise BadWeights("preprocessor_config.json: the short side is resized and nothing is cut off: no square")


PAD: Final = SquareRules(336, "pad", Levels(CLIP_MEAN, CLIP_STD))
CROP: Final = SquareRules(336, "crop", Levels(CLIP_MEAN, CLIP_STD), 336)


class Square:
    """Eyes of ``LlavaForConditionalGeneration``; ``image_token`` is the token's text."""

    def __init__(self, net: LlavaForConditionalGeneration, rules: SquareRules, image_token: str = "<image>") -> None:
        self._net: Any = net
        self._rules, self._image_token = rules, image_token
        self._tokens = patch_tokens(net.config, rules.size)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to float32 (3, size, size)."""
        return self._rules.levels.numbers(squared(image, self._rules))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) to rows (B, N, D)."""
        model = self._net.model
        states = selected(model, batch.to(self._net.dtype))  # (B, N, V)
        rows: Tensor = model.multi_modal_projector(states)  # (B, N, D)
        return rows

    def slot(self, size_hw: Size) -> str:
        return self._image_token * self._tokens

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


def squared(image: Canvas, rules: SquareRules) -> Canvas:
    """A picture uint8 (H, W, 3) to its square (size, size, 3)."""
    if rules.way == "squash":
        return rules.levels.resized(image, (rules.size, rules.size))
    if rules.way == "pad":
        return padded_square(image, rules.size, rules.levels)
    pixels = geometry.Pixels(
        rules.size, "crop", rules.levels.filter, rules.levels.mean, rules.levels.std, rules.size / rules.short
    )
    return geometry.fit(image, pixels)[0]


def padded_square(image: Canvas, size: int, levels: Levels) -> Canvas:
    """A picture uint8 (H, W, 3), padded to a square with the mean colour on both sides and resized: (size, size, 3).

    Pillow resizes along the rows first and along the columns after that. Doing the two by hand, some rows at a time,
    gives the same levels and never holds the whole square, which for a strip of 1 x 20,000 pixels would be gigabytes.
    A tall strip whose square has more than ``_MOST`` pixels is made smaller first; there levels may differ.
    """
    if image.shape[0] * max(image.shape[:2]) > _MOST:
        share = math.sqrt(_MOST / (image.shape[0] * max(image.shape[:2])))
        image = levels.resized(image, (max(1, int(image.shape[0] * share)), max(1, int(image.shape[1] * share))))
    height, width = image.shape[:2]
    side = max(height, width)
    colour = np.asarray([int(value * 255) for value in levels.mean], np.uint8)  # cut, as LLaVA's own code does
    top, left = (side - height) // 2, (side - width) // 2
    narrow = np.empty((side, size, 3), np.uint8)
    narrow[:] = colour
    step = max(1, _AT_ONCE // side)
    for start in range(0, height, step):
        part = image[start : start + step]  # (n, W, 3)
        strip = np.empty((len(part), side, 3), np.uint8)
        strip[:] = colour
        strip[:, left : left + width] = part
        narrow[top + start : top + start + len(part)] = levels.resized(strip, (len(part), size))  # (n, size, 3)
    return levels.resized(narrow, (size, size))


def patch_tokens(config: Any, size: int) -> int:
    """Tokens of one tile in the families of LLaVA: its patches, one more where the tower's own class token is kept,
    one fewer where a token is dropped that the tower does not have."""
    patches: int = (size // config.vision_config.patch_size) ** 2
    has_class = config.vision_config.model_type == "clip_vision_model"
    is_cut = config.vision_feature_select_strategy == "default"
    return patches + int(has_class) - int(is_cut)


def selected(model: Any, pixels: Tensor) -> Tensor:
    """What the projector of the LLaVA families reads: the tower's states (B, N, V) at the layer, or layers, that
    the configuration names, without the class token where it says so."""
    config = model.config
    layers = config.vision_feature_layer
    told = model.vision_tower(pixels, output_hidden_states=layers, return_dict=True).hidden_states
    wanted = [told[layers]] if isinstance(layers, int) else [told[layer] for layer in layers]  # (B, 1 + N, V) each
    if config.vision_feature_select_strategy == "default":
        wanted = [states[:, 1:] for states in wanted]
    return wanted[0] if len(wanted) == 1 else torch.cat(wanted, dim=-1)


def _sides(value: Any, *names: str) -> dict[str, int]:
    """A size in pixels by name; older files have a number for all of the names."""
    given = dict.fromkeys(names, value) if isinstance(value, int) else value
    return {name: int(side) for name, side in given.items() if side}
