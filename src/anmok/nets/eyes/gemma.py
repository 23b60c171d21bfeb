"""The eyes of Gemma 3 and Gemma 4, and what their language models have to be told about pictures.

Source: Gemma Team, "Gemma 3 Technical Report" (2025, arXiv:2503.19786); the nets and processors that transformers
publishes for google/gemma-3-4b-it and google/gemma-4-E4B-it. Gemma 3n is not here: its tower is timm's MobileNetV5,
which transformers does not have itself.

Within a picture all tokens see each other. The nets of transformers do so only where they are told which tokens are
pictures; where they are not told they see backwards alone, answer worse, and say nothing. ``arguments`` is what has to
be handed to the net at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration, Gemma4ForConditionalGeneration

from anmok.errors import BadRequest, BadWeights
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import HALF, Levels

_PLAIN: Final = Levels((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")
BUDGETS: Final = (70, 140, 280, 560, 1120)  # tokens of a picture of Gemma 4
FRAME_BUDGET: Final = 70  # of a frame of a clip, where its files do not say


@dataclass(frozen=True, slots=True)
class GemmaTokens:
    """The texts of the special tokens, and what stands before and after a picture or a sound."""

    token: str = "<image_soft_token>"
    begin: str = "<start_of_image>"
    end: str = "<end_of_image>"
    around: str = "\n\n"

    def slot(self, tokens: int) -> str:
        return f"{self.around}{self.begin}{self.token * tokens}{self.end}{self.around}"


GEMMA3_TOKENS: Final = GemmaTokens()
GEMMA4_TOKENS: Final = GemmaTokens("<|image|>", "<|image>", "<image|>", "")


@dataclass(frozen=True, slots=True)
class PanAndScan:
    """How Gemma 3 looks at parts of a long picture once more: ``smallest`` is a crop's side in pixels of the picture at
    least, ``most`` the crops at most, ``ratio`` of its sides what a picture has to have."""

    smallest: int = 256
    most: int = 4
    ratio: float = 1.2

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> PanAndScan | None:
        """What a ``preprocessor_config.json`` says; ``None`` where it does not turn this on.

        Raises:
            BadWeights: crops of no size, or none of them.
        """
        if not content.get("do_pan_and_scan"):
            return None
        told = {key: content.get(f"pan_and_scan_{name}") for key, name in _PAN_AND_SCAN.items()}
        given = {key: value for key, value in told.items() if value is not None}
        if any(not isinstance(value, int | float) or value < 1 for value in given.values()):
            raise BadWeights(f"preprocessor_config.json: pan and scan by {given}; want numbers from 1 up")
        return cls(**given)

    def grid(self, size_hw: Size) -> Size:
        """Rows and columns of crops, one of which is 1; (0, 0) where the picture is not long or not large enough."""
        height, width = size_hw
        long, short = max(size_hw), min(size_hw)
        if long / short < self.ratio:
            return 0, 0
        count = min(math.floor(long / self.smallest), math.floor(long / short + 0.5))
        count = min(self.most, max(2, count))
        if min(-(-long // count), short) < self.smallest:
            return 0, 0
        return (1, count) if width >= height else (count, 1)


_PAN_AND_SCAN: Final = {"smallest": "min_crop_size", "most": "max_num_crops", "ratio": "min_ratio_to_activate"}


@dataclass(frozen=True, slots=True)
class Gemma3Rules:
    """The square's side in pixels, the levels, and whether long pictures are looked at in parts as well."""

    size: int
    levels: Levels
    parts: PanAndScan | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Gemma3Rules:
        """What a ``preprocessor_config.json`` says; what it leaves out is as published.

        Raises:
            BadWeights: no square, or crops of no size.
        """
        size = content.get("size") or {"height": GEMMA3.size, "width": GEMMA3.size}
        if size.get("height") != size.get("width"):
            raise BadWeights(f"preprocessor_config.json: size {size} is no square")
        return cls(int(size["height"]), Levels.of(content, GEMMA3.levels), PanAndScan.of(content))

    def grid(self, size_hw: Size) -> Size:
        """Rows and columns of the crops of a picture; (0, 0) where it is looked at as a whole alone."""
        return (0, 0) if self.parts is None else self.parts.grid(size_hw)


