"""Position embeddings at other sizes, and heads for other labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from anmok.errors import BadRequest, Unsupported
from anmok.nets.heads import swap_head
from anmok.nets.positions import resize_tower, resized

NARROW: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def table(height: int, width: int, prefix: int = 1, depth: int = 3) -> torch.Tensor:
    return torch.randn(prefix + height * width, depth, generator=torch.Generator().manual_seed(0))


def smooth(side: int) -> torch.Tensor:
    """A class token and slow waves over a grid, at the centres of its patches: (1 + side^2, 2)."""
    centres = (torch.arange(side) + 0.5) / side
    down, across = torch.meshgrid(centres, centres, indexing="ij")
    waves = torch.stack([torch.sin(2 * across + down), torch.cos(2 * down)], -1).reshape(-1, 2)
    return torch.cat([torch.full((1, 2), 7.0), waves])


def test_the_same_size_changes_nothing() -> None:
    given = table(4, 4)
    assert torch.equal(resized(given, (4, 4), 1), given)


def test_a_grid_twice_as_fine_has_the_weights_of_the_cubic_kernel() -> None:
    # one row with an impulse: Keys' kernel for a = -0.5 at distances 1.75, 1.25, 0.75, 0.25 and back
    given = torch.zeros(9, 1)
    given[4] = 1.0
    got = resized(given, (1, 18), from_hw=(1, 9))[:, 0]
    kernel = [-0.0234375, -0.0703125, 0.2265625, 0.8671875]
    assert got[5:13].tolist() == pytest.approx([*kernel, *kernel[::-1]], abs=1e-6)
    assert got[:5].abs().max() == 0


def test_it_is_what_pillow_makes_of_the_same_picture() -> None:
    # Pillow's bicubic has antialiasing and the same kernel: 7 x 5 both smaller and larger
    given = table(7, 5, prefix=0, depth=1)
    for height, width in ((3, 4), (14, 9), (3, 9)):
        picture = Image.fromarray(given.reshape(7, 5).numpy(), "F").resize((width, height), Image.Resampling.BICUBIC)
        got = resized(given, (height, width), from_hw=(7, 5)).reshape(height, width).numpy()
        assert np.abs(got - np.asarray(picture)).max() < 1e-5


def test_what_stands_before_the_patches_is_kept() -> None:
    given = table(4, 4, prefix=5)
    got = resized(given, (6, 3), prefix=5)
    assert got.shape == (5 + 18, 3)
    assert torch.equal(got[:5], given[:5])
    moved = given.clone()
    moved[:5] += 100
    assert torch.equal(resized(moved, (6, 3), prefix=5)[5:], got[5:])


def test_rows_and_columns_are_not_swapped() -> None:
    across = torch.arange(4.0).repeat(4)[:, None]  # grows to the right alone
    grid = resized(across, (8, 4))[:, 0].reshape(8, 4)
    assert torch.allclose(grid, torch.arange(4.0).expand(8, 4), atol=1e-6)


def test_smooth_embeddings_come_back_from_a_larger_grid() -> None:
    given = smooth(14)
    there = resized(given, (24, 24), 1)
    error = (there - smooth(24)).abs()
    assert torch.equal(error[0], torch.zeros(2))
    assert float(error.max()) < 0.05  # at the edges, where the grid is taken to go on as it ends
    assert float(error[1:].reshape(24, 24, 2)[3:-3, 3:-3].max()) < 1e-4
    assert float((resized(there, (14, 14), 1) - given).abs().max()) < 0.02


def test_halves_are_computed_in_single_precision() -> None:
    given = table(4, 4).bfloat16()
    got = resized(given, (7, 7), 1)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, resized(given.float(), (7, 7), 1).bfloat16())


@pytest.mark.parametrize(
    ("count", "to_hw", "prefix", "from_hw"),
    [
        (17, (2, 2), 0, None),
        (16, (2, 2), 1, None),
        (16, (0, 2), 0, None),
        (16, (2, 2), 0, (3, 5)),
        (1, (2, 2), 1, None),
    ],
)
def test_a_table_for_another_grid_is_refused(
    count: int, to_hw: tuple[int, int], prefix: int, from_hw: tuple[int, int] | None
) -> None:
    with pytest.raises(BadRequest):
        resized(torch.zeros(count, 3), to_hw, prefix, from_hw)


def tower(kind: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {**NARROW, "image_size": 32, "patch_size": 8}
    match kind:
        case "clip":
            return CLIPVisionModel(CLIPVisionConfig(**sizes, intermediate_size=64)).eval()
        case "siglip":
            return SiglipVisionModel(SiglipVisionConfig(**sizes, intermediate_size=64)).eval()
        case "registers":
            return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=2)).eval()
        case _:
            return Dinov2Model(Dinov2Config(**sizes)).eval()


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "registers"])
def test_a_tower_takes_pictures_of_its_new_size(kind: str) -> None:
    net = tower(kind)
    before = {name: one.clone() for name, one in net.state_dict().items()}
    resize_tower(net, 48)
    changed = {name for name, one in net.state_dict().items() if not torch.equal(one, before.get(name, torch.empty(0)))}
    assert len(changed) == 1
    [name] = changed
    prefix = 0 if kind == "siglip" else 1
    wanted = resized(before[name].reshape(-1, 32), (6, 6), prefix)
    assert torch.equal(net.state_dict()[name].reshape(-1, 32), wanted)
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.isfinite(net(pixel_values=pixels).pooler_output).all()


def test_a_tower_with_computed_positions_is_refused() -> None:
    net = DINOv3ViTModel(DINOv3ViTConfig(**NARROW, intermediate_size=64, patch_size=8, image_size=32))
    with pytest.raises(Unsupported, match="DINOv3ViTModel has no table"):
        resize_tower(net, 48)
    with pytest.raises(BadRequest, match="do not divide"):
        resize_tower(tower("clip"), 50)


def test_labels_that_stay_keep_their_rows_and_new_ones_get_their_texts() -> None:
    weight = np.array([[3.0, 0, 0], [0, 5.0, 0]], np.float32)
    texts = np.array([[0, 0, 0.5], [9, 9, 9.0]], np.float32)
    got = swap_head(weight, ["cat", "dog"], ["fox", "cat"], texts)
    assert got.tolist() == [[0, 0, 4.0], [3.0, 0, 0]]  # 4 is the mean length of the old rows
    assert got.dtype == np.float32


def test_the_same_labels_in_another_order_are_the_same_head() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 6))
    got = swap_head(weight, list("abcd"), list("dbca"), np.zeros((4, 6)))
    assert np.array_equal(got, weight[[3, 1, 2, 0]])


@pytest.mark.parametrize(
    ("old", "new", "texts", "said"),
    [
        (["a"], ["b"], np.ones((1, 3)), "one row for each label"),
        (["a", "a"], ["b"], np.ones((1, 3)), "more than once"),
        (["a", "c"], ["b", "b"], np.ones((2, 3)), "more than once"),
        (["a", "c"], ["b"], np.ones((1, 4)), "of one space"),
        (["a", "c"], ["b"], np.zeros((1, 3)), "'b' is zero"),
        (["a", "c"], ["b"], np.full((1, 3), np.nan), "'b' is zero or not a number"),
    ],
)
def test_heads_that_do_not_belong_together_are_refused(
    old: list[str], new: list[str], texts: np.ndarray, said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        swap_head(np.ones((2, 3)), old, new, texts)
