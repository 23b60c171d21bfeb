"""Language models out of GGUF files: weights, vocabulary, template, and files that are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders

from anmok.errors import BadWeights, MissingDependency, Unsupported
from anmok.nets.gguf_files import opened
from anmok.wording import Reader
from anmok.wording.byte_level import byte_level, tokenizer_json
from toy_gguf import TEMPLATE, TOKENS, logits, net, written


def test_the_net_is_the_one_that_was_written(tmp_path: Path) -> None:
    made = net()
    found = opened(written(tmp_path / "a.gguf", made), torch.float32, "toy").net
    assert found is not None
    assert (logits(found) - logits(made)).abs().max() == 0
    assert found.config.max_position_embeddings == 128
    assert not found.training
    half = opened(tmp_path / "a.gguf", torch.bfloat16, "toy").net
    assert half is not None
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


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


def test_a_vocabulary_is_written_as_the_library_would_write_it() -> None:
    tokens, merges = ["<|im_start|>", "1", "2", "ab", "<given>", "a", "b", "Ġ"], ["a b"]
    facts = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "merges": merges,
        "token_type": [3, 1, 1, 1, 4, 1, 1, 1],
    }
    made = byte_level(tokens, merges, "smollm")
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|im_start|>", special=True)])
    made.add_tokens([AddedToken("<given>", normalized=False)])
    told = tokenizer_json({f"tokenizer.ggml.{key}": value for key, value in facts.items()}, "toy")
    assert Tokenizer.from_str(told).to_str() == made.to_str()


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
