"""SAM 3: all that a phrase names, or that looks like an exemplar, in pictures and through clips.

Source: N. Carion et al., "SAM 3: Segment Anything with Concepts" (arXiv:2511.16719), as coded in
github.com/facebookresearch/sam3.

The published file holds a detector and a tracker under one configuration. A file of the detector alone, as it comes
from training it, serves for pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import Sam3Config, Sam3VideoConfig

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.geometry import Frame, Rle
from anmok.inputs import Box, Cue, Encoded, Prompted, Sign
from anmok.nets import masks, sam2_frame, sam3, sam3_video
from anmok.nets.pretrained import configured, filled
from anmok.nets.sam2_stream import Stream
from anmok.results import Detections, Masks, Tracked
from anmok.tasks import Detect, Segment, Session, Setup, Track
from anmok.words import naming

Array = NDArray[np.float32]

START, END = "<|startoftext|>", "<|endoftext|>"
THRESHOLD = 0.3  # of a score
VISUAL = "visual"  # the phrase that stands where exemplars say all
SAME = 0.7  # the IoU of boxes that two phrases of one label found, above which they are one thing
_REMEMBERED = 512  # phrases whose vectors are kept


@dataclass(frozen=True, eq=False, slots=True)
class _Hits:
    """Things found in one picture, in its pixels; ``class_ids`` count in the labels. Masks only where asked for."""

    xyxy: Array  # (N, 4)
    scores: Array  # (N,)
    class_ids: NDArray[np.int64]  # (N,)
    rles: tuple[Rle, ...]  # N, or none

    def kept(self, keep: NDArray[np.integer]) -> _Hits:
        """Those of an index array."""
        rles = tuple(self.rles[i] for i in keep) if self.rles else ()
        return _Hits(self.xyxy[keep], self.scores[keep], self.class_ids[keep], rles)


class Sam3:
    """Every phrase is a pass of its own over a picture that was encoded once."""

    vocabulary: tuple[str, ...] = ()

    def __init__(self, setup: Setup, net: sam3_video.Net | sam3.Net, tokenizer: Tokenizer) -> None:
        """The net in float32, with its tracker or without. Of it only the picture's transformer takes the setup's
        dtype: it is nearly all of the work, while boxes in half precision would be whole pixels off."""
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._whole: Any = nn.Module.eval(nn.Module.to(net, self._device))
        self._net: Any = net.detector_model if isinstance(net, sam3_video.Net) else net
        self._net.vision_encoder.backbone.to(self._dtype)
        self._tokenizer = tokenizer
        tokenizer.no_truncation()  # a long phrase is refused in `_read`
        tokenizer.no_padding()
        start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if start is None or end is None:
            raise BadWeights(f"{setup.name}: tokenizer.json has no {START} or no {END}: not CLIP's tokenizer")
        self._start, self._end = start, end
        self._words = lru_cache(_REMEMBERED)(self._read)

    @classmethod
    def from_files(cls, setup: Setup) -> Sam3:
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config: Any
        kind: Any = sam3.Net
        if content.get("model_type") == "sam3_video":
            kind, config = sam3_video.Net, configured(Sam3VideoConfig, content, setup.name)
            cells = setup.pixels.size // config.detector_config.vision_config.backbone_config.patch_size
            config.low_res_mask_size = 4 * cells
        else:
            config = configured(Sam3Config, content, setup.name)
        config.image_size = setup.pixels.size  # positions are worked out for it, whatever it is
        state = load_file(setup.files["model.safetensors"])
        net = filled(kind, config, state, torch.float32, setup.name)
        return cls(setup, net, Tokenizer.from_file(str(setup.files["tokenizer.json"])))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Sam3:
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        net = sam3_video.Net(sam3_video.tiny_config(tokenizer.get_vocab_size()))
        sam3_video.roughened(net)
        return cls(replace(setup, pixels=replace(setup.pixels, size=sam3_video.TINY_SIZE)), net, tokenizer)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._whole.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, S, S) to ``tokens`` float32 (B, T, D) of the transformer. The maps that are made of them are six
        times as large and cost little beside it."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            tokens: Array = self._net.vision_encoder.backbone(pixels).last_hidden_state.float().cpu().numpy()
        return {"tokens": tokens}

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        """Boxes around what the labels name. ``nms`` is off where ``None``: the net finds a thing once, and only
        what two phrases of one label found in the same place is one."""
        if ask.labels is None:
            raise BadRequest(f"{self._setup.name} needs labels to look for, as cat,dog")
        wanted = naming.wanted(ask.labels, ask.phrases, self._setup.languages)
        return [self._detected(state, ask, ask.labels, wanted) for state in states]

    def segment(self, states: Sequence[Encoded | Prompted], ask: Segment) -> list[Masks]:
        """Masks of what the labels name, or of what looks like the exemplars, with one label or without any.

        Raises:
            Unsupported: points, boxes or masks of single objects, or everything.
            BadRequest: exemplars with several labels.
        """
        return [self._segmented(state, ask) for state in states]

    def follow(self, ask: Track) -> Session:
        """What the labels name, found in every frame and followed from there; or what the clip's cues point at.

        ``threshold`` is what a find needs to count; ``every`` and ``match`` play no part: the net has rules of its
        own.

        Raises:
            Unsupported: the file that was loaded holds no tracker.
        """
        if not isinstance(self._whole, sam3_video.Net):
            raise Unsupported(f"{self._setup.name}: the file that was loaded holds no tracker, only the detector")
        if ask.labels is None:
            return _Pointed(self, Stream(sam3_video.Pointed(self._whole)))
        wanted = naming.wanted(ask.labels, ask.phrases, self._setup.languages)
        texts = [[self._words(wanted.phrases[i]) for i in owned] for owned in wanted.owners]
        concepts = sam3_video.Concepts(self._whole, texts, ask.threshold)
        return _Named(self, concepts, ask.labels, wanted.read_as)

    def canvas(self, view: geometry.View) -> Tensor:
        """A prepared picture as the net wants it, (1, 3, S, S)."""
        return torch.from_numpy(view.pixels)[None].to(self._device)

    def _detected(self, state: Encoded, ask: Detect, labels: tuple[str, ...], wanted: naming.Wanted) -> Detections:
        hits = self._looked_up(state, wanted, ask.threshold, (), has_masks=False)
        hits = _best_first(hits, wanted, ask.nms)
        rows = hits.xyxy[: ask.top_k], hits.scores[: ask.top_k], hits.class_ids[: ask.top_k]
        return Detections(*rows, labels, state.place.size_hw, wanted.read_as)

    def _segmented(self, state: Encoded | Prompted, ask: Segment) -> Masks:
        picture, exemplars = self._parts(state, ask)
        labels = ask.labels or ()
        wanted = naming.wanted(labels or (VISUAL,), ask.phrases, self._setup.languages)
        hits = self._looked_up(picture, wanted, ask.threshold, exemplars, has_masks=True)
        hits = _best_first(hits, wanted, None)
        ids = hits.class_ids if labels else np.full(len(hits.rles), -1)
        read_as = wanted.read_as if labels else ()
        whole = Masks(hits.rles, hits.scores, ids, labels, picture.place.size_hw, read_as)
        return whole[np.asarray([bool(rle.counts) for rle in hits.rles], np.bool_)]

    def _parts(self, state: Encoded | Prompted, ask: Segment) -> tuple[Encoded, tuple[tuple[Box, Sign], ...]]:
        """The picture and its exemplars, where they can be answered together with the ask."""
        name = self._setup.name
        if isinstance(state, Encoded):
            if ask.labels is None:
                raise Unsupported(f"{name} does not segment everything: give labels or exemplars, or take sam-vit-h")
            return state, ()
        if state.points or state.boxes or state.mask is not None:
            raise Unsupported(f"{name} finds all of a kind: give exemplars, or take sam-vit-h for single objects")
        if not state.exemplars and ask.labels is None:
            raise BadRequest("prompt: give exemplars, labels, or both")
        if state.exemplars and ask.labels is not None and len(ask.labels) > 1:
            raise BadRequest(f"exemplars are of one kind: ask for one label, not for {len(ask.labels)}")
        assert isinstance(state.image, Encoded)
        return state.image, state.exemplars

    def _looked_up(
        self,
        state: Encoded,
        wanted: naming.Wanted,
        threshold: float | None,
        exemplars: Sequence[tuple[Box, Sign]],
        has_masks: bool,
    ) -> _Hits:
        """All phrases of all labels, phrase by phrase."""
        least = THRESHOLD if threshold is None else threshold
        height, width = state.place.size_hw
        boxes, signs = self._exemplars(exemplars, state.place)
        parts: list[_Hits] = []
        with torch.inference_mode():
            tokens = torch.tensor(state.maps["tokens"], device=self._device)[None]  # (1, T, D), a copy
            view = sam3.seen(self._net, tokens)
            grid = view.fpn_hidden_states[0].shape[-2:]
            enlarger = masks.Enlarger.direct((int(grid[0]), int(grid[1])), (height, width))
            for i, phrase in enumerate(wanted.phrases):
                seen = sam3.found(self._net, view, self._words(phrase), boxes, signs)
                keep = seen.scores > least
                xyxy = seen.xyxy[keep].cpu().numpy() * (width, height, width, height)
                scores = seen.scores[keep].cpu().numpy()
                rles = masks.rles(seen.masks[keep].sigmoid(), enlarger, 0.5) if has_masks else ()
                for label in [label for label, owned in enumerate(wanted.owners) if i in owned]:
                    ids = np.full(len(scores), label, np.int64)
                    parts.append(_Hits(geometry.clipped(xyxy, (height, width)), scores, ids, rles))
        return _Hits(
            np.concatenate([one.xyxy for one in parts]),
            np.concatenate([one.scores for one in parts]),
            np.concatenate([one.class_ids for one in parts]),
            tuple(rle for one in parts for rle in one.rles),
        )

    def _exemplars(self, exemplars: Sequence[tuple[Box, Sign]], frame: Frame) -> tuple[Tensor | None, Tensor | None]:
        """Boxes (1, K, 4) as centre and size in shares of the picture, and their signs (1, K)."""
        if not exemplars:
            return None, None
        height, width = frame.size_hw
        corners = geometry.clipped(np.asarray([box for box, _ in exemplars], np.float64), frame.size_hw)
        low, high = corners[:, :2] / (width, height), corners[:, 2:] / (width, height)  # (K, 2)
        rows = np.concatenate([(low + high) / 2, high - low], 1).astype(np.float32)  # (K, 4)
        signs = torch.tensor([[sign for _, sign in exemplars]], device=self._device)  # (1, K)
        return torch.from_numpy(rows)[None].to(self._device), signs

    def _read(self, phrase: str) -> Tensor:
        """The vectors of a phrase's tokens (1, T, C). Without padding: the tower never looks ahead, and all that
        comes after it leaves padding out."""
        ids = [self._start, *self._tokenizer.encode(phrase, add_special_tokens=False).ids, self._end]
        if len(ids) > self._setup.text.context:
            room = self._setup.text.context - 2
            raise BadRequest(f"label {phrase!r} has {len(ids) - 2} tokens; {self._setup.name} reads {room}: shorten it")
        with torch.inference_mode():
            rows: Tensor = self._net.get_text_features(torch.tensor([ids], device=self._device)).pooler_output
        return rows


def _best_first(hits: _Hits, wanted: naming.Wanted, nms: float | None) -> _Hits:
    """In order of their scores; of boxes of one label that overlap by more than ``nms`` the best. Where it is ``None``
    only what several phrases of one label found in one place is one."""
    if nms is None and any(len(owned) > 1 for owned in wanted.owners):
        nms = SAME
    if nms is None:
        return hits.kept(np.argsort(-hits.scores, kind="stable"))
    return hits.kept(geometry.nms(hits.xyxy, hits.scores, nms, hits.class_ids))


class _Named:
    """A clip in which things are found by their names."""

    def __init__(
        self, model: Sam3, concepts: sam3_video.Concepts, labels: tuple[str, ...], read_as: tuple[str, ...]
    ) -> None:
        self._model = model
        self._concepts = concepts
        self._labels = labels
        self._read_as = read_as

    def step(self, frame: int, seconds: float, image: NDArray[np.uint8], cues: Sequence[Cue]) -> Tracked:
        if cues:
            raise BadRequest("labels or cues: this model follows what was named or what was pointed at, not both")
        view = self._model.prepare(image)
        found, size_hw = self._concepts.step(self._model.canvas(view)), view.frame.size_hw
        enlarger = masks.Enlarger.direct((found.masks.shape[-2], found.masks.shape[-1]), size_hw)
        rles = _apart(masks.rles(found.masks, enlarger), found.labels, found.trust)
        scores = np.clip(np.asarray(found.scores, np.float32), 0, 1)
        whole = Masks(rles, scores, np.asarray(found.labels, np.int64), self._labels, size_hw, self._read_as)
        return Tracked(frame, seconds, np.asarray(found.keys, np.int64) + 1, whole)


class _Pointed:
    """A clip in which cues say what to follow."""

    def __init__(self, model: Sam3, stream: Stream) -> None:
        self._model = model
        self._stream = stream

    def step(self, frame: int, seconds: float, image: NDArray[np.uint8], cues: Sequence[Cue]) -> Tracked:
        view = self._model.prepare(image)
        said = [_said(cue, view) for cue in _merged(cues)]
        known = self._stream.keys
        corrections = [cue for cue in said if cue.key in known and cue.box is None and cue.mask is None]
        followed = self._stream.step(self._model.canvas(view), [cue for cue in said if cue not in corrections])
        if corrections:
            followed = self._stream.correct(corrections)
        size_hw = view.frame.size_hw
        enlarger = masks.Enlarger.direct((followed.masks.shape[-2], followed.masks.shape[-1]), size_hw)
        rles = masks.rles(followed.masks, enlarger)
        is_seen = np.asarray([bool(rle.counts) for rle in rles], np.float32)
        scores = followed.ious.clamp(0, 1).cpu().numpy() * is_seen
        whole = Masks(rles, scores, np.full(len(rles), -1), (), size_hw)
        return Tracked(frame, seconds, np.asarray(followed.keys, np.int64), whole)


def _apart(rles: Sequence[Rle], labels: Sequence[int], trust: Sequence[float]) -> tuple[Rle, ...]:
    """Masks of one label do not overlap: a pixel is the object's that the tracker trusts most."""
    out = list(rles)
    for label in set(labels):
        taken: NDArray[np.bool_] | None = None
        for i in sorted((i for i, one in enumerate(labels) if one == label), key=lambda i: -trust[i]):
            mask = out[i].mask()
            if taken is not None:
                out[i] = Rle.of(mask & ~taken)
            taken = mask if taken is None else taken | mask
    return tuple(out)


