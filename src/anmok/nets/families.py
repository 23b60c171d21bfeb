"""The families of language models that transformers runs, as data: net, eyes, how it is called, how its template writes
what is shown.

The key is ``model_type`` of a ``config.json``. What differs between checkpoints of a family is in their files. What a
family sees with, and transformers itself, are imported when they are wanted: to read the table takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets import hearing_phi4, readings, seeing, watching
from anmok.nets.speaking import Reading
from anmok.nets.watching import Made, Watching


@dataclass(frozen=True, slots=True)
class Listening:
    """How a family hears. ``sound`` is what its chat templates write, and the special token that stands for it in a
    prompt."""

    ears: Made
    most_sounds: int = 1
    sound: str = "<audio>"


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
    where it ``is_template_fixed``, for all. ``adapter`` is the folder of what has to be added to the weights;
    ``adapters`` those of what stays beside them: for conversations with pictures, and for those with sounds alone.
    ``senses`` is the path of the module that holds all it sees and hears with, where that is within the language model
    and not beside it."""

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
    hearing: Listening | None = None
    template: str = ""
    is_template_fixed: bool = False
    adapter: str = ""
    adapters: tuple[str, ...] = ()
    senses: str = ""
    own: Own | None = None

    @property
    def slots(self) -> dict[Literal["image", "video", "sound"], str]:
        heard: dict[Literal["image", "video", "sound"], str] = {}
        if self.hearing is not None:
            heard["sound"] = self.hearing.sound
        return {"image": self.image, "video": self.video, **heard}

    @property
    def folders(self) -> dict[str, str]:
        """Of all its adapters, by their names among the weights."""
        return {one.partition("-")[0]: one for one in (self.adapter, *self.adapters) if one}

    def way(self, pictures: int, sounds: int) -> str:
        """By which of ``adapters`` a conversation of so much is read; empty where by none."""
        if not self.adapters or pictures + sounds == 0:
            return ""
        return [*self.folders][0 if pictures else 1]

    def made(self) -> type[nn.Module]:
        """The net's class, which is looked for when it is wanted: transformers has hundreds."""
        import transformers

        found: type[nn.Module] = getattr(transformers, self.net)
        return found


def _whole(net: nn.Module, eyes: Any) -> Reading:
    return readings.Whole(net)


def _part(net: nn.Module, eyes: Any) -> Reading:
    return readings.Part(net)


def _stretched(net: nn.Module, eyes: Any) -> Reading:
    return readings.Stretched(net)


def _switched(net: nn.Module, eyes: Any) -> Reading:
    return readings.Switched(net)


def _gemma(net: nn.Module, eyes: Any) -> Reading:
    return readings.Gemma(net)


def _gridded(net: nn.Module, eyes: Any) -> Reading:
    return readings.Gridded(net, eyes)


# Zheng et al., "Judging LLM-as-a-Judge" (2023), lm-sys/FastChat: the turns of Vicuna, which LLaVA 1.5 learned from.
VICUNA: Final = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'][0]['text'] }} {% else %}"
    "{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT: ' }}"
    "{% for c in m['content'] %}{{ '<image>\n' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "{{ ' ' if m['role'] == 'user' else '</s>' }}{% endif %}{% endfor %}ASSISTANT:"
)
_PHI4_SENSES: Final = "model.embed_tokens_extend"


def _reads(net: str, *ends: str) -> Family:
    return Family(net, _whole, content="text", ends=ends)


