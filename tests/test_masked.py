"""Masked pre-training: what is hidden stays hidden, and the loss falls."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from anmok.errors import BadRequest, Unsupported
from anmok.nets.efficientnet_lite import TINY, EfficientNetLite
from anmok.nets.masked import MaskedNet, normalised, patches, sine_positions
from anmok.nets.trunk import Trunk, of_clip, of_dino, of_efficientnet, of_siglip
from anmok.train.masked import Masking, adapt_eye, kept_patches, masked_loss, masked_net
from anmok.train.opening import How
from anmok.train.recipe import Recipe

SIZE, PATCH, COUNT = 32, 8, 16
NARROW: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PREFIX = {"clip": 1, "siglip": 0, "dinov2": 1, "registers": 3, "dinov3": 3}
SMALL = Masking(width=32, depth=1, heads=2)


def trunk(kind: str) -> Trunk:
    torch.manual_seed(0)
    sizes = {**NARROW, "image_size": SIZE, "patch_size": PATCH}
    wide = {**sizes, "intermediate_size": 64}
    match kind:
        case "clip":
            return of_clip(CLIPVisionModel(CLIPVisionConfig(**wide)))
        case "siglip":
            return of_siglip(SiglipVisionModel(SiglipVisionConfig(**wide)))
        case "dinov2":
            return of_dino(Dinov2Model(Dinov2Config(**sizes)), SIZE)
        case "registers":
            net = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=2))
            return of_dino(net, SIZE)
        case _:
            return of_dino(DINOv3ViTModel(DINOv3ViTConfig(**wide, num_register_tokens=2)), SIZE)


def pictures(count: int, seed: int = 1) -> Tensor:
    """One square pattern again and again, a mixture of four: who sees a patch knows the hidden ones."""
    bases = np.random.default_rng(0).normal(size=(4, 3, PATCH, PATCH))
    mixtures = np.random.default_rng(seed).normal(size=(count, 4))
    pattern = np.einsum("nk,kchw->nchw", mixtures, bases) / 2  # (N, 3, 8, 8)
    return torch.from_numpy(np.tile(pattern, (1, 1, SIZE // PATCH, SIZE // PATCH)).astype(np.float32))


class Fixed:
    """Inputs that lie in memory."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, rows: np.ndarray, step: int | None) -> Tensor:
        return self.pixels[torch.from_numpy(rows)]


def test_kept_and_hidden_patches_are_all_patches_once() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = kept_patches(500, 16, 0.75, generator)
    assert kept.shape == (500, 4)
    is_kept = torch.zeros(500, 16).scatter(1, kept, 1.0)
    assert is_kept.sum(1).tolist() == [4.0] * 500  # no patch twice, so twelve are hidden
    often = is_kept.mean(0)  # a quarter each; five standard deviations are 0.097
    assert float((often - 0.25).abs().max()) < 0.097
    assert torch.equal(kept, kept_patches(500, 16, 0.75, torch.Generator().manual_seed(0)))
    assert not torch.equal(kept, kept_patches(500, 16, 0.75, generator))


@pytest.mark.parametrize(("count", "share", "kept"), [(2, 0.99, 1), (2, 0.01, 1), (49, 0.75, 12), (196, 0.75, 49)])
def test_at_least_one_patch_is_kept_and_one_hidden(count: int, share: float, kept: int) -> None:
    assert kept_patches(3, count, share).shape == (3, kept)


def test_patches_are_the_squares_of_the_picture_row_by_row() -> None:
    pixels = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    parts = patches(pixels, 2)
    assert parts.shape == (2, 6, 12)
    assert torch.equal(parts[1, 4].reshape(3, 2, 2), pixels[1, :, 2:4, 2:4])
    flat = normalised(parts)
    assert torch.allclose(flat.mean(-1), torch.zeros(2, 6), atol=1e-6)
    assert torch.allclose(flat.var(-1), torch.ones(2, 6), atol=1e-4)
    assert float(normalised(torch.full((1, 1, 12), 9.0)).abs().max()) == 0


def test_sine_positions_tell_every_place_and_rows_from_columns() -> None:
    grid = sine_positions(3, 5, 16, torch.device("cpu"))
    assert grid.shape == (15, 16)
    assert float(torch.pdist(grid).min()) > 0.1
    assert torch.equal(grid[0, :8], grid[4, :8])  # one row
    assert torch.equal(grid[0, 8:], grid[10, 8:])  # one column
    assert grid[1, 8:12].tolist() == pytest.approx([np.sin(1), np.sin(0.1**1), np.sin(0.01), np.sin(0.001)], abs=1e-6)


