"""Language models out of GGUF files: weights, vocabulary, template, and files that are none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from anmok.errors import BadWeights, MissingDependency, Unsupported
from anmok.nets.gguf_files import opened
from anmok.wording import Reader

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


def test_the_net_is_the_one_that_was_written(tmp_path: Path) -> None:
    made = net()
    found = opened(written(tmp_path / "a.gguf", made), torch.float32, "toy").net
    assert (logits(found) - logits(made)).abs().max() == 0
    assert found.config.max_position_embeddings == 128
    assert not found.training
    half = opened(tmp_path / "a.gguf", torch.bfloat16, "toy").net
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_four_bits_are_widened_as_transformers_widens_them(tmp_path: Path) -> None:
    made = net()
    path = written(tmp_path / "a.gguf", made, Q4_1)
    found = opened(path, torch.float32, "toy").net
    theirs = AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file=path.name, local_files_only=True)
    ours = found.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, ours[key]) for key, value in theirs.state_dict().items())
    whole = made.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    packed = dequantize(quantize(whole, Q4_1), Q4_1)
    np.testing.assert_array_equal(ours["model.layers.1.mlp.up_proj.weight"].numpy(), packed)
    assert 0 < np.abs(packed - whole).max() < 0.06
    assert (logits(found) - logits(theirs.eval())).abs().max() == 0


def test_the_vocabulary_splits_as_the_file_says_and_marks_are_marks(tmp_path: Path) -> None:
    made = net()
    apart = opened(written(tmp_path / "a.gguf", made), torch.float32, "toy")
    one, two, mark = TOKENS.index("1"), TOKENS.index("2"), TOKENS.index("<|im_end|>")
    reader = Reader(apart.tokenizer, "toy")
    assert reader.ids(["12<|im_end|>"]) == [one, two, mark]  # SmolLM2 takes digits one by one
    assert reader.bytes_of(one) == b"1"
    assert reader.bytes_of(mark) == b""
    assert (apart.template, apart.ends) == (TEMPLATE, frozenset({1}))
    assert apart.special == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "", "unk_token": ""}
    joined = opened(written(tmp_path / "b.gguf", made, pre="gpt-2"), torch.float32, "toy")
    assert Reader(joined.tokenizer, "toy").ids(["12"]) == [TOKENS.index("12")]


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        (
            {"architecture": "mamba"},
            Unsupported,
            "its GGUF holds a model of the kind 'mamba', and plain Llama alone",
        ),
        (
            {"model": "llama"},
            Unsupported,
            "a vocabulary of 'llama' split as 'smollm'; byte-level ones split as gpt-2",
        ),
        ({"pre": "odd"}, Unsupported, "toy: a vocabulary of 'gpt2' split as 'odd'"),
        ({"template": ""}, BadWeights, "toy: no chat template in a.gguf, so it was not made to chat"),
        ({"without": "blk.1.ffn_up.weight"}, BadWeights, "toy: a.gguf lacks 'blk.1.ffn_up.weight'; get the file again"),
        ({"without": "token_embd.weight"}, BadWeights, "toy: a.gguf lacks 'token_embd.weight'"),
        ({"without": "output_norm.weight"}, BadWeights, "toy: a.gguf lacks 'output_norm.weight'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, changed: dict[str, str], error: type[Exception], says: str
) -> None:
    path = written(tmp_path / "a.gguf", net(), **changed)
    with pytest.raises(error, match=says):
        opened(path, torch.float32, "toy")


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.gguf", net())
    content = path.read_bytes()
    for cut in (b"", b"GGUF", content[: len(content) // 3], content[:-5000], b"PK" + content):
        path.write_bytes(cut)
        with pytest.raises(BadWeights, match=r"toy: a\.gguf is no GGUF file, or damaged"):
            opened(path, torch.float32, "toy")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependency, match=r"GGUF files need the package gguf: pip install 'anmok\[models\]'"):
        opened(path, torch.float32, "toy")
