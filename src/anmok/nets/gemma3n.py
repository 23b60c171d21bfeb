"""Gemma 3n: transformers' reader and ear behind a tower of ours.

Source: Google, Gemma 3n (2025), google/gemma-3n-E4B-it, and transformers' ``Gemma3nForConditionalGeneration``. That one
has its tower from timm, which needs torchvision; here it is ``mobilenet_v5``. What it hears with is ``hearing_gemma``.

Words that stand for pictures and sounds, such as the one that ends a picture, have tables of their own; and each token
is looked up once more for every layer, which whoever hands rows to the net has to do for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, Gemma3nForCausalLM, Gemma3nTextConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nMultimodalEmbedder

from anmok.errors import BadWeights
from anmok.nets import hearing_gemma
from anmok.nets.eyes import Size
from anmok.nets.eyes.gemma import GEMMA3_TOKENS, Gemma3Rules
from anmok.nets.families import Family, Listening, Own
from anmok.nets.mobilenet_v5 import PLANS, MobileNetV5
from anmok.nets.own_families import Pair
from anmok.nets.pretrained import configured, fill, filled
from anmok.nets.readings import Whole
from anmok.nets.speaking import Batch

Content = Mapping[str, Any]
State = Mapping[str, Tensor]

# As published; transformers writes them into its processor's file.
_FACTS: Final[Content] = {"size": {"height": 768, "width": 768}, "do_normalize": False, "resample": 2}
_TABLES: Final = {"hidden_size": 2048, "rms_norm_eps": 1e-6, "vocab_size": 128, "vocab_offset": 262_144}
_EAR_TABLES: Final = {**_TABLES, "hidden_size": 1536, "vocab_offset": 262_272}
_TOWER: Final = "model.vision_tower.timm_model."
_READER: Final = "model.language_model."
_EAR: Final = "model.audio_tower."
_SHARED: Final = re.compile(r"^model\.layers\.(\d+)\.self_attn\.(?:k_proj|v_proj|k_norm|v_norm)\.")


class Sight(nn.Module):
    """The tower, and the tables of words that stand for pictures and sounds. ``name`` is the card's, for messages.

    Raises:
        BadWeights: another tower.
    """

    def __init__(self, content: Content, text: Gemma3nTextConfig, name: str) -> None:
        super().__init__()
        seeing = {**_TABLES, "architecture": "mobilenetv5_300m_enc", **content.get("vision_config", {})}
        plan = PLANS.get(seeing["architecture"])
        if plan is None:
            raise BadWeights(f"{name}: its vision tower is {seeing['architecture']!r}; want {next(iter(PLANS))!r}")
        self.tower = MobileNetV5(plan)
        self.embed_vision = _embedder(seeing, text)
        self.embed_audio = _embedder({**_EAR_TABLES, **content.get("audio_config", {})}, text)
        self.tokens = plan.side**2

    def forward(self, pixels: Tensor) -> Tensor:
        """Levels from 0 to 1, (B, 3, h, w), to rows (B, tokens, W)."""
        maps = self.tower(pixels.to(self.embed_vision.embedding.weight.dtype))  # (B, C, side, side)
        patches = maps.flatten(2).transpose(1, 2) * maps.shape[1] ** 0.5  # (B, tokens, C)
        rows: Tensor = self.embed_vision(inputs_embeds=patches)
        return rows


class Gemma3n(Pair):
    """Sight, ear and reader as one net, with the tables of its own that its reader looks up."""

    sight: Sight
    ear: Gemma3nAudioEncoder

    def embedded(self, ids: Tensor) -> Tensor:
        """int64 (..., T) to rows (..., T, W), those of pictures' and sounds' words from their own tables."""
        rows: Tensor = self.get_input_embeddings()(ids)
        heard = self.sight.embed_audio.vocab_offset
        for table, is_its in (
            (self.sight.embed_vision, (ids >= self.sight.embed_vision.vocab_offset) & (ids < heard)),
            (self.sight.embed_audio, ids >= heard),
        ):
            if bool(is_its.any()):
                others: Any = table(input_ids=ids.clamp(table.vocab_offset, table.vocab_offset + table.vocab_size - 1))
                rows = torch.where(is_its[..., None], others.to(rows.dtype), rows)
        return rows

    def per_layer(self, ids: Tensor) -> Tensor:
        """int64 (B, T) to what is looked up for every layer, (B, T, layers, P)."""
        found: Tensor = self.reader.model.get_per_layer_inputs(ids)
        return found

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        cache: Any,
        use_cache: bool = True,
        logits_to_keep: int = 1,
        per_layer_inputs: Tensor | None = None,
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
            per_layer_inputs=per_layer_inputs,
        )


class Reads(Whole):
    """How the net is called: with what is looked up for every layer."""

    def __init__(self, net: Any) -> None:
        super().__init__(net)
        self._gemma: Gemma3n = net

    def embedded(self, ids: Tensor) -> Tensor:
        return self._gemma.embedded(ids)

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        return {"per_layer_inputs": self._gemma.per_layer(batch.ids[:, -fresh:])}


class Eyes:
    """A square, whatever the picture's shape, and always as many tokens."""

    def __init__(self, sight: Sight, facts: Content) -> None:
        told = {key: value for key, value in facts.items() if value is not None}
        self._sight = sight
        self._rules = Gemma3Rules.of({**_FACTS, **told, "do_pan_and_scan": False})

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (H, W, 3) to float32 (3, size, size)."""
        return self._rules.levels.numbers(self._rules.levels.resized(image, (self._rules.size, self._rules.size)))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) to (B, N, D)."""
        rows: Tensor = self._sight(batch)
        return rows

    def slot(self, size_hw: Size) -> str:
        return GEMMA3_TOKENS.slot(self._sight.tokens)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


