"""The families of language models that transformers runs, as data: net, eyes, how it is called, how its template writes
what is shown.

The key is ``model_type`` of a ``config.json``. What differs between checkpoints of a family is in their files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import transformers
from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets import readings
from anmok.nets.eyes import Eyes, anyres, gemma, idefics, internvl, onevision, phi4, qwen, square
from anmok.nets.speaking import Reading

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


@dataclass(frozen=True, slots=True)
class Own:
    """Of a net that transformers does not have. ``made`` gives it as a ``config.json`` describes it, filled at random;
    ``filled`` with the tensors of a checkpoint (``config.json``, tensors, dtype, the card's name); ``toy`` the
    ``config.json`` and ``preprocessor_config.json`` of a small one, of the number of its words and that which ends an
    answer. ``added`` are tokens that stand behind the vocabulary."""

    made: Callable[[Mapping[str, Any]], nn.Module]
    filled: Callable[[Mapping[str, Any], Mapping[str, Tensor], torch.dtype, str], nn.Module]
    toy: Callable[[int, int], tuple[Mapping[str, Any], Mapping[str, Any]]]
    added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """``net`` is the class in transformers. ``image`` and ``video`` are what its chat templates write; ``marks`` the
    special tokens that stand for pictures and clips in a prompt. ``template`` is for checkpoints that come without;
    where it ``is_template_fixed``, for all. ``adapter`` is the folder of what has to be added to the weights."""

    net: str
    reading: Callable[[nn.Module, Any], Reading]
    eyes: Made | None = None
    content: Literal["parts", "text"] = "parts"
    image: str = "<image>"
    video: str = "<video>"
    marks: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    most_pictures: int = 0
    watching: Watching | None = None
    template: str = ""
    is_template_fixed: bool = False
    adapter: str = ""
    own: Own | None = None

    @property
    def slots(self) -> dict[Literal["image", "video"], str]:
        return {"image": self.image, "video": self.video}

    def made(self) -> type[nn.Module]:
        """The net's class, which is looked for when it is wanted: transformers has hundreds."""
        found: type[nn.Module] = getattr(transformers, self.net)
        return found


def _whole(net: nn.Module, eyes: Any) -> Reading:
    return readings.Whole(net)


def _part(net: nn.Module, eyes: Any) -> Reading:
    return readings.Part(net)


def _stretched(net: nn.Module, eyes: Any) -> Reading:
    return readings.Stretched(net)


def _gemma(net: nn.Module, eyes: Any) -> Reading:
    return readings.Gemma(net)


def _gridded(net: nn.Module, eyes: Any) -> Reading:
    return readings.Gridded(net, eyes)


def _llava(net: Any, facts: Mapping[str, Any]) -> Eyes:
    """LLaVA 1.5, whose weights know pictures that were padded to a square; the files of the converted checkpoints say
    that the middle is cut out, and are not followed there."""
    rules = square.SquareRules.of(facts)
    return square.Square(net, square.SquareRules(rules.size, "pad", rules.levels) if rules.way == "crop" else rules)


def _anyres(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return anyres.AnyRes(net, anyres.AnyResRules.of(facts, net.config))


def _onevision(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return onevision.OneVision(net, anyres.AnyResRules.of(facts, net.config))


def _frames(net: Any, facts: Mapping[str, Any]) -> Any:
    return anyres.Frames(net, anyres.frame_rules(facts))


def _idefics(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return idefics.Idefics(net, idefics.IdeficsRules.of(facts))


def _idefics_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    return idefics.Idefics(net, idefics.IdeficsRules.of({**facts, "do_image_splitting": False}))


def _intern(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return internvl.InternVL(net, internvl.InternRules.of(facts))


def _intern_frames(net: Any, facts: Mapping[str, Any]) -> Any:
    return internvl.InternVL(net, internvl.InternRules.of({**facts, "max_patches": 1}))


def _qwen(net: Any, facts: Mapping[str, Any]) -> Eyes:
    token = "<|image_pad|>" if net.config.model_type.startswith("qwen") else _image_of(net.config.model_type)
    return qwen.Qwen(net, qwen.QwenRules.of(facts), token)


def _image_of(model_type: str) -> str:
    return FAMILIES[model_type].marks[0]


def _gemma3(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return gemma.Gemma3(net, gemma.Gemma3Rules.of(facts))


def _gemma4(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return gemma.Gemma4(net, gemma.Gemma4Rules.of(facts))


def _phi4(net: Any, facts: Mapping[str, Any]) -> Eyes:
    return phi4.Phi4(net, phi4.Phi4Rules.of(facts))


# Zheng et al., "Judging LLM-as-a-Judge" (2023), lm-sys/FastChat: the turns of Vicuna, which LLaVA 1.5 learned from.
VICUNA: Final = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'][0]['text'] }} {% else %}"
    "{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT: ' }}"
    "{% for c in m['content'] %}{{ '<image>\n' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "{{ ' ' if m['role'] == 'user' else '</s>' }}{% endif %}{% endfor %}ASSISTANT:"
)

_INTERN: Final = Watching(32, None, before="Frame{number}: ", between="\n", eyes=_intern_frames)
# What SmolVLM2 was trained with (transformers, ``SmolVLMProcessor``). The blank at its beginning stands where the
# template of the weights puts none before a picture.
_SMOL: Final = Watching(
    64,
    1.0,
    before="\nFrame from {clock}:",
    opening=" You are provided the following series of {words} frames from a {time} [H:MM:SS] video.\n",
    closing="\n\n",
    eyes=_idefics_frames,
)


def _reads(net: str, *ends: str) -> Family:
    return Family(net, _whole, content="text", ends=ends)


def _qwen_vl(net: str) -> Family:
    return Family(
        net,
        _gridded,
        _qwen,
        image="<|image_pad|>",
        video="<|video_pad|>",
        marks=("<|image_pad|>",),
        ends=("<|im_end|>",),
        most_pictures=8,
    )


FAMILIES: Final[dict[str, Family]] = {
    "llama": _reads("LlamaForCausalLM", "<|im_end|>", "<|eot_id|>"),
    "mistral": _reads("MistralForCausalLM"),
    "qwen2": _reads("Qwen2ForCausalLM", "<|im_end|>"),
    "qwen3": _reads("Qwen3ForCausalLM", "<|im_end|>"),
    "phi3": Family("Phi3ForCausalLM", _stretched, content="text", ends=("<|end|>",)),
    "gemma2": _reads("Gemma2ForCausalLM", "<end_of_turn>"),
    "gemma3_text": _reads("Gemma3ForCausalLM", "<end_of_turn>"),
    "exaone4": _reads("Exaone4ForCausalLM", "[|endofturn|]"),
    "hyperclovax": _reads("HyperCLOVAXForCausalLM", "<|im_end|>", "<|endofturn|>"),
    "solar_open": _reads("SolarOpenForCausalLM", "<|end|>"),
    "llava": Family(
        "LlavaForConditionalGeneration",
        _whole,
        _llava,
        marks=("<image>",),
        most_pictures=4,
        template=VICUNA,
    ),
    "llava_next": Family("LlavaNextForConditionalGeneration", _whole, _anyres, marks=("<image>",), most_pictures=4),
    "llava_next_video": Family(
        "LlavaNextVideoForConditionalGeneration",
        _whole,
        _anyres,
        marks=("<image>", "<video>"),
        most_pictures=4,
        watching=Watching(32, eyes=_frames),
    ),
    "llava_onevision": Family(
        "LlavaOnevisionForConditionalGeneration",
        _whole,
        _onevision,
        marks=("<image>", "<video>"),
        ends=("<|im_end|>",),
        most_pictures=8,
        watching=Watching(32, eyes=_frames),
    ),
    "idefics3": Family(
        "Idefics3ForConditionalGeneration",
        _part,
        _idefics,
        marks=("<image>",),
        ends=("<end_of_utterance>",),
        most_pictures=8,
    ),
    "smolvlm": Family(
        "SmolVLMForConditionalGeneration",
        _part,
        _idefics,
        marks=("<image>",),
        ends=("<end_of_utterance>",),
        most_pictures=8,
        video="<image>",  # the published template knows no clips
        watching=_SMOL,
    ),
    "internvl": Family(
        "InternVLForConditionalGeneration",
        _whole,
        _intern,
        image="<IMG_CONTEXT>",
        marks=("<IMG_CONTEXT>",),
        ends=("<|im_end|>",),
        most_pictures=8,
        watching=_INTERN,
    ),
    "qwen2_vl": _qwen_vl("Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": _qwen_vl("Qwen2_5_VLForConditionalGeneration"),
    "qwen3_vl": _qwen_vl("Qwen3VLForConditionalGeneration"),
    "gemma3": Family(
        "Gemma3ForConditionalGeneration",
        _gemma,
        _gemma3,
        image="<start_of_image>",
        marks=("<image_soft_token>",),
        ends=("<end_of_turn>",),
        most_pictures=8,
    ),
    "gemma4": Family(
        "Gemma4ForConditionalGeneration",
        _gemma,
        _gemma4,
        image="<|image|>",
        marks=("<|image|>",),
        ends=("<turn|>",),
        most_pictures=8,
    ),
    "exaone4_5": Family(
        "Exaone4_5_ForConditionalGeneration",
        _part,
        _qwen,
        image="<|image_pad|>",
        marks=("<|image_pad|>",),
        ends=("[|endofturn|]",),
        most_pictures=8,
    ),
    "hyperclovax_vision_v2": Family(
        "HyperCLOVAXVisionV2ForConditionalGeneration",
        _part,
        _qwen,
        image="<|image_pad|>",
        marks=("<|image_pad|>",),
        ends=("<|im_end|>", "<|endofturn|>"),
        most_pictures=8,
    ),
    "phi4_multimodal": Family(
        "Phi4MultimodalForCausalLM",
        _stretched,
        _phi4,
        content="text",
        image="<|endoftext10|>",
        marks=("<|endoftext10|>",),
        ends=("<|end|>",),
        most_pictures=4,
        adapter="vision-lora",
    ),
}


def family_of(model_type: object, name: str) -> Family:
    """Raises:
    BadWeights: a family that is not here."""
    from anmok.nets.own_families import OWN_FAMILIES  # rows of this table, which are made of its classes

    known = {**FAMILIES, **OWN_FAMILIES}
    found = known.get(str(model_type))
    if found is None:
        raise BadWeights(f"{name}: config.json is of a {model_type!r}, which is none of {', '.join(sorted(known))}")
    return found
