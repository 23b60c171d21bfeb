"""The published sizes of language models with and without eyes, for counting their parameters.

Each is what ``config.json`` of the repository says, as far as it sets sizes. SmolLM2 and SmolVLM: huggingface/smollm.
Qwen and its VL: the tables of their technical reports. InternVL: those of arXiv:2504.10479 and arXiv:2508.18265.
LLaVA: llava-hf; LLaVA-OneVision 1.5: the defaults of the code beside its weights. Gemma: gemma/configs.cc of
google/gemma.cpp (0224dcb), for the 31B and the towers of the large ones the model cards, and for 3n the script by which
transformers converted it. EXAONE: NVIDIA/TensorRT-LLM, its tests of EXAONE. Solar: the two repositories of Upstage.
Phi: Microsoft's repositories; the multimodal one is the default of transformers, but for its heads, one table of words
and the range of its ear. HyperCLOVA X 32B Think: NAVER's repository for the reader; its tower is taken to be that of
Qwen2.5-VL 32B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from anmok.catalogue import Card
from anmok.nets.families import family_of

Sizes = Mapping[str, Any]


def _text(width: int, depth: int, heads: tuple[int, int], hidden: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": hidden,
        "vocab_size": vocabulary,
        **more,
    }


_TIED: dict[str, Any] = {"tie_word_embeddings": True}
_LOOSE: dict[str, Any] = {"tie_word_embeddings": False}
_OLD, _WIDE = 151_936, 152_064  # rows of Qwen's tables of words, small and large ones
_QWEN2 = {
    "0.5b": (896, 24, (14, 2), 4864),
    "1.5b": (1536, 28, (12, 2), 8960),
    "3b": (2048, 36, (16, 2), 11_008),
    "7b": (3584, 28, (28, 4), 18_944),
    "14b": (5120, 48, (40, 8), 13_824),
    "32b": (5120, 64, (40, 8), 27_648),
    "72b": (8192, 80, (64, 8), 29_568),
}
_QWEN3 = {
    "0.6b": (1024, 28, (16, 8), 3072),
    "1.7b": (2048, 28, (16, 8), 6144),
    "4b": (2560, 36, (32, 8), 9728),
    "8b": (4096, 36, (32, 8), 12_288),
    "14b": (5120, 40, (40, 8), 17_408),
    "32b": (5120, 64, (64, 8), 25_600),
}


def _qwen2(size: str, vocabulary: int = 0, **more: Any) -> dict[str, Any]:
    is_small = size in ("0.5b", "1.5b", "3b")
    rows = vocabulary or (_OLD if is_small else _WIDE)
    return _text(*_QWEN2[size], rows, **{"model_type": "qwen2", "tie_word_embeddings": is_small, **more})


def _qwen3(size: str, **more: Any) -> dict[str, Any]:
    is_small = size in ("0.6b", "1.7b", "4b")
    return _text(
        *_QWEN3[size], _OLD, **{"model_type": "qwen3", "head_dim": 128, "tie_word_embeddings": is_small, **more}
    )


_SMOL = {
    "135m": (576, 30, (9, 3), 1536),
    "360m": (960, 32, (15, 5), 2560),
    "1.7b": (2048, 24, (32, 32), 8192),
}
_SIGLIP_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


def _smolvlm(reader: str, vocabulary: int = 49_280) -> dict[str, Any]:
    is_large = reader == "1.7b"
    tower = (
        {**_SO400M, "image_size": 384, "patch_size": 14}
        if is_large
        else {**_SIGLIP_B, "image_size": 512, "patch_size": 16}
    )
    return {
        "text_config": _text(*_SMOL[reader], vocabulary, model_type="llama"),
        "vision_config": tower,
        "scale_factor": 3 if is_large else 4,
        **_LOOSE,
    }


_CLIP_L = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
_VICUNA = {"7b": (4096, 32, (32, 32), 11_008), "13b": (5120, 40, (40, 40), 13_824)}
_MISTRAL = (4096, 32, (32, 8), 14_336)
_YI_34B = (7168, 60, (56, 8), 20_480)
_CUT = {"model_type": "siglip_vision_model", **_SO400M, "num_hidden_layers": 26, "image_size": 384, "patch_size": 14}


def _llava(text: Sizes) -> dict[str, Any]:
    return {"text_config": text, "vision_config": _CLIP_L, **_LOOSE}


def _onevision(size: str, vocabulary: int) -> dict[str, Any]:
    text = _qwen2(size, vocabulary)
    tied = text["tie_word_embeddings"]
    return {"text_config": text, "vision_config": {**_CUT, "vision_use_head": False}, "tie_word_embeddings": tied}


_INTERN_300M = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "use_qk_norm": False,
    "norm_type": "layer_norm",
}
_INTERN_6B = {
    "hidden_size": 3200,
    "intermediate_size": 12_800,
    "num_hidden_layers": 45,
    "num_attention_heads": 25,
    "attention_bias": False,
    "use_qk_norm": True,
    "norm_type": "rms_norm",
}


def _intern(text: Sizes, tower: Sizes = _INTERN_300M) -> dict[str, Any]:
    vision = {**tower, "image_size": [448, 448], "patch_size": [14, 14]}
    return {"text_config": {**text, **_LOOSE}, "vision_config": vision, **_LOOSE}


_INTERN_WORDS = 151_674


def _qwen2_vl(reader: str) -> dict[str, Any]:
    text = _qwen2(reader, model_type="qwen2_vl_text")
    tower = {"depth": 32, "embed_dim": 1280, "hidden_size": text["hidden_size"], "num_heads": 16, "mlp_ratio": 4}
    return {"text_config": text, "vision_config": tower, "tie_word_embeddings": text["tie_word_embeddings"]}


def _qwen25_vl(size: str) -> dict[str, Any]:
    text = _qwen2(size, model_type="qwen2_5_vl_text")
    hidden = 3456 if size in ("32b", "72b") else 3420
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": hidden, "num_heads": 16}
    tower["out_hidden_size"] = text["hidden_size"]
    return {"text_config": text, "vision_config": tower, "tie_word_embeddings": text["tie_word_embeddings"]}


def _qwen3_vl(reader: str) -> dict[str, Any]:
    text = _qwen3(reader, model_type="qwen3_vl_text")
    is_small = text["tie_word_embeddings"]
    tower: dict[str, Any] = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
    tower |= {"deepstack_visual_indexes": [5, 11, 17]}
    if not is_small:
        tower = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}
        tower |= {"deepstack_visual_indexes": [8, 16, 24]}
    tower["out_hidden_size"] = text["hidden_size"]
    return {"text_config": text, "vision_config": tower, "tie_word_embeddings": is_small}


_QWEN3_MOE = {"30b-a3b": (2048, 48, 32, 768), "235b-a22b": (4096, 94, 64, 1536)}


def _qwen3_moe(size: str, model_type: str) -> dict[str, Any]:
    """128 experts in each layer."""
    width, depth, heads, inner = _QWEN3_MOE[size]
    experts = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": inner}
    return _text(width, depth, (heads, 4), 3 * width, _OLD, model_type=model_type, head_dim=128, **experts, **_LOOSE)


def _qwen3_vl_moe(size: str) -> dict[str, Any]:
    """With the tower of the 8B."""
    text = _qwen3_moe(size, "qwen3_vl_moe_text")
    tower = {**_qwen3_vl("8b")["vision_config"], "out_hidden_size": text["hidden_size"]}
    return {"text_config": text, "vision_config": tower, **_LOOSE}


def _gemma3(width: int, depth: int, heads: tuple[int, int], hidden: int, head: int = 256) -> dict[str, Any]:
    vision = {**_SO400M, "image_size": 896, "patch_size": 14, "vision_use_head": False}
    return {"text_config": _text(width, depth, heads, hidden, 262_208, head_dim=head), "vision_config": vision, **_TIED}


_GEMMA4_EAR = {"model_type": "gemma4_audio", "use_clipped_linears": True}


def _gemma4_small(text: Sizes) -> dict[str, Any]:
    vision = {
        **_SIGLIP_B,
        "num_hidden_layers": 16,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "use_clipped_linears": True,
    }
    return {"text_config": text, "vision_config": vision, "audio_config": _GEMMA4_EAR, **_TIED}


def _gemma4_large(text: Sizes) -> dict[str, Any]:
    vision = {**_SO400M, "num_key_value_heads": 16, "head_dim": 72, "standardize": True}
    return {"text_config": text, "vision_config": vision, "audio_config": None, **_TIED}


def _every(step: int, depth: int) -> list[str]:
    return ["full_attention" if i % step == step - 1 else "sliding_attention" for i in range(depth)]


_WINDOWED = {"sliding_window": 4096, "layer_types": _every(4, 64)}
_EXAONE_EYE = {
    "depth": 28,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "num_heads": 32,
    "num_key_value_heads": 8,
    "out_hidden_size": 5120,
}
_SOLAR_MOE = {
    "head_dim": 128,
    "moe_intermediate_size": 1280,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
}

PUBLISHED: dict[str, Sizes] = {
    "smollm2-360m": _text(*_SMOL["360m"], 49_152, **_TIED),
    "smollm2-1.7b": _text(*_SMOL["1.7b"], 49_152, **_TIED),
    **{f"qwen2.5-{size}": _qwen2(size) for size in ("0.5b", "1.5b", "3b", "7b", "14b")},
    **{f"qwen3-{size}": _qwen3(size) for size in _QWEN3},
    "gemma2-2b": _text(2304, 26, (8, 4), 9216, 256_000, head_dim=256, **_TIED),
    "gemma2-9b": _text(3584, 42, (16, 8), 14_336, 256_000, head_dim=256, **_TIED),
    "gemma3-270m": _text(640, 18, (4, 1), 2048, 262_144, head_dim=256, **_TIED),
    "gemma3-1b": _text(1152, 26, (4, 1), 6912, 262_144, head_dim=256, **_TIED),
    "phi3.5-mini": _text(3072, 32, (32, 32), 8192, 32_064, pad_token_id=None, **_LOOSE),
    "phi4-mini": _text(3072, 32, (24, 8), 8192, 200_064, pad_token_id=None, **_TIED),
    "phi4": _text(5120, 40, (40, 10), 17_920, 100_352, pad_token_id=None, **_LOOSE),
    "exaone4-1.2b": _text(
        2048, 30, (32, 8), 4096, 102_400, sliding_window=None, layer_types=["full_attention"] * 30, **_TIED
    ),
    "exaone4-32b": _text(5120, 64, (40, 8), 27_392, 102_400, **_WINDOWED, **_LOOSE),
    "solar-10.7b": _text(4096, 48, (32, 8), 14_336, 32_000, **_LOOSE),
    "solar-open-100b": _text(4096, 48, (64, 8), 10_240, 196_608, **_SOLAR_MOE, **_LOOSE),
    **{f"llava1.5-{size}": _llava(_text(*_VICUNA[size], 32_064, model_type="llama")) for size in _VICUNA},
    **{f"llava1.6-vicuna-{size}": _llava(_text(*_VICUNA[size], 32_064, model_type="llama")) for size in _VICUNA},
    "llava1.6-mistral-7b": _llava(_text(*_MISTRAL, 32_064, model_type="mistral")),
    "llava-med-7b": _llava(_text(*_MISTRAL, 32_064, model_type="mistral")),
    "llava1.6-34b": _llava(_text(*_YI_34B, 64_064, model_type="llama")),
    "llava-next-video-7b": _llava(_text(*_VICUNA["7b"], 32_064, model_type="llama")),
    "llava-onevision-0.5b": _onevision("0.5b", 152_000),
    "llava-onevision-7b": _onevision("7b", 152_128),
    "llava-onevision-72b": _onevision("72b", 152_128),
    **{
        f"llava-onevision1.5-{size}": {"text_config": {**_qwen3(size), **_LOOSE}, "vision_config": {}}
        for size in ("4b", "8b")
    },
    "smolvlm-256m": _smolvlm("135m"),
    "smolvlm-500m": _smolvlm("360m"),
    "smolvlm-2.2b": _smolvlm("1.7b", 49_155),
    "smolvlm2-256m": _smolvlm("135m"),
    "smolvlm2-500m": _smolvlm("360m"),
    "smolvlm2-2.2b": _smolvlm("1.7b"),
    **{
        f"internvl2.5-{size}": _intern(_qwen2(reader, _INTERN_WORDS)) for size, reader in (("1b", "0.5b"), ("4b", "3b"))
    },
    "internvl2.5-38b": _intern(_qwen2("32b", _INTERN_WORDS), _INTERN_6B),
    "internvl2.5-78b": _intern(_qwen2("72b", _INTERN_WORDS), _INTERN_6B),
    "internvl3-1b": _intern(_qwen2("0.5b", _INTERN_WORDS)),
    "internvl3-2b": _intern(_qwen2("1.5b", _INTERN_WORDS)),
    "internvl3-8b": _intern(_qwen2("7b", _INTERN_WORDS)),
    "internvl3-14b": _intern(_qwen2("14b", _INTERN_WORDS)),
    "internvl3-38b": _intern(_qwen2("32b", _INTERN_WORDS), _INTERN_6B),
    "internvl3-78b": _intern(_qwen2("72b", _INTERN_WORDS), _INTERN_6B),
    **{
        f"internvl3.5-{size}": _intern(_qwen3(reader))
        for size, reader in (("1b", "0.6b"), ("2b", "1.7b"), ("4b", "4b"), ("8b", "8b"), ("14b", "14b"))
    },
    "internvl3.5-38b": _intern(_qwen3("32b"), _INTERN_6B),
    "internvl3.5-30b-a3b": _intern(_qwen3_moe("30b-a3b", "qwen3_moe")),
    "internvl3.5-241b-a28b": _intern(_qwen3_moe("235b-a22b", "qwen3_moe"), _INTERN_6B),
    "qwen2-vl-2b": _qwen2_vl("1.5b"),
    "qwen2-vl-7b": _qwen2_vl("7b"),
    "qwen2-vl-72b": _qwen2_vl("72b"),
    **{f"qwen2.5-vl-{size}": _qwen25_vl(size) for size in ("3b", "7b", "32b", "72b")},
    **{
        f"qwen3-vl-{size}": _qwen3_vl(reader)
        for size, reader in (("2b", "1.7b"), ("4b", "4b"), ("8b", "8b"), ("32b", "32b"))
    },
    **{f"qwen3-vl-{size}": _qwen3_vl_moe(size) for size in _QWEN3_MOE},
    "gemma3-4b": _gemma3(2560, 34, (8, 4), 10_240),
    "gemma3-12b": _gemma3(3840, 48, (16, 8), 15_360),
    "gemma3-27b": _gemma3(5376, 62, (32, 16), 21_504, head=128),
    "gemma3n-e2b": {
        "text_config": {
            "intermediate_size": 8192,
            "num_hidden_layers": 30,
            "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
            "num_kv_shared_layers": 10,
        }
    },
    "gemma3n-e4b": {"text_config": {}},  # the default of transformers
    "gemma4-e2b": _gemma4_small(
        _text(
            1536,
            35,
            (8, 1),
            6144,
            262_144,
            head_dim=256,
            num_kv_shared_layers=20,
            use_double_wide_mlp=True,
            layer_types=_every(5, 35),
        )
    ),
    "gemma4-e4b": _gemma4_small(
        _text(2560, 42, (8, 2), 10_240, 262_144, head_dim=256, num_kv_shared_layers=18, layer_types=_every(6, 42))
    ),
    "gemma4-26b-a4b": _gemma4_large(
        _text(
            2816,
            30,
            (16, 8),
            2112,
            262_144,
            head_dim=256,
            num_global_key_value_heads=2,
            attention_k_eq_v=True,
            hidden_size_per_layer_input=0,
            enable_moe_block=True,
            num_experts=128,
            top_k_experts=8,
            moe_intermediate_size=704,
        )
    ),
    "gemma4-31b": _gemma4_large(
        _text(
            5376,
            60,
            (32, 16),
            21_504,
            262_144,
            head_dim=256,
            num_global_key_value_heads=4,
            attention_k_eq_v=True,
            hidden_size_per_layer_input=0,
        )
    ),
    "phi4-multimodal": {"num_attention_heads": 24, "audio_config": {"bias_max_distance": 500}, **_TIED},
    "exaone4.5-33b": {
        "text_config": _text(5120, 64, (40, 8), 27_392, 153_600, model_type="exaone4", **_WINDOWED, **_LOOSE),
        "vision_config": _EXAONE_EYE,
        **_LOOSE,
    },
    "hyperclovax-think-32b": {
        "text_config": _text(5120, 72, (40, 8), 24_192, 128_256, model_type="hyperclovax", **_LOOSE),
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "out_hidden_size": 5120,
            "intermediate_size": 3456,
            "hidden_size": 1280,
        },
        **_LOOSE,
    },
}

# DAMO-NLP-SG/VideoLLaMA3-2B, config.json; the 7B's tower is the same.
_NAVIT = {**_SO400M, "patch_size": 14}
PUBLISHED |= {
    f"videollama3-{size}": {
        "text_config": _qwen2(reader),
        "vision_config": _NAVIT,
        "tie_word_embeddings": reader == "1.5b",
    }
    for size, reader in (("2b", "1.5b"), ("7b", "7b"))
}

# What sees: the tower's name in the repository is all that DAMO-NLP-SG/VideoLLaMA2 says of it.
_CLIP_STC = {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "stc_connector"}
_SIGLIP_STC = {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "stc_connector_v35"}
PUBLISHED |= {
    "videollama2-7b": {**_text(*_MISTRAL, 32_000, **_LOOSE), **_CLIP_STC},
    "videollama2-7b-16f": {**_text(*_MISTRAL, 32_000, **_LOOSE), **_CLIP_STC, "num_frames": 16},
    "videollama2.1-7b-16f": {
        **_qwen2("7b", **_LOOSE),
        **_SIGLIP_STC,
        "num_frames": 16,
        "model_type": "videollama2_qwen2",
    },
}
PUBLISHED["phi4-multimodal-speech"] = PUBLISHED["phi4-multimodal"]
PUBLISHED |= {f"gemma3-{size}-crops": PUBLISHED[f"gemma3-{size}"] for size in ("4b", "12b", "27b")}
PUBLISHED["videollama2.1-7b-av"] = {
    **PUBLISHED["videollama2.1-7b-16f"],
    "mm_audio_tower": "audio_tower.bin",
    "mm_projector_a_type": "mlp2x_gelu",
}


# What the makers say, in words, of repositories whose configuration could not be seen.
STATED = {
    "hyperclovax-seed-0.5b": 570_000_000,
    "hyperclovax-seed-1.5b": 1_500_000_000,
    "hyperclovax-think-14b": 14_740_000_000,
    "hyperclovax-vision-3b": 3_720_000_000,
}


def published_talker(one: Card) -> nn.Module:
    """The net of a card of ``talking``, of its published sizes."""
    if (own := family_of(one.kind, one.name).own) is not None:
        return own.made({"model_type": one.kind, **PUBLISHED[one.name]})
    kind: Any = family_of(one.kind, one.name).made()
    net: nn.Module = kind(kind.config_class(**PUBLISHED[one.name]))
    return net
