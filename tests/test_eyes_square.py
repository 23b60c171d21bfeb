"""LLaVA 1.5's eyes against transformers: the same pixels, the same rows, as many tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaImageProcessorPil, LlavaProcessor

import tiny_eyes
from anmok.errors import BadWeights
from anmok.nets.eyes import square
from anmok.nets.eyes.levels import HALF, Levels
from anmok.nets.eyes.square import CROP, PAD, Square, SquareRules, padded_square

CUT: dict[str, Any] = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
PADDED: dict[str, Any] = {"size": {"height": 336, "width": 336}, "do_pad": True, "do_center_crop": False}
SQUASHED: dict[str, Any] = {"size": {"height": 336, "width": 336}, "do_center_crop": False, "resample": 2}
TINY = SquareRules(16, "pad", Levels(HALF, HALF))


def tiny_net(tower: dict[str, Any] = tiny_eyes.CLIP_TOWER, **options: Any) -> LlavaForConditionalGeneration:
    config = LlavaConfig(vision_config=tower, text_config=tiny_eyes.LLAMA, image_token_index=300, **options)
    return tiny_eyes.alive(LlavaForConditionalGeneration(config))


@pytest.fixture(scope="module")
def net() -> LlavaForConditionalGeneration:
    return tiny_net()


@pytest.mark.parametrize("content", [CUT, PADDED, SQUASHED], ids=["crop", "pad", "squash"])
@pytest.mark.parametrize("size_hw", tiny_eyes.SIZES_HW, ids=str)
def test_pixels_are_those_of_transformers(
    net: LlavaForConditionalGeneration, content: dict[str, Any], size_hw: tuple[int, int]
) -> None:
    theirs = tiny_eyes.by_processor(LlavaImageProcessorPil(**content), size_hw)["pixel_values"][0]
    ours = Square(net, SquareRules.of(content)).prepare(tiny_eyes.picture(size_hw))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs)


def test_published_rules_are_what_the_files_say() -> None:
    assert SquareRules.of(CUT) == CROP
    assert SquareRules.of(PADDED) == PAD
    assert SquareRules.of(SQUASHED).levels.filter == "bilinear"


@pytest.mark.parametrize(
    "content",
    [
        {"size": {"height": 30, "width": 40}},
        {"size": {"shortest_edge": 30}, "do_center_crop": False},
        {"size": {"shortest_edge": 30}, "crop_size": {"height": 30, "width": 31}},
        {"size": {"shortest_edge": 30}, "resample": 9},
        {"size": {"shortest_edge": 30}, "image_mean": [0.5]},
    ],
    ids=["no square", "nothing cut", "cut to no square", "unknown filter", "one channel"],
)
def test_files_that_make_no_square_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(BadWeights, match=r"preprocessor_config\.json"):
        SquareRules.of(content)


@pytest.mark.parametrize("size_hw", [(1, 20_000), (20_000, 1)], ids=str)
@pytest.mark.parametrize("rules", [CROP, PAD], ids=["crop", "pad"])
def test_a_strip_is_never_held_as_a_whole_square(
    net: LlavaForConditionalGeneration, rules: SquareRules, size_hw: tuple[int, int]
) -> None:
    import tracemalloc

    image = tiny_eyes.picture(size_hw)
    tracemalloc.start()
    pixels = Square(net, rules).prepare(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pixels.shape == (3, 336, 336)
    assert np.isfinite(pixels).all()
    assert peak < 2e8  # the square would take 1.2e9


def test_what_is_made_smaller_first_looks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    column = np.linspace(0, 255, 4000).astype(np.uint8)
    image = np.broadcast_to(column[:, None, None], (4000, 300, 3)).copy()
    exact = padded_square(image, 64, PAD.levels).astype(int)
    monkeypatch.setattr(square, "_MOST", 4000 * 1000)
    near = padded_square(image, 64, PAD.levels).astype(int)
    assert 0 < np.abs(near - exact).max() <= 12  # at the two edges of the strip, which lie between columns
    assert np.abs(near - exact).mean() < 0.5


def test_padding_is_the_mean_colour_on_both_sides() -> None:
    white = np.full((2, 4, 3), 255, np.uint8)
    padded = padded_square(white, 4, Levels((0.5, 0.25, 1.0), HALF))
    assert padded[0].tolist() == [[127, 63, 255]] * 4
    assert padded[3].tolist() == [[127, 63, 255]] * 4
    assert padded[1:3].tolist() == [[[255, 255, 255]] * 4] * 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
        {"vision_feature_layer": [-2, 1]},
        {"tower": tiny_eyes.SIGLIP_TOWER, "vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
        {"tower": tiny_eyes.SIGLIP_TOWER, "vision_feature_layer": -1},
    ],
    ids=["clip", "with the class token", "two layers", "siglip", "siglip without its first patch"],
)
def test_rows_and_slot_are_those_of_transformers(options: dict[str, Any]) -> None:
    net = tiny_net(**options)
    size = net.config.vision_config.image_size
    eyes = Square(net, SquareRules(size, "pad", Levels(HALF, HALF)))
    batch = torch.from_numpy(np.stack([eyes.prepare(tiny_eyes.picture(one)) for one in tiny_eyes.SMALL_HW]))
    with torch.inference_mode():
        rows = eyes.encode(batch)
        theirs = net.model.get_image_features(pixel_values=batch, return_dict=True).pooler_output
        alone = torch.cat([eyes.encode(one[None]) for one in batch])
    assert torch.equal(rows, torch.stack(list(theirs)))
    assert torch.allclose(rows, alone, atol=1e-5)
    assert rows[0].std() > 0.1  # patches are told apart
    processor = LlavaProcessor(
        LlavaImageProcessorPil(),
        tiny_eyes.reads("<image>"),
        patch_size=net.config.vision_config.patch_size,
        vision_feature_select_strategy=net.config.vision_feature_select_strategy,
        num_additional_image_tokens=int(net.config.vision_config.model_type == "clip_vision_model"),
    )
    assert eyes.slot((9, 31)) == processor.replace_image_token({"pixel_values": batch.numpy()}, 0)
    assert eyes.slot((9, 31)).count("<image>") == len(eyes.packed(rows[0], (9, 31)))


def test_published_number_of_tokens() -> None:
    """LLaVA 1.5: 576 tokens a picture."""
    net = tiny_net({**tiny_eyes.CLIP_TOWER, "image_size": 336, "patch_size": 14})
    assert Square(net, PAD).slot((480, 640)) == "<image>" * 576
