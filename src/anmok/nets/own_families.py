"""Families of language models with eyes that transformers does not run: HyperCLOVA X SEED Vision 3B and VideoLLaMA2.

What reads is transformers' Llama (or NAVER's own kind of it), Mistral or Qwen2; what sees is ours.
``families.family_of`` finds these rows by the ``model_type`` of a ``config.json`` as it does the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import (
    HyperCLOVAXConfig,
    HyperCLOVAXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from anmok.errors import BadWeights
from anmok.nets import hearing
from anmok.nets.cut_tower import cut_config, tower_class
from anmok.nets.eyes import hyperclovax, videollama2
from anmok.nets.families import Family, Listening, Own
from anmok.nets.honeybee import CAbstractor
from anmok.nets.pretrained import configured, filled
from anmok.nets.readings import Whole
from anmok.nets.watching import Watching

Content = Mapping[str, Any]
State = Mapping[str, Tensor]
Parted = Callable[[State], tuple[dict[str, Tensor], dict[str, Tensor]]]

_READERS: Final[Mapping[str, tuple[Any, Any]]] = {
    "hyperclovax": (HyperCLOVAXForCausalLM, HyperCLOVAXConfig),
    "llama": (LlamaForCausalLM, LlamaConfig),
    "mistral": (MistralForCausalLM, MistralConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
}


class Pair(nn.Module):
    """Sight and reader as one net, which is called as those of transformers are, and maybe what it hears with.
    ``content`` is the ``config.json``."""

    def __init__(self, sight: nn.Module, reader: nn.Module, content: Content, ear: nn.Module | None = None) -> None:
        super().__init__()
        self.sight = sight
        if ear is not None:
            self.ear = ear
        self.reader: Any = reader
        self.content = content

    @property
    def config(self) -> Any:
        """The reader's."""
        return self.reader.config

    def get_input_embeddings(self) -> nn.Module:
        found: nn.Module = self.reader.get_input_embeddings()
        return found

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        cache: Any,
        use_cache: bool = True,
        logits_to_keep: int = 1,
    ) -> Any:
        """Rows (B, n, W), the last ones of what ``attention_mask`` (B, S) covers, to an output with ``logits``
        (B, logits_to_keep, V)."""
        return self.reader(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
        )


def _whole(net: nn.Module, eyes: Any) -> Whole:
    return Whole(net)


def _told(content: Content) -> Content:
    """Of ``config.json`` the reader's part, with the kind of reader."""
    part = content.get("text_config") or content.get("language_config")
    if part is not None:
        return dict(part)
    kind = str(content["model_type"]).rpartition("_")[2]
    return {**content, "model_type": kind if kind in _READERS else "llama"}


def _reader(content: Content, name: str) -> tuple[Any, Any]:
    """Class and configuration.

    Raises:
        BadWeights: another reader than the published ones.
    """
    told = _told(content)
    if (kind := str(told.get("model_type", "llama"))) not in _READERS:
        raise BadWeights(f"{name}: its language model is a {kind!r}; want one of {', '.join(_READERS)}")
    net, config = _READERS[kind]
    return net, configured(config, {**told, "model_type": kind}, name)


def _made(sight: Callable[[Content], nn.Module]) -> Callable[[Content], nn.Module]:
    def net(content: Content) -> nn.Module:
        kind, config = _reader(content, "random")
        return Pair(sight(content), kind(config), content)

    return net


def _filled(
    sight: Callable[[Content, State, torch.dtype, str], nn.Module], parted: Parted
) -> Callable[[Content, State, torch.dtype, str], nn.Module]:
    def net(content: Content, state: State, dtype: torch.dtype, name: str) -> nn.Module:
        seeing, reading = parted(state)
        try:
            kind, config = _reader(content, name)
            eye = sight(content, seeing, dtype, name)
        except KeyError as error:
            raise BadWeights(f"{name}: config.json lacks {error}") from None
        return Pair(eye, filled(kind, config, reading, dtype, name), content).eval()

    return net


