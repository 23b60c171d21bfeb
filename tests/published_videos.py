"""Functions out of transformers' video processors. Their modules want torchvision when they are imported; what is taken
from them here does not: it is read out of the file and compiled by itself."""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor

Frames = Sequence[NDArray[np.uint8]]  # (H, W, 3) each


@functools.cache
def taken(module: str) -> SimpleNamespace:
    """All functions of ``transformers.models.<module>``, those of its classes among them, without decorators and
    annotations."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], "models", *module.split(".")).with_suffix(".py")
    space: dict[str, Any] = {"torch": torch, "math": math, "np": np}
    for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(found, ast.FunctionDef) and found.name != "__init__":
            found.decorator_list, found.returns = [], None
            for one in ast.walk(found):
                if isinstance(one, ast.arg):
                    one.annotation = None
            code = ast.Module([found], [])
            exec(compile(ast.fix_missing_locations(code), str(path), "exec"), space)
    return SimpleNamespace(**space)


QWEN2 = "qwen2_vl.video_processing_qwen2_vl"
VIDEOLLAMA3 = "video_llama_3.video_processing_video_llama_3"
GEMMA4 = "gemma4.video_processing_gemma4"


def resized(frame: NDArray[np.uint8], size_hw: Sequence[int]) -> NDArray[np.uint8]:
    """By Pillow's filter, where transformers has torchvision's."""
    return np.asarray(pillow.fromarray(frame).resize((size_hw[1], size_hw[0]), pillow.Resampling.BICUBIC))


def video(frames: Frames, mean: float | Sequence[float], std: float | Sequence[float]) -> Tensor:
    """float32 (1, F, 3, h, w)."""
    shares = (np.stack(frames).astype(np.float64) / 255).astype(np.float32)  # (F, h, w, 3)
    numbers = (shares - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(numbers.transpose(0, 3, 1, 2))[None]  # (1, F, 3, h, w)


def patches(module: str, video: Tensor, patch: int, merge: int, times: int) -> tuple[Tensor, Tensor]:
    """``pixel_values_videos`` (P, F) and ``video_grid_thw`` (1, 3)."""
    flat, *grid = taken(module).patchify(None, video, patch, merge, times)
    return flat[0], torch.tensor([grid])


def qwen(frames: Frames, rules: Any) -> dict[str, Tensor]:
    """What Qwen's net is called with for a clip, by ``qwen-vl-utils``' size of frames."""
    side = rules.patch * rules.merge
    sizes = [taken(QWEN2).smart_resize(*one.shape[:2], side, 128 * side**2, 768 * side**2) for one in frames]
    # Those of another shape than the first, which transformers refuses, come to theirs before they come to its.
    shown = [resized(resized(one, size), sizes[0]) for one, size in zip(frames, sizes, strict=True)]
    whole = video(shown, rules.levels.mean, rules.levels.std)
    pixels, grid = patches(QWEN2, whole, rules.patch, rules.merge, rules.times)
    return {"pixel_values_videos": pixels, "video_grid_thw": grid}


def videollama3(frames: Frames, rules: Any) -> dict[str, Tensor]:
    """What VideoLLaMA3's net is called with for a clip; ``rules`` are those of clips."""
    theirs, side = taken(VIDEOLLAMA3), rules.patch * rules.merge
    size = theirs.smart_resize(*frames[0].shape[:2], side, rules.fewest, rules.most // len(frames))
    whole = video([resized(one, size) for one in frames], rules.levels.mean, rules.levels.std)
    pixels, grid = patches(VIDEOLLAMA3, whole, rules.patch, rules.merge, rules.times)
    merges = torch.tensor([rules.merge])
    mask = theirs._get_compression_mask(None, pixels, grid, merges)
    return {
        "pixel_values_videos": pixels,
        "video_grid_thw": grid,
        "video_merge_sizes": merges,
        "video_compression_mask": mask,
    }
