"""The eyes of LLaVA-NeXT and LLaVA-OneVision against transformers: the same tiles, the same rows, as many tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
)

import tiny_eyes
from anmok.errors import BadWeights
from anmok.nets.eyes.anyres import NEXT, ONEVISION, AnyRes, AnyResRules, Frames, best_canvas, frame_rules
from anmok.nets.eyes.levels import HALF, Levels
from anmok.nets.eyes.square import SquareRules

NEXT_FILE: dict[str, Any] = {
    "size": {"shortest_edge": 336},
    "crop_size": {"height": 336, "width": 336},
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}
ONEVISION_FILE: dict[str, Any] = {
    "size": {"height": 384, "width": 384},
    "image_mean": HALF,
    "image_std": HALF,
    "image_grid_pinpoints": [list(size) for size in ONEVISION.canvases],
}
SIZES_HW = (*tiny_eyes.SIZES_HW, (1, 900), (900, 1), (384, 384), (2000, 2000))
TINY_HW = (*tiny_eyes.SMALL_HW, (40, 40), (200, 3), (1, 700), (700, 1), (21, 20))


def tiny_next(kind: str = "next", **options: Any) -> Any:
    parts = {
        "vision_config": tiny_eyes.CLIP_TOWER,
        "text_config": tiny_eyes.LLAMA,
        "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]],
        "image_token_index": 300,
        **options,
    }
    if kind == "next":
        return tiny_eyes.alive(LlavaNextForConditionalGeneration(LlavaNextConfig(**parts)))
    return tiny_eyes.alive(LlavaNextVideoForConditionalGeneration(LlavaNextVideoConfig(**parts, video_token_index=301)))


def tiny_onevision() -> Any:
    """Five patches along a tile, so that half of them is no whole number; no more tokens than of two tiles."""
    config = LlavaOnevisionConfig(
        vision_config=tiny_eyes.SIGLIP_TOWER,
        text_config=tiny_eyes.QWEN2,
        image_grid_pinpoints=[[20 * rows, 20 * columns] for rows in range(1, 4) for columns in range(1, 4)],
        vision_aspect_ratio="anyres_max_2",
        image_token_index=300,
        video_token_index=301,
    )
    return tiny_eyes.alive(LlavaOnevisionForConditionalGeneration(config))


def next_processor(net: Any) -> LlavaNextProcessor:
    config = net.config
    return LlavaNextProcessor(
        LlavaNextImageProcessorPil(image_grid_pinpoints=config.image_grid_pinpoints),
        tiny_eyes.reads("<image>"),
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
    )


def onevision_tokens(net: Any, tile: int, size_hw: tuple[int, int]) -> int:
    """By the processor, without its part for videos, which wants torchvision."""
    config = net.config
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor = LlavaOnevisionImageProcessorPil(image_grid_pinpoints=config.image_grid_pinpoints)
    processor.image_token = "<image>"
    processor.num_image_tokens = (tile // config.vision_config.patch_size) ** 2
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    processor.vision_aspect_ratio = config.vision_aspect_ratio
    given = {"batch_num_images": [1], "image_sizes": [size_hw], "pixel_values": np.zeros((1, 1, 3, tile, tile))}
    return int(processor.replace_image_token(given, 0).count("<image>"))


@pytest.mark.parametrize("size_hw", SIZES_HW, ids=str)
def test_tiles_of_next_are_those_of_transformers(size_hw: tuple[int, int]) -> None:
    net = tiny_next()
    theirs = tiny_eyes.by_processor(LlavaNextImageProcessorPil(**NEXT_FILE), size_hw)["pixel_values"][0]
    ours = AnyRes(net, AnyResRules.of(NEXT_FILE, net.config)).prepare(tiny_eyes.picture(size_hw))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size_hw", SIZES_HW, ids=str)
def test_tiles_of_onevision_are_those_of_transformers(size_hw: tuple[int, int]) -> None:
    net = tiny_onevision()
    processor = LlavaOnevisionImageProcessorPil(**ONEVISION_FILE)
    theirs = tiny_eyes.by_processor(processor, size_hw)["pixel_values"][0]
    ours = AnyRes(net, AnyResRules.of(ONEVISION_FILE, net.config)).prepare(tiny_eyes.picture(size_hw))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size_hw", [(61, 83), (900, 123), (1, 1), (3648, 5472)], ids=str)
def test_one_of_several_pictures_is_that_of_transformers(size_hw: tuple[int, int]) -> None:
    processor = LlavaOnevisionImageProcessorPil(**ONEVISION_FILE)
    one = pillow.fromarray(tiny_eyes.picture(size_hw))
    theirs = processor([[one, one]], return_tensors="np")["pixel_values"][0]
    rules = AnyResRules(384, ONEVISION.canvases, ONEVISION.levels, is_alone=False)
    assert np.array_equal(AnyRes(tiny_onevision(), rules).prepare(tiny_eyes.picture(size_hw)), theirs)


def test_published_rules_are_what_the_files_say() -> None:
    onevision = tiny_onevision().config
    onevision.vision_aspect_ratio = "anyres_max_9"
    assert AnyResRules.of(NEXT_FILE, tiny_next().config) == NEXT
    assert AnyResRules.of(ONEVISION_FILE, onevision) == ONEVISION
    with pytest.raises(BadWeights, match="whole tiles of 336"):
        AnyResRules.of(NEXT_FILE | {"image_grid_pinpoints": [[336, 600]]}, tiny_next().config)


@pytest.mark.parametrize("size_hw", TINY_HW, ids=str)
@pytest.mark.parametrize("kind", ["next", "video"])
def test_rows_and_slot_of_next_are_those_of_transformers(kind: str, size_hw: tuple[int, int]) -> None:
    net = tiny_next(kind)
    rules = AnyResRules(16, tuple(map(tuple, net.config.image_grid_pinpoints)), NEXT.levels)  # type: ignore[arg-type]
    same_as_native(net, AnyRes(net, rules), size_hw)
    eyes = AnyRes(net, rules)
    given = {"image_sizes": [size_hw], "pixel_values": np.zeros((1, 5, 3, 16, 16))}
    assert eyes.slot(size_hw) == next_processor(net).replace_image_token(given, 0)


@pytest.mark.parametrize("size_hw", TINY_HW, ids=str)
def test_rows_and_slot_of_onevision_are_those_of_transformers(size_hw: tuple[int, int]) -> None:
    net = tiny_onevision()
    rules = AnyResRules.of({"size": {"height": 20, "width": 20}}, net.config)
    assert rules.most == 2
    eyes = AnyRes(net, rules)
    same_as_native(net, eyes, size_hw)
    assert eyes.slot(size_hw) == "<image>" * onevision_tokens(net, 20, size_hw)


def same_as_native(net: Any, eyes: AnyRes, size_hw: tuple[int, int]) -> None:
    tiles = torch.from_numpy(eyes.prepare(tiny_eyes.picture(size_hw)))
    batch = torch.stack([tiles, tiles.flip(0)])
    with torch.inference_mode():
        rows = eyes.encode(batch)
        alone = torch.cat([eyes.encode(one[None]) for one in batch])
        packed = [eyes.packed(one, size_hw) for one in rows]
        theirs = net.model.get_image_features(batch, image_sizes=torch.tensor([size_hw] * 2), return_dict=True)
    assert torch.allclose(rows, alone, atol=1e-5)
    assert rows[0].std() > 0.1
    for ours, native in zip(packed, theirs.pooler_output, strict=True):
        assert ours.shape == native.shape
        assert torch.allclose(ours, native, atol=1e-5)
        assert eyes.slot(size_hw).count("<image>") == len(ours)


def test_some_grids_are_made_coarser_and_strips_lose_all_lines() -> None:
    """What the cases above are there for."""
    net = tiny_onevision()
    eyes = AnyRes(net, AnyResRules.of({"size": {"height": 20, "width": 20}}, net.config))
    assert eyes.slot((40, 40)).count("<image>") == 25 + 7 * 8  # 10 x 10 tokens are more than 2 tiles of 5 x 5
    flat = AnyRes(tiny_next(), AnyResRules(16, ((32, 32),), NEXT.levels))
    assert flat.slot((1, 700)).count("<image>") == 16
    assert flat.slot((700, 1)).count("<image>") == 16 + 8


def test_several_pictures_of_onevision_are_those_of_transformers() -> None:
    net = tiny_onevision()
    rules = AnyResRules(20, ((20, 20),), ONEVISION.levels, is_alone=False)
    eyes = AnyRes(net, rules)
    batch = torch.from_numpy(np.stack([eyes.prepare(tiny_eyes.picture(one)) for one in tiny_eyes.SMALL_HW]))
    sizes = torch.tensor(tiny_eyes.SMALL_HW)
    with torch.inference_mode():
        rows = eyes.encode(batch)
        theirs = net.model.get_image_features(
            batch, image_sizes=sizes, batch_num_images=torch.tensor([len(batch)]), return_dict=True
        ).pooler_output
    for row, native, size_hw in zip(rows, theirs, tiny_eyes.SMALL_HW, strict=True):
        assert torch.allclose(eyes.packed(row, size_hw), native, atol=1e-5)
        assert eyes.slot(size_hw) == "<image>" * len(native)


@pytest.mark.parametrize("kind", ["next video", "onevision"])
def test_frames_are_those_of_transformers(kind: str) -> None:
    net = tiny_onevision() if kind == "onevision" else tiny_next("video")
    size = net.config.vision_config.image_size
    rules = SquareRules(size, "squash" if kind == "onevision" else "crop", Levels(HALF, HALF), size)
    eyes = Frames(net, rules)
    frames = torch.from_numpy(np.stack([eyes.prepare(tiny_eyes.picture(one)) for one in tiny_eyes.SMALL_HW]))
    with torch.inference_mode():
        rows = eyes.encode(frames)
        film = eyes.film(rows)
        native = net.model.get_video_features(frames[None], return_dict=True).pooler_output[0]
    assert torch.allclose(film, native, atol=1e-5)
    assert eyes.film_slot(len(frames)) == "<video>" * len(film)
    assert eyes.slot((9, 31)) == "<video>" * len(eyes.packed(rows[0], (9, 31)))


def test_frames_are_squashed_or_cut_as_the_files_say_and_never_padded() -> None:
    """``do_pad`` is on in the files of both families."""
    assert frame_rules(ONEVISION_FILE | {"do_pad": True}) == SquareRules(384, "squash", ONEVISION.levels)
    assert frame_rules(NEXT_FILE | {"do_pad": True}) == SquareRules(336, "crop", NEXT.levels, 336)


def test_canvas_is_that_of_transformers_for_every_shape() -> None:
    from transformers.image_processing_utils import select_best_resolution

    rng = np.random.default_rng(0)
    for size_hw in rng.integers(1, 3000, (400, 2)).tolist():
        for rules in (NEXT, ONEVISION):
            assert best_canvas(size_hw, rules.canvases) == select_best_resolution(size_hw, list(rules.canvases))


def test_published_numbers_of_tokens() -> None:
    """LLaVA-NeXT: 576 for the whole and, in the square canvas, 48 lines of 48 and their ends. LLaVA-OneVision: 729
    for the whole, at most 9 tiles after that; 196 a frame."""
    net = tiny_next(vision_config=tiny_eyes.CLIP_TOWER | {"image_size": 336, "patch_size": 14})
    assert AnyRes(net, NEXT).slot((700, 700)) == "<image>" * (576 + 48 * 49)
    assert AnyRes(net, NEXT).slot((480, 640)) == "<image>" * (576 + 36 * 49)
    other = tiny_onevision()
    other.config.vision_config.image_size, other.config.vision_config.patch_size = 384, 14
    assert AnyRes(other, ONEVISION).slot((2304, 2304)) == "<image>" * (729 + 81 * 82)
    assert Frames(other, SquareRules(384, "squash", ONEVISION.levels)).slot((480, 640)) == "<video>" * 196
    tokens = Frames(other, SquareRules(384, "squash", ONEVISION.levels)).film_slot(32).count("<video>")
    assert tokens == 196 * 32 + 1
