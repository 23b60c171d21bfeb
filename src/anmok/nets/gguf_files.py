"""A GGUF file of the Llama kind as transformers' net, with all that a conversation needs: tokenizer, template, ends.

The weights are widened to the dtype that is asked for (``lean_gguf`` keeps their bits instead). transformers can open
such files too, but wants accelerate for it and takes the vocabulary to be split as Llama 3 splits text, whatever the
file says, so that SmolLM2 reads numbers in threes that it learned digit by digit.

Source: ggml-org/ggml, docs/gguf.md (names and keys); ggml-org/llama.cpp, ``conversion`` (how queries and keys lie).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from anmok.errors import BadWeights, Unsupported
from anmok.nets.gguf_reading import reading
from anmok.nets.pretrained import filled
from anmok.wording.byte_level import tokenizer_json

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

_OUTER: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_KIND: Final = "llama"


@dataclass(frozen=True, slots=True)
class Told:
    """What a conversation asks of a configuration, by transformers' names. The library itself is not needed for it."""

    vocab_size: int
    max_position_embeddings: int
    model_type: str = _KIND

    def get_text_config(self) -> Told:
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """``tokenizer`` is the text of a tokenizer.json, ``template`` the chat template, ``special`` the texts that a
    template may ask for by name, ``ends`` the tokens that end an answer, as the file names them. ``net`` is None where
    the weights were not asked for."""

    config: Told
    net: LlamaForCausalLM | None
    tokenizer: str
    template: str
    special: Mapping[str, str]
    ends: frozenset[int]
    file: Any  # the reader


def opened(path: Path, dtype: torch.dtype | None, name: str) -> Opened:
    """All of a file; without its weights where no ``dtype`` for them is given. ``name`` is the card's, for messages.

    Raises:
        MissingDependency: gguf is not installed.
        BadWeights: no GGUF file, one that is cut off, or one without a chat template.
        Unsupported: a model of another kind than plain Llama, or a vocabulary of another kind than byte-level.
    """
    try:
        file = reading(path, name)
        facts = {key: field.contents() for key, field in file.fields.items()}
        tensors = {one.name: one for one in file.tensors}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise BadWeights(f"{name}: {path.name} is no GGUF file, or damaged ({error}); get it again") from None
    _check(facts, tensors, name)
    template = facts.get("tokenizer.chat_template")
    if not isinstance(template, str) or not template:
        raise BadWeights(f"{name}: no chat template in {path.name}, so it was not made to chat")
    try:
        told = Told(int(tensors["token_embd.weight"].shape[1]), facts["llama.context_length"])
        net = None if dtype is None else _net(facts, tensors, dtype, name)
    except KeyError as error:
        raise BadWeights(f"{name}: {path.name} lacks {error}; get the file again") from None
    ends = [facts.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    known = frozenset(one for one in ends if one is not None)
    return Opened(told, net, tokenizer_json(facts, name), template, _special(facts), known, file)


def _check(facts: Mapping[str, Any], tensors: Mapping[str, Any], name: str) -> None:
    kind = facts.get("general.architecture")
    if kind != _KIND:
        raise Unsupported(f"{name}: its GGUF holds a model of the kind {kind!r}, and plain Llama alone is read")
    scaling = facts.get("llama.rope.scaling.type", "none")
    odd = [one for one in ("blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight", "rope_freqs.weight") if one in tensors]
    if scaling != "none" or odd:
        raise Unsupported(f"{name}: {odd[0] if odd else f'positions scaled as {scaling!r}'}, which plain Llama has not")


def _net(facts: Mapping[str, Any], tensors: Mapping[str, Any], dtype: torch.dtype, name: str) -> LlamaForCausalLM:
    from transformers import LlamaForCausalLM

    config = _config(facts, tensors)
    return filled(LlamaForCausalLM, config, _state(config, tensors, dtype), dtype, name)


def _config(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> LlamaConfig:
    from transformers import LlamaConfig

    heads, width = facts["llama.attention.head_count"], facts["llama.embedding_length"]
    marks: dict[str, Any] = {
        f"{short}_token_id": facts.get(f"tokenizer.ggml.{key}_token_id") for short, key in _MARKS.items()
    }
    return LlamaConfig(
        vocab_size=int(tensors["token_embd.weight"].shape[1]),
        hidden_size=width,
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=facts.get("llama.attention.head_count_kv", heads),
        head_dim=facts.get("llama.attention.key_length", width // heads),
        max_position_embeddings=facts["llama.context_length"],
        rms_norm_eps=facts["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": facts.get("llama.rope.freq_base", 10_000.0)},
        tie_word_embeddings="output.weight" not in tensors,
        **marks,
    )


_MARKS: Final = {"bos": "bos", "eos": "eos", "pad": "padding"}


def _state(config: LlamaConfig, tensors: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Under transformers' names."""
    state = {ours: _plain(tensors[theirs], dtype) for ours, theirs in _OUTER.items() if theirs in tensors}
    if len(state) < len(_OUTER) - config.tie_word_embeddings:
        raise KeyError(next(theirs for theirs in _OUTER.values() if theirs not in tensors))
    for i in range(config.num_hidden_layers):
        for ours, theirs in _INNER.items():
            weight = _plain(tensors[f"blk.{i}.{theirs}.weight"], dtype)
            if theirs in ("attn_q", "attn_k"):
                weight = _halves(weight, config.head_dim or config.hidden_size // config.num_attention_heads)
            state[f"model.layers.{i}.{ours}.weight"] = weight
    return state


def _halves(weight: Tensor, head: int) -> Tensor:
    """Rows (heads * head, K) in which what is rotated together lies side by side, to the two halves of each head."""
    pairs = weight.view(-1, head // 2, 2, weight.shape[1])  # (heads, head / 2, 2, K)
    return pairs.transpose(1, 2).flatten(0, 2)  # (heads * head, K)


def _plain(tensor: Any, dtype: torch.dtype) -> Tensor:
    from gguf.quants import dequantize

    return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)).to(dtype)


def _special(facts: Mapping[str, Any]) -> dict[str, str]:
    tokens: dict[Any, str] = dict(enumerate(facts.get("tokenizer.ggml.tokens", [])))
    names = {**_MARKS, "unk": "unknown"}
    return {
        f"{short}_token": tokens.get(facts.get(f"tokenizer.ggml.{key}_token_id"), "") for short, key in names.items()
    }
