"""A clip of a few small frames, and the families that see frames together."""

from __future__ import annotations

from collections.abc import Sequence

from anmok.inputs import Frames
from battery import picture

TOGETHER = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "exaone4_5", "video_llama_3")  # they see frames together
FILM = tuple(picture((37, 61), seed) for seed in (1, 3, 5, 7, 9))
TIMES = (0.0, 0.5, 1.0, 1.5, 2.0)


def film(count: int = 5, seconds: Sequence[float] = TIMES) -> Frames:
    return Frames(FILM[:count], tuple(seconds[:count]))
