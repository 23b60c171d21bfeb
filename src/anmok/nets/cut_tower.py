"""Towers of CLIP and SigLIP that end where a language model looks into them.

Connectors read the states of a layer before the last. What comes after it, later layers, the last norm and SigLIP's
head, is neither computed nor kept; the norm stands there as one that does nothing. The towers are transformers'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from anmok.errors import BadWeights
from anmok.nets.pretrained import configured

Tower = CLIPVisionModel | SiglipVisionModel
TowerConfig = CLIPVisionConfig | SiglipVisionConfig

_KINDS: Final[Mapping[str, tuple[type[Tower], type[TowerConfig]]]] = {
    "clip_vision_model": (CLIPVisionModel, CLIPVisionConfig),
    "siglip_vision_model": (SiglipVisionModel, SiglipVisionConfig),
}
_LAYER: Final = re.compile(r"^encoder\.layers\.(\d+)\.")


def cut_config(content: Mapping[str, Any], layer: int, name: str) -> TowerConfig:
    """The configuration of a tower that ends after ``layer``, counted as ``hidden_states`` are: 0 is what enters the
    first layer, -1 what leaves the last.

    Args:
        content: the tower's part of a ``config.json``.
        layer: which states are read.
        name: of the card, for messages.

    Raises:
        BadWeights: another sort of tower, or a layer that it does not have.
    """
    if (kind := content.get("model_type")) not in _KINDS:
        raise BadWeights(f"{name}: its vision tower is a {kind!r}; want one of {', '.join(_KINDS)}")
    config = configured(_KINDS[str(kind)][1], content, name)
    depth = int(config.num_hidden_layers)
    kept = layer if layer >= 0 else depth + 1 + layer
    if not 0 < kept <= depth:
        raise BadWeights(f"{name}: layer {layer} of a vision tower that has {depth}")
    config.num_hidden_layers = kept
    config.vision_use_head = False
    return config


def tower_class(config: TowerConfig) -> type[Tower]:
    """The class that such a configuration is for."""
    return _KINDS[config.model_type][0]


def cut_state(state: Mapping[str, Tensor], config: TowerConfig) -> dict[str, Tensor]:
    """Of a whole tower's tensors those that the cut one has. Older checkpoints have ``vision_model.`` before all names,
    and numbers of places among the tensors, which are computed now."""
    kept: dict[str, Tensor] = {}
    for key, tensor in state.items():
        short = key.removeprefix("vision_model.")
        layer = _LAYER.match(short)
        is_later = layer is not None and int(layer[1]) >= config.num_hidden_layers
        if not (is_later or short.startswith(("head.", "post_layernorm.")) or short == "embeddings.position_ids"):
            kept[short] = tensor
    plain = torch.ones(config.hidden_size), torch.zeros(config.hidden_size)
    return kept | dict(zip(("post_layernorm.weight", "post_layernorm.bias"), plain, strict=True))


def patches(tower: Tower, pixels: Tensor) -> Tensor:
    """Pictures (B, 3, h, w) to the states (B, N, C) of their patches after the last layer, before any norm; CLIP's
    class token is left out."""
    states = tower.embeddings(pixels.to(tower.dtype))  # (B, N, C), CLIP (B, 1 + N, C)
    if isinstance(tower, CLIPVisionModel):
        states = tower.pre_layrnorm(states)
    seen: Tensor = tower.encoder(inputs_embeds=states).last_hidden_state
    return seen[:, 1:] if isinstance(tower, CLIPVisionModel) else seen  # (B, N, C)
