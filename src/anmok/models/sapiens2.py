"""Sapiens 2: points, parts, normals, places in space and opacity of people.

Source: R. Khirodkar et al., "Sapiens2" (ICLR 2026, arXiv:2604.21681), and github.com/facebookresearch/sapiens2 at
3098c14. The nets are transformers'; its image processor cannot be loaded without torchvision, so cutting, resizing
and reading of the answers are done here, as it does them. Its licence forbids surveillance, biometric processing and
more: see the card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    Sapiens2Config,
    Sapiens2ForImageMatting,
    Sapiens2ForNormalEstimation,
    Sapiens2ForPointmapEstimation,
    Sapiens2ForPoseEstimation,
    Sapiens2ForSemanticSegmentation,
)

from anmok import bodies, geometry, people
from anmok.geometry import Frame, Pixels, View
from anmok.inputs import Encoded, Prompted
from anmok.nets import heatmaps
from anmok.nets.pretrained import configured, filled
from anmok.results import DepthMap, Keypoints, Matte, NormalMap, PartMap
from anmok.tasks import Depth, Matting, Normals, Parse, Pose, Setup

Array = NDArray[np.float32]

SIZE_HW, TINY_HW = (1024, 768), (64, 48)
# By the first word of a card's kind.
NETS: Mapping[str, type[PreTrainedModel]] = {
    "pose": Sapiens2ForPoseEstimation,
    "parts": Sapiens2ForSemanticSegmentation,
    "normals": Sapiens2ForNormalEstimation,
    "pointmap": Sapiens2ForPointmapEstimation,
    "matting": Sapiens2ForImageMatting,
}
_ANSWERS = {"parts": "logits", "normals": "normals", "pointmap": "pointmaps", "matting": "alphas"}
_PADDED = ("normals", "pointmap")  # these keep the picture's shape and fill the canvas up with black; others squash it
_SHUFFLED = {
    "use_pixel_shuffle": True,
    "upsample_out_channels": [16, 16, 8, 8],
    "upsample_kernel_size": 3,
    "conv_out_channels": [8, 8, 8],
    "conv_kernel_size": 3,
}
_SCALED = {"scale_conv_out_channels": [8], "scale_final_hidden_sizes": [8, 8]}
_NARROW: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_attention_heads": 2,
    "num_first_full_attention_layers": 1,
    "num_last_full_attention_layers": 1,
    "num_register_tokens": 2,
    "image_size": list(TINY_HW),
}
TINY: Mapping[str, Mapping[str, Any]] = {
    "pose": {
        **_NARROW,
        "num_labels": 308,
        "head_config": {"upsample_out_channels": [16, 16], "conv_out_channels": [16, 16, 16]},
    },
    "parts": {
        **_NARROW,
        "num_labels": 29,
        "head_config": {"upsample_out_channels": [16, 16, 8, 8], "conv_out_channels": [8, 8]},
    },
    "normals": {**_NARROW, "num_labels": 3, "head_config": _SHUFFLED},
    "pointmap": {**_NARROW, "num_labels": 3, "head_config": {**_SHUFFLED, **_SCALED}},
    "matting": {**_NARROW, "num_labels": 4, "head_config": _SHUFFLED},
}


class Sapiens2Pose:
    """308 points of every person, each cut out by its box."""

    def __init__(self, setup: Setup, net: nn.Module, size_hw: tuple[int, int]) -> None:
        self._net = _Net(setup, net)
        pixels = setup.pixels
        self._style = heatmaps.Style(size_hw, pixels.mean, pixels.std, kernel=None, is_whole=False)
        self._detector: bodies.Finder = setup.parts["detector"]

    @classmethod
    def from_files(cls, setup: Setup) -> Sapiens2Pose:
        return cls(setup, _published(setup), SIZE_HW)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Sapiens2Pose:
        return cls(setup, _toy(setup, seed), TINY_HW)

    @property
    def nbytes(self) -> int:
        return self._net.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return bodies.pictured(image)

    def encode(self, batch: Array) -> dict[str, NDArray[np.generic]]:
        return bodies.kept(batch)

    def pose(self, states: Sequence[Encoded | Prompted], ask: Pose) -> list[Keypoints]:
        return bodies.posed(states, ask, self._detector, people.SAPIENS, self._locate)

    def _locate(self, found: Sequence[bodies.Person]) -> tuple[Array, Array]:
        return heatmaps.located(found, self._style, lambda batch: self._net(batch).heatmaps)


class Sapiens2Maps:
    """A value for every pixel: parts, normals, places in space or opacity, as the card's ``kind`` says."""

    def __init__(self, setup: Setup, net: nn.Module, size_hw: tuple[int, int]) -> None:
        self._kind = setup.kind.partition("-")[0]
        self._pixels = setup.pixels
        self._net = _Net(setup, net)
        self._size_hw = size_hw

    @classmethod
    def from_files(cls, setup: Setup) -> Sapiens2Maps:
        return cls(setup, _published(setup), SIZE_HW)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Sapiens2Maps:
        return cls(setup, _toy(setup, seed), TINY_HW)

    @property
    def nbytes(self) -> int:
        return self._net.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> View:
        if self._kind in _PADDED:
            return padded(image, self._size_hw, self._pixels)
        canvas, frame = geometry.resized(image, self._size_hw, self._pixels.filter)
        return View(geometry.normalise(canvas, self._pixels), frame)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to ``map`` float32 (B, C, H, W): scores of classes, unit normals, metres or opacity."""
        answer = self._net(batch)
        values: Tensor = answer[_ANSWERS[self._kind]].float()
        if self._kind == "normals":
            values = functional.normalize(values, dim=1, eps=1e-8)
        if self._kind == "pointmap" and answer.scales is not None:
            values = values / answer.scales.float()[:, :, None, None]  # to metres, whatever the focal length
        return {"map": values.cpu().numpy()}

    def parse(self, states: Sequence[Encoded], ask: Parse) -> list[PartMap]:
        return [PartMap(_best(_cropped(state), state.place.size_hw), people.PARTS_29) for state in states]

    def normals(self, states: Sequence[Encoded], ask: Normals) -> list[NormalMap]:
        """x right, y up, z to the camera, as in Sapiens; its makers say "camera frame" and no more."""
        return [NormalMap(_directions(_resized(_cropped(state), state.place.size_hw))) for state in states]

    def depth(self, states: Sequence[Encoded], ask: Depth) -> list[DepthMap]:
        """Metres along the optical axis, and the places they are the z of."""
        answers = []
        for state in states:
            xyz = _resized(_cropped(state), state.place.size_hw).permute(1, 2, 0).numpy()  # (H, W, 3)
            answers.append(DepthMap(xyz[..., 2], "metric", points=xyz))
        return answers

    def matte(self, states: Sequence[Encoded], ask: Matting) -> list[Matte]:
        return [Matte(_resized(_cropped(state), state.place.size_hw)[0].clamp(0, 1).numpy()) for state in states]


class _Net:
    """The net on its device: pictures float32 (B, 3, H, W) to what it answers."""

    def __init__(self, setup: Setup, net: nn.Module) -> None:
        self._device = torch.device(setup.device)
        self._dtype: torch.dtype = getattr(torch, setup.dtype)
        self._net = net.eval().to(self._device, self._dtype)

    def __call__(self, batch: Array) -> Any:
        with torch.inference_mode():
            return self._net(pixel_values=torch.from_numpy(batch).to(self._device, self._dtype))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())


def padded(image: NDArray[np.uint8], size_hw: tuple[int, int], pixels: Pixels) -> View:
    """The picture brought into the canvas with its shape kept, black on both sides of it, and normalised."""
    height, width = image.shape[:2]
    scale = min(size_hw[0] / height, size_hw[1] / width)
    inner = max(1, int(height * scale)), max(1, int(width * scale))
    top, left = ((whole - part) // 2 for whole, part in zip(size_hw, inner, strict=True))
    small, frame = geometry.resized(image, inner, pixels.filter)
    canvas = np.zeros((*size_hw, 3), np.uint8)
    canvas[top : top + inner[0], left : left + inner[1]] = small
    return View(geometry.normalise(canvas, pixels), Frame(frame.scale_xy, (float(left), float(top)), frame.size_hw))


def _published(setup: Setup) -> nn.Module:
    content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
    config = configured(Sapiens2Config, content, setup.name)
    state = load_file(setup.files["model.safetensors"])
    return filled(NETS[setup.kind.partition("-")[0]], config, state, getattr(torch, setup.dtype), setup.name)


def _toy(setup: Setup, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    kind = setup.kind.partition("-")[0]
    net: Any = NETS[kind](Sapiens2Config(**TINY[kind]))
    if kind == "pointmap":
        nn.init.ones_(net.scale_head.predictor.proj.bias)  # a scale near zero would blow every difference up
    toy: nn.Module = net
    return toy


def _cropped(state: Encoded) -> Tensor:
    """The map (C, h, w) without the black that was put beside the picture."""
    frame = state.place
    (left, top), size = frame.offset_xy, frame.size_hw
    height, width = round(size[0] * frame.scale_xy[1]), round(size[1] * frame.scale_xy[0])
    values = np.array(state.maps["map"], np.float32)  # a copy: a state is not writeable
    return torch.from_numpy(values)[:, int(top) : int(top) + height, int(left) : int(left) + width]


def _resized(values: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(C, h, w) to (C, H, W) of the picture."""
    return functional.interpolate(values[None], size_hw, mode="bilinear", align_corners=False)[0]


def _best(scores: Tensor, size_hw: tuple[int, int]) -> NDArray[np.int16]:
    """The class with the highest score (C, h, w) at each pixel of the picture (H, W), the first of equal ones.

    Class by class: all scores at the size of a large photo would not fit into memory.
    """
    best = torch.full(size_hw, -torch.inf)
    chosen = torch.zeros(size_hw, dtype=torch.int16)
    for index in range(len(scores)):
        one = _resized(scores[index : index + 1], size_hw)[0]  # (H, W)
        is_better = one > best
        best = torch.where(is_better, one, best)
        chosen[is_better] = index
    return chosen.numpy()


def _directions(raw: Tensor) -> Array:
    """(3, H, W) to unit vectors (H, W, 3); where opposite ones met in between, none."""
    length = raw.square().sum(0, keepdim=True).sqrt()  # (1, H, W)
    unit = torch.where(length > 1e-8, raw / length.clamp_min(1e-8), torch.zeros_like(raw))
    return np.ascontiguousarray(unit.permute(1, 2, 0).numpy())
