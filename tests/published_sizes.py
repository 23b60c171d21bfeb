"""The nets of the catalogue at their published sizes: config.json of each repository, and the tables of the papers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from published_detectors import published_detector


def clip(vision: Mapping[str, Any], text: Mapping[str, Any], dimension: int) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        vision_config={**vision, "projection_dim": dimension},
        text_config={"num_hidden_layers": 12, **text, "projection_dim": dimension},
        projection_dim=dimension,
    )
    return CLIPModel(config)


def transformer(width: int, depth: int, heads: int, hidden: int = 0) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": hidden or 4 * width,
    }


def clip_vit(kind: str) -> nn.Module:
    size = 336 if kind.endswith("336") else 224
    width, depth, heads = {"b": (768, 12, 12), "l": (1024, 24, 16), "h": (1280, 32, 16)}[kind[4]]
    text = {"b": transformer(512, 12, 8), "l": transformer(768, 12, 12), "h": transformer(1024, 24, 16)}[kind[4]]
    patch = int(kind.split("-")[1][1:])
    vision = {**transformer(width, depth, heads), "patch_size": patch, "image_size": size}
    return clip(vision, text, {"b": 512, "l": 768, "h": 1024}[kind[4]])


def clip_resnet(kind: str) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from anmok.nets import clip_resnet as net

    depths, dimension = {"resnet-50": ((3, 4, 6, 3), 1024), "resnet-101": ((3, 4, 23, 3), 512)}[kind]
    vision = net.ClipResNet(net.Config(depths, 64, 224, dimension))
    text = CLIPTextModelWithProjection(CLIPTextConfig(**transformer(512, 12, 8), projection_dim=dimension))
    return nn.ModuleList([vision, text, nn.ParameterList([torch.zeros(())])])  # and the temperature


def siglip(vocabulary: int) -> Callable[[str], nn.Module]:
    def build(kind: str) -> nn.Module:
        from transformers import SiglipConfig, SiglipModel

        _, variant, size = kind.split("-")
        letter, patch = re.fullmatch(r"(b|l|so400m)(\d+)", variant).groups()  # type: ignore[union-attr]
        both = {
            "b": transformer(768, 12, 12),
            "l": transformer(1024, 24, 16),
            "so400m": transformer(1152, 27, 16, 4304),
        }[letter]
        context = 16 if (vocabulary, variant, size) == (32_000, "so400m14", "224") else 64
        config = SiglipConfig(
            text_config={**both, "vocab_size": vocabulary, "max_position_embeddings": context},
            vision_config={**both, "patch_size": int(patch), "image_size": int(size)},
        )
        return SiglipModel(config)

    return build


def dinov2(kind: str) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    width, depth, heads = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}[kind[-3]]
    sizes: dict[str, Any] = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    sizes |= {"image_size": 518, "patch_size": 14, "use_swiglu_ffn": kind[-3] == "g"}
    if kind.startswith("dinov2_with_registers"):
        return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=4))
    return Dinov2Model(Dinov2Config(**sizes))


def backbone(kind: str) -> nn.Module:
    from anmok.models.backbone import NETS

    found = NETS[kind.partition("-")[0]]
    sizes: dict[str, dict[str, Any]] = {
        "vit-ti16": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
        "resnet-18": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
        "mobilevit-s": {},  # the library's own default
    }
    return found.net(found.config(**sizes[kind], num_labels=1000))


def depth_anything(kind: str) -> nn.Module:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    width, depth, heads, fused = {"s": (384, 12, 6, 64), "b": (768, 12, 12, 128), "l": (1024, 24, 16, 256)}[kind[-1]]
    levels = {"s": [48, 96, 192, 384], "b": [96, 192, 384, 768], "l": [256, 512, 1024, 1024]}[kind[-1]]
    taps = [5, 12, 18, 24] if depth == 24 else [3, 6, 9, 12]
    backbone = {**transformer(width, depth, heads), "model_type": "dinov2", "image_size": 518, "patch_size": 14}
    config = DepthAnythingConfig(
        backbone_config={**backbone, "out_indices": taps, "reshape_hidden_states": False},
        reassemble_hidden_size=width,
        neck_hidden_sizes=levels,
        fusion_hidden_size=fused,
    )
    return DepthAnythingForDepthEstimation(config)


def depth_anything3(kind: str) -> nn.Module:
    from anmok.nets.depth_anything3 import PUBLISHED, AnyView, AnyViewConfig, OneView

    config = PUBLISHED[kind]
    return AnyView(config) if isinstance(config, AnyViewConfig) else OneView(config)


def sapiens_v1(kind: str) -> nn.Module:
    from anmok.nets import sapiens

    return sapiens.Sapiens(sapiens.published(*kind.split("-")))


def sapiens2(kind: str) -> nn.Module:
    """The configurations of facebookresearch/sapiens2 at 3098c14, sapiens/{dense,pose}/configs."""
    from transformers import Sapiens2Config

    from anmok.models.sapiens2 import NETS

    head, size = kind.split("-")
    width, depth, heads = {"0.4b": (1024, 24, 16), "0.8b": (1280, 32, 16), "1b": (1536, 40, 24)}[size]
    large = size == "1b"
    shuffled = {
        "use_pixel_shuffle": True,
        "upsample_kernel_size": 3,
        "conv_out_channels": [64, 32, 16],
        "conv_kernel_size": 3,
    }
    scaled = {"scale_conv_out_channels": [1536, 512, 128], "scale_final_hidden_sizes": [512, 128]}
    plain = {"upsample_out_channels": [768, 512, 256, 128], **shuffled}
    heads_of: dict[str, tuple[int, dict[str, Any]]] = {
        "pose": (
            308,
            {
                "upsample_out_channels": [1536, 1024] if large else [1024, 768],
                "conv_out_channels": [768, 512, 256] if large else [512, 512, 256],
            },
        ),
        "parts": (29, {"upsample_out_channels": [512, 256, 128, 64], "conv_out_channels": [64, 64]}),
        "normals": (3, plain),
        "pointmap": (3, {"upsample_out_channels": [1536, 768, 512, 256], **shuffled, **scaled}),
        "matting": (4, plain),  # not in that repository: taken to be as the head for normals
    }
    labels, content = heads_of[head]
    sizes = {**transformer(width, depth, heads), "num_key_value_attention_heads": heads // 2, "image_size": [1024, 768]}
    return NETS[head](Sapiens2Config(**sizes, num_labels=labels, head_config=content))


def vitpose(kind: str) -> nn.Module:
    from transformers import VitPoseConfig, VitPoseForPoseEstimation

    decoder, size = kind.split("-")
    width, depth, heads, part = {
        "s": (384, 12, 12, 96),
        "b": (768, 12, 12, 192),
        "l": (1024, 24, 16, 256),
        "h": (1280, 32, 16, 320),
    }[size]
    backbone = {
        "model_type": "vitpose_backbone",
        "image_size": [256, 192],
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "out_indices": [depth],
        "num_experts": 6 if decoder == "plus" else 1,
        "part_features": part,
    }
    return VitPoseForPoseEstimation(
        VitPoseConfig(num_labels=17, use_simple_decoder=decoder == "simple", backbone_config=backbone)
    )


def sam2(kind: str) -> nn.Module:
    from transformers import Sam2VideoModel

    from anmok.models.sam2 import authored

    return Sam2VideoModel(authored(kind))


def sam(kind: str) -> nn.Module:
    from transformers import SamConfig, SamModel

    from anmok.models.sam import VISION

    return SamModel(SamConfig(vision_config=dict(VISION[kind])))


def sam3(kind: str) -> nn.Module:
    from transformers import Sam3VideoConfig

    from anmok.nets import sam3_video

    return sam3_video.Net(Sam3VideoConfig())


def moondream(kind: str) -> nn.Module:
    from anmok.nets import moondream as net

    return net.Moondream(net.PUBLISHED[kind.removeprefix("bundle-").partition("-")[0]])


def edgetam(kind: str) -> nn.Module:
    from anmok.nets import edgetam as net

    return net.EdgeTam(net.configured({}, kind))


def florence2(kind: str) -> nn.Module:
    """The published configurations, whose tables of words transformers' converter fills up to a multiple of 64."""
    from transformers import Florence2Config, Florence2ForConditionalGeneration

    width, depth, heads, context = {"base": (768, 6, 12, 1024), "large": (1024, 12, 16, 4096)}[kind.partition("-")[2]]
    tower: dict[str, Any] = {"projection_dim": width}
    if depth == 12:
        tower |= {"embed_dim": [256, 512, 1024, 2048], "num_heads": [8, 16, 32, 64], "num_groups": [8, 16, 32, 64]}
    sides = {"layers": depth, "attention_heads": heads, "ffn_dim": 4 * width}
    text = {f"{side}_{name}": value for name, value in sides.items() for side in ("encoder", "decoder")}
    text |= {"model_type": "bart", "vocab_size": 51_328, "d_model": width, "max_position_embeddings": context}
    return Florence2ForConditionalGeneration(Florence2Config(text_config=text, vision_config=tower))


