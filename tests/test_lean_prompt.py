"""A prompt read at once: what is laid out for many rows gives the same, takes no more room, and leaves a memory that
answers go on from; towers laid out for bfloat16 give near rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.models.talking import Hears, Looks, Talks
from anmok.nets import lean_layers, toys
from anmok.nets.families import ELSEWHERE, FAMILIES, family_of
from anmok.nets.lean import Lean, lay_out_senses, nearness
from anmok.nets.lean_weights import (
    Aside,
    Eight,
    Float,
    Four,
    Laid,
    Pair,
    Twin,
    laid_nbytes,
    lay_out,
    multiplies_bfloat16,
    multiplies_bytes,
)
from test_lean import SIZES, error, expected, llama, text
from toy_talkers import setup

needs_bytes = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no instructions for bytes")
NEAR = 0.03 if multiplies_bytes() else 0.01  # by what towers are off: bytes round to 127 steps, bfloat16 to 2 ** -9
SMOLLM2 = ((960, 576), (576, 576), (3072, 576), (576, 1536))  # its four matrices


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def without(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, has_bytes: bool) -> None:
    """As on a processor that lacks instructions; one that has none does not get them."""
    monkeypatch.setattr(lean_layers, "multiplies_bfloat16", lambda: has_bfloat16 and multiplies_bfloat16())
    monkeypatch.setattr(lean_layers, "multiplies_bytes", lambda: has_bytes and multiplies_bytes())


def gate(rows: Tensor, weight: Tensor) -> Tensor:
    """float32 (T, K) and (N, K) to (T, N / 2), by its definition."""
    opened, up = (rows @ weight.T).chunk(2, 1)  # (T, N / 2)
    return functional.silu(opened) * up


@pytest.mark.parametrize("count", [1, 12, 64])
def test_a_gate_is_silu_of_one_half_times_the_other(count: int) -> None:
    whole, rows = some(96, 64), some(count, 64, seed=1)
    want = gate(rows, whole)
    assert error(Float(whole).gated(rows), want) < 1e-6
    narrow = rows.bfloat16()
    assert error(Twin(whole, is_gate=True).gated(narrow).float(), want) < 0.008
    assert error(Eight(whole).gated(narrow).float(), want) < 0.016  # rounded to 8 bits, twice multiplied
    codes, scale = (whole * 20).round().to(torch.int8), torch.full((96, 2), 0.05)
    kept = codes.view(96, 2, 32).float().flatten(1) * 0.05
    assert error(Pair(codes, scale).gated(narrow).float(), gate(rows, kept)) < 0.012
    four = Four.of(whole)
    plain = four(torch.eye(64).bfloat16()).float().T  # (96, 64)
    assert error(four.gated(narrow).float(), gate(rows, plain)) < 0.012


def test_a_twin_is_one_matrix_also_where_its_halves_lie_apart() -> None:
    whole, rows = some(96, 64), some(20, 64, seed=1).bfloat16()
    assert torch.equal(Twin(whole, is_gate=True)(rows), Twin(whole)(rows))
    assert error(Twin(whole)(rows).float(), rows.float() @ whole.T) < 0.005


def test_product_and_silu_are_part_of_the_sums_where_it_is_laid_out() -> None:
    """Rounded once instead of three times: the error is two thirds of that of single steps."""
    twin, rows = Twin(some(192, 64), is_gate=True), some(64, 64, seed=1).bfloat16()
    if not twin._is_laid:
        pytest.skip("oneDNN has no bfloat16 on this processor")
    want = gate(rows.float(), some(192, 64).bfloat16().float())
    opened, up = twin(rows).chunk(2, 1)
    steps = error((functional.silu(opened) * up).float(), want)
    assert error(twin.gated(rows).float(), want) < 0.8 * steps


def test_a_processor_that_onednn_knows_no_bfloat16_of_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rows = some(96, 64), some(20, 64, seed=1)
    want = gate(rows, whole)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain, exact = Twin(whole, is_gate=True), Float(whole)
    assert not any(one.is_mkldnn for one in plain._parts)
    assert error(plain.gated(rows.bfloat16()).float(), want) < 0.008
    assert error(plain(rows.bfloat16()).float(), rows @ whole.T) < 0.005
    assert error(exact(rows), rows @ whole.T) < 1e-6


@pytest.mark.parametrize("shape", SMOLLM2)
def test_what_is_laid_out_takes_the_room_of_two_bytes_a_weight(shape: tuple[int, int]) -> None:
    twin = Twin(torch.zeros(shape), is_gate=shape[0] == 3072)
    laid = sum(int(torch.ops.mkldnn._nbytes(one)) if twin._is_laid else one.nbytes for one in twin._parts)
    assert twin.nbytes == laid == 2 * shape[0] * shape[1]


@pytest.mark.parametrize(("kind", "most"), [("float32", 1e-5), ("bfloat16", 0.01), ("int8", 0.01), ("int4", 0.01)])
def test_going_on_from_a_prompt_that_was_cut_is_as_reading_it_anew(kind: Any, most: float) -> None:
    """The last layer computes its last row alone; keys and values of all rows are in the memory none the less. Sums of
    70 rows at once and of 40 may be ordered otherwise, which bfloat16 rounds to its last digit."""
    lean, ids = Lean.of(llama(initializer_range=0.08), kind), text(80)
    cut, anew = lean.memory(), lean.memory()
    lean.read(torch.cat([ids[:40], text(30, seed=1)]), cut)
    cut.crop(-30)
    lean.read(ids[:40], anew)
    for start, end in ((40, 70), (70, 71), (71, 80)):
        assert error(lean.read(ids[start:end], cut), lean.read(ids[start:end], anew)) < most


@pytest.mark.parametrize("has_bytes", [True, False])
@pytest.mark.parametrize("has_bfloat16", [True, False])
@pytest.mark.parametrize(("kind", "most"), [("float32", 1e-5), ("bfloat16", 0.02), ("int8", 0.05)])
def test_prompts_of_any_length_end_in_the_same_logits(
    kind: Any, most: float, has_bfloat16: bool, has_bytes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact as it was; near with fewer bits, whichever kernel the length and the processor choose: 11 by few bits, 12
    by the layers for prompts, 129 in two blocks of which the second has one row, 256 by bytes alone, 1025 in two parts
    of which the second has one row. Of eight bits the bound is for all four matrices of a layer, and rows, by bytes."""
    without(monkeypatch, has_bfloat16, has_bytes)
    net, ids = llama(initializer_range=0.08), text(1100)
    lean, want = Lean.of(net, kind), expected(net, ids)
    for count in (2, 11, 12, 127, 128, 129, 255, 256, 257, 1025, 1100):
        assert error(lean.read(ids[:count], lean.memory()), want[count - 1]) < most


