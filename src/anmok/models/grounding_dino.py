"""Grounding DINO and MM-Grounding-DINO: boxes around whatever a text names.

Source: Liu et al., "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection"
(ECCV 2024, arXiv:2303.05499), repository IDEA-Research/GroundingDINO; Zhao et al., "An Open and Comprehensive Pipeline
for Unified Object Grounding and Detection" (2024, arXiv:2401.02361), repository open-mmlab/mmdetection.

Three things differ from the published code on purpose. A box is named by the best *whole* phrase (``words/naming.py``),
never by a part of one or by two. Labels that one prompt has no room for are spread over several, and what two prompts
find in the same place is one find. Boxes of one class that overlap are thinned out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    PreTrainedConfig,
    PreTrainedModel,
)

from anmok import geometry
from anmok.errors import BadRequest, BadWeights
from anmok.inputs import Encoded
from anmok.nets.grounding_dino import Grounding, Words
from anmok.nets.pretrained import configured, filled
from anmok.results import Detections
from anmok.tasks import Detect, Setup
from anmok.words import naming

Array = NDArray[np.float32]

# By the first word of a card's kind.
NETS: Mapping[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "grounding_dino": (GroundingDinoConfig, GroundingDinoForObjectDetection),
    "mm_grounding_dino": (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection),
}
# What a box needs: 0.35 in the demo of IDEA-Research/GroundingDINO (demo/inference_on_a_image.py), 0.3 in that of
# mmdetection (demo/image_demo.py).
THRESHOLDS = {"grounding_dino": 0.35, "mm_grounding_dino": 0.3}
NMS = 0.5  # IoU of boxes of one class; the published code thins out nothing
SAME = 0.9  # IoU from which the boxes of two prompts are one find, which a single prompt would have named once

_LEAST = 1e-3  # pixels of a box's side, under which nothing of it lies in the picture
START, STOP, END = "[CLS]", ".", "[SEP]"
# The ids of these three and of the question mark are written into the net, not read from the tokenizer.
_WRITTEN = {START: 101, END: 102, STOP: 1012, "?": 1029}
_UNKNOWN = "[UNK]"
# Pixels of a canvas' short side. A thinner strip is padded to it, because the net picks its queries (900) among the
# places of its maps; 64 x 720 has as many. The published code fails on such pictures.
_NARROWEST = 64
_REMEMBERED = 8  # sets of labels whose prompts are kept

_SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "drop_path_rate": 0.0}
_BERT = {
    "vocab_size": 1100,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TINY: Mapping[str, Any] = {
    "backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4], **_SWIN},
    "text_config": {"model_type": "bert", **_BERT},
    "d_model": 64,
    "num_queries": 12,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_text_len": 64,
}


@dataclass(frozen=True, eq=False)
class _Pass:
    """One prompt: its words, the tokens of its phrases, and which phrases of the question they are (P,)."""

    words: Words
    spans: tuple[tuple[int, int], ...]
    phrases: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Question:
    wanted: naming.Wanted
    passes: tuple[_Pass, ...]


class GroundingDino:
    """A state holds the picture's maps before any text has touched them, so that many questions share them."""

    def __init__(self, setup: Setup, net: nn.Module, tokenizer: Tokenizer) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._net = Grounding(net).eval().to(self._device, self._dtype)
        self._tokenizer = tokenizer
        tokenizer.no_truncation()  # prompts are cut to size in `_fresh_question`, whatever the file asks for
        tokenizer.no_padding()
        found = {token: tokenizer.token_to_id(token) for token in _WRITTEN}
        if found != _WRITTEN:
            raise BadWeights(f"{setup.name}: tokenizer.json gives {found}, where the net is built for {_WRITTEN}")
        self._question = lru_cache(_REMEMBERED)(self._fresh_question)

    @classmethod
    def from_files(cls, setup: Setup) -> GroundingDino:
        config, net = NETS[_architecture(setup)]
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        published = configured(config, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        tokenizer = Tokenizer.from_file(str(setup.files["tokenizer.json"]))
        return cls(setup, filled(net, published, state, getattr(torch, setup.dtype), setup.name), tokenizer)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> GroundingDino:
        torch.manual_seed(seed)
        config, kind = NETS[_architecture(setup)]
        small = replace(setup, pixels=replace(setup.pixels, size=96, longest=160))
        net: Any = kind(config(**TINY))
        with torch.no_grad():  # scores on both sides of the threshold, not all near 0 or 1, and boxes of all sizes
            net.model.decoder.layer_norm.weight.mul_(0.25 if kind is GroundingDinoForObjectDetection else 1.0)
            for bias in net.class_embed.parameters():
                bias.zero_()
            for head in (*net.bbox_embed, net.model.encoder_output_bbox_embed):
                head.layers[-1].weight.normal_(0.0, 8.0)
        return cls(small, net, tiny_tokenizer())

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        view = geometry.view(image, self._setup.pixels)
        _, height, width = view.pixels.shape
        high, wide = _canvas(view.frame)
        if (high, wide) == (height, width):
            return view
        # Zeros, as where a batch of mixed sizes is padded after it was normalised.
        padded = np.pad(view.pixels, ((0, 0), (0, high - height), (0, wide - width)))  # (3, high, wide)
        return geometry.View(padded, view.frame)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, h, w) to one map per level, ``map0`` ... (B, D, h / stride, w / stride)."""
        with torch.inference_mode():
            maps = self._net.see(torch.from_numpy(batch).to(self._device, self._dtype))
        return {f"map{i}": one.float().cpu().numpy() for i, one in enumerate(maps)}

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        """Raises:
        BadRequest: no labels, or one that fills a prompt by itself or has no word in it.
        Untranslatable: a label in a language that the model does not read and that no table holds.
        """
        if ask.labels is None:
            raise BadRequest(f"{self._setup.name} finds what a text names: give labels, --labels cat,dog")
        question = self._question(ask.labels, ask.phrases)
        return [self._found(state, ask, question) for state in states]

    def _found(self, state: Encoded, ask: Detect, question: _Question) -> Detections:
        scores, cxcywh = self._looked_up(state, question)  # (P, Q, phrases), (P, Q, 4)
        prompts = np.repeat(np.arange(len(scores)), scores.shape[1])  # (N,)
        best, class_ids = naming.named(scores.reshape(-1, scores.shape[2]), question.wanted.owners)  # (N,)
        seen = _seen(state.place)
        canvas = geometry.from_cxcywh(cxcywh.reshape(-1, 4)) * np.asarray((seen[1], seen[0]) * 2, np.float32)  # (N, 4)
        xyxy = state.place.boxes_to_image(canvas)  # (N, 4)
        threshold = THRESHOLDS[_architecture(self._setup)] if ask.threshold is None else ask.threshold
        index = np.flatnonzero((best > threshold) & ((xyxy[:, 2:] - xyxy[:, :2]).min(1) > _LEAST))
        index = index[np.argsort(-best[index], kind="stable")[: scores.shape[1]]]  # as many as one prompt would give
        index = index[_one_per_place(xyxy[index], best[index], prompts[index])]
        overlap = NMS if ask.nms is None else ask.nms
        index = index[geometry.nms(xyxy[index], best[index], overlap, class_ids[index])][: ask.top_k]
        assert ask.labels is not None
        parts = xyxy[index], best[index], class_ids[index]
        return Detections(*parts, ask.labels, state.place.size_hw, question.wanted.read_as)

    def _looked_up(self, state: Encoded, question: _Question) -> tuple[Array, Array]:
        """Every prompt's queries: how well each phrase fits them (prompts, Q, phrases), and their boxes
        (prompts, Q, 4). A phrase of another prompt does not fit at all."""
        maps = [torch.tensor(state.maps[f"map{i}"]).to(self._device, self._dtype) for i in range(len(state.maps))]
        scores, boxes = [], []
        for one in question.passes:
            with torch.inference_mode():
                logits, cxcywh = self._net.meet(maps, one.words, _canvas(state.place), _seen(state.place))
            fit = np.zeros((len(logits), len(question.wanted.phrases)), np.float32)  # (Q, phrases)
            fit[:, one.phrases] = naming.phrase_scores(logits.float().sigmoid().cpu().numpy(), one.spans)
            scores.append(fit)
            boxes.append(cxcywh.float().cpu().numpy())
        return np.stack(scores), np.stack(boxes)

    def _fresh_question(self, labels: tuple[str, ...], phrases: tuple[tuple[str, ...], ...] | None) -> _Question:
        wanted = naming.wanted(labels, phrases, self._setup.languages)
        tokens = [one.ids for one in self._tokenizer.encode_batch(list(wanted.phrases), add_special_tokens=False)]
        unknown = self._tokenizer.token_to_id(_UNKNOWN)
        for phrase, ids in zip(wanted.phrases, tokens, strict=True):
            if all(one == unknown for one in ids):
                raise BadRequest(f"label {phrase!r}: {self._setup.name} knows none of its characters")
        room = self._net.config.max_text_len - 2  # without start and end
        groups = naming.packed([len(ids) + 1 for ids in tokens], room)
        return _Question(wanted, tuple(self._pass([tokens[i] for i in group], group) for group in groups))

    def _pass(self, tokens: Sequence[Sequence[int]], phrases: tuple[int, ...]) -> _Pass:
        prompt = naming.prompt(tokens, _WRITTEN[START], _WRITTEN[STOP], _WRITTEN[END])
        row = (torch.from_numpy(array).to(self._device) for array in (prompt.ids, prompt.together, prompt.places))
        with torch.inference_mode():
            return _Pass(self._net.read(*row), prompt.spans, phrases)


def tiny_tokenizer() -> Tokenizer:
    """A WordPiece of single letters and digits, with the ids that the net is built for in their places."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-,'"
    pieces = {piece: i for i, piece in enumerate([_UNKNOWN, *letters])}
    pieces |= {f"##{letter}": 200 + i for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.WordPiece(pieces | _WRITTEN, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _one_per_place(xyxy: Array, scores: Array, prompts: NDArray[np.integer]) -> NDArray[np.int64]:
    """The indices that stay where boxes of different prompts stand in one place: the best of them."""
    if len(np.unique(prompts)) <= 1:
        return np.arange(len(scores))
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        is_other = prompts[rest] != prompts[best]
        order = rest[~(is_other & (geometry.iou(xyxy[best : best + 1], xyxy[rest])[0] >= SAME))]
    return np.asarray(kept, np.int64)


def _seen(frame: geometry.Frame) -> tuple[int, int]:
    """Height and width of the picture on the canvas."""
    height, width = frame.size_hw
    return round(height * frame.scale_xy[1]), round(width * frame.scale_xy[0])


def _canvas(frame: geometry.Frame) -> tuple[int, int]:
    height, width = _seen(frame)
    return max(height, _NARROWEST), max(width, _NARROWEST)


def _architecture(setup: Setup) -> str:
    return setup.kind.partition("-")[0]
