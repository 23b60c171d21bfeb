"""CLIP: pictures and English text in one space. OpenAI's towers, ViT and ResNet, and OpenCLIP's.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021,
arXiv:2103.00020); Cherti et al., "Reproducible Scaling Laws for Contrastive Language-Image Learning"
(CVPR 2023, arXiv:2212.07143).

Checkpoints come in two layouts: transformers' (``config.json``, ``model.safetensors``), and OpenAI's names in
``open_clip_model.safetensors``, for which the sizes stand here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig

from anmok import geometry, pairing
from anmok.errors import BadWeights
from anmok.inputs import Encoded, Text
from anmok.nets import clip_resnet, patch_maps, soft_text
from anmok.nets.pretrained import configured, filled
from anmok.nets.trunk import Trunk, of_clip, of_clip_resnet
from anmok.results import Embedding, Scores
from anmok.tasks import Classify, Embed, Setup

Array = NDArray[np.float32]

OPENAI_FILE = "open_clip_model.safetensors"
START, END = "<|startoftext|>", "<|endoftext|>"
_BATCH = 64  # sentences
_REMEMBERED = 8  # sets of labels whose vectors are kept


def vit_config(width: int, depth: int, patch: int, size: int, text_width: int) -> CLIPConfig:
    """The sizes of an OpenAI ViT and its text tower; the shared space is as wide as the text tower."""
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        patch_size=patch,
        image_size=size,
        projection_dim=text_width,
    )
    text = text_config(text_width, text_width)
    return CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=text_width)


def text_config(width: int, dimension: int) -> CLIPTextConfig:
    """OpenAI's text towers: 12 layers, 77 tokens, heads 64 wide."""
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=12,
        num_attention_heads=width // 64,
        projection_dim=dimension,
    )


VITS = {
    "vit-b32": vit_config(768, 12, 32, 224, 512),
    "vit-b16": vit_config(768, 12, 16, 224, 512),
    "vit-l14": vit_config(1024, 24, 14, 224, 768),
    "vit-l14-336": vit_config(1024, 24, 14, 336, 768),
}
RESNETS = {"resnet-50": clip_resnet.RN50, "resnet-101": clip_resnet.RN101}
RESNET_TEXT_WIDTH = 512