@dataclass(frozen=True, slots=True)
class Parted:
    """A published checkpoint in three: what ``Sight`` is filled with, and ear and reader under the names of
    transformers' ``Gemma3nAudioEncoder`` and ``Gemma3nForCausalLM``."""

    seeing: dict[str, Tensor] = field(default_factory=dict)
    hearing: dict[str, Tensor] = field(default_factory=dict)
    reading: dict[str, Tensor] = field(default_factory=dict)


def parted(state: State, shared_from: int) -> Parted:
    """Keys and values of the layers from ``shared_from`` on are left out, which take those of a layer before. What
    belongs to no part is in the first, where it is left over."""
    parts = Parted()
    for name, tensor in state.items():
        if name.startswith(_EAR):
            parts.hearing[name.removeprefix(_EAR)] = tensor
        elif name == "lm_head.weight":
            parts.reading[name] = tensor
        elif name.startswith(_READER):
            name = f"model.{name.removeprefix(_READER)}"
            shared = _SHARED.match(name)
            if shared is None or int(shared[1]) < shared_from:
                parts.reading[name] = tensor
        elif name.startswith(_TOWER):
            parts.seeing[f"tower.{name.removeprefix(_TOWER)}"] = tensor
        else:
            parts.seeing[name.removeprefix("model.")] = tensor
    return parts


def _embedder(told: Content, text: Any) -> Any:
    config: Any = SimpleNamespace(**{name: told[name] for name in _TABLES})
    return Gemma3nMultimodalEmbedder(config, text)


def _text(content: Content, name: str) -> Gemma3nTextConfig:
    return configured(Gemma3nTextConfig, {"model_type": "gemma3n_text", **content["text_config"]}, name)


def _ear(content: Content, name: str) -> Gemma3nAudioConfig:
    told = {**_EAR_TABLES, **content.get("audio_config", {})}
    return configured(Gemma3nAudioConfig, {"model_type": "gemma3n_audio", **told}, name)


def _made(content: Content) -> nn.Module:
    text = _text(content, "random")
    ear = Gemma3nAudioEncoder(_ear(content, "random"))
    return Gemma3n(Sight(content, text, "random"), Gemma3nForCausalLM(text), content, ear)


def _filled(content: Content, state: State, dtype: torch.dtype, name: str) -> nn.Module:
    try:
        text = _text(content, name)
    except KeyError as error:
        raise BadWeights(f"{name}: config.json lacks {error}") from None
    parts = parted(state, text.num_hidden_layers - text.num_kv_shared_layers)
    with torch.device("meta"):
        sight = Sight(content, text, name)
    fill(sight, parts.seeing, dtype, name)
    ear = filled(Gemma3nAudioEncoder, _ear(content, name), parts.hearing, dtype, name)
    return Gemma3n(sight, filled(Gemma3nForCausalLM, text, parts.reading, dtype, name), content, ear).eval()


def _toy(words: int, end: int) -> tuple[Content, Content]:
    """``config.json`` and ``preprocessor_config.json`` of a net that knows so many words, the last of which stands for
    sounds, and all that are no bytes for pictures. It hears less than two seconds."""
    letters, narrow = 256, {"rms_norm_eps": 1e-6, "hidden_size": 16}
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 12,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
        "altup_num_inputs": 2,
        "laurel_rank": 8,
        "hidden_size_per_layer_input": 8,
        "vocab_size": words,
        "vocab_size_per_layer_input": letters,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": end,
    }
    content = {
        "model_type": "gemma3n",
        "text_config": text,
        "vision_config": {**narrow, "architecture": "toy", "vocab_size": words - letters, "vocab_offset": letters},
        "audio_config": {
            **narrow,
            "vocab_size": 1,
            "vocab_offset": words - 1,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 2,
            "conf_attention_chunk_size": 4,
            "conf_attention_context_left": 5,
            "sscp_conv_channel_size": [8, 4],
        },
        "audio_soft_tokens_per_image": 12,
    }
    return content, {"size": {"height": 32, "width": 32}, "do_normalize": False, "resample": 2}


def _reads(net: nn.Module, eyes: Any) -> Reads:
    return Reads(net)


def _eyes(net: Any, facts: Content) -> Eyes:
    return Eyes(net.sight, facts)


GEMMA3N: Final = Family(
    "",
    _reads,
    _eyes,
    image="<image_soft_token>",
    marks=("<image_soft_token>", hearing_gemma.GEMMA3N_TOKENS.token),
    ends=("<end_of_turn>",),
    most_pictures=8,
    hearing=Listening(hearing_gemma.Gemma3nEars, hearing_gemma.MOST_SOUNDS, hearing_gemma.GEMMA3N_TOKENS.token),
    own=Own(_made, _filled, _toy),
)
