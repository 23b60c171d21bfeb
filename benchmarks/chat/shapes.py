"""A SmolVLM-256M of random weights: the published shape, which is all that time depends on.

Source: HuggingFaceTB/SmolVLM-256M-Instruct, config.json. Its language model has the shape of SmolLM2-135M.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

VLM = "smolvlm-256m"
IMAGE = 49190  # the token in whose place a picture's rows stand
ROWS = 64  # that stand for a tile
SIDE = 512  # pixels of a tile


def smolvlm() -> Any:
    """The net, with the same weights each time."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    text = {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49280,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": SIDE,
        "patch_size": 16,
    }
    torch.manual_seed(0)
    config = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=4, image_token_id=IMAGE)
    return SmolVLMForConditionalGeneration(config).eval()


def picture(tiles: int) -> Tensor:
    """float32 (1, tiles, 3, 512, 512) of a picture that is as good as any."""
    return torch.rand(1, tiles, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def mask(tiles: int) -> Tensor:
    """bool (1, tiles, 512, 512): no pixel is padding."""
    return torch.ones(1, tiles, SIDE, SIDE, dtype=torch.bool)


class Sight:
    """Puts a picture's rows into a prompt. The tower is computed anew each time, as for a first question."""

    def __init__(self, net: Any, *, is_exact: bool) -> None:
        from anmok.nets.lean import lay_out_senses
        from anmok.nets.lean_weights import lay_out

        self._net = net
        if is_exact:
            lay_out(net.model.vision_model)
            lay_out(net.model.connector)
        else:
            lay_out_senses(net)

    @torch.inference_mode()
    def put(self, rows: Tensor, ids: Tensor) -> Tensor:
        """Embedded ids (T, W), those of the picture replaced."""
        tiles = int((ids == IMAGE).sum()) // ROWS
        seen = self._net.get_image_features(picture(tiles), mask(tiles)).pooler_output
        rows = rows.clone()
        rows[ids == IMAGE] = torch.cat(list(seen))
        return rows
