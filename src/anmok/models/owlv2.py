"""OWLv2: boxes around whatever a text names, each text by itself.

Source: Minderer, Gritsenko and Houlsby, "Scaling Open-Vocabulary Object Detection" (NeurIPS 2023, arXiv:2306.09683),
repository google-research/scenic, projects/owl_vit.

Every patch of the picture offers one box and a vector; a phrase's score is their cosine, shifted and scaled by the
patch. Phrases do not compete, so any number of labels needs one pass. Boxes of one class that overlap are thinned
out, which the published code leaves to the caller. The objectness head is not asked: the published code uses it to
pick boxes without a text, never to score one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import sparse
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import Owlv2Config, Owlv2ForObjectDetection

from anmok import geometry
from anmok.errors import BadRequest, BadWeights
from anmok.inputs import Encoded
from anmok.nets.pretrained import configured, filled
from anmok.results import Detections
from anmok.tasks import Detect, Setup
from anmok.words import naming

Array = NDArray[np.float32]

THRESHOLD = 0.1  # of the published post-processing
NMS = 0.5  # IoU of boxes of one class
START, END = "<|startoftext|>", "<|endoftext|>"
# What is one piece of text before byte pairs are merged: CLIP's rule.
_PIECE = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
_LEAST = 1e-3  # pixels of a box's side, under which nothing of it lies in the picture
_BATCH = 64  # phrases
_REMEMBERED = 8  # sets of phrases whose vectors are kept
_REACH = 4.0  # standard deviations at which the blur is cut off

_NARROW = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_TEXT = {**_NARROW, "max_position_embeddings": 64}
TINY_VISION = {**_NARROW, "image_size": 96, "patch_size": 16}


class Owlv2:
    """A state holds, of P patches, unit ``vectors`` (P, D), ``shift`` and ``scale`` of their cosines (P, 1), and
    ``boxes`` (P, 4): centre and size relative to the canvas."""

    def __init__(self, setup: Setup, net: nn.Module, tokenizer: Tokenizer) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        config: Any = net.config
        self._context: int = config.text_config.max_position_embeddings
        self._net: Any = net.eval().to(self._device, self._dtype)
        self._tokenizer = tokenizer
        start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if start is None or end is None:
            raise BadWeights(f"{setup.name}: vocab.json has no {START} or no {END}: not OWLv2's")
        self._start, self._end = start, end
        self._vectors = lru_cache(_REMEMBERED)(self._fresh_vectors)

    @classmethod
    def from_files(cls, setup: Setup) -> Owlv2:
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config = configured(Owlv2Config, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        pairs = models.BPE.read_file(str(setup.files["vocab.json"]), str(setup.files["merges.txt"]))
        net = filled(Owlv2ForObjectDetection, config, state, getattr(torch, setup.dtype), setup.name)
        return cls(setup, net, _tokenizer(*pairs))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Owlv2:
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        ends = {"bos_token_id": tokenizer.token_to_id(START), "eos_token_id": tokenizer.token_to_id(END)}
        text = {**TINY_TEXT, "vocab_size": tokenizer.get_vocab_size(), **ends}
        net = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=TINY_VISION, projection_dim=32))
        with torch.no_grad():  # as built, the heads' numbers are so large that all boxes lie outside the picture
            for head in (net.class_head, net.box_head):
                for parameter in head.parameters():
                    parameter.normal_(0.0, 0.15)
        small = replace(setup, pixels=replace(setup.pixels, size=TINY_VISION["image_size"]))
        return cls(small, net, tokenizer)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        """The picture in the top left corner of a black square, blurred and sampled as scikit-image does.

        Black, not grey as for the first OWL-ViT: so do scenic and, since 5.0, transformers. The square is never made:
        what is black adds nothing, so rows and columns are only ever those of the picture.
        """
        height, width = image.shape[:2]
        side, size = max(height, width), self._setup.pixels.size
        down, across = _sampler(side, size)[:, :height], _sampler(side, size)[:, :width]  # (size, H), (size, W)
        rows = down @ image.reshape(height, -1).astype(np.float32)  # (size, W * 3)
        columns = rows.reshape(size, width, 3).transpose(1, 0, 2).reshape(width, -1)  # (W, size * 3)
        canvas = (across @ columns).reshape(size, size, 3).transpose(2, 1, 0)  # (3, size, size)
        rules = self._setup.pixels
        mean, std = (np.asarray(row, np.float32)[:, None, None] for row in (rules.mean, rules.std))
        pixels = np.ascontiguousarray((canvas / np.float32(255) - mean) / std)
        return geometry.View(pixels, geometry.Frame((size / side, size / side), (0.0, 0.0), (height, width)))

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, h, w) to ``vectors`` (B, P, D), ``shift`` and ``scale`` (B, P, 1), ``boxes`` (B, P, 4)."""
        head = self._net.class_head
        with torch.inference_mode():
            field = self._net.image_embedder(torch.from_numpy(batch).to(self._device, self._dtype))[0]  # (B, h, w, F)
            patches = field.flatten(1, 2)  # (B, P, F)
            vectors = head.dense0(patches)  # (B, P, D)
            found = {
                "vectors": vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-6),
                "shift": head.logit_shift(patches),  # (B, P, 1)
                "scale": head.elu(head.logit_scale(patches)) + 1,  # (B, P, 1)
                "boxes": self._net.box_predictor(patches, field),  # (B, P, 4)
            }
        return {name: tensor.float().cpu().numpy() for name, tensor in found.items()}

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        """Raises:
        BadRequest: no labels, or one that is too long or has no word in it.
        Untranslatable: a label in a language that the model does not read and that no table holds.
        """
        if ask.labels is None:
            raise BadRequest(f"{self._setup.name} finds what a text names: give labels, --labels cat,dog")
        wanted = naming.wanted(ask.labels, ask.phrases, self._setup.languages)
        texts = self._vectors(wanted.phrases)  # (phrases, D)
        return [self._found(state, ask, wanted, texts) for state in states]

    def _found(self, state: Encoded, ask: Detect, wanted: naming.Wanted, texts: Array) -> Detections:
        maps = {name: np.asarray(array, np.float32) for name, array in state.maps.items()}
        logits = (maps["vectors"] @ texts.T + maps["shift"]) * maps["scale"]  # (P, phrases)
        best, class_ids = naming.named(0.5 * (1.0 + np.tanh(0.5 * logits)), wanted.owners)  # (P,): the sigmoid
        xyxy = state.place.boxes_to_image(geometry.from_cxcywh(maps["boxes"]) * self._setup.pixels.size)  # (P, 4)
        threshold = THRESHOLD if ask.threshold is None else ask.threshold
        index = np.flatnonzero((best > threshold) & ((xyxy[:, 2:] - xyxy[:, :2]).min(1) > _LEAST))
        overlap = NMS if ask.nms is None else ask.nms
        index = index[geometry.nms(xyxy[index], best[index], overlap, class_ids[index])][: ask.top_k]
        assert ask.labels is not None
        parts = xyxy[index], best[index], class_ids[index]
        return Detections(*parts, ask.labels, state.place.size_hw, wanted.read_as)

    def _fresh_vectors(self, phrases: tuple[str, ...]) -> Array:
        """One unit row (phrases, D) each: the mean over the card's templates."""
        templates = self._setup.text.templates
        rows = self._read([template.replace("{}", phrase) for phrase in phrases for template in templates])
        means = rows.reshape(len(phrases), len(templates), -1).mean(1)  # (phrases, D)
        vectors: Array = means / (np.linalg.norm(means, axis=-1, keepdims=True) + np.float32(1e-6))
        vectors.flags.writeable = False
        return vectors

    def _read(self, texts: Sequence[str]) -> Array:
        """Texts to unit rows (N, D)."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            ids = torch.tensor(self._tokens(texts[start : start + _BATCH]), device=self._device)  # (B, T)
            with torch.inference_mode():
                pooled = self._net.owlv2.text_model(input_ids=ids).pooler_output  # (B, Dt)
                vectors = self._net.owlv2.text_projection(pooled)  # (B, D)
                rows.append((vectors / vectors.norm(dim=-1, keepdim=True)).float().cpu().numpy())
        return np.concatenate(rows)  # (N, D)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Rows of one length: start, text, end, zeros, which the causal net never looks back from."""
        rows = [[self._start, *one.ids, self._end] for one in self._tokenizer.encode_batch(list(texts))]
        longest = max(len(row) for row in rows)
        if longest > self._context:
            text = texts[max(range(len(rows)), key=lambda i: len(rows[i]))]
            raise BadRequest(f"{text!r} is {longest} tokens, where this model reads {self._context}: shorten the label")
        return [row + [0] * (longest - len(row)) for row in rows]


