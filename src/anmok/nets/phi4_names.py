"""Phi-4-multimodal in its authors' layout (microsoft/Phi-4-multimodal-instruct, ``phi4mm``), as transformers'
``Phi4MultimodalForCausalLM`` has it: the names of the tensors and the configuration.

Its ``config.json`` does not describe the tower, which its code makes of fixed sizes. Two adapters lie among the
weights (``layer.lora_A.vision.weight``); ``adapters_in.parted`` takes them apart, and the one that is wanted is added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from anmok.errors import BadWeights

Content = Mapping[str, Any]

_EXTEND: Final = "model.embed_tokens_extend."
_BLOCK: Final = rf"^({re.escape(_EXTEND)}audio_embed\.encoder\.encoders\.\d+)"
_SOUND: Final = rf"^{re.escape(_EXTEND)}audio_embed\.audio_projection"
_SIGHT: Final = rf"^{re.escape(_EXTEND)}image_embed"
# One of them a name at most.
PHI4_TABLE: Final[tuple[tuple[str, str], ...]] = (
    (rf"{_BLOCK}\.feed_forward_(in|out)\.net\.0\.linear\.", r"\1.feed_forward_\2.gate_up_proj."),
    (rf"{_BLOCK}\.feed_forward_(in|out)\.net\.2\.", r"\1.feed_forward_\2.down_proj."),
    (rf"{_BLOCK}\.self_attn\.linear_(q|k|v)\.", r"\1.self_attn.\2_proj."),
    (rf"{_BLOCK}\.self_attn\.linear_out\.", r"\1.self_attn.o_proj."),
    (rf"{_SIGHT}\.img_projection\.0\.", f"{_EXTEND}image_embed.img_projection_up."),
    (rf"{_SIGHT}\.img_projection\.2\.", f"{_EXTEND}image_embed.img_projection_down."),
    (rf"{_SIGHT}\.glb_GN$", f"{_EXTEND}image_embed.global_img_feature_extensor"),
    (rf"{_SIGHT}\.sub_GN$", f"{_EXTEND}image_embed.sub_img_feature_extensor"),
    (rf"{_SOUND}\.speech\.0\.", f"{_EXTEND}audio_embed.up_proj_for_speech."),
    (rf"{_SOUND}\.speech\.2\.", f"{_EXTEND}audio_embed.down_proj_for_speech."),
    (rf"{_SOUND}\.vision\.0\.", f"{_EXTEND}audio_embed.up_proj_for_vision_speech."),
    (rf"{_SOUND}\.vision\.2\.", f"{_EXTEND}audio_embed.down_proj_for_vision_speech."),
)

# What the authors' code has for a tower, whatever ``config.json`` says.
TOWER: Final[dict[str, Any]] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "feature_layer": -2,
}
_READER_FIELDS: Final = frozenset(
    {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_act",
        "max_position_embeddings",
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "rms_norm_eps",
        "rope_theta",
        "rope_scaling",
        "sliding_window",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "vision_lora",  # of the adapters among the weights
        "speech_lora",
    }
)
# Of the part that hears: the authors' word, and transformers'.
_EAR_FIELDS: Final[Mapping[str, str]] = {
    "attention_dim": "hidden_size",
    "attention_heads": "num_attention_heads",
    "linear_units": "intermediate_size",
    "depthwise_seperable_out_channel": "depthwise_separable_out_channel",
    **{
        name: name
        for name in (
            "activation",
            "chunk_size",
            "conv_activation",
            "conv_glu_type",
            "depthwise_multiplier",
            "ext_pw_out_channel",
            "input_size",
            "kernel_size",
            "left_chunk",
            "num_blocks",
            "time_reduction",
        )
    },
}
# How the part that sees goes about it, as this net does; another way is another net.
_WAYS: Final[Mapping[str, Any]] = {
    "hd_transform_order": "sub_glb",
    "image_token_compression_cls": "avg_pool_2d",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}


def phi4_config(content: Content, image_id: int | None = None) -> dict[str, Any]:
    """The ``config.json`` of a ``phi4mm`` as that of a ``Phi4MultimodalForCausalLM``.

    Args:
        content: what the file says.
        image_id: the number of ``<|endoftext10|>`` in the tokenizer; without it, as published.

    Raises:
        BadWeights: a way of looking, or of words at the end, that this net does not have.
        KeyError: it lacks a part.
    """
    sight = content["embd_layer"]["image_embd_layer"]
    others = [f"{name} {sight[name]!r}" for name, way in _WAYS.items() if sight.get(name, way) != way]
    others += [name for name in ("lm_head_bias", "mlp_bias", "attention_bias") if content.get(name)]
    if others:
        raise BadWeights(f"config.json: {', '.join(others)}: no net here does that")
    ear = content["audio_processor"]["config"]
    hearing = {ours: ear[theirs] for theirs, ours in _EAR_FIELDS.items() if theirs in ear}
    hearing["nemo_conv_channels"] = ear["nemo_conv_settings"]["conv_channels"]
    hearing["bias_max_distance"] = ear["relative_attention_bias_args"]["t5_bias_max_distance"]
    hearing["downsample_rate"] = content["embd_layer"]["audio_embd_layer"].get("downsample_rate", 1)
    seeing = {**TOWER, "crop_size": int(sight.get("crop_size", TOWER["image_size"]))}
    if image_id is not None:
        seeing["image_token_id"] = image_id
    return {
        **{name: value for name, value in content.items() if name in _READER_FIELDS},
        "model_type": "phi4_multimodal",
        "architectures": ["Phi4MultimodalForCausalLM"],
        "vision_config": seeing,
        "audio_config": hearing,
    }


def phi4_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a ``phi4mm`` under the names of ``Phi4MultimodalForCausalLM``, its adapters as they are. What no
    rule knows keeps its name, so that the loader reports it."""
    return {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    for old, new in PHI4_TABLE:
        found, count = re.subn(old, new, name)
        if count:
            return found
    return name