@pytest.mark.parametrize("kind", PREFIX)
def test_the_tower_never_sees_a_hidden_patch(kind: str) -> None:
    net = masked_net(trunk(kind), SMALL, 0).eval()
    pixels, kept = pictures(2), torch.tensor([[0, 5, 6, 15], [1, 2, 9, 12]])
    before = net.seen(pixels, kept)
    assert before.shape == (2, PREFIX[kind] + 4, 32)
    other = pixels.clone()
    for row in range(2):
        for patch in set(range(COUNT)) - set(kept[row].tolist()):
            top, left = PATCH * (patch // 4), PATCH * (patch % 4)
            other[row, :, top : top + PATCH, left : left + PATCH] = 50.0
    assert torch.equal(net.seen(other, kept), before)
    assert torch.equal(net.painted(other, kept), net.painted(pixels, kept))
    assert not torch.equal(net(other, kept), net(pixels, kept))  # the target did change
    other[0, :, 0, 0] += 1.0  # in patch 0, which is kept
    assert float((net.seen(other, kept) - before)[0].abs().max().detach()) > 1e-4


@pytest.mark.parametrize("kind", PREFIX)
def test_with_all_patches_kept_it_is_the_tower(kind: str) -> None:
    net = masked_net(trunk(kind), SMALL, 0).eval()
    pixels = pictures(2)
    whole = net.trunk.before(pixels, len(net.trunk.stages) - 1)  # through all blocks
    everything = torch.arange(COUNT).expand(2, -1)
    assert torch.allclose(net.seen(pixels, everything), whole, atol=1e-6)
    # in another order: a patch's position goes with it
    order = torch.stack([torch.randperm(COUNT, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    mixed = net.seen(pixels, order)[:, PREFIX[kind] :]
    straight = whole[:, PREFIX[kind] :].gather(1, order[:, :, None].expand(-1, -1, 32))
    assert torch.allclose(mixed, straight, atol=1e-5)


def test_the_loss_is_the_error_on_hidden_patches_alone() -> None:
    net = masked_net(trunk("clip"), SMALL, 0).eval()
    pixels, kept = pictures(2), torch.tensor([[0, 5, 6, 15], [1, 2, 9, 12]])
    wanted, painted = normalised(patches(pixels, PATCH)), net.painted(pixels, kept)
    hidden = [[p for p in range(COUNT) if p not in row] for row in kept.tolist()]
    errors = [(painted[i, p] - wanted[i, p]).square().mean() for i, row in enumerate(hidden) for p in row]
    assert len(errors) == 24
    assert float(net(pixels, kept).detach()) == pytest.approx(float(torch.stack(errors).mean().detach()), rel=1e-5)


@pytest.mark.parametrize("kind", PREFIX)
def test_the_loss_falls_and_the_tower_alone_is_changed(kind: str) -> None:
    one = trunk(kind)
    before = copy.deepcopy(one)
    seen = Fixed(pictures(64))
    unseen = pictures(32, seed=2)
    recipe = Recipe(steps=60, rate=3e-3, batch=16, precision="float32")
    adapted = adapt_eye(one, seen, recipe, SMALL, How("full", decay=1.0))
    start, end = (float(np.mean(part)) for part in (adapted.curve.losses[:5], adapted.curve.losses[-5:]))
    assert start > 0.9  # of normalised patches, the mean guessed everywhere has 1
    assert end < 0.3 * start
    # the change carries what was learned: put into the untouched tower it gives the same features
    assert not torch.allclose(before(unseen), one(unseen), atol=1e-3)
    adapted.change.apply(before)
    assert torch.allclose(before(unseen), one(unseen), atol=1e-5)


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    recipes = [Recipe(3, 1e-3, 8, seed=seed, precision="float32") for seed in (0, 0, 1)]
    curves = [adapt_eye(trunk("dinov2"), Fixed(pictures(16)), recipe, SMALL).curve for recipe in recipes]
    assert curves[0].losses == curves[1].losses
    assert curves[0].losses != curves[2].losses


def test_a_convolutional_net_is_refused_with_a_reason() -> None:
    convnext = DINOv3ConvNextModel(DINOv3ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]))
    for one in (of_dino(convnext, SIZE), of_efficientnet(EfficientNetLite(TINY))):
        with pytest.raises(Unsupported, match="a convolution cannot leave patches out"):
            MaskedNet(one)
        with pytest.raises(Unsupported, match="tune the last blocks"):
            adapt_eye(one, Fixed(pictures(4)), Recipe(1, 1e-3, 2))


def test_what_cannot_be_masked_is_refused() -> None:
    net = masked_net(trunk("clip"), SMALL, 0)
    with pytest.raises(BadRequest, match="do not divide"):
        masked_loss(net, torch.zeros(1, 3, 36, 32))
    with pytest.raises(BadRequest, match="none to hide"):
        kept_patches(1, 1)
    with pytest.raises(BadRequest, match="between 0 and 1"):
        Masking(share=1.0)
    with pytest.raises(BadRequest, match="width that heads and 4 divide"):
        Masking(width=30, heads=4)