def test_the_form_of_prompts_is_what_the_processor_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    net = llama()

    def forms() -> tuple[torch.dtype, ...]:
        one = Lean.of(net, "int8")._many.each[0]
        return (one.qkv.dtype, one.out.dtype, one.gate_up.dtype, one.down.dtype)

    read = torch.uint8 if multiplies_bytes() else torch.float32
    without(monkeypatch, has_bfloat16=False, has_bytes=True)
    assert forms() == (read, torch.float32, read, torch.float32)
    without(monkeypatch, has_bfloat16=False, has_bytes=False)
    assert forms() == 4 * (torch.float32,)
    assert Lean.of(net, "int8").sizes.weights == sum(one.numel() for one in net.model.layers[0].parameters()) - 2 * 64
    monkeypatch.setattr(lean_layers, "_MOST", 4 * 3 * Lean.of(net).sizes.weights - 1)  # a byte less than they take
    lean = Lean.of(net, "int8")
    assert lean._many is lean._few
    assert lean.read(text(40), lean.memory()).shape == (96,)


@needs_bytes
def test_a_prompt_in_another_frame_leaves_the_same_keys_and_values() -> None:
    """Answers go on from them with layers that know nothing of it."""
    lean, ids = Lean.of(llama(initializer_range=0.08), "int8"), text(60)
    assert lean._many.rotation is not None
    turned, plain = lean.memory(), lean.memory()
    lean.read(ids, turned)
    for i in range(60):
        lean.read(ids[i : i + 1], plain)
    kept, want = (one.room(0)[:, :, :60] for one in (turned, plain))
    for layer in range(3):
        assert 1e-4 < error(kept[layer], want[layer]) < 0.04


