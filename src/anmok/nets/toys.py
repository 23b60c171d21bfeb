"""Language models at toy size with random weights: the same nets, eyes and templates, in a fraction of a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import nn

from anmok.nets.families import Family

_END: Final = "<|im_end|>"
_LETTERS: Final = 256
_SIDE: Final = 16  # pixels of a tile
_PATCH: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Toy:
    """``tokenizer`` is the text of a tokenizer.json of bytes; ``facts`` are a preprocessor's."""

    net: nn.Module
    tokenizer: str
    template: str
    ends: frozenset[int]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of one family: parts of its configuration beside the text part, and the facts of its preprocessor."""

    text: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] | None = None
    whole: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    image_key: str = "image_token_id"
    is_flat: bool = False  # the text part's values stand at the top


_NARROW: Final = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_TEXT: Final = {**_NARROW, "num_key_value_heads": 2, "max_position_embeddings": 4096}
_TOWER: Final = {**_NARROW, "num_attention_heads": 2, "image_size": _SIDE, "patch_size": _PATCH}
_CLIP: Final = {**_TOWER, "model_type": "clip_vision_model", "projection_dim": 32}
_SIGLIP: Final = {**_TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
_PLACES: Final = {"rope_type": "default", "rope_theta": 10_000.0}
_GRID: Final = [[16, 32], [32, 16], [32, 32]]
_CUT: Final = {"size": {"shortest_edge": _SIDE}, "crop_size": {"height": _SIDE, "width": _SIDE}}
_PADDED: Final = {"size": {"height": _SIDE, "width": _SIDE}, "do_pad": True, "do_center_crop": False}
_QWEN_FACTS: Final = {"patch_size": _PATCH, "merge_size": 2, "size": {"shortest_edge": 64, "longest_edge": 2304}}
_VIDEO_FACTS: Final = {
    "patch_size": _PATCH,
    "size": {"shortest_edge": 64, "longest_edge": 2304},
    "video_processor": {"patch_size": _PATCH, "size": {"shortest_edge": 64, "longest_edge": 4096}},
}
_QWEN_TOWER: Final = {"depth": 2, "num_heads": 2, "patch_size": _PATCH, "spatial_merge_size": 2}
_QWEN_WIDE: Final = {
    **_QWEN_TOWER,
    "temporal_patch_size": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 32,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}
_MROPE: Final = {"rope_parameters": {**_PLACES, "mrope_section": [1, 1, 2]}}
_QWEN3_TEXT: Final = {
    "head_dim": 8,
    "rope_parameters": {**_PLACES, "mrope_section": [1, 1, 2], "mrope_interleaved": True},
}
_QWEN3_TOWER: Final = {
    **_QWEN_TOWER,
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}
_LAYERS: Final = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 12, "head_dim": 8}
_PHI_CROP: Final = 56
_PHI_VISION: Final = {**_NARROW, "hidden_size": 16, "image_size": _PHI_CROP, "crop_size": _PHI_CROP, "patch_size": 14}
_PHI_AUDIO: Final = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_blocks": 1,
    "num_attention_heads": 2,
    "ext_pw_out_channel": 16,
    "depthwise_separable_out_channel": 16,
    "nemo_conv_channels": 8,
}
_IDEFICS: Final = _Shape(
    {"model_type": "llama"},
    {**_TOWER, "hidden_size": 16},
    {"scale_factor": 2},
    {"size": {"longest_edge": 4 * _SIDE}, "max_image_size": {"longest_edge": _SIDE}, "resample": 1},
)
_PHI: Final = _Shape(
    {},
    _PHI_VISION,
    {"audio_config": {**_PHI_AUDIO, "audio_token_id": 91}},
    {"size": {"height": _PHI_CROP, "width": _PHI_CROP}, "dynamic_hd": 6},
    is_flat=True,
)
_GEMMA3: Final = _Shape(
    {**_LAYERS, "query_pre_attn_scalar": 8},
    {**_TOWER, "hidden_size": 16, "image_size": 32},
    {"mm_tokens_per_image": 4},
    {"size": {"height": 32, "width": 32}},
    image_key="image_token_index",
)
_GEMMA4: Final = _Shape(
    {**_LAYERS, "global_head_dim": 8, "hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision"},
    {**_NARROW, "num_key_value_heads": 4, "head_dim": 8, "position_embedding_size": 512},
    {"audio_config": None, "audio_token_id": 1},
    {"max_soft_tokens": 70},
)
_GEMMA4_EAR: Final = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "attention_chunk_size": 4,
    "attention_context_left": 5,
    "subsampling_conv_channels": [128, 4],  # a quarter of the first is how many bands are left
    "output_proj_dims": 24,
}
_SHAPES: Final[dict[str, _Shape]] = {
    "gemma2": _Shape(_LAYERS, is_flat=True),
    "gemma3_text": _Shape(_LAYERS, is_flat=True),
    "exaone4": _Shape({**_LAYERS, "sliding_window_pattern": 2}, is_flat=True),
    "hyperclovax": _Shape({"logits_scaling": 0.25, "embedding_multiplier": 1.5}, is_flat=True),
    "solar_open": _Shape(
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "n_shared_experts": 1,
            "head_dim": 8,
        },
        is_flat=True,
    ),
    "llava": _Shape({"model_type": "llama"}, _CLIP, facts=_PADDED, image_key="image_token_index"),
    "llava_next": _Shape(
        {"model_type": "llama"}, _CLIP, {"image_grid_pinpoints": _GRID}, _CUT, image_key="image_token_index"
    ),
    "llava_next_video": _Shape(
        {"model_type": "llama"}, _CLIP, {"image_grid_pinpoints": _GRID}, _CUT, image_key="image_token_index"
    ),
    "llava_onevision": _Shape(
        {"model_type": "qwen2"},
        _SIGLIP,
        {"image_grid_pinpoints": _GRID, "vision_aspect_ratio": "anyres_max_2"},
        {"size": {"height": _SIDE, "width": _SIDE}},
        image_key="image_token_index",
    ),
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "internvl": _Shape(
        {"model_type": "qwen2"},
        {**_TOWER, "hidden_size": 16},
        {"image_seq_length": 4},
        {"size": {"height": _SIDE, "width": _SIDE}, "max_patches": 4},
    ),
    "qwen2_vl": _Shape(_MROPE, {**_QWEN_TOWER, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}, facts=_QWEN_FACTS),
    "qwen2_5_vl": _Shape(_MROPE, _QWEN_WIDE, facts=_QWEN_FACTS),
    "qwen3_vl": _Shape(_QWEN3_TEXT, _QWEN3_TOWER, facts=_QWEN_FACTS),
    "qwen3_vl_moe": _Shape(
        {**_QWEN3_TEXT, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        _QWEN3_TOWER,
        facts=_QWEN_FACTS,
    ),
    "video_llama_3": _Shape(
        {"model_type": "qwen2"},
        {**_NARROW, "hidden_size": 16, "num_attention_heads": 2, "patch_size": _PATCH},
        facts=_VIDEO_FACTS,
    ),
    "exaone4_5": _Shape(
        {"model_type": "exaone4", "rope_parameters": _PLACES, "sliding_window": 12, "sliding_window_pattern": 2},
        {**_QWEN_WIDE, "num_key_value_heads": 1},
        facts=_QWEN_FACTS,
    ),
    "hyperclovax_vision_v2": _Shape(
        {"model_type": "hyperclovax", "rope_parameters": _PLACES, "logits_scaling": 0.25},
        {**_QWEN_WIDE, "model_type": "qwen2_5_vl_vision"},
        {"tie_word_embeddings": False},
        _QWEN_FACTS,
    ),
    "gemma3": _GEMMA3,
    "gemma3_crops": replace(_GEMMA3, facts={**_GEMMA3.facts, "pan_and_scan_min_crop_size": 8}),
    "gemma4": _GEMMA4,
    # As E2B: each token is looked up once more in every layer, the last of which take the keys of others, and pictures
    # are seen backwards.
    "gemma4_hears": replace(
        _GEMMA4,
        text={
            **_LAYERS,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "global_head_dim": 8,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 300,
        },
        whole={"audio_config": _GEMMA4_EAR},
    ),
    "phi4_multimodal": _PHI,
    "phi4_multimodal_speech": _PHI,
}


def toy(model_type: str, family: Family, seed: int) -> Toy:
    """A net of that family, filled at random, with a tokenizer of bytes and a template of the same form."""
    shape = _SHAPES.get(model_type, _Shape(is_flat=True))
    special = list(dict.fromkeys([*family.marks, *family.slots.values(), *family.ends, "<|im_start|>", _END]))
    ids = {token: _LETTERS + i for i, token in enumerate(special)}
    facts = shape.facts
    if family.own is not None:
        content, facts = family.own.toy(_LETTERS + len(ids), ids[_END])
        net: Any = family.own.made(content)
    else:
        config = _config(family.made().config_class, shape, family, ids)  # type: ignore[attr-defined]
        net = family.made()(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            # As built, some gates are zeros and answers all alike.
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2, generator=generator)
    return Toy(net.eval(), tokenizer_of_bytes(ids), _template(family), frozenset({ids[_END]}), facts)


def tokenizer_of_bytes(special: Mapping[str, int]) -> str:
    """A tokenizer.json: one token a byte, and the special ones."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    text: str = tokenizer.to_str()
    return text


