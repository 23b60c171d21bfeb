"""What VideoLLaMA3 is shown: pictures as transformers' ``VideoLlama3ImageProcessorPil`` prepares them; and the sizes of
the frames of a clip, as its ``VideoLlama3VideoProcessor`` made them: recorded from transformers 5.15.1 with
torchvision, which the tests here do without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import VideoLlama3ImageProcessorPil

import tiny_eyes
from anmok.nets.eyes.qwen import patched
from anmok.nets.eyes.videollama3 import CLIPS, VideoLlama3, VideoLlama3Frames, VideoLlama3Rules

# Size (H, W) and number of frames; patches of 14 pixels of each frame that ``video_grid_thw`` had (high, wide).
GRIDS = [
    ((37, 61), 1, (8, 12)),
    ((37, 61), 180, (8, 12)),
    ((64, 48), 33, (10, 8)),
    ((360, 640), 1, (26, 46)),
    ((360, 640), 33, (26, 46)),
    ((360, 640), 128, (16, 30)),
    ((360, 640), 180, (14, 24)),
    ((480, 854), 7, (34, 60)),
    ((480, 854), 33, (32, 58)),
    ((480, 854), 128, (16, 30)),
    ((1080, 1920), 2, (78, 138)),
    ((1080, 1920), 7, (72, 128)),
    ((1920, 1080), 7, (128, 72)),
    ((2160, 3840), 1, (154, 274)),
    ((2160, 3840), 2, (134, 240)),
    ((2160, 3840), 7, (72, 128)),
]


@pytest.mark.parametrize("size_hw", [(37, 61), (480, 640), (9, 700), (1, 1), (1080, 1920)], ids=str)
@pytest.mark.parametrize("content", [{}, {"min_pixels": 3136, "max_pixels": 200_000}], ids=["published", "fewer"])
def test_pixels_of_pictures_equal_the_published_processor(content: dict[str, Any], size_hw: tuple[int, int]) -> None:
    theirs = tiny_eyes.by_processor(VideoLlama3ImageProcessorPil(**content), size_hw)
    rules = VideoLlama3Rules.of(content)
    eyes = VideoLlama3(None, rules)  # type: ignore[arg-type]  # as below
    ours = torch.from_numpy(eyes.prepare(tiny_eyes.picture(size_hw)))[None, None]  # (1, 1, 3, h, w)
    assert np.array_equal(patched(ours, rules.pictures).numpy(), theirs["pixel_values"])
    _, height, width = theirs["image_grid_thw"][0].tolist()
    assert (height, width) == (ours.shape[3] // 14, ours.shape[4] // 14)
    assert eyes.slot(size_hw) == "<|image_pad|>" * (height * width)


@pytest.mark.parametrize(("size_hw", "count", "patches_hw"), GRIDS, ids=str)
def test_frames_are_as_large_as_the_published_processor_makes_them(
    size_hw: tuple[int, int], count: int, patches_hw: tuple[int, int]
) -> None:
    frames = VideoLlama3Frames(None, VideoLlama3Rules())  # type: ignore[arg-type]  # it asks the net for no size
    height, width = frames.size(size_hw, count)
    assert (height // 14, width // 14) == patches_hw
    assert (height % 28, width % 28) == (0, 0)
    assert count * height * width <= CLIPS.most == 16_384 * 28 * 28