GEMMA3: Final = Gemma3Rules(896, Levels(HALF, HALF, "bilinear"))


class Gemma3:
    """Eyes of ``Gemma3ForConditionalGeneration``: a square, whatever the picture's shape, and always as many tokens.
    With pan and scan a long picture is such a square and as many more as it has crops, told apart by words."""

    def __init__(
        self,
        net: Gemma3ForConditionalGeneration,
        rules: Gemma3Rules = GEMMA3,
        tokens: GemmaTokens = GEMMA3_TOKENS,
    ) -> None:
        self._net: Any = net
        self._rules, self._tokens = rules, tokens
        self._count: int = net.config.mm_tokens_per_image or 256

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (H, W, 3) to float32 (1 + crops, 3, size, size): the picture, then its crops line by line; without
        pan and scan (3, size, size)."""
        shown = [image, *self._crops(image)]
        levels, side = self._rules.levels, (self._rules.size, self._rules.size)
        squares = levels.numbers(np.stack([levels.resized(one, side) for one in shown]))  # (1 + crops, 3, size, size)
        return squares[0] if self._rules.parts is None else squares

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) or (B, 1 + crops, 3, size, size) to (B, N, D)."""
        squares = batch.reshape(-1, *batch.shape[-3:])  # (B * T, 3, size, size)
        rows: Tensor = self._net.get_image_features(squares.to(self._net.dtype)).pooler_output  # (B * T, n, D)
        return rows.reshape(len(batch), -1, rows.shape[-1])  # (B, T * n, D)

    def slot(self, size_hw: Size) -> str:
        """With crops, in the words that the published processor has for them."""
        one = self._tokens.slot(self._count)
        rows, columns = self._rules.grid(size_hw)
        if not rows:
            return one
        return f"Here is the original image {one} and here are some crops to help you see better " + " ".join(
            [one] * (rows * columns)
        )

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows

    def _crops(self, image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Line by line, all of one size but for the last, which is what is left."""
        height, width = image.shape[:2]
        rows, columns = self._rules.grid((height, width))
        if not rows:
            return
        tall, wide = -(-height // rows), -(-width // columns)
        for top in range(0, rows * tall, tall):
            for left in range(0, columns * wide, wide):
                yield image[top : top + tall, left : left + wide]


@dataclass(frozen=True, slots=True)
class Gemma4Rules:
    """``budget`` is the most tokens that a picture may have; ``patch`` is in pixels, ``pool`` the patches along a
    token."""

    budget: int = 280
    patch: int = 16
    pool: int = 3
    levels: Levels = _PLAIN

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Gemma4Rules:
        """What a ``preprocessor_config.json`` says; what it leaves out is as published.

        Raises:
            BadWeights: a budget that the model was not trained with.
        """
        budget = int(content.get("max_soft_tokens", 280))
        if budget not in BUDGETS:
            raise BadWeights(f"preprocessor_config.json: max_soft_tokens {budget}; want one of {BUDGETS}")
        levels = Levels.of({"do_normalize": False, **content}, _PLAIN)
        return cls(budget, int(content.get("patch_size", 16)), int(content.get("pooling_kernel_size", 3)), levels)

    def size(self, size_hw: Size) -> Size:
        """What a picture is resized to: about its own shape, whole tokens, as many as the budget has room for."""
        return _gemma4_size(size_hw, self.budget, self.patch, self.pool)


class Gemma4:
    """Eyes of ``Gemma4ForConditionalGeneration``: any shape, about as many tokens. The tower scales pixels itself."""

    def __init__(
        self,
        net: Gemma4ForConditionalGeneration,
        rules: Gemma4Rules = Gemma4Rules(),
        tokens: GemmaTokens = GEMMA4_TOKENS,
    ) -> None:
        self._net: Any = net
        self._rules, self._tokens = rules, tokens

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (H, W, 3) to float32 (3, h, w), both sides whole tokens."""
        size_hw = self._rules.size((image.shape[0], image.shape[1]))
        return self._rules.levels.numbers(self._rules.levels.resized(image, size_hw))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, N, D), line by line. Nothing is filled up to the budget, as the published processor
        does: pictures of one shape are of one length."""
        patch = self._rules.patch
        rows, columns = batch.shape[2] // patch, batch.shape[3] // patch
        cut = batch.reshape(-1, 3, rows, patch, columns, patch)
        patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, rows * columns, patch * patch * 3)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        places = torch.stack([x, y], -1).flatten(0, 1).to(batch.device)  # (rows * columns, 2)
        seen = self._net.get_image_features(patches.to(self._net.dtype), places.expand(len(batch), -1, -1))
        return torch.stack(seen.pooler_output)  # (B, N, D)

    def slot(self, size_hw: Size) -> str:
        height, width = self._rules.size(size_hw)
        side = self._rules.patch * self._rules.pool
        return self._tokens.slot((height // side) * (width // side))

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


def arguments(net: Any, ids: Tensor, seen: int = 0) -> dict[str, Tensor]:
    """What the net's ``forward`` needs beside ``inputs_embeds``, ``attention_mask``, ``position_ids`` and ``cache``.

    At every call, the first, those that add to a cache, and those of single tokens: whoever leaves them out gets
    other logits and no error (Gemma 4 E2B and E4B: an error, or a search through the whole vocabulary).

    Args:
        net: of Gemma 3 or 4.
        ids: int64 (B, S), everything up to the last token of this call, *what is in the cache included*, padding at
            the left: the mask reads it by place from the first column of the cache.
        seen: columns that the cache holds already. No picture may lie on both sides of it.

    Returns:
        ``token_type_ids`` (B, S) of Gemma 3, ``mm_token_type_ids`` (B, S) of Gemma 4, where pictures are among the new
        tokens; ``per_layer_inputs`` (B, S - seen, layers, P) of the nets that look each token up once more in every
        layer (Gemma 4 E2B and E4B), pictures and sounds as blanks.

    Raises:
        BadRequest: a picture that is cut in two by ``seen``.
    """
    config: Any = net.config
    is_picture = ids == config.image_token_id  # (B, S)
    told: dict[str, Tensor] = {}
    if 0 < seen < ids.shape[1] and bool((is_picture[:, seen - 1] & is_picture[:, seen]).any()):
        raise BadRequest("a picture is half in the cache: its tokens see each other, so cut before or after it")
    name = "token_type_ids" if config.model_type == "gemma3" else "mm_token_type_ids"
    if bool(is_picture[:, seen:].any()):
        told[name] = is_picture.long()  # (B, S)
    text = config.get_text_config()
    if getattr(text, "hidden_size_per_layer_input", 0):
        is_shown = is_picture | (ids == config.audio_token_id)  # (B, S)
        fresh = ids[:, seen:].masked_fill(is_shown[:, seen:], text.pad_token_id)  # (B, S - seen)
        told["per_layer_inputs"] = net.model.language_model.get_per_layer_inputs(fresh)
    return told


@lru_cache(256)
def _gemma4_size(size_hw: Size, budget: int, patch: int, pool: int) -> Size:
    side = patch * pool
    height, width = size_hw
    factor = math.sqrt(budget * pool**2 * patch**2 / (height * width))
    rows, columns = math.floor(factor * height / side), math.floor(factor * width / side)
    if rows == 0:  # thinner than one line of tokens
        rows, columns = 1, min(width // height, budget)
    elif columns == 0:
        rows, columns = min(height // width, budget), 1
    return rows * side, columns * side