def _made_to_hear(content: Content) -> nn.Module:
    kind, config = _reader(content, "random")
    return Pair(_video_sight(content), kind(config), content, hearing.Hearing.made(content))


def _filled_to_hear(content: Content, state: State, dtype: torch.dtype, name: str) -> nn.Module:
    heard, rest = hearing.parted(state)
    net: Any = _filled(videollama2.Sight.filled, videollama2.parted)(content, rest, dtype, name)
    net.ear = hearing.Hearing.filled(content, heard, dtype, name).eval()
    whole: nn.Module = net
    return whole


def _clova_sight(content: Content) -> nn.Module:
    layer = int(content.get("use_nth_layer", hyperclovax.LAYER))
    config = cut_config(content["vision_config"], layer, "random")
    tower: Any = tower_class(config)
    return hyperclovax.Sight(tower(config), CAbstractor(hyperclovax.connector_config(content)))


def _clova(net: Any, facts: Content) -> hyperclovax.HyperClova:
    return hyperclovax.HyperClova(net.sight, hyperclovax.HyperClovaRules.of(net.content, facts))


def _clova_frames(net: Any, facts: Content) -> hyperclovax.HyperClovaFrames:
    return hyperclovax.HyperClovaFrames(net.sight, hyperclovax.HyperClovaRules.of(net.content, facts))


def _video_sight(content: Content) -> nn.Module:
    config = videollama2.tower_config(content, "random")
    tower: Any = tower_class(config)
    return videollama2.Sight(tower(config), videollama2.connector_of(content, config.hidden_size))


def _video(net: Any, facts: Content) -> videollama2.VideoLlama2:
    return videollama2.VideoLlama2(net.sight, videollama2.rules_of(net.content, "config.json"))


def _video_frames(net: Any, facts: Content) -> videollama2.VideoLlama2Frames:
    return videollama2.VideoLlama2Frames(net.sight, videollama2.rules_of(net.content, "config.json"))


def _video_ears(net: Any, facts: Content) -> hearing.Ears:
    return hearing.Ears(net.ear, seconds=hearing.seconds_of(net.content))


