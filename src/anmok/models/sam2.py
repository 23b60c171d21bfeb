"""SAM 2, 2.1 and EdgeTAM: masks of what is pointed at, in pictures, and through clips of any length.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos" (arXiv:2408.00714), as coded in
github.com/facebookresearch/sam2; Zhou et al., "EdgeTAM: On-Device Track Anything Model" (CVPR 2025,
arXiv:2501.07256).

Checkpoints come in two layouts: transformers' (``config.json``, ``model.safetensors``), and the authors' own names
(``sam2.1_hiera_tiny.pt`` and its sisters, ``edgetam.pt``), for which the sizes stand here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam2VideoConfig, Sam2VideoModel

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.geometry import Frame, Rle
from anmok.inputs import Cue, Encoded, Prompted
from anmok.nets import edgetam, masks, sam2_frame
from anmok.nets.pretrained import configured, filled
from anmok.nets.sam2_frame import BOX, Marks
from anmok.nets.sam2_names import rename
from anmok.nets.sam2_stream import Followed, Selector, Stream
from anmok.results import Masks, Tracked
from anmok.tasks import Segment, Setup, Track

Array = NDArray[np.float32]
Found = tuple[Tensor, Tensor]  # mask logits (N, M, h, w), predicted IoUs (N, M)

PROMPTS = 64  # that go through the decoder at once
EDGE = "edgetam-m1"  # the kind of its card
_MULTIPLE = 3  # readings of an ambiguous prompt: part, thing, whole

# The image encoder, by the part of a card's kind after the dash, for checkpoints that come without a configuration.
VISION: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"hidden_size": 96, "blocks_per_stage": [1, 2, 7, 2], "global_attention_blocks": [5, 7, 9]},
    "small": {"hidden_size": 96, "blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "base": {
        "hidden_size": 112,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
# What the first SAM 2 does not have: time in its pointers, and a sign for what is out of sight in its memories.
FIRST: Mapping[str, Any] = {
    "enable_temporal_pos_encoding_for_object_pointers": False,
    "enable_occlusion_spatial_embedding": False,
}
TINY_SIZE, _TINY_WIDTH = 64, 128  # twice the width of a memory, which is fixed
TINY: Mapping[str, Any] = {
    "vision_config": {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "image_size": [TINY_SIZE, TINY_SIZE],
            "hidden_size": 16,
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [16, 32, 64, 128],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 4, 2],
            "global_attention_blocks": [3],
            "window_positional_embedding_background_size": [4, 4],
        },
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": _TINY_WIDTH,
    },
    "prompt_encoder_config": {"hidden_size": _TINY_WIDTH, "image_size": TINY_SIZE},
    "mask_decoder_config": {
        "hidden_size": _TINY_WIDTH,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
    "image_size": TINY_SIZE,
    "memory_attention_hidden_size": _TINY_WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_attention_feed_forward_hidden_size": 64,
    "memory_encoder_hidden_size": _TINY_WIDTH,
    "mask_downsampler_embed_dim": _TINY_WIDTH,
    "memory_fuser_num_layers": 1,
    "memory_fuser_embed_dim": _TINY_WIDTH,
    "memory_fuser_intermediate_dim": 64,
}


def authored(kind: str) -> Sam2VideoConfig:
    """The configuration of the authors' checkpoint of this kind, such as ``sam2.1-tiny``."""
    version, _, size = kind.partition("-")
    vision = dict(VISION[size])
    heads, width = vision.get("num_attention_heads", 1), vision["hidden_size"]
    widths = [width, 2 * width, 4 * width, 8 * width]
    vision["num_attention_heads_per_stage"] = [heads, 2 * heads, 4 * heads, 8 * heads]
    backbone = {"model_type": "sam2_hiera_det_model", "embed_dim_per_stage": widths, **vision}
    return Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": widths[::-1],
        },
        **(FIRST if version == "sam2" else {}),
    )