def _merged(cues: Sequence[Cue]) -> list[Cue]:
    """One cue per object: points given one by one belong together, and the last box or mask counts."""
    merged: dict[int, Cue] = {}
    for cue in cues:
        before = merged.get(cue.object_id)
        if before is not None:
            box = before.box if cue.box is None else cue.box
            mask = before.mask if cue.mask is None else cue.mask
            cue = replace(cue, points=before.points + cue.points, box=box, mask=mask)
        merged[cue.object_id] = cue
    return list(merged.values())


def _said(cue: Cue, view: geometry.View) -> sam2_frame.Cue:
    """A cue in the caller's pixels as one on the canvas.

    Raises:
        BadRequest: a mask of another picture, or an empty one.
    """
    frame, points, labels, box, mask = view.frame, None, None, None, None
    if cue.points:
        places = frame.to_canvas(np.asarray([point[:2] for point in cue.points], np.float64))
        points, labels = torch.from_numpy(places), torch.tensor([point[2] for point in cue.points])
    if cue.box is not None:
        corners = geometry.clipped(np.asarray([cue.box], np.float64), frame.size_hw)
        box = torch.from_numpy(frame.boxes_to_canvas(corners)[0])
    if cue.mask is not None:
        if cue.mask.size_hw != frame.size_hw or not cue.mask.counts:
            raise BadRequest(f"mask of size {cue.mask.size_hw}: want one of {frame.size_hw} with something in it")
        side = view.pixels.shape[-1]
        shares = masks.as_prompt(torch.from_numpy(cue.mask.mask()), frame, (side, side), (side, side))
        mask = (shares >= min(0.0, float(shares.max()))).float()  # at least the pixel that it touches most
    return sam2_frame.Cue(cue.object_id, points, labels, box, mask)


def tiny_tokenizer() -> Tokenizer:
    """One token per byte, lower-cased, with CLIP's start and end last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([START, END])
    return tokenizer