_NARROW: Final = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT: Final = {**_NARROW, "num_key_value_heads": 2, "max_position_embeddings": 4096}
_TOWER: Final = {**_NARROW, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
_SIGLIP: Final = {**_TOWER, "model_type": "siglip_vision_model", "image_size": 16, "patch_size": 4}
_BEATS: Final = {"width": 16, "inner": 24, "depth": 2, "heads": 2, "patch": 8, "kernel": 8, "groups": 2, "seconds": 1}
_CLIP: Final = {**_SIGLIP, "model_type": "clip_vision_model", "projection_dim": 8}


def _clova_toy(words: int, end: int) -> tuple[Content, Content]:
    """``config.json`` and ``preprocessor_config.json`` of a net that knows so many words."""
    content = {
        "model_type": "hyperclovax_vlm",
        "vision_config": _SIGLIP,
        "text_config": {**_TEXT, "model_type": "llama", "vocab_size": words, **_ends(end)},
        "mm_projector_type": "cabstractor",
        "anyres": True,
        "unpad": True,
        "max_num_grids": 4,
        "use_1x1_grid": True,
        "num_queries_vis_abstractor_image": 4,
        "num_queries_vis_abstractor_video_slow": 4,
        "num_queries_vis_abstractor_video_fast": 1,
    }
    return content, {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def _video_toy(kind: str, tower: Content, connector: str) -> Callable[[int, int], tuple[Content, Content]]:
    def toy(words: int, end: int) -> tuple[Content, Content]:
        seeing = {"mm_vision_tower": tower, "mm_projector_type": connector, "num_frames": 4}
        return {**_TEXT, "model_type": kind, "vocab_size": words, **_ends(end), **seeing}, {}

    return toy


def _hearing_toy(words: int, end: int) -> tuple[Content, Content]:
    content, facts = _video_toy("videollama2_qwen2", _SIGLIP, "stc_connector_v35")(words, end)
    return {**content, "mm_audio_tower": _BEATS, "mm_projector_a_type": "mlp2x_gelu"}, facts


def _ends(end: int) -> dict[str, int | None]:
    return {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": end}


def _video_family(kind: str, tower: Content, connector: str, ends: tuple[str, ...], template: str) -> Family:
    marks = (videollama2.IMAGE_TOKEN, videollama2.VIDEO_TOKEN)
    return Family(
        "",
        _whole,
        _video,
        content="text",
        image=marks[0],
        video=marks[1],
        marks=marks,
        ends=ends,
        most_pictures=1,
        watching=Watching(videollama2.FRAMES, eyes=_video_frames),
        template=template,
        own=Own(
            _made(_video_sight),
            _filled(videollama2.Sight.filled, videollama2.parted),
            _video_toy(kind, tower, connector),
            added=marks,
        ),
    )


def _hearing_family() -> Family:
    """VideoLLaMA2.1-AV. A clip and its sound track are one place in a prompt, the sound behind; a sound by itself has
    its own."""
    deaf = _video_family("videollama2_qwen2", _SIGLIP, "stc_connector_v35", ("<|im_end|>",), _CHATML_TURNS)
    marks = (*deaf.marks, hearing.AUDIO_TOKEN)
    return dataclasses.replace(
        deaf,
        marks=marks,
        hearing=Listening(_video_ears, sound=hearing.AUDIO_TOKEN),
        own=Own(_made_to_hear, _filled_to_hear, _hearing_toy, added=marks),
    )


# Turns as ChatML has them, in their bare form; a picture is a turn of its own. The checkpoint's own template also tells
# of its file name and of words and things that other programs found in it.
_CLOVA_TURNS: Final = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<|im_start|>user (vector)\n" + hyperclovax.IMAGE_TOKEN + "<|im_end|>\n' }}"
    "{% elif c['type'] == 'video' %}{{ '<|im_start|>user (vector)\n" + hyperclovax.VIDEO_TOKEN + "<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' ~ m['role'] ~ '\n' ~ c['text'] ~ '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
# The turns of Llama 2, the system's words inside the first; and ChatML.
_LLAMA_TURNS: Final = (
    "{{ bos_token }}{% set told = namespace(before='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set told.before = '<<SYS>>\n' ~ m['content'] ~ '\n<</SYS>>\n\n' %}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' ~ told.before ~ m['content'] ~ ' [/INST]' }}{% set told.before = '' %}"
    "{% else %}{{ ' ' ~ m['content'] ~ '</s>' }}{% endif %}{% endfor %}"
)
_CHATML_TURNS: Final = (
    "{% for m in messages %}{{ '<|im_start|>' ~ m['role'] ~ '\n' ~ m['content'] ~ '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)

OWN_FAMILIES: Final[Mapping[str, Family]] = {
    "hyperclovax_vlm": Family(
        "",
        _whole,
        _clova,
        image=hyperclovax.IMAGE_TOKEN,
        video=hyperclovax.VIDEO_TOKEN,
        marks=(hyperclovax.IMAGE_TOKEN, hyperclovax.VIDEO_TOKEN),
        ends=("<|im_end|>", "<|endofturn|>", "<|stop|>"),
        most_pictures=8,
        watching=Watching(12 * hyperclovax.CANVAS, eyes=_clova_frames),
        template=_CLOVA_TURNS,
        own=Own(_made(_clova_sight), _filled(hyperclovax.Sight.filled, hyperclovax.parted), _clova_toy),
    ),
    "videollama2_mistral": _video_family("videollama2_mistral", _CLIP, "stc_connector", (), _LLAMA_TURNS),
    "videollama2_qwen2": _video_family(
        "videollama2_qwen2", _SIGLIP, "stc_connector_v35", ("<|im_end|>",), _CHATML_TURNS
    ),
    "videollama2_qwen2_av": _hearing_family(),
}
