"""Bytes times bytes is the product that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from anmok.nets.lean_bytes import STEPS, Bytes, Rows, coded, put
from anmok.nets.lean_weights import Float, Twin, Wide, multiplies_bfloat16, multiplies_bytes
from anmok.nets.rotations import Rotation
from test_lean_prompt import error, some

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no instructions for bytes")
STEP = 1 / STEPS
KINDS: tuple[Wide, ...] = ("float32", "bfloat16") if multiplies_bfloat16() else ("float32",)


def widened(codes: Tensor) -> Tensor:
    return (codes.float() - 128) * STEP


def test_a_code_is_the_nearest_step_and_the_last_for_what_lies_beyond() -> None:
    rows = torch.tensor([0.0, 0.49 * STEP, 0.51 * STEP, -0.51 * STEP, 4.0, -4.0, 100.0, -100.0])
    assert coded(STEPS * rows).tolist() == [128, 128, 129, 127, 255, 1, 255, 1]
    normed = some(200, 576)
    assert float((widened(coded(STEPS * normed)) - normed.clamp(-4, 4)).abs().max()) <= 0.501 * STEP


@pytest.mark.parametrize("count", [1, 12, 600])
@pytest.mark.parametrize("gives", [torch.float32, torch.bfloat16])
def test_sums_are_those_of_the_codes(count: int, gives: torch.dtype) -> None:
    weight, codes, bias = some(96, 64), coded(STEPS * some(count, 64, seed=1)), some(96, seed=2)
    made = Bytes(weight, bias=bias, gives=gives)(codes)
    assert made.dtype == gives
    scale = weight.abs().amax(1, keepdim=True) / 127
    kept = (weight / scale).round() * scale
    assert error(made.float(), widened(codes) @ kept.T + bias) < (1e-5 if gives == torch.float32 else 0.003)
    assert error(made.float(), widened(codes) @ weight.T + bias) < 0.01


@pytest.mark.parametrize("then", [None, "gelu", "gelu-tanh", "gelu-quick"])
def test_what_comes_after_the_sums(then: str | None) -> None:
    weight, codes, bias = some(96, 64), coded(STEPS * some(20, 64, seed=1)), some(96, seed=2)
    sums = widened(codes) @ weight.T + bias
    want = {
        None: sums,
        "gelu": functional.gelu(sums),
        "gelu-tanh": functional.gelu(sums, approximate="tanh"),
        "gelu-quick": sums * torch.sigmoid(1.702 * sums),
    }[then]
    assert error(Bytes(weight, bias=bias)(codes, then).float(), want) < 0.012  # type: ignore[arg-type]


def test_a_gate_is_silu_of_one_half_times_the_other() -> None:
    whole, codes = some(96, 64), coded(STEPS * some(20, 64, seed=1))
    opened, up = (widened(codes) @ whole.T).chunk(2, 1)
    gate = Bytes(whole, is_gate=True)
    assert error(gate.gated(codes).float(), functional.silu(opened) * up) < 0.016
    assert torch.equal(gate(codes), Bytes(whole)(codes))
    assert gate.nbytes == 96 * (64 + 4 + 8)  # bytes, a scale and the code of zero
    bias = some(96, seed=2)
    opened, up = (widened(codes) @ whole.T + bias).chunk(2, 1)
    assert error(Bytes(whole, is_gate=True, bias=bias).gated(codes).float(), functional.silu(opened) * up) < 0.016


def test_turned_rows_lose_little_whatever_stands_out() -> None:
    """A number 20 times the others is beyond the last step as it is, and one of many when it is turned."""
    rows, weight, rotation = some(64, 576), some(96, 576, seed=1), Rotation(576)
    rows[:, 7] *= 60
    rows = rows * rows.pow(2).mean(1, keepdim=True).rsqrt()
    want = rows @ weight.T
    turned = Bytes(rotation.of(weight))(coded(STEPS * rotation.of(rows)))
    assert error(Bytes(weight)(coded(STEPS * rows)).float(), want) > 0.5
    assert error(turned.float(), want) < 0.014


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 32])
def test_rows_of_any_size_have_steps_of_their_own(kind: Wide, most: int) -> None:
    weight, rows = some(48, 96), some(300, 96, seed=1)
    sizes = torch.logspace(-20, 20, 300)[:, None]
    rows[7] = 0
    read = Rows(weight, kind, most)
    made = read((sizes * rows).to(read.dtype))
    assert made.dtype == torch.float32
    assert made[7].tolist() == [0.0] * 48
    assert error(made / sizes, rows @ weight.T) < 0.014


@pytest.mark.parametrize("count", [1, 255, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_onto_rows_is_what_would_be_added(kind: Wide, count: int) -> None:
    rows, start = some(count, 96, seed=1), some(count, 48, seed=2)
    for matrix in (Rows(some(48, 96), kind, 32), Float(some(48, 96))):
        made, x = matrix(rows.clone().to(matrix.dtype)), start.clone()
        put(matrix, rows.clone(), x)
        torch.testing.assert_close(x, start + made, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_turned_where_a_number_stands_out(kind: Wide) -> None:
    """50 times the others in one column: as it is, they have five steps left; turned, their block of 32 has 30."""
    weight, rows = some(48, 96), some(300, 96, seed=1)
    weight[:, 5] = 0.02
    rows[:, 5] = 50.0
    want = rows @ weight.T
    plain, turned = (
        error(read(rows.clone().to(read.dtype)), want) for read in (Rows(weight, kind), Rows(weight, kind, 32))
    )
    assert turned < 0.5 * plain
    assert turned < 0.07


def test_a_width_that_has_no_blocks_of_32() -> None:
    for width in (33, 34, 72, 160):
        weight, rows = some(48, width), some(300, width, seed=1)
        assert error(Rows(weight, "float32", 32)(rows.clone()), rows @ weight.T) < 0.014


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_does_not_become_one(kind: Wide, odd: float) -> None:
    """And leaves the other rows as they are."""
    weight, rows = some(48, 96), some(300, 96, seed=1)
    rows[3, 9] = odd
    read = Rows(weight, kind, 32)
    made = read(rows.to(read.dtype))
    assert not torch.isfinite(made[3]).any()
    others = torch.arange(300) != 3
    assert error(made[others], rows[others] @ weight.T) < 0.014


@pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor has no instructions for bfloat16")
def test_few_rows_are_read_by_bfloat16() -> None:
    weight, rows = some(48, 96), some(255, 96, seed=1).bfloat16()
    read = Rows(weight, "bfloat16", 32)
    assert torch.equal(read(rows), Twin(weight)(rows).float())
    assert read.nbytes == 48 * (96 * (1 + 2) + 4 + 8)
    assert Rows(weight, "float32").nbytes == 48 * (96 + 4 + 8)
