"""Published checkpoints as nets: transformers' own layout, the authors' where it is another, and adapters that belong
to the weights.

What a checkpoint in its authors' layout does not bring (a chat template, a token for pictures) is here as well, after
the code that it was published with: github.com/OpenGVLab/InternVL (``internvl_chat``), github.com/haotian-liu/LLaVA
and github.com/microsoft/LLaVA-Med (``llava_llama``, ``llava_mistral``), microsoft/Phi-4-multimodal-instruct
(``phi4mm``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets.adapters_beside import put_beside
from anmok.nets.adapters_in import folded, parted
from anmok.nets.families import FAMILIES, VICUNA, Family, family_of
from anmok.nets.phi4_names import phi4_config, phi4_state
from anmok.nets.pretrained import configured, filled
from anmok.nets.videollama3_names import TURNS, videollama3_config, videollama3_facts, videollama3_state
from anmok.nets.vlm_names import internvl_config, internvl_rules, internvl_state, llava_config, llava_state

Content = Mapping[str, Any]
State = Mapping[str, Tensor]

_OTHERWISE: Final = ("phi4_multimodal_speech", "gemma3_crops")


@dataclass(frozen=True, slots=True)
class Original:
    """A layout that is not transformers'.

    ``config`` is given ``config.json`` and the number of the family's image token in the tokenizer; ``facts`` makes of
    ``config.json`` what a ``preprocessor_config.json`` would say, or nothing where that stands. ``added`` are tokens
    that stand behind the vocabulary.
    """

    family: Family
    config: Callable[[Content, int | None], Content]
    state: Callable[[State, Content], State]
    facts: Callable[[Content], Content]
    added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What its files hold, read but not yet a net."""

    content: Content
    facts: Content
    state: State
    name: str  # of the card, for messages
    kind: str = ""  # of the card, which chooses where one checkpoint can be read in two ways

    @property
    def original(self) -> Original | None:
        return ORIGINALS.get(str(self.content.get("model_type")))

    @property
    def family(self) -> Family:
        """Raises:
        BadWeights: none that is known."""
        original, kind = self.original, self.content.get("model_type")
        if self.kind in _OTHERWISE:
            return family_of(self.kind, self.name)
        if self.content.get("mm_audio_tower"):  # VideoLLaMA2's ears, which its model_type does not tell of
            kind = f"{kind}_av"
        if kind == "gemma4" and self.content.get("audio_config"):
            kind = "gemma4_hears"
        if kind == "vlm" and self.content.get("audio_config"):  # of its sisters, HyperCLOVA X SEED Omni
            return family_of("hyperclovax_omni", self.name)
        return family_of(kind, self.name) if original is None else original.family

    def tokenizer(self, content: str) -> str:
        """A ``tokenizer.json`` with the tokens that the net was given beside it."""
        own = self.family.own
        added = own.added if own is not None else () if self.original is None else self.original.added
        return _with_added(content, added, self.name)

    def filled(
        self, image_id: int | None, adapters: Mapping[str, tuple[State, Content]], dtype: torch.dtype
    ) -> tuple[nn.Module, Content]:
        """The net, ready for inference, and how its pictures are prepared.

        Args:
            image_id: the number of the family's image token in the tokenizer.
            adapters: by name, tensors and configuration from the folders that the family names; both empty where there
                is none.
            dtype: of the weights.

        Raises:
            BadWeights: a tensor is missing, left over or of another shape; the adapter is missing; the configuration
                asks for what no net here has.
        """
        original, content, facts, state = self.original, self.content, self.facts, self.state
        if (ours := self.family.own) is not None:
            return ours.filled(content, state, dtype, self.name), facts
        if original is not None:
            with _named(self.name):
                content, facts = original.config(content, image_id), original.facts(content) or facts
                state = original.state(state, self.content)
        found: dict[str, tuple[State, Content]] = {}
        whole = state
        for wanted in self.family.folders:
            state, own = parted(whole, wanted)
            given, rules = adapters.get(wanted, ({}, {}))
            found[wanted] = own or given, rules or content.get(f"{wanted}_lora") or {}
        if self.family.adapter:
            [one] = found.values()
            state = folded(state, *one, self.name)
        kind: Any = self.family.made()
        net = filled(kind, configured(kind.config_class, content, self.name), state, dtype, self.name)
        if self.family.adapters:
            put_beside(net, found, self.name)
        return net, facts


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Says of which card a file is wrong, and names what a configuration lacks."""
    try:
        yield
    except BadWeights as error:
        raise BadWeights(f"{name}: {error}") from None
    except KeyError as error:
        raise BadWeights(f"{name}: config.json lacks {error}") from None


def _intern_facts(content: Content) -> Content:
    rules = internvl_rules(content)
    return {
        "size": {"height": rules.tile, "width": rules.tile},
        "min_patches": rules.fewest,
        "max_patches": rules.most,
    }


def _llava_facts(content: Content) -> Content:
    """Padded to a square, as the weights know pictures.

    Raises:
        BadWeights: it was trained in another way."""
    way = content.get("image_aspect_ratio")
    if way != "pad":
        raise BadWeights(f"config.json: image_aspect_ratio {way!r}; want 'pad', LLaVA 1.5's and LLaVA-Med's")
    size = llava_config(content)["vision_config"]["image_size"]
    return {"size": {"height": size, "width": size}, "do_pad": True}


def _llava_state(state: State, content: Content) -> State:
    return llava_state(state)


def _llava_config(content: Content, image_id: int | None) -> Content:
    """Raises:
    BadWeights: the tokenizer has more words than the net, or fewer: the image token would be one of them."""
    made = llava_config(content)
    if image_id != made["image_token_id"]:
        raise BadWeights(f"tokenizer.json has {image_id} tokens, and config.json {made['image_token_id']}")
    return made


# Turns as ChatML has them; the tokenizers that read with InternLM2 begin with a token of their own.
_INTERN: Final = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' ~ m['role'] ~ '\n' ~ m['content'] ~ '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
# LLaVA-Med's ``mistral_instruct``: the turns of Llama 2, the system's words inside the first.
_MISTRAL: Final = (
    "{{ bos_token }}{% set told = namespace(before='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set told.before = '<<SYS>>\n' ~ m['content'] ~ '\n<</SYS>>\n\n' %}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' ~ told.before ~ m['content'] ~ ' [/INST]' }}{% set told.before = '' %}"
    "{% else %}{{ ' ' ~ m['content'] ~ ' </s>' }}{% endif %}{% endfor %}"
)


def _llava(template: str, content: Literal["parts", "text"]) -> Original:
    family = dataclasses.replace(FAMILIES["llava"], template=template, content=content, is_template_fixed=True)
    return Original(family, _llava_config, _llava_state, _llava_facts, ("<image>", "<pad>"))


def _renamed(content: Content, image_id: int | None) -> Content:
    return {**content, "model_type": "hyperclovax_vision_v2"}


ORIGINALS: Final[Mapping[str, Original]] = {
    "internvl_chat": Original(
        dataclasses.replace(FAMILIES["internvl"], template=_INTERN, content="text", is_template_fixed=True),
        internvl_config,
        internvl_state,
        _intern_facts,
    ),
    "llava_llama": _llava(VICUNA, "parts"),
    "llava_mistral": _llava(_MISTRAL, "text"),
    "phi4mm": Original(FAMILIES["phi4_multimodal"], phi4_config, lambda state, _: phi4_state(state), lambda _: {}),
    "videollama3_qwen2": Original(
        dataclasses.replace(FAMILIES["video_llama_3"], template=TURNS, is_template_fixed=True),
        videollama3_config,
        videollama3_state,
        videollama3_facts,
    ),
    # HyperCLOVA X SEED Think 32B: transformers' layout under a name that transformers itself does not look up.
    "vlm": Original(FAMILIES["hyperclovax_vision_v2"], _renamed, lambda state, _: state, lambda _: {}),
}


def _with_added(content: str, added: tuple[str, ...], name: str) -> str:
    if not added:
        return content
    try:
        facts = json.loads(content)
        words = facts["model"]["vocab"]
        known = {one["content"]: one for one in facts["added_tokens"]}
        listed = words if isinstance(words, dict) else [word for word, _ in words]
        count = len({*listed} | {*known})
    except (ValueError, KeyError, TypeError):
        raise BadWeights(f"{name}: not a tokenizer.json (its model or its added tokens); is it damaged?") from None
    fresh = [token for token in added if token not in known]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    facts["added_tokens"] += [
        {"id": count + i, "content": token, **flags, "special": True} for i, token in enumerate(fresh)
    ]
    return json.dumps(facts)


def tensors(paths: Sequence[Path], name: str) -> dict[str, Tensor]:
    """Those of all files, each of which holds others.

    Raises:
        BadWeights: a file that cannot be read, or a tensor in two of them."""
    state: dict[str, Tensor] = {}
    for path in paths:
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise BadWeights(f"{name}: {path.name} cannot be read ({error})") from None
        if twice := state.keys() & found.keys():
            raise BadWeights(f"{name}: {path.name} has {min(twice)}, which another file has as well")
        state |= found
    return state