class Sam2:
    def __init__(self, setup: Setup, net: nn.Module) -> None:
        """The net in float32. Of it only the picture's encoder takes the setup's dtype: it is nearly all of the
        work, while places in half precision would be whole pixels off."""
        self._setup = setup
        self._device = torch.device(setup.device)
        self._net = cast(Any, net.to(self._device).eval())
        sam2_frame.narrow(self._net, getattr(torch, setup.dtype))
        height, width = self._net.prompt_encoder.mask_input_size
        self._grid_hw = (int(height), int(width))

    @classmethod
    def from_files(cls, setup: Setup) -> Sam2:
        is_edge, config_file = setup.kind == EDGE, setup.files.get("config.json")
        config: Any
        if config_file is not None:
            content = json.loads(config_file.read_text(encoding="utf-8"))
            config = (edgetam.configured if is_edge else partial(configured, Sam2VideoConfig))(content, setup.name)
            state = load_file(setup.files["model.safetensors"])
        else:
            [path] = setup.files.values()
            config = edgetam.configured({}, setup.name) if is_edge else authored(setup.kind)
            state = rename(load_file(path))
        if config.image_size != setup.pixels.size:
            raise BadWeights(
                f"{setup.name}: the net looks at {config.image_size} pixels, the card says {setup.pixels.size}"
            )
        net: type[nn.Module] = edgetam.EdgeTam if is_edge else Sam2VideoModel
        return cls(setup, filled(net, config, state, torch.float32, setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Sam2:
        torch.manual_seed(seed)
        first = FIRST if setup.kind.startswith("sam2-") else {}
        net = (
            edgetam.EdgeTam(edgetam.tiny()) if setup.kind == EDGE else Sam2VideoModel(Sam2VideoConfig(**TINY, **first))
        )
        sam2_frame.stir(net)
        return cls(replace(setup, pixels=replace(setup.pixels, size=TINY_SIZE)), net)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, S, S) to ``embedding`` float32 (B, C, S / 16, S / 16), and ``fine`` and ``finer`` (B, C / 4, S / 8,
        S / 8) and (B, C / 8, S / 4, S / 4), which draw the rims of masks."""
        with torch.inference_mode():
            view = sam2_frame.seen(self._net, torch.from_numpy(batch).to(self._device))
            tokens = view.tokens + self._net.no_memory_embedding  # (h*w, B, C)
            embedding = tokens.permute(1, 2, 0).unflatten(-1, tuple(self._net.backbone_feature_sizes[-1]))
            maps = {"embedding": embedding, "fine": view.fine[1], "finer": view.fine[0]}
            return {name: tensor.contiguous().cpu().numpy() for name, tensor in maps.items()}

    def segment(self, states: Sequence[Encoded | Prompted], ask: Segment) -> list[Masks]:
        """What the prompts mean, or everything.

        The masks of several boxes come box after box, those of one prompt best first. ``candidates=1`` is the net's
        one answer, but for a lone point, which may mean a part or the whole: there it is the best of three.
        ``threshold`` is what the net must predict for a mask's IoU; ``None`` keeps all.

        Raises:
            Unsupported: labels or exemplars.
            BadRequest: a ``Prompted`` that points at nothing.
        """
        if ask.labels is not None or ask.phrases is not None:
            raise Unsupported(f"{self._setup.name} reads no labels: point at things, or take a model that reads text")
        with torch.inference_mode():
            return [
                self._pointed(one, ask) if isinstance(one, Prompted) else self._everything(one, ask) for one in states
            ]

    def follow(self, ask: Track) -> Session:
        """What the cues point at, through a clip. A cue of points alone for an object that is followed already
        corrects its mask there; a box or a mask says anew where it is.

        Raises:
            Unsupported: labels.
        """
        return self.session(ask, None)

    def session(self, ask: Track, selector: Selector | None) -> Session:
        """As ``follow``, with another choice of masks and memories."""
        if ask.labels is not None or ask.phrases is not None:
            raise Unsupported(
                f"{self._setup.name} reads no labels: give the clip cues, or take a model that reads text"
            )
        return Session(self, Stream(self._net, selector))

    def answered(self, followed: Followed, seconds: float, frame: Frame) -> Tracked:
        """One frame of a stream in the caller's pixels. A score is the predicted IoU, 0 for what is out of sight."""
        rles = masks.rles(followed.masks, masks.Enlarger.direct(self._grid_hw, frame.size_hw))
        is_seen = np.asarray([bool(rle.counts) for rle in rles], np.float32)
        scores = followed.ious.clamp(0, 1).cpu().numpy() * is_seen
        found = Masks(rles, scores, np.full(len(rles), -1), (), frame.size_hw)
        return Tracked(followed.frame, seconds, np.asarray(followed.keys, np.int64), found)

    def pixels(self, view: geometry.View) -> Tensor:
        """A prepared picture as the stream wants it, (1, 3, S, S)."""
        return torch.from_numpy(view.pixels)[None].to(self._device)

    def said(self, cue: Cue, frame: Frame) -> sam2_frame.Cue:
        """A cue in the caller's pixels as one on the canvas."""
        points = labels = box = mask = None
        if cue.points:
            places = frame.to_canvas(np.asarray([point[:2] for point in cue.points], np.float64))
            points, labels = torch.from_numpy(places), torch.tensor([point[2] for point in cue.points])
        if cue.box is not None:
            corners = geometry.clipped(np.asarray([cue.box], np.float64), frame.size_hw)
            box = torch.from_numpy(frame.boxes_to_canvas(corners)[0])
        if cue.mask is not None:
            mask = _on_canvas(cue.mask, frame.size_hw, self._setup.pixels.size)
        return sam2_frame.Cue(cue.object_id, points, labels, box, mask)

    def _pointed(self, prompt: Prompted, ask: Segment) -> Masks:
        if prompt.exemplars:
            raise Unsupported(f"{self._setup.name} takes no exemplars: a box is the object itself (boxes=...)")
        if not (prompt.points or prompt.boxes or prompt.mask is not None):
            raise BadRequest("prompt: give points, boxes or a mask; the picture alone asks for everything in it")
        assert isinstance(prompt.image, Encoded)
        frame = prompt.image.place
        is_lone = len(prompt.points) == 1 and not prompt.boxes and prompt.mask is None
        logits, ious = self._read(prompt, prompt.image, ask.candidates == _MULTIPLE or is_lone)
        best, order = ious.sort(descending=True, stable=True)  # (N, M)
        count = ask.candidates
        kept = logits.gather(1, order[:, :count, None, None].expand(-1, -1, *self._grid_hw)).flatten(0, 1)
        scores = best[:, :count].flatten()  # (N * count,)
        if ask.threshold is not None:
            is_good = scores >= ask.threshold
            kept, scores = kept[is_good], scores[is_good]
        rles = masks.rles(kept, masks.Enlarger.direct(self._grid_hw, frame.size_hw))
        return _unnamed(rles, scores.cpu().numpy(), frame)

    def _everything(self, state: Encoded, ask: Segment) -> Masks:
        frame, view = state.place, self._view(state)

        def decode(points: Array) -> Found:
            places = torch.from_numpy(points)[None, :, None].to(self._device)  # (1, P, 1, 2)
            signs = torch.ones(1, len(points), 1, dtype=torch.int32, device=self._device)
            return self._decoded(view, Marks(places, signs), None, True)

        enlarger = masks.Enlarger.direct(self._grid_hw, frame.size_hw)
        rles, scores = masks.everything(decode, ask.everything, enlarger, frame)
        found = _unnamed(rles, scores, frame)
        return found if ask.threshold is None else found[found.scores >= ask.threshold]

    def _read(self, prompt: Prompted, state: Encoded, is_ambiguous: bool) -> Found:
        """The prompt's objects: one for each box, or one for all that was given."""
        frame, view, prior = state.place, self._view(state), None
        if prompt.mask is not None:
            whole = torch.from_numpy(prompt.mask.mask()).to(self._device)
            side = self._setup.pixels.size
            prior = masks.as_prompt(whole, frame, (side, side), self._grid_hw)[None, None]  # (1, 1, h, w)
        points = frame.to_canvas(np.asarray([point[:2] for point in prompt.points], np.float64).reshape(-1, 2))
        signs = [point[2] for point in prompt.points]
        if not prompt.boxes:
            return self._decoded(view, self._marks(points[None], signs) if signs else None, prior, is_ambiguous)
        boxes = frame.boxes_to_canvas(geometry.clipped(np.asarray(prompt.boxes, np.float64), frame.size_hw))
        corners = boxes.reshape(-1, 2, 2)  # (N, 2, 2), as two points
        places = np.concatenate([corners, np.repeat(points[None], len(boxes), 0)], 1)  # (N, 2 + P, 2)
        found = [
            self._decoded(view, self._marks(places[start : start + PROMPTS], [*BOX, *signs]), prior, is_ambiguous)
            for start in range(0, len(boxes), PROMPTS)
        ]
        return torch.cat([logits for logits, _ in found]), torch.cat([ious for _, ious in found])

    def _marks(self, places: Array, labels: Sequence[int]) -> Marks:
        """Points (N, P, 2) of N objects, with labels that they share (P)."""
        signs = torch.tensor(labels, dtype=torch.int32, device=self._device).expand(1, len(places), -1)
        return Marks(torch.from_numpy(places)[None].to(self._device), signs)

    def _decoded(self, view: sam2_frame.View, marks: Marks | None, prior: Tensor | None, is_ambiguous: bool) -> Found:
        offers = sam2_frame.offered(self._net, view, view.tokens, marks, prior, is_ambiguous)
        return offers.masks[0], offers.ious[0]

    def _view(self, state: Encoded) -> sam2_frame.View:
        """A copy: the state is shared and must not change. Its tokens know that there is no memory."""
        embedding, fine, finer = (
            torch.tensor(state.maps[name], device=self._device)[None] for name in ("embedding", "fine", "finer")
        )
        tokens = embedding.flatten(2).permute(2, 0, 1)  # (h*w, 1, C)
        return sam2_frame.View(tokens, tokens, [finer, fine], self._net.get_image_wide_positional_embeddings())


class Session:
    """One clip; see ``Stream``."""

    def __init__(self, model: Sam2, stream: Stream) -> None:
        self._model = model
        self._stream = stream

    def step(self, frame: int, seconds: float, image: NDArray[np.uint8], cues: Sequence[Cue]) -> Tracked:
        view = self._model.prepare(image)
        said = [self._model.said(cue, view.frame) for cue in _merged(cues)]
        known = self._stream.keys
        corrections = [cue for cue in said if cue.key in known and cue.box is None and cue.mask is None]
        followed = self._stream.step(self._model.pixels(view), [cue for cue in said if cue not in corrections])
        if corrections:
            followed = self._stream.correct(corrections)
        return replace(self._model.answered(followed, seconds, view.frame), frame=frame)

    def remove(self, object_id: int) -> None:
        """Stop following an object.

        Raises:
            BadRequest: no such object.
        """
        self._stream.remove(object_id)


def _merged(cues: Sequence[Cue]) -> list[Cue]:
    """One cue per object: points given one by one belong together, and the last box counts.

    Raises:
        BadRequest: a mask and something else for one object.
    """
    merged: dict[int, Cue] = {}
    for cue in cues:
        before = merged.get(cue.object_id)
        if before is not None:
            box = before.box if cue.box is None else cue.box
            mask = before.mask if cue.mask is None else cue.mask
            cue = replace(cue, points=before.points + cue.points, box=box, mask=mask)
        merged[cue.object_id] = cue
    return list(merged.values())


def _on_canvas(rle: Rle, size_hw: tuple[int, int], side: int) -> Tensor:
    """A mask of the picture as one of the canvas, float (S, S): the pixels that it covers by half; or, where none is
    left of it, those that it touches.

    Raises:
        BadRequest: it is of another picture, or empty.
    """
    if rle.size_hw != size_hw:
        raise BadRequest(f"mask of size {rle.size_hw}: the frame has {size_hw}")
    if not rle.counts:
        raise BadRequest("mask: it is empty, so there is nothing to follow")
    whole = torch.from_numpy(rle.mask()).float()[None, None]  # (1, 1, H, W)
    share = functional.interpolate(whole, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    covered = share[0, 0] >= 0.5  # (S, S)
    return (covered if covered.any() else share[0, 0] > 0).float()


def _unnamed(rles: tuple[Rle, ...], scores: Array, frame: Frame) -> Masks:
    """Masks without labels; a predicted IoU may lie beyond 0 and 1."""
    return Masks(rles, np.clip(scores, 0, 1), np.full(len(rles), -1), (), frame.size_hw)