def _config(kind: Any, shape: _Shape, family: Family, ids: Mapping[str, int]) -> Any:
    marks = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": ids[_END]}
    text = {**_TEXT, **shape.text, "vocab_size": _LETTERS + len(ids), **marks}
    image = ids[family.marks[0]] if family.marks else None
    if shape.vision is None:
        return kind(**text)
    if shape.is_flat:
        vision = {**shape.vision, "image_token_id": image}
        return kind(**text, **shape.whole, vision_config=vision)
    video = {shape.image_key.replace("image", "video"): ids[family.video]}
    sound = {} if family.hearing is None else {"audio_token_id": ids[family.hearing.sound]}
    shown = {shape.image_key: image, **video, **sound}
    content = {"text_config": text, "vision_config": dict(shape.vision), **shown, **shape.whole}
    return kind.from_dict(json.loads(json.dumps(content)))


def _template(family: Family) -> str:
    """Turns as ChatML has them; what is shown stands where it was shown."""
    if family.content == "text":
        content = "{{ m['content'] }}"
    else:
        content = (
            "{% for c in m['content'] %}"
            f"{{% if c['type'] == 'image' %}}{family.image}"
            f"{{% elif c['type'] == 'video' %}}{family.video}"
            f"{{% elif c['type'] == 'audio' %}}{family.slots.get('sound', '')}"
            "{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
        )
    turn = f"<|im_start|>{{{{ m['role'] }}}}\n{content}{_END}\n"
    return f"{{% for m in messages %}}{turn}{{% endfor %}}<|im_start|>assistant\n"
