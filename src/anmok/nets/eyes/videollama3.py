"""How VideoLLaMA3 looks: at pictures as they are, a token for each patch; at clips frame by frame, where four patches
are one token, and a token that shows what the frame before it showed there is left out.

Source: B. Zhang et al., "VideoLLaMA 3" (2025, arXiv:2501.13106), github.com/DAMO-NLP-SG/VideoLLaMA3; the net is
transformers' ``VideoLlama3ForConditionalGeneration``, pictures go through ``VideoLlama3ImageProcessor``, clips through
``VideoLlama3VideoProcessor``. All frames share one budget of pixels, so how large they are shown follows from how many
there are; who knows that beforehand has them kept in that size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import VideoLlama3ForConditionalGeneration

from anmok.nets.eyes import Grid, Size
from anmok.nets.eyes.levels import HALF, Canvas, Levels
from anmok.nets.eyes.qwen import QwenRules, patched, smart_size
from anmok.nets.eyes.reels import Frame, LastReels, canvases, kept

IMAGE_TOKEN: Final = "<|image_pad|>"
VIDEO_TOKEN: Final = "<|video_pad|>"
# As transformers has it where a file does not say; the budget of a clip is the authors', 16 to 16,384 tokens.
PICTURES: Final = QwenRules(14, Levels(HALF, HALF), 56 * 56, 28 * 28 * 1280, 1, 1)
CLIPS: Final = QwenRules(14, Levels(HALF, HALF), 16 * 28 * 28, 16_384 * 28 * 28, 2, 1)
ALIKE: Final = 0.1  # levels of 255 by which two patches differ at most that show the same
_AT_ONCE: Final = 8  # frames

Reel = tuple[str, tuple[tuple[Tensor, Grid], ...]]


@dataclass(frozen=True, slots=True)
class VideoLlama3Rules:
    """Of pictures; and of clips, whose pixels are those of all frames. ``has_all`` keeps tokens that show the same."""

    pictures: QwenRules = PICTURES
    clips: QwenRules = CLIPS
    has_all: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> VideoLlama3Rules:
        """What a ``preprocessor_config.json`` says, and, under ``video_processor``, a
        ``video_preprocessor_config.json``; what they leave out is as above."""
        told = content.get("video_processor") or {}
        has_all = told.get("use_token_compression") is False
        return cls(_rules(content, PICTURES), _rules(told, CLIPS), has_all)


class VideoLlama3:
    """Eyes for pictures; ``image_token`` is the token's text."""

    def __init__(
        self, net: VideoLlama3ForConditionalGeneration, rules: VideoLlama3Rules, image_token: str = IMAGE_TOKEN
    ) -> None:
        self._net: Any = net
        self._rules, self._image_token = rules.pictures, image_token

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3), resized: float32 (3, h, w).

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        levels = self._rules.levels
        return levels.numbers(levels.resized(image, smart_size((image.shape[0], image.shape[1]), self._rules)))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, h, w) to rows (B, N, D)."""
        return rows_of(self._net, batch, self._rules)

    def slot(self, size_hw: Size) -> str:
        height, width = smart_size(size_hw, self._rules)
        side = self._rules.patch * self._rules.merge
        return self._image_token * ((height // side) * (width // side))

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


class VideoLlama3Frames:
    """Eyes for the frames of a clip. What they see of the last two clips is kept."""

    def __init__(
        self, net: VideoLlama3ForConditionalGeneration, rules: VideoLlama3Rules, video_token: str = VIDEO_TOKEN
    ) -> None:
        self._net: Any = net
        self._rules, self._has_all, self._video_token = rules.clips, rules.has_all, video_token
        self._seen: LastReels[Reel] = LastReels()

    def prepare(self, image: Canvas, size_hw: Size | None = None) -> Frame:
        """One frame uint8 (H, W, 3) of a clip that is shown in ``size_hw``: in that size, or as it is, (3, H, W), where
        it has no more pixels. Where the size is not known, as it is, or as if it were alone, should that be less.

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        alone_hw = self.size((image.shape[0], image.shape[1]), 1)
        most = self._rules.most if size_hw is None else math.prod(size_hw)
        is_large = image.shape[0] * image.shape[1] > most
        return kept(self._rules.levels.resized(image, size_hw or alone_hw) if is_large else image)

    def reel(self, frames: Sequence[Frame], seconds: Sequence[float], size_hw: Size) -> Reel:
        """Frames (3, h, w) and their times to their text and their rows, in one part a frame. All are shown in the
        shape of the first, which came in ``size_hw``."""
        shown_hw = self.size(size_hw, len(frames))
        return self._seen.of(frames, (*seconds, *shown_hw), lambda: self._look(frames, seconds, shown_hw))

    def size(self, size_hw: Size, count: int) -> Size:
        """What frames are resized to where there are so many.

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        return smart_size(size_hw, replace(self._rules, most=self._rules.most // count))

    def _look(self, frames: Sequence[Frame], seconds: Sequence[float], size_hw: Size) -> Reel:
        side = self._rules.patch * self._rules.merge
        rows = [one for at in range(0, len(frames), _AT_ONCE) for one in self._part(frames, at, size_hw)]  # (n, D) each
        texts = [
            f"Time {second:.1f}s:{self._video_token * len(one)}" for second, one in zip(seconds, rows, strict=True)
        ]
        grid = Grid(1, size_hw[0] // side, size_hw[1] // side)
        return ",".join(texts), tuple((one, grid) for one in rows)

    def _part(self, frames: Sequence[Frame], at: int, size_hw: Size) -> list[Tensor]:
        """The rows that stay (n, D) of each of the frames that are seen at once from there on; the one before them is
        resized beside them, to be compared with."""
        levels, before = self._rules.levels, min(at, 1)
        canvas = canvases(frames[at - before : at + _AT_ONCE], size_hw, levels)
        shown = torch.from_numpy(levels.numbers(canvas))  # (before + F, 3, h, w)
        is_new = self._news(shown)[before:]  # (F, N)
        rows = rows_of(self._net, shown[before:].to(self._net.device), self._rules)  # (F, N, D)
        return [one[new.to(rows.device)] for one, new in zip(rows, is_new, strict=True)]

    def _news(self, shown: Tensor) -> Tensor:
        """Which tokens (F, N) of frames (F, 3, h, w) stay: all of the first; of the others those whose pixels differ
        from the frame's before, and the first token where none does."""
        flat = patched(shown[:, None], self._rules)  # (F * P, 3 * patch * patch)
        tokens = flat.reshape(len(shown), -1, self._rules.merge**2 * flat.shape[1])  # (F, N, merge * merge * ...)
        if self._has_all or len(shown) == 1:
            return torch.ones(tokens.shape[:2], dtype=torch.bool)
        apart = (tokens[1:] - tokens[:-1]).abs().mean(dim=-1) * 255  # (F - 1, N)
        is_new = torch.cat([torch.ones_like(apart[:1], dtype=torch.bool), apart > ALIKE])  # (F, N)
        is_new[~is_new.any(dim=1), 0] = True
        return is_new


def rows_of(net: Any, batch: Tensor, rules: QwenRules) -> Tensor:
    """Resized pictures, or frames, (B, 3, h, w) to rows (B, N, D) of the language model's width."""
    patches = patched(batch[:, None], rules)  # (B * P, 3 * patch * patch)
    grids = torch.tensor([[1, batch.shape[2] // rules.patch, batch.shape[3] // rules.patch]] * len(batch))  # (B, 3)
    merges = torch.full((len(batch),), rules.merge)  # (B,)
    seen = net.model.get_image_features(
        patches.to(net.dtype), grids.to(batch.device), merges.to(batch.device), return_dict=True
    )
    return torch.stack(list(seen.pooler_output))  # (B, N, D)


def _rules(content: Mapping[str, Any], default: QwenRules) -> QwenRules:
    """Those of a file, which may be empty."""
    size = {"shortest_edge": default.fewest, "longest_edge": default.most}
    levels = {"image_mean": default.levels.mean, "image_std": default.levels.std}
    sides = {"patch_size": default.patch, "merge_size": default.merge, "temporal_patch_size": default.times}
    return QwenRules.of({"size": size, **levels, **sides, **content})