def _qwen_vl(net: str) -> Family:
    return Family(
        net,
        _gridded,
        seeing.qwen,
        image="<|image_pad|>",
        video="<|video_pad|>",
        marks=("<|image_pad|>", "<|video_pad|>"),
        ends=("<|im_end|>",),
        most_pictures=8,
        watching=watching.QWEN,
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
        seeing.llava,
        marks=("<image>",),
        most_pictures=4,
        template=VICUNA,
    ),
    "llava_next": Family(
        "LlavaNextForConditionalGeneration", _whole, seeing.anyres, marks=("<image>",), most_pictures=4
    ),
    "llava_next_video": Family(
        "LlavaNextVideoForConditionalGeneration",
        _whole,
        seeing.anyres,
        marks=("<image>", "<video>"),
        most_pictures=4,
        watching=watching.LLAVA,
    ),
    "llava_onevision": Family(
        "LlavaOnevisionForConditionalGeneration",
        _whole,
        seeing.onevision,
        marks=("<image>", "<video>"),
        ends=("<|im_end|>",),
        most_pictures=8,
        watching=watching.LLAVA,
    ),
    "idefics3": Family(
        "Idefics3ForConditionalGeneration",
        _part,
        seeing.idefics,
        marks=("<image>",),
        ends=("<end_of_utterance>",),
        most_pictures=8,
    ),
    "smolvlm": Family(
        "SmolVLMForConditionalGeneration",
        _part,
        seeing.idefics,
        marks=("<image>",),
        ends=("<end_of_utterance>",),
        most_pictures=8,
        video="<image>",  # the published template knows no clips
        watching=watching.SMOL,
    ),
    "internvl": Family(
        "InternVLForConditionalGeneration",
        _whole,
        seeing.intern,
        image="<IMG_CONTEXT>",
        marks=("<IMG_CONTEXT>",),
        ends=("<|im_end|>",),
        most_pictures=8,
        watching=watching.INTERN,
    ),
    "qwen2_vl": _qwen_vl("Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": _qwen_vl("Qwen2_5_VLForConditionalGeneration"),
    "qwen3_vl": _qwen_vl("Qwen3VLForConditionalGeneration"),
    "qwen3_vl_moe": _qwen_vl("Qwen3VLMoeForConditionalGeneration"),
    "gemma3": Family(
        "Gemma3ForConditionalGeneration",
        _gemma,
        seeing.gemma3,
        image="<start_of_image>",
        video="<start_of_image>",  # the published template knows no clips
        marks=("<image_soft_token>",),
        ends=("<end_of_turn>",),
        most_pictures=8,
        watching=watching.GEMMA3,
    ),
    "gemma4": Family(
        "Gemma4ForConditionalGeneration",
        _gemma,
        seeing.gemma4,
        image="<|image|>",
        video="<|video|>",
        marks=("<|image|>",),
        ends=("<turn|>",),
        most_pictures=8,
        watching=watching.GEMMA4,
    ),
    "video_llama_3": Family(
        "VideoLlama3ForConditionalGeneration",
        _part,
        seeing.videollama3,
        image="<|image_pad|>",
        video="<|video_pad|>",
        marks=("<|image_pad|>", "<|video_pad|>"),
        ends=("<|im_end|>",),
        most_pictures=8,
        watching=watching.VIDEOLLAMA3,
    ),
    "exaone4_5": Family(
        "Exaone4_5_ForConditionalGeneration",
        _part,
        seeing.qwen,
        image="<|image_pad|>",
        video="<|video_pad|>",
        marks=("<|image_pad|>", "<|video_pad|>"),
        ends=("[|endofturn|]",),
        most_pictures=8,
        watching=watching.QWEN,
    ),
    "hyperclovax_vision_v2": Family(
        "HyperCLOVAXVisionV2ForConditionalGeneration",
        _part,
        seeing.qwen,
        image="<|image_pad|>",
        marks=("<|image_pad|>",),
        ends=("<|im_end|>", "<|endofturn|>"),
        most_pictures=8,
    ),
    # The same checkpoint with the adapter by which it hears added to its weights; a card's kind says that it is wanted.
    "phi4_multimodal_speech": Family(
        "Phi4MultimodalForCausalLM",
        _stretched,
        content="text",
        marks=(hearing_phi4.AUDIO_TOKEN,),
        ends=("<|end|>",),
        hearing=Listening(hearing_phi4.Phi4Ears, sound=hearing_phi4.AUDIO_TOKEN),
        adapter="speech-lora",
        senses=_PHI4_SENSES,
    ),
    "phi4_multimodal": Family(
        "Phi4MultimodalForCausalLM",
        _switched,
        seeing.phi4,
        content="text",
        image="<|endoftext10|>",
        marks=("<|endoftext10|>", hearing_phi4.AUDIO_TOKEN),
        ends=("<|end|>",),
        most_pictures=4,
        hearing=Listening(hearing_phi4.Phi4EarsBesideEyes, sound=hearing_phi4.AUDIO_TOKEN),
        adapters=("vision-lora", "speech-lora"),
        senses=_PHI4_SENSES,
    ),
}


def _gemma4_hears() -> Family:
    from anmok.nets import hearing_gemma

    deaf, token = FAMILIES["gemma4"], hearing_gemma.GEMMA4_TOKENS.token
    listening = Listening(hearing_gemma.Gemma4Ears, hearing_gemma.MOST_SOUNDS, token)
    return replace(deaf, marks=(*deaf.marks, token), hearing=listening)


def _gemma3n() -> Family:
    from anmok.nets.gemma3n import GEMMA3N

    return GEMMA3N


def _onevision15() -> Family:
    from anmok.nets.onevision15 import ONEVISION15

    return ONEVISION15


def _omni() -> Family:
    from anmok.nets.hyperclovax_omni import OMNI

    return OMNI


def _ours(kind: str) -> Family:
    from anmok.nets.own_families import OWN_FAMILIES

    return OWN_FAMILIES[kind]


# Rows that are made of classes in other modules, which are imported when one is asked for. The first two are read in
# another way than their ``model_type`` tells: a card's kind says so, or their files.
ELSEWHERE: Final[Mapping[str, Callable[[], Family]]] = {
    "gemma3_crops": lambda: replace(FAMILIES["gemma3"], eyes=seeing.gemma3_crops),  # of long pictures, crops as well
    "gemma4_hears": _gemma4_hears,  # with an ear, as E2B and E4B
    "gemma3n": _gemma3n,
    "llavaonevision1_5": _onevision15,
    "hyperclovax_omni": _omni,
    "hyperclovax_vlm": partial(_ours, "hyperclovax_vlm"),
    "videollama2_mistral": partial(_ours, "videollama2_mistral"),
    "videollama2_qwen2": partial(_ours, "videollama2_qwen2"),
    "videollama2_qwen2_av": partial(_ours, "videollama2_qwen2_av"),
}


def family_of(model_type: object, name: str) -> Family:
    """Raises:
    BadWeights: a family that is not here."""
    kind = str(model_type)
    if kind in FAMILIES:
        return FAMILIES[kind]
    if kind in ELSEWHERE:
        return ELSEWHERE[kind]()
    known = ", ".join(sorted({*FAMILIES, *ELSEWHERE}))
    raise BadWeights(f"{name}: config.json is of a {model_type!r}, which is none of {known}")
