"""How families of language models are shown clips, as data. Their eyes are imported when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from anmok.nets.number_words import in_words

Made = Callable[[Any, Mapping[str, Any]], Any]  # of the net and the facts of preprocessor_config.json


@dataclass(frozen=True, slots=True)
class Watching:
    """How a family is shown clips. ``before`` stands before each frame, with its number or its time, ``between`` any
    two; ``opening`` and ``closing`` around all, the first with how many there are and the time of the last. ``eyes``
    None shows frames as pictures are shown."""

    most_frames: int
    fps: float | None = None
    before: str = ""
    between: str = ""
    opening: str = ""
    closing: str = ""
    eyes: Made | None = None

    def around(self, slots: Sequence[str], seconds: Sequence[float]) -> str:
        """What stands for a clip in a prompt: that of each frame, with the words before it, in those around all."""
        time = str(timedelta(seconds=int(seconds[-1])))
        opening = self.opening.format(words=in_words(len(slots)), time=time)
        told = [self._before(number, *one) for number, one in enumerate(zip(seconds, slots, strict=True), 1)]
        return f"{opening}{self.between.join(told)}{self.closing}"

    def _before(self, number: int, seconds: float, slot: str) -> str:
        whole = int(seconds)
        clock = f"{whole // 60:02d}:{whole % 60:02d}"
        return self.before.format(number=number, seconds=seconds, clock=clock) + slot


def _frames(net: Any, facts: Mapping[str, Any]) -> Any:
    from anmok.nets.eyes import anyres

    return anyres.Frames(net, anyres.frame_rules(facts))


def _idefics_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    from anmok.nets.eyes import idefics

    return idefics.Idefics(net, idefics.IdeficsRules.of({**facts, "do_image_splitting": False}))


def _intern_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    from anmok.nets.eyes import internvl

    return internvl.InternVL(net, internvl.InternRules.of({**facts, "max_patches": 1}))


def _qwen_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    from anmok.nets.eyes import qwen, qwen_frames

    return qwen_frames.QwenFrames(net, qwen.QwenRules.of(facts))


def _videollama3_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    from anmok.nets.eyes import videollama3

    return videollama3.VideoLlama3Frames(net, videollama3.VideoLlama3Rules.of(facts))


def _gemma3_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    from anmok.nets.eyes import gemma

    return gemma.Gemma3(net, gemma.Gemma3Rules.of({**facts, "do_pan_and_scan": False}))


def _gemma4_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    """Its frames stand for less than its pictures. Their tokens are those of pictures: to the net a token of a clip is
    the same, and not every tokenizer has one."""
    from anmok.nets.eyes import gemma

    told = facts.get("video_processor") or {}
    return gemma.Gemma4(net, gemma.Gemma4Rules.of({**facts, "max_soft_tokens": gemma.FRAME_BUDGET, **told}))


LLAVA: Final = Watching(32, eyes=_frames)
INTERN: Final = Watching(32, None, before="Frame{number}: ", between="\n", eyes=_intern_frames)
# What SmolVLM2 was trained with (transformers, ``SmolVLMProcessor``). The blank at its beginning stands where the
# template of the weights puts none before a picture.
SMOL: Final = Watching(
    64,
    1.0,
    before="\nFrame from {clock}:",
    opening=" You are provided the following series of {words} frames from a {time} [H:MM:SS] video.\n",
    closing="\n\n",
    eyes=_idefics_frames,
)
# Gemma 3's processor takes no clips; its report tests it on 16 frames of one, evenly spread, as pictures.
GEMMA3: Final = Watching(16, eyes=_gemma3_frames)
GEMMA4: Final = Watching(32, before="{clock} ", between=" ", eyes=_gemma4_frames)
# Two frames a second (``qwen-vl-utils``), of which there may be hundreds there; 64 of the largest are 24,576 tokens,
# which leaves the oldest of the series a quarter of what it reads.
QWEN: Final = Watching(64, 2.0, eyes=_qwen_frames)
VIDEOLLAMA3: Final = Watching(128, 1.0, eyes=_videollama3_frames)  # as the authors' files have it