class VitTowers(nn.Module):
    """features: the class token after the last layer norm, before the projection (F, D)."""

    def __init__(self, net: CLIPModel) -> None:
        super().__init__()
        self.net = net
        self.projection = net.visual_projection.weight.detach().T  # (F, D)
        self.logit_scale = net.logit_scale.detach()
        self.eval()

    def see(self, pixels: Tensor) -> Tensor:
        """(B, 3, h, w) to pooled features (B, F)."""
        features: Tensor = self.net.vision_model(pixel_values=pixels).pooler_output  # (B, F)
        return features

    def look_closely(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, h, w) of any size to patch tokens (B, rows, columns, D) and pooled features (B, F)."""
        size = (pixels.shape[2], pixels.shape[3])
        config: CLIPVisionConfig = self.net.vision_model.config
        is_other = size != (config.image_size, config.image_size)
        found = self.net.vision_model(pixel_values=pixels, interpolate_pos_encoding=is_other)
        patch: int = self.net.vision_model.embeddings.patch_embedding.kernel_size[0]
        return patch_maps.of_tokens(found.last_hidden_state, size, patch), found.pooler_output

    def trunk(self) -> Trunk:
        """Of the picture tower; shares its weights."""
        return of_clip(self.net.vision_model)

    def reader(self) -> tuple[Any, nn.Module]:
        """The text tower and the layer into the shared space."""
        return self.net.text_model, self.net.text_projection

    def read(self, ids: Tensor) -> Tensor:
        """Tokens (B, T) to the shared space (B, D), not normalised."""
        rows: Tensor = self.net.text_projection(self.net.text_model(input_ids=ids).pooler_output)  # (B, D)
        return rows


class ResNetTowers(nn.Module):
    """features: what the attention pool gives. It has a bias, so the projection cannot be taken out of it."""

    def __init__(self, vision: clip_resnet.ClipResNet, text: CLIPTextModelWithProjection, logit_scale: Tensor) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.projection = torch.eye(vision.config.dimension)  # (F, F)
        self.logit_scale = logit_scale
        self.eval()

    def see(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.vision(pixels)  # (B, F)
        return features

    def look_closely(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels of the tower's own size to the maps of two middle stages (B, rows, columns, C) and features (B, F)."""
        return patch_maps.of_resnet(self.vision, pixels), self.vision(pixels)

    def trunk(self) -> Trunk:
        return of_clip_resnet(self.vision)

    def reader(self) -> tuple[Any, nn.Module]:
        return self.text.text_model, self.text.text_projection

    def read(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.text(input_ids=ids).text_embeds  # (B, F)
        return rows


class Clip:
    def __init__(self, setup: Setup, towers: VitTowers | ResNetTowers, tokenizer: Tokenizer) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self.projection: Array = towers.projection.float().contiguous().numpy()  # (F, D)
        self.temperature = float(towers.logit_scale.float().exp())
        self.bias = 0.0
        self._towers = towers.to(self._device, self._dtype)
        self._tokenizer = tokenizer
        tokenizer.no_truncation()  # both are done in `_tokens`, whatever the file asks for
        tokenizer.no_padding()
        start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if start is None or end is None:
            raise BadWeights(f"{setup.name}: tokenizer.json has no {START} or no {END}: not CLIP's tokenizer")
        self._start, self._end = start, end
        self._remembered = lru_cache(_REMEMBERED)(self._fresh_vectors)

    @classmethod
    def from_files(cls, setup: Setup) -> Clip:
        tokenizer = Tokenizer.from_file(str(setup.files["tokenizer.json"]))
        dtype = getattr(torch, setup.dtype)
        if OPENAI_FILE in setup.files:
            return cls(
                setup,
                from_openai(load_file(setup.files[OPENAI_FILE]), setup.kind, dtype, setup.name),
                tokenizer,
            )
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config = configured(CLIPConfig, content, setup.name)
        net = filled(CLIPModel, config, load_file(setup.files["model.safetensors"]), dtype, setup.name)
        return cls(setup, VitTowers(net), tokenizer)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Clip:
        torch.manual_seed(seed)
        tokenizer = _tiny_tokenizer()
        size, words = setup.pixels.size, tokenizer.get_vocab_size()
        narrow = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        narrow["projection_dim"] = 16
        text = {**narrow, "vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1}
        if setup.kind in RESNETS:
            vision = clip_resnet.ClipResNet(replace(clip_resnet.TINY, resolution=size))
            reader = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(text))
            return cls(setup, ResNetTowers(vision, reader, torch.tensor(2.6592)), tokenizer)
        seen = {**narrow, "image_size": size, "patch_size": size // 4}
        net = CLIPModel(CLIPConfig(text_config=text, vision_config=seen, projection_dim=16))
        return cls(setup, VitTowers(net), tokenizer)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._towers.state_dict().values())

    def trunk(self) -> Trunk:
        return copy.deepcopy(self._towers).float().cpu().trunk()

    def tuned(self, change: Callable[[Trunk], None]) -> Clip:
        towers = copy.deepcopy(self._towers).float().cpu()
        change(towers.trunk())
        return Clip(self._setup, towers, self._tokenizer)

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to (B, F)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            features: Array = self._towers.see(pixels).float().cpu().numpy()
        return {"features": features}

    def patches(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to patch tokens of the last layer, or a ResNet's two middle stages, (B, h, w, C)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            found = self._towers.look_closely(pixels)  # (B, h, w, C), (B, F)
        patches, features = (one.float().cpu().contiguous().numpy() for one in found)
        return {"patches": patches, "features": features}

    def text_vectors(self, ask: Classify) -> Array:
        return self._remembered(ask)

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        return pairing.classified(states, ask, self, self._setup.scoring, self._setup.languages)

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        return pairing.embedded(states, ask, self, self._read)

    def _fresh_vectors(self, ask: Classify) -> Array:
        rows = pairing.text_vectors(ask, self._setup.text, self._setup.languages, self._read)  # (K, D)
        rows.flags.writeable = False
        return rows

    def _read(self, texts: Sequence[str]) -> Array:
        """Sentences to unit rows (N, D)."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            ids = torch.tensor(self._tokens(texts[start : start + _BATCH]), device=self._device)  # (B, T)
            with torch.inference_mode():
                rows.append(self._towers.read(ids).float().cpu().numpy())  # (B, D)
        return pairing.unit(np.concatenate(rows))  # (N, D)

    soft_start = 1  # the token that opens every text

    def tokens(self, texts: Sequence[str], room: int = 0) -> tuple[Tensor, Tensor]:
        """Ids (N, T) and which of them belong to the text (N, T); ``room`` places of the context stay free."""
        ids = torch.tensor(self._tokens(texts, room), device=self._device)  # (N, T)
        ends = (ids == self._end).int().argmax(1, keepdim=True)  # (N, 1)
        return ids, torch.arange(ids.shape[1], device=self._device) <= ends

    def token_vectors(self, ids: Tensor) -> Tensor:
        """(N, T) to (N, T, W)."""
        vectors: Tensor = self._towers.reader()[0].embeddings.token_embedding(ids)  # (N, T, W)
        return vectors

    def read_vectors(self, vectors: Tensor, is_token: Tensor) -> Tensor:
        """(N, T, W) to unit rows (N, D), differentiable."""
        tower, projection = self._towers.reader()
        return functional.normalize(projection(soft_text.clip_rows(tower, vectors, is_token)).float(), dim=-1)

    def _tokens(self, texts: Sequence[str], room: int = 0) -> list[list[int]]:
        """Rows of one length: start, text, end, zeros, which the causal net never looks back from."""
        longest = max(self._setup.text.context - 2 - room, 0)
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        rows = [[self._start, *one.ids[:longest], self._end] for one in encoded]
        longest = max(len(row) for row in rows)
        return [row + [0] * (longest - len(row)) for row in rows]


def from_openai(state: Mapping[str, Tensor], kind: str, dtype: torch.dtype, name: str) -> VitTowers | ResNetTowers:
    """The towers of a checkpoint with OpenAI's names.

    Raises:
        BadWeights: it does not fit the sizes of ``kind``.
    """
    visual, text = clip_resnet.split_openai_state(state)
    if kind in VITS:
        whole = {**text, **_vit_names(visual), "logit_scale": state["logit_scale"]}
        return VitTowers(filled(CLIPModel, VITS[kind], whole, dtype, name))
    vision = clip_resnet.ClipResNet(RESNETS[kind])
    try:
        vision.load_state_dict(visual, strict=True)
    except RuntimeError as error:
        raise BadWeights(f"{name}: the weights do not fit the net ({error})") from None
    config = text_config(RESNET_TEXT_WIDTH, RESNETS[kind].dimension)
    reader = filled(CLIPTextModelWithProjection, config, text, dtype, name)
    return ResNetTowers(vision, reader, state["logit_scale"])


_VIT_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}


def _vit_names(visual: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What stands under ``visual.`` in an OpenAI ViT checkpoint, under transformers' names."""
    named = {f"vision_model.{_VIT_NAMES[key]}": visual[key] for key in visual if key in _VIT_NAMES}
    if "proj" in visual:
        named["visual_projection.weight"] = visual["proj"].T.contiguous()  # (D, F)
    # The layers of both towers have the same names, so the text tower's table serves.
    rest = {key: visual[key] for key in visual if key not in _VIT_NAMES and key != "proj"}
    _, layers = clip_resnet.split_openai_state(rest)
    return named | {key.replace("text_model.", "vision_model.", 1): layers[key] for key in layers}


def _tiny_tokenizer() -> Tokenizer:
    """One token per byte, lower-cased, with CLIP's start and end last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([START, END])
    return tokenizer
