"""Pictures of all shapes, a tokenizer of bytes and tiny random nets, for the tests of eyes."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

N = TypeVar("N", bound=nn.Module)

# Squares, odd sides, one pixel, strips, a panorama, and 20 megapixels.
SIZES_HW = ((64, 64), (61, 83), (333, 500), (1, 1), (2, 3), (7, 1), (30, 400), (900, 123), (3648, 5472))
SMALL_HW = ((16, 16), (9, 31), (40, 13), (1, 1), (3, 150))

CLIP_TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "projection_dim": 16,
}
SIGLIP_TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 20,
    "patch_size": 4,
    "vision_use_head": False,
}
READER = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 320,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA: dict[str, Any] = {**READER, "model_type": "llama"}
QWEN2: dict[str, Any] = {**READER, "model_type": "qwen2"}


@functools.cache
def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Ramps, noise and bars (H, W, 3): what filters disagree on."""
    rng = np.random.default_rng(sum(size_hw))
    height, width = size_hw
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 256
    noise = rng.integers(0, 256, (height, width), np.uint8)
    bars = np.where(np.arange(width) // 5 % 2 == 0, 255, 0)[None].repeat(height, 0)
    return np.stack([ramp, noise, bars], -1).astype(np.uint8)


def by_processor(processor: Any, size_hw: tuple[int, int]) -> Any:
    """What a processor of transformers makes of the picture. It is given one of Pillow's, since an array of one or
    three pixels may lie either way."""
    return processor(pillow.fromarray(picture(size_hw)), return_tensors="np")


def alive(net: N, seed: int = 0) -> N:
    """Ready for inference, with all parameters random and so wide that patches, places and lines are told apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.3, generator=generator)
    return nn.Module.eval(net)


def reads(*special: str, **named: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with special tokens."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    trained = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.add_special_tokens([*special, *named.values()])
    return PreTrainedTokenizerFast(tokenizer_object=trained, extra_special_tokens=named)
