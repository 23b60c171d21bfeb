"""InternVL's eyes against transformers: the same tiles, the same rows, the same text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor

import tiny_eyes
from anmok.errors import BadWeights
from anmok.nets.eyes.internvl import INTERNVL, InternRules, InternVL, nearest_grid
from anmok.nets.eyes.levels import IMAGENET_MEAN, IMAGENET_STD

PUBLISHED: dict[str, Any] = {
    "size": {"height": 448, "width": 448},
    "image_mean": IMAGENET_MEAN,
    "image_std": IMAGENET_STD,
    "min_patches": 1,
    "max_patches": 12,
}
TINY = InternRules(16, INTERNVL.levels, most=6)


def tiny_net() -> InternVLForConditionalGeneration:
    tower = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    config = InternVLConfig(vision_config=tower, text_config=tiny_eyes.QWEN2, image_token_id=300, image_seq_length=4)
    return tiny_eyes.alive(InternVLForConditionalGeneration(config))


@pytest.fixture(scope="module")
def net() -> InternVLForConditionalGeneration:
    return tiny_net()


@pytest.mark.parametrize("size_hw", [*tiny_eyes.SIZES_HW, (448, 448), (449, 448), (1600, 900)], ids=str)
@pytest.mark.parametrize("most", [12, 1])
def test_tiles_are_those_of_transformers(
    net: InternVLForConditionalGeneration, most: int, size_hw: tuple[int, int]
) -> None:
    content = PUBLISHED | {"max_patches": most}
    theirs = tiny_eyes.by_processor(GotOcr2ImageProcessorPil(**content, crop_to_patches=True), size_hw)
    ours = InternVL(net, InternRules.of(content)).prepare(tiny_eyes.picture(size_hw))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs["pixel_values"])


def test_published_rules_are_what_the_files_say() -> None:
    assert InternRules.of(PUBLISHED) == INTERNVL
    with pytest.raises(BadWeights, match="no square tiles"):
        InternRules.of({"size": {"height": 448, "width": 447}})


def test_grids_are_those_of_transformers_for_every_shape() -> None:
    processor = GotOcr2ImageProcessorPil(**PUBLISHED, crop_to_patches=True)
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 2000, (300, 2)).tolist():
        rows, columns = nearest_grid((height, width), INTERNVL)
        assert rows * columns + (rows * columns > 1) == processor.get_number_of_image_patches(height, width, {})


@pytest.mark.parametrize("size_hw", tiny_eyes.SMALL_HW, ids=str)
def test_rows_and_slot_are_those_of_transformers(
    net: InternVLForConditionalGeneration, size_hw: tuple[int, int]
) -> None:
    eyes = InternVL(net, TINY)
    tiles = torch.from_numpy(eyes.prepare(tiny_eyes.picture(size_hw)))
    batch = torch.stack([tiles, tiles.flip(0)])
    with torch.inference_mode():
        rows = eyes.encode(batch)
        alone = torch.cat([eyes.encode(one[None]) for one in batch])
        theirs = net.model.get_image_features(pixel_values=tiles, return_dict=True).pooler_output
    assert torch.allclose(rows[0], theirs.flatten(0, 1), atol=1e-5)
    assert torch.allclose(rows, alone, atol=1e-5)
    assert rows[0].std() > 0.1
    processor = InternVLProcessor.__new__(InternVLProcessor)  # without its part for videos, which wants torchvision
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    processor.image_token, processor.image_seq_length = "<IMG_CONTEXT>", 4
    expanded = processor.replace_image_token({"num_patches": [len(tiles)]}, 0)
    assert eyes.slot(size_hw) == expanded
    assert eyes.slot(size_hw).count("<IMG_CONTEXT>") == len(eyes.packed(rows[0], size_hw))


def test_published_number_of_tokens(net: InternVLForConditionalGeneration) -> None:
    """256 tokens a tile; 12 tiles and a thumbnail are 3,328."""
    net.config.vision_config.patch_size = (14, 14)
    try:
        eyes = InternVL(net, INTERNVL)
        assert eyes.slot((448, 448)) == f"<img>{'<IMG_CONTEXT>' * 256}</img>"
        assert eyes.slot((1500, 2000)).count("<IMG_CONTEXT>") == 256 * 13
    finally:
        net.config.vision_config.patch_size = (4, 4)
