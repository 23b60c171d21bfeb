"""LLaVA-OneVision 1.5, which transformers does not have: Qwen3 behind a tower of ours.

Source: An et al., "LLaVA-OneVision-1.5: Fully Open Framework for Democratized Multimodal Training" (2025,
arXiv:2509.23661), and the code that lmms-lab publishes with its weights. Pictures are brought to size as Qwen2-VL's
are; a token has one position, as in a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from anmok.errors import BadWeights
from anmok.nets.eyes import Size
from anmok.nets.eyes.qwen import QwenRules, patched, smart_size
from anmok.nets.families import Family, Own
from anmok.nets.own_families import Pair
from anmok.nets.pretrained import configured, fill, filled
from anmok.nets.readings import Whole
from anmok.nets.rice import Rice, Sizes

Content = Mapping[str, Any]
State = Mapping[str, Tensor]

IMAGE_TOKEN: Final = "<|image_pad|>"
# Of the tower and the reader, as the first revisions have it and as later ones.
_SIGHTS: Final = ("model.visual.", "visual.")
_READERS: Final = ("model.language_model.", "model.")


class Eyes:
    """A picture as it is, in patches of which each 2 x 2 become one token."""

    def __init__(self, sight: Rice, facts: Content) -> None:
        self._sight = sight
        told = {"patch_size": sight.sizes.patch, "merge_size": sight.sizes.merge, **facts, "temporal_patch_size": 1}
        self._rules = QwenRules.of(told)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3), resized: float32 (3, h, w).

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        return self._rules.prepared(image)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, N, D)."""
        rows, columns = (side // self._rules.patch for side in batch.shape[-2:])
        patches = patched(batch[:, None], self._rules).reshape(len(batch), rows * columns, -1)  # (B, P, F)
        seen: Tensor = self._sight(patches, rows, columns)
        return seen

    def slot(self, size_hw: Size) -> str:
        height, width = smart_size(size_hw, self._rules)
        return IMAGE_TOKEN * (height * width // (self._rules.patch * self._rules.merge) ** 2)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


def parted(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint in two: what the tower is filled with, and the reader under the names of transformers'
    ``Qwen3ForCausalLM``, where what belongs to neither is left over."""
    seeing: dict[str, Tensor] = {}
    reading: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix = next((one for one in _SIGHTS if name.startswith(one)), None)
        if prefix is not None:
            seeing[name.removeprefix(prefix)] = tensor
        else:
            prefix = next((one for one in _READERS if name.startswith(one)), "")
            reading[f"model.{name.removeprefix(prefix)}" if prefix else name] = tensor
    return seeing, reading


def _sizes(content: Content, text: Any) -> Sizes:
    return Sizes.of({"text_hidden_size": text.hidden_size, **content["vision_config"]})


def _text(content: Content, name: str) -> Qwen3Config:
    """Raises:
    KeyError: it lacks the reader."""
    tied = {"tie_word_embeddings": content["tie_word_embeddings"]} if "tie_word_embeddings" in content else {}
    return configured(Qwen3Config, {**tied, **content["text_config"], "model_type": "qwen3"}, name)


def _made(content: Content) -> nn.Module:
    text = _text(content, "random")
    return Pair(Rice(_sizes(content, text)), Qwen3ForCausalLM(text), content)


def _filled(content: Content, state: State, dtype: torch.dtype, name: str) -> nn.Module:
    try:
        text = _text(content, name)
        sizes = _sizes(content, text)
    except KeyError as error:
        raise BadWeights(f"{name}: config.json lacks {error}") from None
    seeing, reading = parted(state)
    with torch.device("meta"):
        sight = Rice(sizes)
    fill(sight, seeing, dtype, name)
    return Pair(sight, filled(Qwen3ForCausalLM, text, reading, dtype, name), content).eval()


def _toy(words: int, end: int) -> tuple[Content, Content]:
    """``config.json`` and ``preprocessor_config.json`` of a net that knows so many words."""
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": words,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": end,
    }
    vision = {"hidden_size": 16, "intermediate_size": 24, "depth": 2, "num_heads": 2, "patch_size": 4}
    content = {"model_type": "llavaonevision1_5", "text_config": text, "vision_config": vision}
    return content, {"size": {"shortest_edge": 64, "longest_edge": 2304}}


def _reads(net: nn.Module, eyes: Any) -> Whole:
    return Whole(net)


def _eyes(net: Any, facts: Content) -> Eyes:
    return Eyes(net.sight, facts)


ONEVISION15: Final = Family(
    "",
    _reads,
    _eyes,
    image=IMAGE_TOKEN,
    video="<|video_pad|>",
    marks=(IMAGE_TOKEN,),
    ends=("<|im_end|>",),
    most_pictures=8,
    own=Own(_made, _filled, _toy),
)
