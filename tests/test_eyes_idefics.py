"""The eyes of Idefics3 and SmolVLM against transformers: the same tiles, the same rows, the same text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

import tiny_eyes
from anmok.nets.eyes.idefics import SMOLVLM_LARGE, SMOLVLM_SMALL, Idefics, IdeficsRules
from anmok.nets.eyes.levels import HALF, Levels

TINY = IdeficsRules(16, 48, Levels(HALF, HALF, "lanczos"))
NAMES = {"image": "<image>", "around": "<fake_token_around_image>", "whole": "<global-img>"}


def published(tile: int, **options: Any) -> dict[str, Any]:
    return {"size": {"longest_edge": 4 * tile}, "max_image_size": {"longest_edge": tile}, "resample": 1, **options}


def tiny_net(kind: str = "smolvlm") -> Any:
    tower = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    parts = {"vision_config": tower, "text_config": tiny_eyes.LLAMA, "scale_factor": 2, "image_token_id": 300}
    if kind == "smolvlm":
        return tiny_eyes.alive(SmolVLMForConditionalGeneration(SmolVLMConfig(**parts)))
    return tiny_eyes.alive(Idefics3ForConditionalGeneration(Idefics3Config(**parts)))


@pytest.fixture(scope="module")
def net() -> Any:
    return tiny_net()


@pytest.mark.parametrize("size_hw", tiny_eyes.SIZES_HW, ids=str)
@pytest.mark.parametrize("tile", [512, 384])
def test_tiles_are_those_of_transformers(net: Any, tile: int, size_hw: tuple[int, int]) -> None:
    content = published(tile)
    kind = SmolVLMImageProcessorPil if tile == 512 else Idefics3ImageProcessorPil
    theirs = tiny_eyes.by_processor(kind(**content, return_row_col_info=True), size_hw)
    eyes = Idefics(net, IdeficsRules.of(content))
    ours = eyes.prepare(tiny_eyes.picture(size_hw))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs["pixel_values"][0])
    assert eyes.grid(size_hw) == (theirs["rows"][0][0], theirs["cols"][0][0])


@pytest.mark.parametrize("options", [{"do_image_splitting": False}, {"size": {"longest_edge": 512}}], ids=str)
@pytest.mark.parametrize("size_hw", [(61, 83), (512, 512), (30, 400), (1, 1)], ids=str)
def test_one_tile_is_that_of_transformers(net: Any, options: dict[str, Any], size_hw: tuple[int, int]) -> None:
    """As frames of a video are shown."""
    content = published(512) | options
    theirs = tiny_eyes.by_processor(SmolVLMImageProcessorPil(**content), size_hw)["pixel_values"][0]
    eyes = Idefics(net, IdeficsRules.of(content))
    assert theirs.shape == (1, 3, 512, 512)
    assert np.array_equal(eyes.prepare(tiny_eyes.picture(size_hw)), theirs)
    assert eyes.grid(size_hw) == (1, 1)


def test_published_rules_are_what_the_files_say() -> None:
    assert IdeficsRules.of(published(512)) == SMOLVLM_SMALL
    assert IdeficsRules.of(published(384)) == SMOLVLM_LARGE
    assert IdeficsRules.of({}) == SMOLVLM_SMALL


@pytest.mark.parametrize("kind", ["smolvlm", "idefics3"])
@pytest.mark.parametrize("size_hw", tiny_eyes.SMALL_HW, ids=str)
def test_rows_and_slot_are_those_of_transformers(kind: str, size_hw: tuple[int, int]) -> None:
    net = tiny_net(kind)
    eyes = Idefics(net, TINY)
    tiles = torch.from_numpy(eyes.prepare(tiny_eyes.picture(size_hw)))
    batch = torch.stack([tiles, tiles.flip(0)])
    with torch.inference_mode():
        rows = eyes.encode(batch)
        alone = torch.cat([eyes.encode(one[None]) for one in batch])
        theirs = net.model.get_image_features(pixel_values=batch, return_dict=True).pooler_output
    assert torch.allclose(rows, torch.stack(list(theirs)), atol=1e-5)
    assert torch.allclose(rows, alone, atol=1e-5)
    assert rows[0].std() > 0.1
    processor = Idefics3Processor(Idefics3ImageProcessorPil(), tiny_eyes.reads(**NAMES), image_seq_len=4)
    rows_columns = (0, 0) if len(tiles) == 1 else eyes.grid(size_hw)
    expanded = processor.replace_image_token({"rows": [[rows_columns[0]]], "cols": [[rows_columns[1]]]}, 0)
    assert eyes.slot(size_hw) == expanded
    assert eyes.slot(size_hw).count("<image>") == len(eyes.packed(rows[0], size_hw))


def test_whole_text_is_that_of_the_processor(net: Any) -> None:
    from PIL import Image as pillow

    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(**(published(16) | {"size": {"longest_edge": 48}})),
        tiny_eyes.reads(**NAMES),
        image_seq_len=4,
    )
    tokenizer = processor.tokenizer
    image = pillow.fromarray(tiny_eyes.picture((9, 31)))
    ids = processor(images=[image], text="a<image>b", return_tensors="np")["input_ids"][0]
    assert ids.tolist() == tokenizer(f"a{Idefics(net, TINY).slot((9, 31))}b")["input_ids"]


def test_published_numbers_of_tokens(net: Any) -> None:
    """64 tokens a tile and 17 tiles for SmolVLM-256M; 81 and 17 for the 2.2B."""
    net.config.vision_config.patch_size, net.config.scale_factor = 16, 4
    try:
        small = Idefics(net, SMOLVLM_SMALL)
        assert small.slot((400, 400)).count("<image>") == 64 * 17
        assert small.slot((300, 400)).count("<image>") == 64 * 13
        net.config.vision_config.patch_size, net.config.scale_factor = 14, 3
        assert Idefics(net, SMOLVLM_LARGE).slot((400, 400)).count("<image>") == 81 * 17
    finally:
        net.config.vision_config.patch_size, net.config.scale_factor = 4, 2
