"""The lean reader: the logits of transformers in float32, near ones with fewer bits; a memory one can go back in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anmok.errors import BadRequest, TooMuch, Unsupported
from anmok.nets.lean import Lean, unfit
from anmok.nets.lean_weights import (
    Apart,
    Eight,
    Float,
    Four,
    Pair,
    last_matrix,
    lay_out,
    matrix,
    multiplies_bfloat16,
    multiplies_bytes,
    narrowed,
)

SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}


def llama(**more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    net = LlamaForCausalLM(LlamaConfig(**{**SIZES, **more})).eval()
    for name, weight in net.named_parameters():
        if "norm" in name:  # of ones, a norm that is left out would not be seen
            nn.init.uniform_(weight, 0.5, 1.5)
    return net


def expected(net: Any, ids: Tensor) -> Tensor:
    """float32 (T, V)."""
    with torch.inference_mode():
        logits: Tensor = net(input_ids=ids[None]).logits[0]
    return logits


def text(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, SIZES["vocab_size"], (count,), generator=torch.Generator().manual_seed(seed))


def error(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


CONFIGS = {
    "grouped": {},
    "tied": {"tie_word_embeddings": True},
    "one head each": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 32},
    "rotation of 500000": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_gives_the_logits_of_transformers(name: str) -> None:
    net, ids = llama(**CONFIGS[name]), text(40)
    lean, want = Lean.of(net), expected(net, ids)
    memory = lean.memory()
    assert error(lean.read(ids[:30], memory), want[29]) < 1e-5
    for i in range(30, 35):  # one by one, as an answer is written
        assert error(lean.read(ids[i : i + 1], memory), want[i]) < 1e-5
    assert error(lean.read(ids[35:], memory), want[39]) < 1e-5  # several, behind others
    assert memory.length == 40


def test_qwen_has_biases_of_queries_keys_and_values() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    net = Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()
    for name, weight in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    lean, ids = Lean.of(net), text(20)
    want = expected(net, ids)
    assert error(lean.read(ids, lean.memory()), want[-1]) < 1e-5
    memory = lean.memory()
    for i in range(20):  # one by one
        assert error(lean.read(ids[i : i + 1], memory), want[i]) < 1e-5


@pytest.mark.parametrize("count", [1, 5, 40])
def test_what_is_read_stays_as_it_is(count: int) -> None:
    rows = torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
    before = rows.clone()
    for kind in ("float32", "int8"):
        lean = Lean.of(llama(), kind)
        lean.read(rows, lean.memory())
        assert torch.equal(rows, before)


@pytest.mark.parametrize("width", [36, 52, 72, 100])
def test_widths_that_are_no_multiples_of_sixteen(width: int) -> None:
    """The kernel of eight bits reads sixteen numbers at a time, and beyond the end of other rows."""
    net, ids = llama(intermediate_size=width, hidden_size=width, head_dim=16, initializer_range=0.08), text(40)
    lean, want = Lean.of(net, "int8"), expected(net, ids)
    for count in (1, 5, 40):
        assert error(lean.read(ids[:count], lean.memory()), want[count - 1]) < 0.05


def test_the_language_model_of_one_that_sees() -> None:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    torch.manual_seed(0)
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **SIZES, "pad_token_id": 0},
        vision_config={**vision, "image_size": 32, "patch_size": 16},
        image_token_id=95,
    )
    net, ids = SmolVLMForConditionalGeneration(config).eval(), text(20) % 95
    lean = Lean.of(net)
    assert error(lean.read(ids, lean.memory()), expected(net, ids)[-1]) < 1e-5


def test_vectors_are_read_as_the_words_that_they_are() -> None:
    net, ids = llama(), text(20)
    lean = Lean.of(net)
    words = lean.embedded(ids)
    assert words.shape == (20, 64)
    assert torch.equal(lean.read(words, lean.memory()), lean.read(ids, lean.memory()))


def test_a_prompt_longer_than_what_is_read_together() -> None:
    net, ids = llama(), text(1500)
    lean = Lean.of(net)
    assert error(lean.read(ids, lean.memory()), expected(net, ids)[-1]) < 1e-5


def test_a_memory_that_was_cut_goes_on_as_if_nothing_had_been_behind() -> None:
    net, ids = llama(), text(60)
    lean, other = Lean.of(net), text(30, seed=1)
    memory = lean.memory()
    lean.read(torch.cat([ids[:25], other]), memory)
    memory.crop(-30)
    assert (memory.length, memory.get_seq_length()) == (25, 25)
    assert error(lean.read(ids[25:], memory), expected(net, ids)[-1]) < 1e-5
    memory.crop(0)
    assert memory.length == 60


def test_a_memory_at_least_doubles_and_keeps_what_it_had() -> None:
    net, ids = llama(), text(600)
    lean = Lean.of(net)
    memory = lean.memory()
    row = 3 * 2 * 2 * 16 * 4  # layers, keys and values, kv heads, head, bytes
    assert memory.nbytes == 256 * row
    lean.read(ids[:250], memory)
    for i in range(250, 260):
        last = lean.read(ids[i : i + 1], memory)
    assert memory.nbytes == 512 * row
    assert error(last, expected(net, ids[:260])[-1]) < 1e-5
    lean.read(ids[260:], memory)  # 600 tokens, with room for an answer behind them
    assert memory.nbytes == 1024 * row


def test_what_cannot_be_read_is_said() -> None:
    lean = Lean.of(llama(max_position_embeddings=32))
    memory = lean.memory()
    lean.read(text(30), memory)
    with pytest.raises(TooMuch, match="33 tokens and the model reads 32"):
        lean.read(text(3), memory)
    assert memory.length == 30
    with pytest.raises(BadRequest, match="at least one of 64 numbers"):
        lean.read(torch.zeros(2, 63), memory)
    with pytest.raises(BadRequest, match="at least one of 64 numbers"):
        lean.read(torch.zeros(0, dtype=torch.long), memory)
    with pytest.raises(BadRequest, match="cannot forget 31 of 30"):
        memory.crop(-31)
    with pytest.raises(BadRequest, match="cannot forget -1 of 30"):
        memory.crop(1)


def test_nets_of_other_kinds_are_refused_by_reason() -> None:
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    assert unfit(llama()) == ""
    assert unfit(llama(hidden_act="gelu")) == "its layers use gelu"
    assert unfit(llama(mlp_bias=True)) == "it has biases that Llama has not"
    dynamic = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    assert unfit(llama(rope_parameters=dynamic)) == "its positions are of the kind 'dynamic'"
    assert unfit(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8))) == "it attends in a window"
    assert unfit(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None))) == ""
    assert "norms" in unfit(Qwen3ForCausalLM(Qwen3Config(**SIZES)))
    assert "norms" in unfit(Gemma2ForCausalLM(Gemma2Config(**SIZES)))
    assert "no layers" in unfit(nn.Linear(2, 2))
    with pytest.raises(Unsupported, match="LlamaForCausalLM cannot be read as a lean model: its layers use gelu"):
        Lean.of(llama(hidden_act="gelu"))


@pytest.mark.parametrize(("kind", "most"), [("bfloat16", 0.02), ("int8", 0.04), ("int4", 0.35)])
def test_fewer_bits_stay_near(kind: Any, most: float) -> None:
    """Random weights have no structure that four bits could keep: the numbers are those of rounding itself."""
    net, ids = llama(initializer_range=0.08), text(300)
    lean, want = Lean.of(net, kind), expected(net, ids)
    memory = lean.memory()
    assert 0 < error(lean.read(ids[:200], memory), want[199]) < most  # by the layers for prompts, in blocks
    assert 0 < error(lean.read(ids[200:299], memory), want[298]) < most  # behind others
    assert 0 < error(lean.read(ids[299:], memory), want[299]) < most  # by the few bits themselves
    assert (
        lean.nbytes < (1 if multiplies_bfloat16() else 1.5) * Lean.of(net).nbytes
    )  # else prompts are float32 beside it


def weight(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("count", [1, 5, 40])
def test_each_form_multiplies_by_the_weights_that_it_keeps(count: int) -> None:
    whole = weight(48, 64)
    rows = torch.randn(count, 64, generator=torch.Generator().manual_seed(3))
    want = rows @ whole.T
    assert error(Float(whole)(rows), want) < 1e-6
    assert error(Eight(whole)(rows.bfloat16()).float(), want) < 0.011
    codes, scale = narrowed(whole.view(-1, 32))
    assert error(Pair(codes.view_as(whole), scale.view(48, 2))(rows.bfloat16()).float(), want) < 0.0075
    if multiplies_bytes():  # else its sums overflow, and it is not taken
        assert error(Apart([whole[:20], whole[20:]])(rows), want) < 0.009
    assert isinstance(last_matrix(whole, "int4"), Apart if multiplies_bytes() else Eight)
    codes = torch.randint(0, 16, (48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    scale, least = weight(48, 2).abs() + 0.1, weight(48, 2)
    four = (codes.view(48, 2, 32) * scale[..., None] + least[..., None]).flatten(1)
    assert error(Four(codes, scale, least)(rows.bfloat16()).float(), rows @ four.T) < 0.008


def test_four_bits_are_rounded_to_the_nearest_of_sixteen_steps() -> None:
    whole = weight(16, 32)
    step = (whole.amax(1) - whole.amin(1)) / 15
    kept = Four.of(whole)(torch.eye(32).bfloat16()).float().T  # (16, 32)
    assert ((kept - whole).abs() <= 0.51 * step[:, None] + 0.01 * whole.abs().amax(1)[:, None]).all()
    assert torch.isfinite(Four.of(torch.ones(16, 32))(torch.ones(1, 32).bfloat16())).all()  # no range at all


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no instructions for bytes")
def test_numbers_that_stand_out_do_not_drown_the_others() -> None:
    """One a thousand times the rest: with one step for all, the rest would round to nothing."""
    whole, row = weight(48, 64), torch.randn(1, 64, generator=torch.Generator().manual_seed(3))
    others = row @ whole.T
    loud = row.clone()
    loud[0, 5] = 1000.0
    kept = Apart([whole[:20], whole[20:]])
    column = kept(torch.eye(64)[5:6])  # as it is kept, by itself
    assert error(kept(loud) - 1000.0 * column, (loud - 1000.0 * torch.eye(64)[5:6]) @ whole.T) < 0.01
    assert error(kept(row), others) < 0.0075


def test_a_shape_that_four_bits_have_no_form_for_takes_eight() -> None:
    assert isinstance(matrix(weight(32, 64), "int4"), Four)
    assert isinstance(matrix(weight(30, 64), "int4"), Eight)
    assert isinstance(matrix(weight(32, 48), "int4"), Eight)


def test_linears_laid_out_give_the_same() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Sequential(nn.Linear(40, 8, bias=False)))
    rows = torch.randn(2, 5, 24)
    with torch.inference_mode():
        want = net(rows)
        assert lay_out(net) == 2
        assert error(net(rows), want) < 1e-6
        assert net(rows).shape == (2, 5, 8)
    assert lay_out(net) == 0
