"""What the published configurations of families that talk have in common: readers, towers, and both together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anmok.nets.tower_shapes import CLIP_L14_336

Sizes = Mapping[str, Any]


def language(
    width: int, depth: int, heads: tuple[int, int], hidden: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": hidden,
        "vocab_size": vocabulary,
        **more,
    }


TIED: dict[str, Any] = {"tie_word_embeddings": True}
LOOSE: dict[str, Any] = {"tie_word_embeddings": False}
OLD, WIDE = 151_936, 152_064  # rows of Qwen's tables of words, small and large ones
QWEN2 = {
    "0.5b": (896, 24, (14, 2), 4864),
    "1.5b": (1536, 28, (12, 2), 8960),
    "3b": (2048, 36, (16, 2), 11_008),
    "7b": (3584, 28, (28, 4), 18_944),
    "14b": (5120, 48, (40, 8), 13_824),
    "32b": (5120, 64, (40, 8), 27_648),
    "72b": (8192, 80, (64, 8), 29_568),
}
QWEN3 = {
    "0.6b": (1024, 28, (16, 8), 3072),
    "1.7b": (2048, 28, (16, 8), 6144),
    "4b": (2560, 36, (32, 8), 9728),
    "8b": (4096, 36, (32, 8), 12_288),
    "14b": (5120, 40, (40, 8), 17_408),
    "32b": (5120, 64, (64, 8), 25_600),
}


def qwen2(size: str, vocabulary: int = 0, **more: Any) -> dict[str, Any]:
    is_small = size in ("0.5b", "1.5b", "3b")
    rows = vocabulary or (OLD if is_small else WIDE)
    return language(*QWEN2[size], rows, **{"model_type": "qwen2", "tie_word_embeddings": is_small, **more})


def qwen3(size: str, **more: Any) -> dict[str, Any]:
    is_small = size in ("0.6b", "1.7b", "4b")
    return language(
        *QWEN3[size], OLD, **{"model_type": "qwen3", "head_dim": 128, "tie_word_embeddings": is_small, **more}
    )


SMOL = {
    "135m": (576, 30, (9, 3), 1536),
    "360m": (960, 32, (15, 5), 2560),
    "1.7b": (2048, 24, (32, 32), 8192),
}
SIGLIP_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


def smolvlm(reader: str, vocabulary: int = 49_280) -> dict[str, Any]:
    is_large = reader == "1.7b"
    tower = (
        {**SO400M, "image_size": 384, "patch_size": 14}
        if is_large
        else {**SIGLIP_B, "image_size": 512, "patch_size": 16}
    )
    return {
        "text_config": language(*SMOL[reader], vocabulary, model_type="llama"),
        "vision_config": tower,
        "scale_factor": 3 if is_large else 4,
        **LOOSE,
    }


VICUNA = {"7b": (4096, 32, (32, 32), 11_008), "13b": (5120, 40, (40, 40), 13_824)}
MISTRAL = (4096, 32, (32, 8), 14_336)
YI_34B = (7168, 60, (56, 8), 20_480)
CUT = {"model_type": "siglip_vision_model", **SO400M, "num_hidden_layers": 26, "image_size": 384, "patch_size": 14}


def llava(text: Sizes) -> dict[str, Any]:
    return {"text_config": text, "vision_config": dict(CLIP_L14_336), **LOOSE}


def onevision(size: str, vocabulary: int) -> dict[str, Any]:
    text = qwen2(size, vocabulary)
    tied = text["tie_word_embeddings"]
    return {"text_config": text, "vision_config": {**CUT, "vision_use_head": False}, "tie_word_embeddings": tied}


INTERN_300M = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "use_qk_norm": False,
    "norm_type": "layer_norm",
}
INTERN_6B = {
    "hidden_size": 3200,
    "intermediate_size": 12_800,
    "num_hidden_layers": 45,
    "num_attention_heads": 25,
    "attention_bias": False,
    "use_qk_norm": True,
    "norm_type": "rms_norm",
}


def intern(text: Sizes, tower: Sizes = INTERN_300M) -> dict[str, Any]:
    vision = {**tower, "image_size": [448, 448], "patch_size": [14, 14]}
    return {"text_config": {**text, **LOOSE}, "vision_config": vision, **LOOSE}


INTERN_WORDS = 151_674


def qwen2_vl(reader: str) -> dict[str, Any]:
    text = qwen2(reader, model_type="qwen2_vl_text")
    tower = {"depth": 32, "embed_dim": 1280, "hidden_size": text["hidden_size"], "num_heads": 16, "mlp_ratio": 4}
    return {"text_config": text, "vision_config": tower, "tie_word_embeddings": text["tie_word_embeddings"]}


def qwen25_vl(size: str) -> dict[str, Any]:
    text = qwen2(size, model_type="qwen2_5_vl_text")
    hidden = 3456 if size in ("32b", "72b") else 3420
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": hidden, "num_heads": 16}
    tower["out_hidden_size"] = text["hidden_size"]
    return {"text_config": text, "vision_config": tower, "tie_word_embeddings": text["tie_word_embeddings"]}


def qwen3_vl(reader: str) -> dict[str, Any]:
    text = qwen3(reader, model_type="qwen3_vl_text")
    is_small = text["tie_word_embeddings"]
    tower: dict[str, Any] = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
    tower |= {"deepstack_visual_indexes": [5, 11, 17]}
    if not is_small:
        tower = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}
        tower |= {"deepstack_visual_indexes": [8, 16, 24]}
    tower["out_hidden_size"] = text["hidden_size"]
    return {"text_config": text, "vision_config": tower, "tie_word_embeddings": is_small}


QWEN3_MOE = {"30b-a3b": (2048, 48, 32, 768), "235b-a22b": (4096, 94, 64, 1536)}


def qwen3_moe(size: str, model_type: str) -> dict[str, Any]:
    """128 experts in each layer."""
    width, depth, heads, inner = QWEN3_MOE[size]
    experts = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": inner}
    return language(width, depth, (heads, 4), 3 * width, OLD, model_type=model_type, head_dim=128, **experts, **LOOSE)


def qwen3_vl_moe(size: str) -> dict[str, Any]:
    """With the tower of the 8B."""
    text = qwen3_moe(size, "qwen3_vl_moe_text")
    tower = {**qwen3_vl("8b")["vision_config"], "out_hidden_size": text["hidden_size"]}
    return {"text_config": text, "vision_config": tower, **LOOSE}


def gemma3(width: int, depth: int, heads: tuple[int, int], hidden: int, head: int = 256) -> dict[str, Any]:
    vision = {**SO400M, "image_size": 896, "patch_size": 14, "vision_use_head": False}
    return {
        "text_config": language(width, depth, heads, hidden, 262_208, head_dim=head),
        "vision_config": vision,
        **TIED,
    }


GEMMA4_EAR = {"model_type": "gemma4_audio", "use_clipped_linears": True}


def gemma4_small(text: Sizes) -> dict[str, Any]:
    vision = {
        **SIGLIP_B,
        "num_hidden_layers": 16,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "use_clipped_linears": True,
    }
    return {"text_config": text, "vision_config": vision, "audio_config": GEMMA4_EAR, **TIED}


def gemma4_large(text: Sizes) -> dict[str, Any]:
    vision = {**SO400M, "num_key_value_heads": 16, "head_dim": 72, "standardize": True}
    return {"text_config": text, "vision_config": vision, "audio_config": None, **TIED}


def every(step: int, depth: int) -> list[str]:
    return ["full_attention" if i % step == step - 1 else "sliding_attention" for i in range(depth)]


WINDOWED = {"sliding_window": 4096, "layer_types": every(4, 64)}
EXAONE_EYE = {
    "depth": 28,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "num_heads": 32,
    "num_key_value_heads": 8,
    "out_hidden_size": 5120,
}
SOLAR_MOE = {
    "head_dim": 128,
    "moe_intermediate_size": 1280,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
}
