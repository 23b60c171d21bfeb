"""Nets of the SAM 2 kind at toy size, as configurations, and what they are told to follow."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    EdgeTamVideoConfig,
    Sam2VideoConfig,
    Sam3TrackerVideoConfig,
)

from anmok.nets.sam2_frame import Cue
from golden.record_sam2 import given_mask

SIDE = 64

HEADS = {"hidden_size": 128, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
MEMORY = {
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": 128,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_num_layers": 1,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 64,
}
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 16,
    "image_size": [SIDE, SIDE],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [16, 32, 64, 128],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [8, 4, 4, 2],
    "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [4, 4],
}
VISION = {
    "model_type": "sam2_vision_model",
    "backbone_config": HIERA,
    "backbone_channel_list": [128, 64, 32, 16],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": 128,
}
PLAIN_VIT = {
    "model_type": "sam3_vit_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "pretrain_image_size": 28,
    "window_size": 2,
    "global_attn_indexes": [1],
}


def configured(kind: str, **changes: Any) -> Any:
    prompts = {"hidden_size": 128, "image_size": SIDE}
    if kind == "sam3":  # 14 pixels to a patch, of which masks are not a quarter
        vision = {"model_type": "sam3_vision_model", "fpn_hidden_size": 128, "backbone_config": PLAIN_VIT}
        prompts = {"hidden_size": 128, "image_size": 56, "patch_size": 14}
        sizes = {**MEMORY, "memory_attention_feed_forward_hidden_size": 64, "image_size": 56, **changes}
        return Sam3TrackerVideoConfig(
            vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=HEADS, **sizes
        )
    parts = {"vision_config": VISION, "prompt_encoder_config": prompts, "mask_decoder_config": HEADS}
    if kind == "sam2":
        sizes = {**MEMORY, "memory_attention_feed_forward_hidden_size": 64, "image_size": SIDE}
        return Sam2VideoConfig(**{**parts, **sizes, **changes})
    latents = {
        "memory_attention_mlp_hidden_size": 64,
        "memory_attention_rope_k_sizes": [2, 2],
        "perceiver_resampler_num_latents": 4,
        "perceiver_resampler_num_latents_2d": 4,
        "perceiver_resampler_mlp_intermediate_size": 64,
    }
    return EdgeTamVideoConfig(**{**parts, **MEMORY, **latents, "image_size": SIDE, **changes})


def as_cue(said: Any) -> Cue:
    """One thing pointed at, as the recordings of the authors' answers name it."""
    if said == "mask":
        return Cue(1, mask=torch.from_numpy(given_mask()))
    kind, places, labels = said
    if kind == "box":
        return Cue(1, box=torch.tensor(places).flatten())
    return Cue(1, points=torch.tensor(places), labels=torch.tensor(labels))
