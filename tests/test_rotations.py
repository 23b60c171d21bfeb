"""Rotations keep lengths and angles, and leave no number of a row standing out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anmok.nets.rotations import Rotation, Spread, hadamard, mixed, signs

WIDTHS = [1, 7, 48, 96, 576, 960, 1664, 4096]  # odd, small, SmolLM2's and SmolVLM's, 64 * 26, 64 * 64


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", WIDTHS)
def test_products_of_rows_stay_and_can_be_turned_back(width: int) -> None:
    rotation, rows, others = Rotation(width), some(600, width), some(5, width) + 1
    turned = rotation.of(rows)
    torch.testing.assert_close(turned @ rotation.of(others).T, rows @ others.T, atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(rotation.back(turned), rows, atol=1e-5, rtol=0)
    assert torch.equal(Rotation(width).of(rows), turned)  # the same each time


def test_rows_of_any_shape() -> None:
    rotation, rows = Rotation(96), some(2, 3, 96)
    torch.testing.assert_close(rotation.of(rows)[1], rotation.of(rows[1]), atol=1e-6, rtol=0)
    assert rotation.of(some(0, 96)).shape == (0, 96)


@pytest.mark.parametrize("width", [576, 960, 4096])
def test_a_number_that_stands_out_does_so_no_more(width: int) -> None:
    """Each number by itself, as long as a row of mean square 1: spread over all of them, it is at most the root of 2;
    so it was the root of the width."""
    turned = Rotation(width).of(width**0.5 * torch.eye(width))
    assert float(turned.abs().max()) < 1.415
    torch.testing.assert_close(turned.pow(2).mean(1), torch.ones(width), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 12, 64])
def test_matrices_are_orthogonal(size: int) -> None:
    torch.testing.assert_close(mixed(size) @ mixed(size).T, torch.eye(size), atol=1e-6, rtol=0)
    assert size & (size - 1) or torch.equal(mixed(size), hadamard(size))


def test_a_block_is_spread_by_itself() -> None:
    spread, rows = Spread(768), some(20, 768)
    assert len(spread.block) == 128
    torch.testing.assert_close(spread.of(rows) @ spread.of(rows).T, rows @ rows.T, atol=1e-3, rtol=1e-5)
    loud = spread.of(768**0.5 * torch.eye(768))
    assert int((loud != 0).sum(1).max()) == 128
    assert float(loud.abs().max()) < 3.5
    assert len(Spread(1152).block) == 128  # SigLIP's so400m
    assert len(Spread(48).block) == 16


@pytest.mark.parametrize(
    ("width", "fits"), [(768, True), (1024, True), (1152, True), (48, True), (3200, False), (13, False)]
)
def test_rows_too_wide_for_their_blocks_are_told(width: int, fits: bool) -> None:
    assert Spread.fits(width) is fits


def test_signs_are_of_both_kinds() -> None:
    assert set(signs(576).tolist()) == {1.0, -1.0}
    assert 200 < int((signs(576) > 0).sum()) < 376
