"""Segment Anything: masks of what a point, a box or a first guess means, and of everything in a picture.

Source: Kirillov et al., "Segment Anything" (ICCV 2023, arXiv:2304.02643), as coded in
github.com/facebookresearch/segment-anything.

Checkpoints come in two layouts: transformers' (``config.json``, ``model.safetensors``), and the authors' own names
(``sam_vit_b_01ec64.pth`` and its sisters), for which the sizes stand here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SamConfig, SamModel

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.geometry import Frame
from anmok.inputs import Encoded, Prompted
from anmok.nets import masks
from anmok.nets.pretrained import configured, filled
from anmok.results import Masks
from anmok.tasks import Everything, Segment, Setup

Array = NDArray[np.float32]
Found = tuple[Tensor, Tensor]  # mask logits (N, M, h, w), predicted IoUs (N, M)

PROMPTS = 64  # that go through the decoder at once
_MULTIPLE = 3  # readings of an ambiguous prompt: part, thing, whole

# By a card's kind, for checkpoints that come without a configuration.
VISION: Mapping[str, Mapping[str, Any]] = {
    "vit-b": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "vit-l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "vit-h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}
AUTHORS: Mapping[str, Any] = {"layer_norm_eps": 1e-5}  # of their decoder; transformers has 1e-6
TINY_SIZE = 64
TINY: Mapping[str, Any] = {
    "vision_config": {
        "hidden_size": 32,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": TINY_SIZE,
        "window_size": 3,  # of 4 x 4 patches: the windows are padded, as the published ones are
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": TINY_SIZE},
    "mask_decoder_config": {
        "hidden_size": 32,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
}


class Sam:
    def __init__(self, setup: Setup, net: SamModel) -> None:
        """The net in float32. Of it only the picture's encoder takes the setup's dtype: it is nearly all of the
        work, while places in half precision would be whole pixels off."""
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._net: Any = nn.Module.eval(nn.Module.to(net, self._device))
        self._net.vision_encoder.to(self._dtype)
        canvas = setup.pixels.size
        self._canvas_hw = (canvas, canvas)
        self._grid_hw = (canvas // 4, canvas // 4)  # the patches are 16 pixels wide, and the decoder quarters them

    @classmethod
    def from_files(cls, setup: Setup) -> Sam:
        if "config.json" in setup.files:
            content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
            config: Any = configured(SamConfig, content, setup.name)
            state = load_file(setup.files["model.safetensors"])
        else:
            [path] = setup.files.values()
            config = SamConfig(vision_config=dict(VISION[setup.kind]), mask_decoder_config=dict(AUTHORS))
            state = renamed(load_file(path), setup.name)
        size = config.vision_config.image_size
        if size != setup.pixels.size:
            raise BadWeights(f"{setup.name}: the net looks at {size} pixels, the card says {setup.pixels.size}")
        return cls(setup, filled(SamModel, config, state, torch.float32, setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Sam:
        torch.manual_seed(seed)
        net: Any = SamModel(SamConfig(**TINY))
        with torch.no_grad():
            for parameter in net.parameters():  # the encoder's start at nearly nothing
                parameter.normal_(0.5 if parameter.dim() == 1 else 0.0, 0.3)
            last = net.mask_decoder.iou_prediction_head.proj_out
            last.weight.mul_(0.05)
            last.bias.fill_(0.7)  # so that everything is not nothing
        return cls(replace(setup, pixels=replace(setup.pixels, size=TINY_SIZE)), net)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, S, S) to ``embedding`` float32 (B, C, S / 16, S / 16): all that is ever computed of a picture."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            seen: Array = self._net.vision_encoder(pixels).last_hidden_state.float().cpu().numpy()  # (B, C, h, w)
        return {"embedding": seen}

    def segment(self, states: Sequence[Encoded | Prompted], ask: Segment) -> list[Masks]:
        """What the prompts mean, or everything.

        The masks of several boxes come box after box, those of one prompt best first. ``candidates=1`` is the net's
        one answer, but for a lone point, which may mean a part or the whole: there it is the best of three. A first
        guess goes in as logits, 10 inside and -10 outside, by the share that it has of a cell of four pixels of the
        canvas. ``threshold`` is what the net must predict for a mask's IoU; ``None`` keeps all.

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
        rles = masks.rles(kept, self._enlarger(frame))
        return _unnamed(rles, scores.cpu().numpy(), frame)

    def _everything(self, state: Encoded, ask: Segment) -> Masks:
        frame, picture = state.place, self._picture(state)
        rules: Everything = ask.everything

        def decode(points: Array) -> Found:
            marks = torch.from_numpy(points)[:, None].to(self._device)  # (P, 1, 2)
            signs = torch.ones(len(points), 1, device=self._device)
            return self._decoded(picture, marks, signs, None, None, True)

        rles, scores = masks.everything(decode, rules, self._enlarger(frame), frame)
        found = _unnamed(rles, scores, frame)
        return found if ask.threshold is None else found[found.scores >= ask.threshold]

    def _read(self, prompt: Prompted, state: Encoded, is_ambiguous: bool) -> Found:
        """The prompt's objects: one for each box, or one for all that was given."""
        frame, picture = state.place, self._picture(state)
        points = signs = prior = None
        if prompt.points:
            places = frame.to_canvas(np.asarray([point[:2] for point in prompt.points], np.float64))
            points = torch.from_numpy(places)[None].to(self._device)  # (1, P, 2)
            signs = torch.tensor([[float(point[2]) for point in prompt.points]], device=self._device)  # (1, P)
        if prompt.mask is not None:
            whole = torch.from_numpy(prompt.mask.mask()).to(self._device)
            prior = masks.as_prompt(whole, frame, self._canvas_hw, self._grid_hw)[None, None]  # (1, 1, h, w)
        if not prompt.boxes:
            return self._decoded(picture, points, signs, None, prior, is_ambiguous)
        corners = frame.boxes_to_canvas(geometry.clipped(np.asarray(prompt.boxes, np.float64), frame.size_hw))
        boxes = torch.from_numpy(corners).to(self._device)  # (N, 4)
        found = [
            self._decoded(picture, points, signs, boxes[start : start + PROMPTS], prior, is_ambiguous)
            for start in range(0, len(boxes), PROMPTS)
        ]
        return torch.cat([logits for logits, _ in found]), torch.cat([ious for _, ious in found])

    def _decoded(
        self,
        picture: Tensor,
        points: Tensor | None,
        signs: Tensor | None,
        boxes: Tensor | None,
        prior: Tensor | None,
        is_ambiguous: bool,
    ) -> Found:
        """A picture (1, C, h, w) with N prompts, on the canvas: points (N, P, 2) with signs (N, P), boxes (N, 4), a
        mask's logits (1, 1, 4h, 4w) for all of them. Gives M = 3 masks of each, or 1."""
        sparse, dense = self._net.prompt_encoder(
            input_points=None if points is None else points[None],
            input_labels=None if signs is None else signs[None],
            input_boxes=None if boxes is None else boxes[None],
            input_masks=prior,
        )  # (1, N, T, C), (1, C, h, w)
        logits, ious = self._net.mask_decoder(
            image_embeddings=picture,
            image_positional_embeddings=self._net.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=is_ambiguous,
        )
        return logits[0], ious[0]

    def _picture(self, state: Encoded) -> Tensor:
        """(1, C, h, w), a copy: the state is shared and must not change."""
        return torch.tensor(state.maps["embedding"], device=self._device)[None]

    def _enlarger(self, frame: Frame) -> masks.Enlarger:
        return masks.Enlarger.padded(self._grid_hw, self._canvas_hw, frame)


