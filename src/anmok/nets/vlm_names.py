"""Checkpoints of vision-language models in their authors' layout, as transformers' nets have them: the names of the
tensors and the configuration.

InternVL 2, 2.5 and 3 (github.com/OpenGVLab/InternVL, ``internvl_chat``) become ``InternVLForConditionalGeneration``.
Its vision tower has queries, keys and values in one matrix. So has InternLM2, the reader of some sizes, but group by
group: the queries that share a key, then that key, then its value; it becomes a Llama.

LLaVA and LLaVA-Med (github.com/haotian-liu/LLaVA, github.com/microsoft/LLaVA-Med, ``llava_llama`` and
``llava_mistral``) become ``LlavaForConditionalGeneration``. They have no token for pictures; two are added behind the
vocabulary, ``<image>`` and ``<pad>``, and so many more that their number is a multiple of 64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from anmok.errors import BadWeights
from anmok.nets.eyes.internvl import INTERNVL, InternRules
from anmok.nets.tower_shapes import CLIP_L14, CLIP_L14_336

Table = tuple[tuple[str, str], ...]
Content = Mapping[str, Any]

# In this order; each pattern once.
INTERN_TABLE: Final[Table] = (
    (r"^vision_model\.", "model.vision_tower."),
    (r"^(model\.vision_tower\.encoder)\.layers\.", r"\1.layer."),
    (r"\.class_embedding$", ".cls_token"),
    (r"\.position_embedding$", ".position_embeddings"),
    (r"\.patch_embedding\.", ".patch_embeddings.projection."),
    (r"\.ls(\d)$", r".lambda_\1"),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.", ".attention."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^language_model\.(lm_head|output)\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
)
INTERNLM2_TABLE: Final[Table] = (
    (r"\.tok_embeddings\.", ".embed_tokens."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.attention\.wqkv\.", ".self_attn.wqkv."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
)
LLAVA_TABLE: Final[Table] = (
    (r"^model\.vision_tower\.vision_tower\.vision_model\.", "model.vision_tower."),
    (r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
    (r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
    (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
)
# The towers that LLaVA's configurations name and do not describe.
TOWERS: Final[Mapping[str, Content]] = {
    "openai/clip-vit-large-patch14": CLIP_L14,
    "openai/clip-vit-large-patch14-336": CLIP_L14_336,
}

# What a reader is in transformers, by the class that the authors name, and the number that its token for pictures has
# in the tokenizers of InternVL 2.5; InternVL 2 and 3.5 have others.
_READERS: Final[Mapping[str, tuple[str, int | None]]] = {
    "InternLM2ForCausalLM": ("llama", 92546),
    "LlamaForCausalLM": ("llama", None),
    "Qwen2ForCausalLM": ("qwen2", 151667),
    "Qwen3ForCausalLM": ("qwen3", None),
}
_READER_FIELDS: Final = frozenset(
    {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "max_window_layers",
        "rms_norm_eps",
        "rope_theta",
        "rope_scaling",
        "sliding_window",
        "use_sliding_window",
        "attention_bias",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
    }
)
_TOWER_FIELDS: Final = frozenset(
    {
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
        "layer_norm_eps",
        "image_size",
        "patch_size",
        "num_channels",
    }
)
_BUFFERS: Final = (".rotary_emb.inv_freq", ".position_ids")  # older checkpoints hold them; they are computed
_MULTIPLE: Final = 64


def internvl_config(content: Content, image_id: int | None = None) -> dict[str, Any]:
    """The ``config.json`` of an ``internvl_chat`` as that of an ``InternVLForConditionalGeneration``.

    Args:
        content: what the file says.
        image_id: the number of ``<IMG_CONTEXT>`` in the tokenizer; without it, as InternVL 2.5 has it.

    Raises:
        BadWeights: a reader, or a way of joining patches, that this net does not have.
    """
    reader, vision = content["llm_config"], content["vision_config"]
    kind, usual_id = _reader(reader)
    if (image_id := usual_id if image_id is None else image_id) is None:
        raise BadWeights(f"config.json: with a {kind} for a reader, the number of <IMG_CONTEXT> has to be given")
    if content.get("ps_version") == "v1":
        raise BadWeights("config.json: ps_version 'v1' joins patches the other way round, which no net here does")
    if reader.get("rope_pos_id_version", "default") != "default":
        raise BadWeights(f"config.json: rope_pos_id_version {reader['rope_pos_id_version']!r}; want 'default'")
    text = _taken(reader, _READER_FIELDS) | {"model_type": kind}
    if reader["architectures"][0] == "InternLM2ForCausalLM":
        text["attention_bias"] = bool(reader.get("bias", True))
    tower = _taken(vision, _TOWER_FIELDS) | {
        "model_type": "internvl_vision",
        "norm_type": vision.get("norm_type", "rms_norm"),
        "attention_bias": bool(vision.get("qkv_bias", False)),
        "use_qk_norm": bool(vision.get("qk_normalization", True)),
    }
    return {
        "model_type": "internvl",
        "architectures": ["InternVLForConditionalGeneration"],
        "text_config": text,
        "vision_config": tower,
        "image_token_id": image_id,
        "downsample_ratio": content.get("downsample_ratio", 0.5),
        "vision_feature_layer": content.get("select_layer", -1),
        "tie_word_embeddings": bool(reader.get("tie_word_embeddings", False)),
    }


def internvl_rules(content: Content) -> InternRules:
    """How the pictures of an ``internvl_chat`` are cut into tiles, by its ``config.json``."""
    tile = int(content.get("force_image_size") or content["vision_config"]["image_size"])
    if not content.get("dynamic_image_size", True):
        return InternRules(tile, INTERNVL.levels, 1, 1)
    if not content.get("use_thumbnail", True):
        raise BadWeights("config.json: use_thumbnail is off; these eyes always add a thumbnail")
    fewest, most = content.get("min_dynamic_patch", 1), content.get("max_dynamic_patch", INTERNVL.most)
    return InternRules(tile, INTERNVL.levels, int(fewest), int(most))


def internvl_state(state: Mapping[str, Tensor], content: Content) -> dict[str, Tensor]:
    """The tensors of an ``internvl_chat`` under the names of ``InternVLForConditionalGeneration``, ``content`` being
    its ``config.json``. What no rule knows keeps its name, so that the loader reports it."""
    reader = content["llm_config"]
    is_internlm2 = reader["architectures"][0] == "InternLM2ForCausalLM"
    table = (*INTERN_TABLE, *INTERNLM2_TABLE) if is_internlm2 else INTERN_TABLE
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_BUFFERS):
            continue
        name = _renamed(name, table)
        if ".attention.qkv." in name:
            parts = tensor.chunk(3)  # (C, C) each
        elif ".self_attn.wqkv." in name:
            parts = _ungrouped(tensor, reader)
        else:
            renamed[name] = tensor
            continue
        for letter, part in zip("qkv", parts, strict=True):
            renamed[re.sub(r"\.w?qkv\.", f".{letter}_proj.", name)] = part.contiguous()
    return renamed


def llava_config(content: Content, tower: Content | None = None) -> dict[str, Any]:
    """The ``config.json`` of a LLaVA or LLaVA-Med as that of a ``LlavaForConditionalGeneration``.

    Args:
        content: what the file says.
        tower: the configuration of the vision tower, where it is not one of ``TOWERS``.

    Raises:
        BadWeights: a projector or tokens that this net does not have, or a tower that nobody described.
    """
    kind = str(content.get("model_type", "")).removeprefix("llava_")
    if kind not in ("llama", "mistral"):
        raise BadWeights(f"config.json: model_type {content.get('model_type')!r}; want llava_llama or llava_mistral")
    if content.get("mm_projector_type") != "mlp2x_gelu":
        raise BadWeights(f"config.json: mm_projector_type {content.get('mm_projector_type')!r}; want 'mlp2x_gelu'")
    if content.get("mm_use_im_start_end"):
        raise BadWeights("config.json: mm_use_im_start_end is on; tokens around pictures are not in these eyes")
    vision = tower or TOWERS.get(str(content.get("mm_vision_tower")))
    if vision is None:
        raise BadWeights(f"config.json: tower {content.get('mm_vision_tower')!r} is none of {', '.join(TOWERS)}")
    text = _taken(content, _READER_FIELDS) | {"model_type": kind}
    vocabulary = int(content["vocab_size"])
    text["vocab_size"] = _rounded(vocabulary)
    is_whole = content.get("mm_vision_select_feature") == "cls_patch"
    return {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": text,
        "vision_config": dict(vision),
        "image_token_id": vocabulary,
        "pad_token_id": vocabulary + 1,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": content.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": "full" if is_whole else "default",
        "tie_word_embeddings": bool(content.get("tie_word_embeddings", False)),
    }


def llava_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a LLaVA or LLaVA-Med under the names of ``LlavaForConditionalGeneration``.

    The rows of the tokens that are added are the mean of all others. What they read is never looked at: a picture's
    rows take the place of the image token's. And the logit of a mean row is the mean logit, so that no such token is
    ever the likeliest.
    """
    renamed = {_renamed(name, LLAVA_TABLE): tensor for name, tensor in state.items() if not name.endswith(_BUFFERS)}
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        if name in renamed:
            rows = renamed[name]  # (V, D)
            mean = rows.float().mean(0, keepdim=True).to(rows.dtype)  # (1, D)
            renamed[name] = torch.cat([rows, mean.expand(_rounded(len(rows)) - len(rows), -1)])  # (V', D)
    return renamed


