"""Configurations of well-known vision towers, for checkpoints that have the tower and of its configuration the name
alone. Figures: the ``config.json`` of each on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# openai/clip-vit-large-patch14-336
CLIP_L14_336: Final[Mapping[str, Any]] = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
CLIP_L14: Final[Mapping[str, Any]] = {**CLIP_L14_336, "image_size": 224}  # openai/clip-vit-large-patch14
# google/siglip-so400m-patch14-384 and google/siglip2-so400m-patch14-384
SO400M: Final[Mapping[str, Any]] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
