"""The published sizes of the detectors, for counting their parameters: each repository's own configurations.

Grounding DINO: groundingdino/config of IDEA-Research/GroundingDINO; MM-Grounding-DINO: configs/mm_grounding_dino of
mmdetection; OWLv2: the paper's table of sizes; RT-DETR v2: the defaults of transformers, and its paper's table; D-FINE:
configs/dfine and hgnetv2.py of Peterande/D-FINE (4a1f73a); RF-DETR: rfdetr/config.py of roboflow/rf-detr (35ac6ab).
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    RfDetrConfig,
    RfDetrForObjectDetection,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

_SWIN_B = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12, "image_size": 384}
_SWIN_L = {**_SWIN_B, "embed_dim": 192, "num_heads": [6, 12, 24, 48]}
_SWINS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "base": {"backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4], **_SWIN_B}},
    "large": {"backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4], **_SWIN_L}},
}
_WIDE = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_BASIC = {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
_NARROW = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
_R101 = {"encoder_hidden_dim": 384, "encoder_ffn_dim": 2048, "decoder_in_channels": [384, 384, 384]}
_RESNETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "r18": ({**_BASIC, "depths": [2, 2, 2, 2]}, {**_NARROW, "decoder_layers": 3}),
    "r34": ({**_BASIC, "depths": [3, 4, 6, 3]}, {**_NARROW, "decoder_layers": 4}),
    "r50": ({}, {}),
    "r101": ({"depths": [3, 4, 23, 3]}, _R101),
}
# HGNetV2 by name: channels of the stem, of the middle and the end of each stage, blocks of each, layers of a block.
_HGNETS: dict[str, tuple[list[int], list[int], list[int], list[int], int]] = {
    "B0": ([3, 16, 16], [16, 32, 64, 128], [64, 256, 512, 1024], [1, 1, 2, 1], 3),
    "B2": ([3, 24, 32], [32, 64, 128, 256], [96, 384, 768, 1536], [1, 1, 3, 1], 4),
    "B4": ([3, 32, 48], [48, 96, 192, 384], [128, 512, 1024, 2048], [1, 1, 3, 1], 6),
    "B5": ([3, 32, 64], [64, 128, 256, 512], [128, 512, 1024, 2048], [1, 2, 5, 2], 6),
}
_TWO_LEVELS = {
    "feat_strides": [16, 32],
    "encode_proj_layers": [1],
    "num_feature_levels": 2,
    "decoder_n_points": [6, 6],
    "encoder_hidden_dim": 128,
    "encoder_ffn_dim": 512,
    "decoder_in_channels": [128, 128],
    "d_model": 128,
    "decoder_ffn_dim": 512,
}
_DFINES: dict[str, tuple[str, dict[str, Any]]] = {
    "n": ("B0", {**_TWO_LEVELS, "hidden_expansion": 0.34, "depth_mult": 0.5, "decoder_layers": 3}),
    "s": ("B0", {"hidden_expansion": 0.5, "depth_mult": 0.34, "decoder_layers": 3}),
    "m": ("B2", {"depth_mult": 0.67, "decoder_layers": 4}),
    "l": ("B4", {}),
    "x": ("B5", {**_R101, "reg_scale": 8.0}),
}
# Patch, windows, places of a side, taps, layers of the decoder.
_RFDETRS: dict[str, tuple[int, int, int, list[int], int]] = {
    "nano": (16, 2, 24, [3, 6, 9, 12], 2),
    "small": (16, 2, 32, [3, 6, 9, 12], 3),
    "base": (14, 4, 37, [2, 5, 8, 11], 3),
}


def published_detector(kind: str) -> nn.Module:
    """The net of a card's kind, in the dtype and on the device that torch is set to."""
    architecture, _, size = kind.partition("-")
    builders: dict[str, Any] = {
        "grounding_dino": lambda: GroundingDinoForObjectDetection(GroundingDinoConfig(**_SWINS[size])),
        "mm_grounding_dino": lambda: MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**_SWINS[size])),
        "vit": lambda: Owlv2ForObjectDetection(_owlv2(size)),
        "rt_detr_v2": lambda: RTDetrV2ForObjectDetection(_rtdetr(size)),
        "d_fine": lambda: DFineForObjectDetection(_dfine(size)),
        "rf_detr": lambda: RfDetrForObjectDetection(_rfdetr(size)),
    }
    net: nn.Module = builders[architecture]()
    return net


def _owlv2(size: str) -> Owlv2Config:
    if size == "b16":
        return Owlv2Config(vision_config={"image_size": 960})
    vision = {**_VIT_L, "image_size": 1008, "patch_size": 14}
    return Owlv2Config(projection_dim=768, text_config=_WIDE, vision_config=vision)


def _rtdetr(size: str) -> RTDetrV2Config:
    resnet, rest = _RESNETS[size]
    backbone = {"model_type": "rt_detr_resnet", "out_indices": [2, 3, 4], **resnet}
    return RTDetrV2Config(**{"num_labels": 80, "backbone_config": backbone, **rest})


def _dfine(size: str) -> DFineConfig:
    name, rest = _DFINES[size]
    stem, middle, ends, blocks, layers = _HGNETS[name]
    backbone = {
        "model_type": "hgnet_v2",
        "out_indices": [3, 4] if size == "n" else [2, 3, 4],
        "stem_channels": stem,
        "stage_in_channels": [stem[-1], *ends[:-1]],
        "stage_mid_channels": middle,
        "stage_out_channels": ends,
        "stage_num_blocks": blocks,
        "stage_numb_of_layers": [layers] * 4,
        "hidden_sizes": ends,
        "use_learnable_affine_block": name in ("B0", "B2"),
    }
    settings = {"decoder_n_points": [3, 6, 3], "encoder_in_channels": ends[2:] if size == "n" else ends[1:], **rest}
    return DFineConfig(**{"num_labels": 80, "backbone_config": backbone, **settings})


def _rfdetr(size: str) -> RfDetrConfig:
    patch, windows, places, taps, layers = _RFDETRS[size]
    vit = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "out_indices": taps}
    vit |= {"image_size": patch * places, "patch_size": patch, "num_windows": windows}
    settings = {"num_labels": 91, "decoder_n_points": 2, "decoder_layers": layers}
    return RfDetrConfig(**{**settings, "backbone_config": {"model_type": "rf_detr_dinov2", **vit}})