def _taken(content: Content, names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name in names}


def _reader(content: Content) -> tuple[str, int | None]:
    name = str((content.get("architectures") or ["nothing"])[0])
    if name not in _READERS:
        raise BadWeights(f"config.json: the reader is {name}; want one of {', '.join(_READERS)}")
    return _READERS[name]


def _renamed(name: str, table: Table) -> str:
    for old, new in table:
        name = re.sub(old, new, name)
    return name


def _ungrouped(tensor: Tensor, reader: Content) -> tuple[Tensor, Tensor, Tensor]:
    """InternLM2's matrix, or bias, ((G + 2) * K * d, ...) to queries (K * G * d, ...), keys and values (K * d, ...),
    where G queries share each of K keys."""
    keys = int(reader.get("num_key_value_heads") or reader["num_attention_heads"])
    shared = int(reader["num_attention_heads"]) // keys
    size = len(tensor) // (keys * (shared + 2))
    groups = tensor.reshape(keys, shared + 2, size, *tensor.shape[1:])  # (K, G + 2, d, ...)
    return groups[:, :-2].flatten(0, 2), groups[:, -2].flatten(0, 1), groups[:, -1].flatten(0, 1)


def _rounded(vocabulary: int) -> int:
    """Of the vocabulary and two tokens more, the next multiple of 64."""
    return -(-(vocabulary + 2) // _MULTIPLE) * _MULTIPLE
