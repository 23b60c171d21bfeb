"""With what each family of ``families`` sees: its eyes, made of its net and the facts of its preprocessor.

The modules of the eyes are imported here when they are wanted: each brings nets of transformers, and a conversation
wants one of them, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anmok.nets.eyes import Eyes


def llava(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """LLaVA 1.5, whose weights know pictures that were padded to a square; the files of the converted checkpoints say
    that the middle is cut out, and are not followed there."""
    from anmok.nets.eyes import square

    rules = square.SquareRules.of(facts)
    return square.Square(net, square.SquareRules(rules.size, "pad", rules.levels) if rules.way == "crop" else rules)


def anyres(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """LLaVA-NeXT, with clips or without."""
    from anmok.nets.eyes.anyres import AnyRes, AnyResRules

    return AnyRes(net, AnyResRules.of(facts, net.config))


def onevision(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """LLaVA-OneVision."""
    from anmok.nets.eyes.anyres import AnyResRules
    from anmok.nets.eyes.onevision import OneVision

    return OneVision(net, AnyResRules.of(facts, net.config))


def idefics(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """Idefics3 and SmolVLM."""
    from anmok.nets.eyes.idefics import Idefics, IdeficsRules

    return Idefics(net, IdeficsRules.of(facts))


def intern(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """InternVL."""
    from anmok.nets.eyes.internvl import InternRules, InternVL

    return InternVL(net, InternRules.of(facts))


def qwen(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """Qwen-VL, and those that see with its tower: EXAONE 4.5, HyperCLOVA X SEED Think."""
    from anmok.nets.eyes.qwen import Qwen, QwenRules

    return Qwen(net, QwenRules.of(facts))


def videollama3(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """VideoLLaMA3."""
    from anmok.nets.eyes.videollama3 import VideoLlama3, VideoLlama3Rules

    return VideoLlama3(net, VideoLlama3Rules.of(facts))


def gemma3(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """Gemma 3."""
    from anmok.nets.eyes.gemma import Gemma3, Gemma3Rules

    return Gemma3(net, Gemma3Rules.of(facts))


def gemma3_crops(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """Gemma 3, of whose long pictures crops are shown as well."""
    return gemma3(net, {**facts, "do_pan_and_scan": True})


def gemma4(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """Gemma 4."""
    from anmok.nets.eyes.gemma import Gemma4, Gemma4Rules

    return Gemma4(net, Gemma4Rules.of(facts))


def phi4(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """Phi-4-multimodal."""
    from anmok.nets.eyes.phi4 import Phi4, Phi4Rules

    return Phi4(net, Phi4Rules.of(facts))