def tiny_tokenizer() -> Tokenizer:
    """One token per byte, with start and end last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _tokenizer({letter: i for i, letter in enumerate([*alphabet, START, END])}, [])


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """CLIP's byte pairs, without start and end. The repositories have them as two lists and not as one file."""
    suffix = "</w>" if merges else ""
    pairs = models.BPE(vocabulary, merges, end_of_word_suffix=suffix, continuing_subword_prefix="", unk_token=END)
    tokenizer = Tokenizer(pairs)
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    cut = pre_tokenizers.Split(Regex(_PIECE), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


@lru_cache(8)
def _sampler(side: int, size: int) -> sparse.csr_array:
    """What makes ``size`` samples of a line of ``side`` values, (size, side): a blur by half of what the line shrinks,
    then the nearest two values by their distance. At both ends the line is mirrored about its last value.

    Source: scikit-image's ``resize`` with anti-aliasing, which scenic calls.
    """
    shrink = side / size
    deviation = max(0.0, (shrink - 1) / 2)
    reach = int(_REACH * deviation + 0.5)
    steps = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (steps / deviation) ** 2) if deviation else np.ones(1)
    place = (np.arange(size) + 0.5) * shrink - 0.5  # (size,)
    below = np.floor(place).astype(np.int64)
    upper = place - below  # (size,), the weight of the value above
    taps = np.stack([below, below + 1])[:, :, None] + steps  # (2, size, reach * 2 + 1)
    weights = np.stack([1 - upper, upper])[:, :, None] * (bell / bell.sum())
    period = max(1, 2 * (side - 1))
    folded = np.abs(taps) % period  # mirrored again and again, where the blur is wider than the line
    folded = np.where(folded >= side, period - folded, folded)
    rows = np.broadcast_to(np.arange(size)[:, None], folded.shape)
    parts = (weights.ravel().astype(np.float32), (rows.ravel(), folded.ravel()))
    return sparse.coo_array(parts, shape=(size, side)).tocsr()