@needs_bytes
def test_biases_of_queries_keys_and_values_are_not_turned() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    net = Qwen2ForCausalLM(Qwen2Config(**{**SIZES, "initializer_range": 0.08})).eval()
    for name, weight in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    lean, ids = Lean.of(net, "int8"), text(20)
    assert error(lean.read(ids, lean.memory()), expected(net, ids)[-1]) < 0.04


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("size", [0.0, 1e-3])
def test_faint_rows_are_kept_from_zero_by_epsilon(size: float, count: int) -> None:
    """Rows of the size of the root of epsilon are normed to less than 1, and rows of nothing to nothing."""
    net = llama(initializer_range=0.08, num_hidden_layers=1)
    rows = size * some(count, 64)
    with torch.inference_mode():
        want = net(inputs_embeds=rows[None]).logits[0, -1]
    got = Lean.of(net, "int8").read(rows, Lean.of(net).memory())
    assert float((got - want).norm()) <= 0.04 * float(want.norm())


def vlm() -> Any:
    """Twelve layers of tower over a small language model."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    torch.manual_seed(0)
    vision = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 12, "num_attention_heads": 4}
    words = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    more = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96, "pad_token_id": 0}
    config = SmolVLMConfig(
        text_config={**words, **more},
        vision_config={**vision, "image_size": 64, "patch_size": 16},
        scale_factor=2,
        image_token_id=95,
    )
    net = SmolVLMForConditionalGeneration(config).eval()
    for name, weight in net.named_parameters():
        if weight.ndim == 2:  # as transformers draws them, layers hardly change what passes through
            nn.init.normal_(weight, 0, weight.shape[1] ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(weight, 0, 0.1)
    return net


def rows_of(net: Any) -> Tensor:
    pixels, mask = some(1, 2, 3, 64, 64), torch.ones(1, 2, 64, 64, dtype=torch.bool)
    with torch.inference_mode():
        return torch.cat(list(net.get_image_features(pixels, mask).pooler_output))


def test_a_tower_laid_out_for_bfloat16_gives_rows_within_a_hundredth() -> None:
    net = vlm()
    want = rows_of(net)
    count = sum(isinstance(one, nn.Linear) for one in net.model.modules())
    language = sum(isinstance(one, nn.Linear) for one in net.model.text_model.modules())
    assert (count, language) == (12 * 6 + 1 + 7, 7)
    assert lay_out(net.model, "bfloat16", but=net.model.text_model) == count - language
    assert 1e-4 < error(rows_of(net), want) < 0.01  # 2 ** -9 in each of 73 products; sums and norms are float32
    assert not any(isinstance(one, Laid) for one in net.model.text_model.modules())


def test_senses_are_laid_out_by_what_the_processor_multiplies() -> None:
    net = vlm()
    want = rows_of(net)
    assert lay_out_senses(net) == 73
    widths = {one.matrix.dtype for one in net.modules() if isinstance(one, Laid)}
    assert widths == {torch.bfloat16 if multiplies_bfloat16() else torch.float32}
    assert error(rows_of(net), want) < (NEAR if multiplies_bfloat16() else 1e-5)
    numbers = 12 * (4 * 96 * 96 + 2 * 96 * 192 + 4 * 96 + 192 + 96) + 384 * 64
    norms = 12 * 4 * 96 * 4 if multiplies_bfloat16() else 0  # those of whole blocks lie beside their matrices
    if not (multiplies_bytes() and multiplies_bfloat16()):
        assert laid_nbytes(net) == (2 if multiplies_bfloat16() else 4) * numbers + norms
    else:
        assert laid_nbytes(net) < 2 * numbers + norms
    assert lay_out_senses(net) == 0  # they are
    assert lay_out_senses(llama()) == 0  # nothing beside the language model


OURS = ["gemma3n", "hyperclovax_omni", "hyperclovax_vlm", "llavaonevision1_5", "videollama2_qwen2"]


@pytest.mark.parametrize("kind", ["smolvlm", "qwen2_vl", "internvl", "phi4_multimodal", *OURS])
def test_the_fastest_looks_with_what_is_laid_out(kind: str) -> None:
    exact = Talks.tiny(setup(kind), 0)
    near = Talks.tiny(replace(setup(kind), runtime="fastest"), 0)
    assert isinstance(exact, Looks)
    assert isinstance(near, Looks)
    assert not any(isinstance(one, Laid) for one in exact._net.modules())
    assert any(isinstance(one, Laid) for one in near._net.modules())
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    batch = exact.prepare(picture).pixels[None]
    want, got = (torch.from_numpy(one.encode(batch)["rows"]) for one in (exact, near))
    assert error(got, want) < NEAR
    assert near.nbytes <= exact.nbytes
    assert (exact.mark, near.mark) == ("", nearness())  # states are not shared


@pytest.mark.parametrize("kind", [*FAMILIES, *ELSEWHERE])
def test_all_that_see_or_hear_have_senses_that_are_found(kind: str) -> None:
    family = family_of(kind, kind)
    net: Any = toys.toy(kind, family, 0).net
    has_senses = family.eyes is not None or family.hearing is not None
    assert (lay_out_senses(net, family.senses) > 0) == has_senses


@pytest.mark.parametrize("kind", ["phi4_multimodal", "phi4_multimodal_speech"])
def test_senses_within_a_language_model_are_where_the_family_tells(kind: str) -> None:
    family = FAMILIES[kind]
    net: Any = toys.toy(kind, family, 0).net
    senses, layers = net.model.embed_tokens_extend, net.model.layers
    count = sum(type(one) is nn.Linear for one in senses.modules())
    assert count == 16 + 13  # to see with, and to hear with
    assert lay_out_senses(net) == 0  # the net itself does not tell
    assert lay_out_senses(net, family.senses) == count
    assert sum(isinstance(one, Laid) for one in senses.modules()) == count
    assert not any(isinstance(one, Laid) for one in layers.modules())


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_no_rows_are_as_wide_as_any(kind: Any) -> None:
    laid = Laid(nn.Linear(8, 5), kind)
    assert laid(torch.zeros(2, 3, 8)).shape == (2, 3, 5)
    assert laid(torch.zeros(2, 0, 8)).shape == (2, 0, 5)


@pytest.mark.parametrize("kind", ["gemma4_hears", "phi4_multimodal", "videollama2_qwen2_av", "gemma3n"])
def test_the_fastest_hears_with_what_is_laid_out(kind: str) -> None:
    exact = Talks.tiny(setup(kind), 0)
    near = Talks.tiny(replace(setup(kind), runtime="fastest"), 0)
    assert isinstance(exact, Hears)
    assert isinstance(near, Hears)
    samples = (0.3 * np.sin(np.arange(24_000) / 20)).astype(np.float32)
    prepared = exact.prepare_sound(samples, is_of_clip=False)
    want, got = (torch.from_numpy(one.encode_sound(prepared)["rows"]) for one in (exact, near))
    assert error(got, want) < 0.01
    assert not multiplies_bfloat16() or error(got, want) > 1e-6  # it does hear with them


def test_codes_stay_exact() -> None:
    """A picture's code is the nearest of many: of a row that is near it may be another."""
    exact = Talks.tiny(setup("hyperclovax_omni"), 0)
    near = Talks.tiny(replace(setup("hyperclovax_omni"), runtime="fastest"), 0)
    for one in (exact, near):
        codes = one._net.sight.discrete_vision_model
        assert not any(isinstance(part, Aside) for part in codes.modules())
    pixels = some(2, 3, codes.side, codes.side)
    with torch.inference_mode():
        assert torch.equal(*(one._net.sight.discrete_vision_model(pixels) for one in (exact, near)))
