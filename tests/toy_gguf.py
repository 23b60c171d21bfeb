"""A GGUF file of a Llama at toy size, as llama.cpp's converter lays it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
SPECIAL = ("<|im_start|>", "<|im_end|>", "<given>")
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*SPECIAL, *LETTERS, "12", "ab"]
Q4_1, F32 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.F32
NAMES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"}
PARTS = {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


def net() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    made = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2)
    return made


def laid(weight: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp lays queries and keys: what is rotated together side by side."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def tensors(made: LlamaForCausalLM) -> dict[str, np.ndarray]:
    state = {key: value.numpy() for key, value in made.state_dict().items()}
    named = {"token_embd": state["model.embed_tokens.weight"], "output_norm": state["model.norm.weight"]}
    for i in range(2):
        block, layer = f"blk.{i}", f"model.layers.{i}"
        for short, name in NAMES.items():
            weight = state[f"{layer}.self_attn.{short}_proj.weight"]
            named[f"{block}.{name}"] = laid(weight, {"q": 4, "k": 2}[short]) if short in "qk" else weight
        for short, name in PARTS.items():
            named[f"{block}.{name}"] = state[f"{layer}.mlp.{short}_proj.weight"]
        named[f"{block}.attn_norm"] = state[f"{layer}.input_layernorm.weight"]
        named[f"{block}.ffn_norm"] = state[f"{layer}.post_attention_layernorm.weight"]
    return {f"{name}.weight": value for name, value in named.items()}


def written(path: Path, made: LlamaForCausalLM, kind: Any = F32, without: str = "", **other: str) -> Path:
    facts = {"architecture": "llama", "model": "gpt2", "pre": "smollm", "template": TEMPLATE, **other}
    writer = gguf.GGUFWriter(path, facts["architecture"])
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(500.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(facts["model"])
    writer.add_tokenizer_pre(facts["pre"])
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 4, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["1 2", "a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    if facts["template"]:
        writer.add_chat_template(facts["template"])
    for name, value in tensors(made).items():
        if name != without:
            is_packed = kind != F32 and value.ndim == 2
            packed = quantize(value, kind) if is_packed else value
            writer.add_tensor(name, packed, raw_dtype=kind if is_packed else F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(made: LlamaForCausalLM) -> torch.Tensor:
    with torch.inference_mode():
        return made(torch.arange(20)[None] + 5).logits