def _unnamed(rles: tuple[geometry.Rle, ...], scores: Array, frame: Frame) -> Masks:
    """Masks without labels; a predicted IoU may lie beyond 0 and 1."""
    return Masks(rles, np.clip(scores, 0, 1), np.full(len(rles), -1), (), frame.size_hw)


# The authors' names, by regular expression, and transformers'.
_NAMES = (
    (r"^image_encoder\.patch_embed\.proj\.", r"vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", r"vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", r"vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", r"vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", r"vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", r"vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", r"vision_encoder."),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        r"shared_image_embedding.positional_embedding",
    ),
    (r"^prompt_encoder\.point_embeddings\.", r"prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", r"prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", r"prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", r"prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", r"prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", r"prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.output_upscaling\.0\.", r"mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", r"mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", r"mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.transformer\..*)\bnorm(\d|_final_attn)\.", r"\1layer_norm\2."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.2\.", r"\1.proj_out."),
)


def renamed(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A checkpoint with the authors' names, with those of transformers. ``name`` is the card's, for messages.

    Raises:
        BadWeights: it is no checkpoint of Segment Anything.
    """
    if "image_encoder.patch_embed.proj.weight" not in state:
        raise BadWeights(f"{name}: a checkpoint without config.json is read by its authors' names, and this has others")
    return dict(_spelled(state))


def _spelled(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in state.items():
        for then, now in _NAMES:
            key, count = re.subn(then, now, key)
            if count:
                break
        yield key, tensor
