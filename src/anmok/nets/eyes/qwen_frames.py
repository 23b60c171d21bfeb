"""How Qwen2-VL, 2.5-VL and 3-VL look at clips, and EXAONE 4.5 with them: two frames at a time, each two one moment.

Source: as ``nets.eyes.qwen``, and QwenLM/Qwen3-VL, ``qwen-vl-utils`` (``vision_process.fetch_video``), for the size of
frames: each has 128 to 768 tokens' worth of pixels, however many there are up to 300. transformers'
``Qwen2VLVideoProcessor`` does the same where a checkpoint brings no file of its own. ``Qwen3VLVideoProcessor`` shares
one budget among all frames and does not enlarge small ones; the authors of the weights resize before it is called.

What tells the time differs. To Qwen2-VL each moment is one place further than that before it; to 2.5-VL as many places
as seconds ask for; 3-VL reads the seconds in words before each moment, and EXAONE knows no more than the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from anmok.nets.eyes import Grid, Size
from anmok.nets.eyes.levels import Canvas
from anmok.nets.eyes.qwen import Net, Qwen, QwenRules, smart_size
from anmok.nets.eyes.reels import Frame, LastReels, canvases, kept

FEWEST: Final = 128  # tokens' worth of pixels of a frame
MOST: Final = 768
VIDEO_TOKEN: Final = "<|video_pad|>"
START: Final = "<|vision_start|>"
END: Final = "<|vision_end|>"

Reel = tuple[str, tuple[tuple[Tensor, Grid], ...]]


class QwenFrames:
    """Eyes for the frames of a clip. What they see of the last two clips is kept: the tower is what takes time."""

    def __init__(self, net: Net, rules: QwenRules, video_token: str = VIDEO_TOKEN) -> None:
        self._net: Any = net
        self._rules, self._video_token = frame_rules(rules), video_token
        self._eyes = Qwen(net, self._rules)
        self._has_words = net.config.model_type.startswith("qwen3_vl")
        self._places_a_second: int | None = getattr(net.config.vision_config, "tokens_per_second", None)
        self._seen: LastReels[Reel] = LastReels()

    def prepare(self, image: Canvas) -> Frame:
        """One frame uint8 (H, W, 3), resized: (3, h, w).

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        size_hw = smart_size((image.shape[0], image.shape[1]), self._rules)
        return kept(self._rules.levels.resized(image, size_hw))

    def reel(self, frames: Sequence[Frame], seconds: Sequence[float], size_hw: Size) -> Reel:
        """Frames (3, h, w) and their times to their text and their rows, in one part, or in one a moment (Qwen3-VL).
        All are shown in the shape of the first. The last is shown twice where it would be alone in its moment."""
        return self._seen.of(frames, seconds, lambda: self._look(frames, seconds))

    def _look(self, frames: Sequence[Frame], seconds: Sequence[float]) -> Reel:
        size_hw = (frames[0].shape[1], frames[0].shape[2])
        side = self._rules.patch * self._rules.merge
        rows, columns = size_hw[0] // side, size_hw[1] // side
        moments = [frames[at : at + self._rules.times] for at in range(0, len(frames), self._rules.times)]
        seen = [self._moment(moment, size_hw) for moment in moments]  # (R * C, W) each
        slot = self._video_token * (rows * columns)
        if not self._has_words:
            grid = Grid(len(moments), rows, columns, self._pace(seconds))
            return slot * len(moments), ((torch.cat(seen), grid),)
        text = "".join(f"<{middle:.1f} seconds>{START}{slot}{END}" for middle in middles(seconds, self._rules.times))
        return text, tuple((one, Grid(1, rows, columns)) for one in seen)

    def _moment(self, frames: Sequence[Frame], size_hw: tuple[int, int]) -> Tensor:
        """What stands for frames that are seen at once, (R * C, W)."""
        shown = self._rules.levels.numbers(canvases(frames, size_hw, self._rules.levels))  # (F, 3, h, w)
        missing = self._rules.times - len(shown)
        shown = np.concatenate([shown, np.repeat(shown[-1:], missing, 0)])  # (times, 3, h, w)
        return self._eyes.seen(torch.from_numpy(shown)[None].to(self._net.device))[0]

    def _pace(self, seconds: Sequence[float]) -> float:
        """Places from one moment to the next: of single precision, as transformers has it, since they are cut down to
        whole ones."""
        if self._places_a_second is None or len(seconds) < 2:
            return 1.0
        apart = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
        return float(np.float32(self._places_a_second) * np.float32(self._rules.times * apart))


def frame_rules(rules: QwenRules) -> QwenRules:
    """Of frames, by those of pictures."""
    token = (rules.patch * rules.merge) ** 2  # pixels
    return replace(rules, fewest=FEWEST * token, most=MOST * token)


def middles(seconds: Sequence[float], times: int) -> list[float]:
    """Of each moment of so many frames, between its first and its last."""
    moments = [seconds[at : at + times] for at in range(0, len(seconds), times)]
    return [(one[0] + one[-1]) / 2 for one in moments]
