"""EdgeTAM's net: transformers' own, with our RepViT in the place of timm's, so that timm is not needed.

Source: C. Zhou et al., "EdgeTAM: On-Device Track Anything Model" (CVPR 2025, arXiv:2501.07256), as coded in
github.com/facebookresearch/EdgeTAM. Tensors keep the names of transformers' checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, EdgeTamVisionConfig

from anmok.errors import BadWeights
from anmok.nets.repvit import M1, TINY, Config, RepVit

ARCHITECTURE = "repvit_m1"
_BY_WIDTHS = {config.widths[::-1]: config for config in (M1, TINY)}
# As in the authors' configuration ``edgetam.yaml``: as the first SAM 2, no time in pointers, no sign for what is out
# of sight.
PUBLISHED: Mapping[str, Any] = {
    "enable_temporal_pos_encoding_for_object_pointers": False,
    "enable_occlusion_spatial_embedding": False,
}
TINY_SIZE, _TINY_WIDTH = 64, 128  # twice the width of a memory, which is fixed
_TINY: Mapping[str, Any] = {
    "prompt_encoder_config": {"hidden_size": _TINY_WIDTH, "image_size": TINY_SIZE},
    "mask_decoder_config": {
        "hidden_size": _TINY_WIDTH,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
    "image_size": TINY_SIZE,
    "memory_attention_hidden_size": _TINY_WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_mlp_hidden_size": 64,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_attention_rope_k_sizes": [2, 2],
    "perceiver_resampler_num_latents": 4,
    "perceiver_resampler_num_latents_2d": 4,
    "perceiver_resampler_mlp_intermediate_size": 64,
    "memory_encoder_hidden_size": _TINY_WIDTH,
    "mask_downsampler_embed_dim": _TINY_WIDTH,
    "memory_fuser_num_layers": 1,
    "memory_fuser_embed_dim": _TINY_WIDTH,
    "memory_fuser_intermediate_dim": 64,
}


class Backbone(nn.Module):
    """Stands where transformers' wrapper of a timm model stands, under the same names."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.timm_model = RepVit(config)

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        maps = self.timm_model(pixel_values)
        return SimpleNamespace(last_hidden_state=maps, hidden_states=None, attentions=None)


class EdgeTam(EdgeTamVideoModel):  # type: ignore[no-untyped-call]
    """``EdgeTamVideoModel`` of a configuration that ``configured`` or ``tiny`` made."""

    def __init__(self, config: EdgeTamVideoConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        self.vision_encoder.backbone = Backbone(_BY_WIDTHS[tuple(vision.backbone_channel_list)])


def configured(content: Mapping[str, Any], name: str) -> EdgeTamVideoConfig:
    """What a published ``config.json`` says, but for the backbone, which is ours. ``name`` is the card's, for
    messages; without content, the authors' own values.

    Raises:
        BadWeights: it is the configuration of another net, or of one with another backbone.
    """
    if content and content.get("model_type") != EdgeTamVideoConfig.model_type:
        raise BadWeights(f"{name}: config.json is of a {content.get('model_type')!r}, not of an edgetam_video")
    backbone = content.get("vision_config", {}).get("backbone_config", {})
    architecture = backbone.get("architecture", ARCHITECTURE)
    if not architecture.startswith(ARCHITECTURE):
        raise BadWeights(f"{name}: the backbone is {architecture!r}; this version has {ARCHITECTURE} alone")
    values = {key: value for key, value in content.items() if key != "vision_config"} if content else dict(PUBLISHED)
    config: EdgeTamVideoConfig = EdgeTamVideoConfig.from_dict({**values, "vision_config": _vision(M1, 256, 1024)})
    return config


def tiny() -> EdgeTamVideoConfig:
    """The architecture at toy size."""
    return EdgeTamVideoConfig(vision_config=_vision(TINY, _TINY_WIDTH, TINY_SIZE), **_TINY, **PUBLISHED)


def _vision(config: Config, width: int, side: int) -> EdgeTamVisionConfig:
    # The library builds some backbone from this, which is then replaced: the cheapest that it has.
    placeholder = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "blocks_per_stage": [1, 1, 1, 1]}
    placeholder |= {"embed_dim_per_stage": [8, 8, 8, 8], "num_attention_heads_per_stage": [1, 1, 1, 1]}
    return EdgeTamVisionConfig(
        backbone_config={**placeholder, "global_attention_blocks": []},
        backbone_channel_list=list(config.widths[::-1]),
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=width,
    )