def dinov3(kind: str) -> nn.Module:
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel, DINOv3ViTConfig, DINOv3ViTModel

    architecture, variant = kind.split("-")
    if architecture == "dinov3_convnext":
        depths = [3, 3, 9, 3] if variant == "tiny" else [3, 3, 27, 3]
        first = {"tiny": 96, "small": 96, "base": 128, "large": 192}[variant]
        return DINOv3ConvNextModel(DINOv3ConvNextConfig(depths=depths, hidden_sizes=[first * 2**i for i in range(4)]))
    sizes = {
        "s16": transformer(384, 12, 6),
        "s16plus": transformer(384, 12, 6),
        "b16": transformer(768, 12, 12),
        "l16": transformer(1024, 24, 16),
        "h16plus": transformer(1280, 32, 20),
    }[variant]
    gated = variant.endswith("plus")
    return DINOv3ViTModel(DINOv3ViTConfig(**sizes, num_register_tokens=4, use_gated_mlp=gated))


NETS: Mapping[str, Callable[[str], nn.Module]] = {
    "clip": lambda kind: clip_resnet(kind) if kind.startswith("resnet") else clip_vit(kind),
    "openclip": clip_vit,
    "siglip": siglip(32_000),
    "siglip2": siglip(256_000),
    "dinov2": dinov2,
    "dinov3": dinov3,
    **dict.fromkeys(("vit", "resnet", "mobilevit"), backbone),
    "depth-anything-v2": depth_anything,
    "depth-anything-3": depth_anything3,
    "sapiens": sapiens_v1,
    "sapiens2": sapiens2,
    "vitpose": vitpose,
    "sam2": sam2,
    "moondream": moondream,
    "edgetam": edgetam,
    "sam": sam,
    "sam3": sam3,
    "florence2": florence2,
    **dict.fromkeys(("grounding-dino", "mm-grounding-dino", "owlv2", "rtdetr", "dfine", "rfdetr"), published_detector),
}
