"""Florence-2's prompts, its way of writing an answer, and the places in it.

Source: Xiao et al., "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks" (CVPR 2024,
arXiv:2311.06242), and the processor that transformers publishes for florence-community/Florence-2-base.

The net reads picture and question with an encoder and writes with a decoder. Places are words of its vocabulary: of
1,000 columns and 1,000 rows, ``<loc_0>`` to ``<loc_999>``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, Florence2ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

BINS: Final = 1000
_BOX: Final = 4  # numbers of a box
_REPEATED: Final = 3  # tokens in a row that are not written twice: ``no_repeat_ngram_size`` of the published files

# What stands for each of the published task names. A question may be one of them, followed by what it is about where
# the sentence has a place for that.
TASKS: Final[Mapping[str, str]] = {
    "<OCR>": "What is the text in the image?",
    "<OCR_WITH_REGION>": "What is the text in the image, with regions?",
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
    "<OD>": "Locate the objects with category name in the image.",
    "<DENSE_REGION_CAPTION>": "Locate the objects in the image, with their descriptions.",
    "<REGION_PROPOSAL>": "Locate the region proposals in the image.",
    "<CAPTION_TO_PHRASE_GROUNDING>": "Locate the phrases in the caption: {}",
    "<REFERRING_EXPRESSION_SEGMENTATION>": "Locate {} in the image with mask",
    "<REGION_TO_SEGMENTATION>": "What is the polygon mask of region {}",
    "<OPEN_VOCABULARY_DETECTION>": "Locate {} in the image.",
    "<REGION_TO_CATEGORY>": "What is the region {}?",
    "<REGION_TO_DESCRIPTION>": "What does the region {} describe?",
    "<REGION_TO_OCR>": "What text is in the region {}?",
}


class Writer:
    """Answers to B prompts, a token each at a time, whatever becomes of them."""

    def __init__(self, net: Florence2ForConditionalGeneration, prompts: Sequence[Tensor]) -> None:
        """``prompts`` are embedded, (S, D) each; none is moved by how long the others are."""
        self._net: Any = net
        lengths = torch.tensor([len(one) for one in prompts], device=prompts[0].device)  # (B,)
        embeds = nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)  # (B, S, D)
        self._mask = (torch.arange(embeds.shape[1], device=embeds.device) < lengths[:, None]).long()  # (B, S)
        encoder = self._net.model.language_model.encoder
        self._read = BaseModelOutput(encoder(inputs_embeds=embeds, attention_mask=self._mask).last_hidden_state)
        config: Any = self._net.config.text_config
        self._cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))

    def logits(self, tokens: Tensor) -> Tensor:
        """The next tokens of each answer, int64 (B, T), to float32 (B, V): what may come after them."""
        told = self._net(
            encoder_outputs=self._read,
            attention_mask=self._mask,
            decoder_input_ids=tokens,
            cache=self._cache,
            use_cache=True,
        )
        rows: Tensor = told.logits[:, -1].float()  # (B, V)
        return rows


class Written:
    """What was written of one answer, and the tokens that would write three in a row a second time."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], list[int]] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        before = tuple(self._tokens[1 - _REPEATED :])
        if len(before) == _REPEATED - 1:
            self._after.setdefault(before, []).append(token)
        self._tokens.append(token)

    @property
    def banned(self) -> Sequence[int]:
        return self._after.get(tuple(self._tokens[1 - _REPEATED :]), [])


@dataclass(frozen=True, slots=True)
class Token:
    """Of an answer: ``text`` of a word, ``bin`` of a place, or a ``mark`` such as ``<poly>``; with its probability."""

    text: bytes = b""
    bin: int | None = None
    mark: str = ""
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Find:
    """A box in an answer: what was said before it, its four places, and how sure they were (the geometric mean of their
    probabilities; the model itself has no score)."""

    name: str
    bins: tuple[int, int, int, int]  # left, top, right, bottom
    score: float

    def xyxy(self, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """In pixels of a picture of that size: the middle of each column and row, as published, the corners in
        order."""
        sides = (size_hw[1], size_hw[0], size_hw[1], size_hw[0])
        left, top, right, bottom = ((at + 0.5) * side / BINS for at, side in zip(self.bins, sides, strict=True))
        return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


@dataclass(slots=True)
class _Heard:
    """What has been said since the last box."""

    name: bytes = b""
    places: list[Token] = field(default_factory=list)
    is_polygon: bool = False
    is_told: bool = False  # whether the name has had a box; words after that begin another

    def say(self, text: bytes) -> None:
        self.name = text if self.is_told else self.name + text
        self.is_told = False

    def finds(self) -> Iterator[Find]:
        """Boxes of four places each; a polygon is the box around it."""
        name = self.name.decode("utf-8", "replace").strip()
        if self.is_polygon:
            pairs = len(self.places) // 2 * 2
            across, down = self.places[0:pairs:2], self.places[1:pairs:2]
            if across:
                corners = [min(_bins(across)), min(_bins(down)), max(_bins(across)), max(_bins(down))]
                yield Find(name, (corners[0], corners[1], corners[2], corners[3]), _sure(self.places[:pairs]))
            return
        for start in range(0, len(self.places) - _BOX + 1, _BOX):
            four = self.places[start : start + _BOX]
            left, top, right, bottom = _bins(four)
            yield Find(name, (left, top, right, bottom), _sure(four))


def finds(tokens: Sequence[Token]) -> list[Find]:
    """The boxes of an answer, in its order. Boxes in a row are of what was said before the first of them; one before
    which nothing was said has an empty name."""
    found: list[Find] = []
    heard = _Heard()
    for token in tokens:
        if token.bin is not None:
            heard.places.append(token)
            continue
        if token.mark == "<sep>" and heard.is_polygon:
            continue  # a polygon in several parts
        if heard.places:
            found += heard.finds()
            heard = _Heard(heard.name, is_told=True)
        heard.is_polygon = token.mark == "<poly>"
        if not token.mark:
            heard.say(token.text)
    return [*found, *heard.finds()]


def _bins(places: Sequence[Token]) -> list[int]:
    return [one.bin for one in places if one.bin is not None]


def _sure(places: Sequence[Token]) -> float:
    return math.exp(sum(math.log(max(one.share, 1e-12)) for one in places) / len(places))
