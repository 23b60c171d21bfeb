"""SigLIP and SigLIP 2: pictures and texts in one space, with one sigmoid per label.

Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023, arXiv:2303.15343); Tschannen
et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, Localization,
and Dense Features" (2025, arXiv:2502.14786). The checkpoints of one resolution, of both, are of transformers'
``siglip`` kind.

The text tower answers at its last position and sees the padding, so every text is padded to the whole
context; and it learned from lower-case text and was evaluated without punctuation, so texts are brought to
that form. Leaving out either costs ten points and more.
"""

from __future__ import annotations

import copy
import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import SiglipConfig, SiglipModel

from anmok import geometry, pairing
from anmok.errors import BadWeights
from anmok.inputs import Encoded, Text
from anmok.nets import soft_text
from anmok.nets.pretrained import configured, filled
from anmok.nets.trunk import Trunk, of_siglip
from anmok.results import Embedding, Scores
from anmok.tasks import Classify, Embed, Setup

Array = NDArray[np.float32]

_BATCH = 64  # sentences
_REMEMBERED = 8  # sets of labels whose vectors are kept
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Reader:
    """A published tokenizer, and the tokens that end and fill a text."""

    tokenizer: Tokenizer
    end: int
    pad: int

    @classmethod
    def from_files(cls, tokenizer: Path, settings: Path) -> Reader:
        """``tokenizer.json`` and, for the names of the two tokens, ``tokenizer_config.json``."""
        content = json.loads(settings.read_text(encoding="utf-8"))
        loaded = Tokenizer.from_file(str(tokenizer))
        loaded.no_truncation()  # both are done in `ids`, whatever the file asks for
        loaded.no_padding()
        return cls(loaded, *(_token(loaded, content, key, settings) for key in ("eos_token", "pad_token")))

    def ids(self, text: str, context: int, *, is_lowercased: bool, is_padded: bool) -> list[int]:
        """The tokens of a text, cut so that its end stays, and padded to ``context`` tokens."""
        wanted = canonical(text) if is_lowercased else text
        room = self.tokenizer.encode(wanted, add_special_tokens=False).ids[: context - 1]
        return [*room, self.end] + [self.pad] * (context - 1 - len(room) if is_padded else 0)


class Siglip:
    """features: the attention-pooled picture, which is the shared space already, before normalisation."""

    def __init__(self, setup: Setup, net: SiglipModel, reader: Reader) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        width = net.vision_model.post_layernorm.weight.shape[0]
        self.projection: Array = np.eye(width, dtype=np.float32)  # (F, F)
        self.temperature = float(net.logit_scale.detach().float().exp())
        self.bias = float(net.logit_bias.detach().float())
        self._net: Any = nn.Module.eval(nn.Module.to(net, self._device, self._dtype))
        self._reader = reader
        self._remembered = lru_cache(_REMEMBERED)(self._fresh_vectors)

    @classmethod
    def from_files(cls, setup: Setup) -> Siglip:
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config = configured(SiglipConfig, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        net = filled(SiglipModel, config, state, getattr(torch, setup.dtype), setup.name)
        reader = Reader.from_files(setup.files["tokenizer.json"], setup.files["tokenizer_config.json"])
        return cls(setup, net, reader)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Siglip:
        torch.manual_seed(seed)
        reader = _tiny_reader()
        words, size = reader.tokenizer.get_vocab_size(), setup.pixels.size
        narrow = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        no_ids = {"bos_token_id": None, "eos_token_id": None}  # the class has CLIP's by default
        text = {**narrow, **no_ids, "vocab_size": words, "max_position_embeddings": setup.text.context}
        seen = {**narrow, "image_size": size, "patch_size": size // 4}
        return cls(setup, SiglipModel(SiglipConfig(text_config=text, vision_config=seen)), reader)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def trunk(self) -> Trunk:
        return of_siglip(copy.deepcopy(self._net.vision_model).float().cpu())

    def tuned(self, change: Callable[[Trunk], None]) -> Siglip:
        net = copy.deepcopy(self._net).float().cpu()
        change(of_siglip(net.vision_model))
        return Siglip(self._setup, net, self._reader)

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to (B, F)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            pooled = self._net.vision_model(pixel_values=pixels).pooler_output  # (B, F)
            features: Array = pooled.float().cpu().numpy()
        return {"features": features}

    def text_vectors(self, ask: Classify) -> Array:
        return self._remembered(ask)

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        return pairing.classified(states, ask, self, self._setup.scoring, self._setup.languages)

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        return pairing.embedded(states, ask, self, self._read)

    soft_start = 0  # no token opens a text

    def tokens(self, texts: Sequence[str], room: int = 0) -> tuple[Tensor, Tensor]:
        """Ids (N, T) and ones (N, T), for the tower sees the padding; ``room`` places of the context stay free."""
        rules = self._setup.text
        length = max(rules.context - room, 1)
        rows = [self._reader.ids(text, length, is_lowercased=rules.is_lowercased, is_padded=True) for text in texts]
        ids = torch.tensor(rows, device=self._device)  # (N, T)
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def token_vectors(self, ids: Tensor) -> Tensor:
        """(N, T) to (N, T, W)."""
        vectors: Tensor = self._net.text_model.embeddings.token_embedding(ids)  # (N, T, W)
        return vectors

    def read_vectors(self, vectors: Tensor, is_token: Tensor) -> Tensor:
        """(N, T, W) to unit rows (N, D), differentiable."""
        return functional.normalize(soft_text.siglip_rows(self._net.text_model, vectors).float(), dim=-1)

    def _fresh_vectors(self, ask: Classify) -> Array:
        rows = pairing.text_vectors(ask, self._setup.text, self._setup.languages, self._read)  # (K, D)
        rows.flags.writeable = False
        return rows

    def _read(self, texts: Sequence[str]) -> Array:
        """Sentences to unit rows (N, D)."""
        rules, rows = self._setup.text, []
        for start in range(0, len(texts), _BATCH):
            tokens = [
                self._reader.ids(text, rules.context, is_lowercased=rules.is_lowercased, is_padded=rules.is_padded)
                for text in texts[start : start + _BATCH]
            ]
            ids = torch.tensor(tokens, device=self._device)  # (B, T)
            with torch.inference_mode():
                rows.append(self._net.text_model(input_ids=ids).pooler_output.float().cpu().numpy())  # (B, D)
        return pairing.unit(np.concatenate(rows))  # (N, D)


def canonical(text: str) -> str:
    """Lower case, no ASCII punctuation, single spaces.

    Source: google-research/big_vision, ``evaluators/proj/image_text/prompt_engineering.py`` (Apache-2.0), by
    which the published zero-shot accuracies were measured.
    """
    return re.sub(r"\s+", " ", text.replace("_", " ").translate(_NO_PUNCTUATION).lower()).strip()


def _token(tokenizer: Tokenizer, settings: Mapping[str, object], key: str, path: Path) -> int:
    named = settings.get(key)
    content = named.get("content") if isinstance(named, dict) else named
    found = tokenizer.token_to_id(content) if isinstance(content, str) else None
    if found is None:
        raise BadWeights(f"{path}: {key} is {content!r}, which tokenizer.json does not have")
    return found


def _tiny_reader() -> Reader:
    """One token per byte, then the end, which pads as well."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["</s>"])
    return Reader(tokenizer, len(alphabet), len(alphabet))
