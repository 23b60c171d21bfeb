"""The published sizes of language models with and without eyes, for counting their parameters.

Each is what ``config.json`` of the repository says, as far as it sets sizes. SmolLM2 and SmolVLM: huggingface/smollm.
Qwen and its VL: the tables of their technical reports. InternVL: those of arXiv:2504.10479 and arXiv:2508.18265.
LLaVA: llava-hf; LLaVA-OneVision 1.5: the defaults of the code beside its weights. Gemma: gemma/configs.cc of
google/gemma.cpp (0224dcb), for the 31B and the towers of the large ones the model cards, and for 3n the script by which
transformers converted it. EXAONE: NVIDIA/TensorRT-LLM, its tests of EXAONE. Solar: the two repositories of Upstage.
Phi: Microsoft's repositories; the multimodal one is the default of transformers, but for its heads, one table of words
and the range of its ear. HyperCLOVA X 32B Think: NAVER's repository for the reader; its tower is taken to be that of
Qwen2.5-VL 32B. HyperCLOVA X Omni: NAVER-Cloud-HyperCLOVA-X/OmniServe, and for the reader what others listed of its
tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anmok.catalogue import Card
from anmok.nets.adapters_beside import put_beside
from anmok.nets.families import family_of
from published_parts import (
    EXAONE_EYE,
    INTERN_6B,
    INTERN_WORDS,
    LOOSE,
    MISTRAL,
    QWEN3,
    QWEN3_MOE,
    SMOL,
    SO400M,
    SOLAR_MOE,
    TIED,
    VICUNA,
    WINDOWED,
    YI_34B,
    Sizes,
    every,
    gemma3,
    gemma4_large,
    gemma4_small,
    intern,
    language,
    llava,
    onevision,
    qwen2,
    qwen2_vl,
    qwen3,
    qwen3_moe,
    qwen3_vl,
    qwen3_vl_moe,
    qwen25_vl,
    smolvlm,
)

PUBLISHED: dict[str, Sizes] = {
    "smollm2-360m": language(*SMOL["360m"], 49_152, **TIED),
    "smollm2-1.7b": language(*SMOL["1.7b"], 49_152, **TIED),
    **{f"qwen2.5-{size}": qwen2(size) for size in ("0.5b", "1.5b", "3b", "7b", "14b")},
    **{f"qwen3-{size}": qwen3(size) for size in QWEN3},
    "gemma2-2b": language(2304, 26, (8, 4), 9216, 256_000, head_dim=256, **TIED),
    "gemma2-9b": language(3584, 42, (16, 8), 14_336, 256_000, head_dim=256, **TIED),
    "gemma3-270m": language(640, 18, (4, 1), 2048, 262_144, head_dim=256, **TIED),
    "gemma3-1b": language(1152, 26, (4, 1), 6912, 262_144, head_dim=256, **TIED),
    "phi3.5-mini": language(3072, 32, (32, 32), 8192, 32_064, pad_token_id=None, **LOOSE),
    "phi4-mini": language(3072, 32, (24, 8), 8192, 200_064, pad_token_id=None, **TIED),
    "phi4": language(5120, 40, (40, 10), 17_920, 100_352, pad_token_id=None, **LOOSE),
    "exaone4-1.2b": language(
        2048, 30, (32, 8), 4096, 102_400, sliding_window=None, layer_types=["full_attention"] * 30, **TIED
    ),
    "exaone4-32b": language(5120, 64, (40, 8), 27_392, 102_400, **WINDOWED, **LOOSE),
    "solar-10.7b": language(4096, 48, (32, 8), 14_336, 32_000, **LOOSE),
    "solar-open-100b": language(4096, 48, (64, 8), 10_240, 196_608, **SOLAR_MOE, **LOOSE),
    **{f"llava1.5-{size}": llava(language(*VICUNA[size], 32_064, model_type="llama")) for size in VICUNA},
    **{f"llava1.6-vicuna-{size}": llava(language(*VICUNA[size], 32_064, model_type="llama")) for size in VICUNA},
    "llava1.6-mistral-7b": llava(language(*MISTRAL, 32_064, model_type="mistral")),
    "llava-med-7b": llava(language(*MISTRAL, 32_064, model_type="mistral")),
    "llava1.6-34b": llava(language(*YI_34B, 64_064, model_type="llama")),
    "llava-next-video-7b": llava(language(*VICUNA["7b"], 32_064, model_type="llama")),
    "llava-onevision-0.5b": onevision("0.5b", 152_000),
    "llava-onevision-7b": onevision("7b", 152_128),
    "llava-onevision-72b": onevision("72b", 152_128),
    **{
        f"llava-onevision1.5-{size}": {"text_config": {**qwen3(size), **LOOSE}, "vision_config": {}}
        for size in ("4b", "8b")
    },
    "smolvlm-256m": smolvlm("135m"),
    "smolvlm-500m": smolvlm("360m"),
    "smolvlm-2.2b": smolvlm("1.7b", 49_155),
    "smolvlm2-256m": smolvlm("135m"),
    "smolvlm2-500m": smolvlm("360m"),
    "smolvlm2-2.2b": smolvlm("1.7b"),
    **{f"internvl2.5-{size}": intern(qwen2(reader, INTERN_WORDS)) for size, reader in (("1b", "0.5b"), ("4b", "3b"))},
    "internvl2.5-38b": intern(qwen2("32b", INTERN_WORDS), INTERN_6B),
    "internvl2.5-78b": intern(qwen2("72b", INTERN_WORDS), INTERN_6B),
    "internvl3-1b": intern(qwen2("0.5b", INTERN_WORDS)),
    "internvl3-2b": intern(qwen2("1.5b", INTERN_WORDS)),
    "internvl3-8b": intern(qwen2("7b", INTERN_WORDS)),
    "internvl3-14b": intern(qwen2("14b", INTERN_WORDS)),
    "internvl3-38b": intern(qwen2("32b", INTERN_WORDS), INTERN_6B),
    "internvl3-78b": intern(qwen2("72b", INTERN_WORDS), INTERN_6B),
    **{
        f"internvl3.5-{size}": intern(qwen3(reader))
        for size, reader in (("1b", "0.6b"), ("2b", "1.7b"), ("4b", "4b"), ("8b", "8b"), ("14b", "14b"))
    },
    "internvl3.5-38b": intern(qwen3("32b"), INTERN_6B),
    "internvl3.5-30b-a3b": intern(qwen3_moe("30b-a3b", "qwen3_moe")),
    "internvl3.5-241b-a28b": intern(qwen3_moe("235b-a22b", "qwen3_moe"), INTERN_6B),
    "qwen2-vl-2b": qwen2_vl("1.5b"),
    "qwen2-vl-7b": qwen2_vl("7b"),
    "qwen2-vl-72b": qwen2_vl("72b"),
    **{f"qwen2.5-vl-{size}": qwen25_vl(size) for size in ("3b", "7b", "32b", "72b")},
    **{
        f"qwen3-vl-{size}": qwen3_vl(reader)
        for size, reader in (("2b", "1.7b"), ("4b", "4b"), ("8b", "8b"), ("32b", "32b"))
    },
    **{f"qwen3-vl-{size}": qwen3_vl_moe(size) for size in QWEN3_MOE},
    "gemma3-4b": gemma3(2560, 34, (8, 4), 10_240),
    "gemma3-12b": gemma3(3840, 48, (16, 8), 15_360),
    "gemma3-27b": gemma3(5376, 62, (32, 16), 21_504, head=128),
    "gemma3n-e2b": {
        "text_config": {
            "intermediate_size": 8192,
            "num_hidden_layers": 30,
            "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
            "num_kv_shared_layers": 10,
        }
    },
    "gemma3n-e4b": {"text_config": {}},  # the default of transformers
    "gemma4-e2b": gemma4_small(
        language(
            1536,
            35,
            (8, 1),
            6144,
            262_144,
            head_dim=256,
            num_kv_shared_layers=20,
            use_double_wide_mlp=True,
            layer_types=every(5, 35),
        )
    ),
    "gemma4-e4b": gemma4_small(
        language(2560, 42, (8, 2), 10_240, 262_144, head_dim=256, num_kv_shared_layers=18, layer_types=every(6, 42))
    ),
    "gemma4-26b-a4b": gemma4_large(
        language(
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
    "gemma4-31b": gemma4_large(
        language(
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
    "phi4-multimodal": {"num_attention_heads": 24, "audio_config": {"bias_max_distance": 500}, **TIED},
    "exaone4.5-33b": {
        "text_config": language(5120, 64, (40, 8), 27_392, 153_600, model_type="exaone4", **WINDOWED, **LOOSE),
        "vision_config": EXAONE_EYE,
        **LOOSE,
    },
    "hyperclovax-omni-8b": {
        "text_config": language(4096, 36, (32, 8), 12_288, 200_704, model_type="llama", **LOOSE),
        "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3456, "out_hidden_size": 5120},
        "audio_config": {"model_type": "qwen2_audio_encoder", "encoder_layers": 32, "d_model": 1280},
    },
    "hyperclovax-think-32b": {
        "text_config": language(5120, 72, (40, 8), 24_192, 128_256, model_type="hyperclovax", **LOOSE),
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "out_hidden_size": 5120,
            "intermediate_size": 3456,
            "hidden_size": 1280,
        },
        **LOOSE,
    },
}

# DAMO-NLP-SG/VideoLLaMA3-2B, config.json; the 7B's tower is the same.
_NAVIT = {**SO400M, "patch_size": 14}
PUBLISHED |= {
    f"videollama3-{size}": {
        "text_config": qwen2(reader),
        "vision_config": _NAVIT,
        "tie_word_embeddings": reader == "1.5b",
    }
    for size, reader in (("2b", "1.5b"), ("7b", "7b"))
}

# What sees: the tower's name in the repository is all that DAMO-NLP-SG/VideoLLaMA2 says of it.
_CLIP_STC = {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "stc_connector"}
_SIGLIP_STC = {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "stc_connector_v35"}
PUBLISHED |= {
    "videollama2-7b": {**language(*MISTRAL, 32_000, **LOOSE), **_CLIP_STC},
    "videollama2-7b-16f": {**language(*MISTRAL, 32_000, **LOOSE), **_CLIP_STC, "num_frames": 16},
    "videollama2.1-7b-16f": {
        **qwen2("7b", **LOOSE),
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
    put_beside(net, {name: _adapter(net, _RANKS[name]) for name in family_of(one.kind, one.name).adapters}, one.name)
    return net


# Of Phi-4-multimodal's ``vision_lora`` and ``speech_lora``: beside every matrix of every layer.
_RANKS = {"vision-lora": 256, "speech-lora": 320}


def _adapter(net: nn.Module, rank: int) -> tuple[dict[str, Tensor], dict[str, int]]:
    tensors: dict[str, Tensor] = {}
    for name, weight in net.named_parameters():
        if name.startswith("model.layers.") and name.endswith("proj.weight"):
            layer = name.removesuffix(".weight")
            tensors[f"{layer}.lora_A.weight"] = torch.empty(rank, weight.shape[1])
            tensors[f"{layer}.lora_B.weight"] = torch.empty(weight.shape[0], rank)
    return tensors, {"r": rank, "lora_alpha": 2 * rank}
