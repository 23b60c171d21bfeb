"""The authors' names of SAM 2's and EdgeTAM's tensors, in the words of transformers.

Their checkpoints (github.com/facebookresearch/sam2 and EdgeTAM; one file ``{"model": tensors}``) and transformers'
video nets hold the same tensors under other names. Three are not one to one: the four embeddings of points are one
table, the matrix that turns places into waves is stored twice, and EdgeTAM's keys and values are apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# In this order; each pattern once.
TABLE: tuple[tuple[str, str], ...] = (
    (r"^image_encoder\.trunk\.body\.", "vision_encoder.backbone.timm_model."),
    (r"^spatial_perceiver\.latents$", "spatial_perceiver.latents_1d"),
    (r"\.attn\.norm_x\.", ".layer_norm_input."),
    (r"\.attn\.norm_latents\.", ".layer_norm_latents."),
    (r"\.self_attn\.norm\.", ".layer_norm_self."),
    (r"\.attn\.to_(q|kv|out)\.", r".cross_attention.\1_proj."),
    (r"\.self_attn\.to_(q|kv|out)\.", r".self_attention.\1_proj."),
    (r"\.(self_)?ff\.0\.", r".\1mlp.layer_norm."),
    (r"\.(self_)?ff\.1\.", r".\1mlp.up_proj."),
    (r"\.(self_)?ff\.3\.", r".\1mlp.down_proj."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    # Two layers in a block of a transformer or of the trunk; three in a head, and in the pointer's.
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"(hypernetworks_mlps\.\d|_head|object_pointer_proj)\.layers\.0\.", r"\1.proj_in."),
    (r"(hypernetworks_mlps\.\d|_head|object_pointer_proj)\.layers\.1\.", r"\1.layers.0."),
    (r"(hypernetworks_mlps\.\d|_head|object_pointer_proj)\.layers\.2\.", r"\1.proj_out."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
)
# Of EdgeTAM, which has the same tensors there under names of its own in transformers.
EDGE_TABLE: tuple[tuple[str, str], ...] = (
    (r"^(memory_attention\.layers\.\d+)\.linear1\.", r"\1.mlp.up_proj."),
    (r"^(memory_attention\.layers\.\d+)\.linear2\.", r"\1.mlp.down_proj."),
)
_BOTH = ".kv_proj.weight"
_WAVES = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_WAVES_HOMES = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
_POINT = re.compile(r"^prompt_encoder\.point_embeddings\.(\d)\.weight$")
_DOWN = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(weight|bias)$")
_DOWN_STEP = 3  # convolution, norm, activation


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict, without ``{"model": ...}`` around it, under the names of ``Sam2VideoModel`` or
    ``EdgeTamVideoModel``.

    A state dict that has these names already comes back as it is. What no rule knows keeps its name, so that the
    loader reports it.
    """
    if not any(name.startswith("image_encoder.") for name in state):
        return dict(state)
    is_edge = any(name.startswith("spatial_perceiver.") for name in state)
    table = (*EDGE_TABLE, *TABLE) if is_edge else TABLE
    renamed: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    deepest = max((int(found[1]) for name in state if (found := _DOWN.match(name))), default=0)
    for name, tensor in state.items():
        for old, new in table:
            name = re.sub(old, new, name)
        if found := _POINT.match(name):
            points[int(found[1])] = tensor
        elif found := _DOWN.match(name):
            renamed[_down(int(found[1]), deepest, found[2])] = tensor
        elif name.endswith(_BOTH):
            stem = name.removesuffix(_BOTH)
            renamed[f"{stem}.k_proj.weight"], renamed[f"{stem}.v_proj.weight"] = tensor.chunk(2)  # (C, D) each
        elif name == _WAVES:
            renamed.update(dict.fromkeys(_WAVES_HOMES, tensor))
        else:
            renamed[name] = tensor
    if points:
        renamed["prompt_encoder.point_embed.weight"] = torch.cat([points[i] for i in sorted(points)])  # (4, C)
    return renamed


def _down(index: int, deepest: int, kind: str) -> str:
    """A layer of the net that shrinks masks; the deepest is a convolution by itself."""
    if index == deepest:
        return f"memory_encoder.mask_downsampler.final_conv.{kind}"
    layer, part = divmod(index, _DOWN_STEP)
    return f"memory_encoder.mask_downsampler.layers.{layer}.{('conv', 'layer_norm')[part]}.{kind}"
