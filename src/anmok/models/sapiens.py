"""Sapiens (2024): points, parts, depth and normals of people, with weights that are not for commercial use.

Source: R. Khirodkar et al., "Sapiens: Foundation for Human Vision Models" (ECCV 2024, arXiv:2408.12569), and
github.com/facebookresearch/sapiens at 3e829ac for sizes, cuts and what its numbers mean. Pictures are normalised by
the values of its training configurations; its demos round these. The published scores are of a flip test, the mean
of a picture and its mirror image, which takes twice as long and is not done here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from anmok import bodies, people
from anmok.errors import BadWeights
from anmok.geometry import Frame, View
from anmok.inputs import Encoded, Prompted
from anmok.nets import heatmaps, sapiens
from anmok.results import DepthMap, Keypoints, NormalMap, PartMap
from anmok.tasks import Depth, Normals, Parse, Pose, Setup

Array = NDArray[np.float32]


class SapiensPose:
    """17, 133 or 308 points of every person, each cut out by its box. The first word of ``kind`` names the head."""

    def __init__(self, setup: Setup, net: sapiens.Sapiens) -> None:
        self._net = _Net(setup, net)
        self._style = heatmaps.Style(net.config.size_hw, setup.pixels.mean, setup.pixels.std)
        self._skeleton = people.skeleton(net.config.outputs)
        self._detector: bodies.Finder = setup.parts["detector"]

    @classmethod
    def from_files(cls, setup: Setup) -> SapiensPose:
        return cls(setup, _published(setup))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> SapiensPose:
        return cls(setup, _toy(setup, seed))

    @property
    def nbytes(self) -> int:
        return self._net.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return bodies.pictured(image)

    def encode(self, batch: Array) -> dict[str, NDArray[np.generic]]:
        return bodies.kept(batch)

    def pose(self, states: Sequence[Encoded | Prompted], ask: Pose) -> list[Keypoints]:
        return bodies.posed(states, ask, self._detector, self._skeleton, self._locate)

    def _locate(self, found: Sequence[bodies.Person]) -> tuple[Array, Array]:
        return heatmaps.located(found, self._style, self._net)


class SapiensMaps:
    """A value for every pixel. The picture is squashed onto the canvas, whatever its shape."""

    def __init__(self, setup: Setup, net: sapiens.Sapiens) -> None:
        self._net = _Net(setup, net)
        self._style = heatmaps.Style(net.config.size_hw, setup.pixels.mean, setup.pixels.std, edge="hold")

    @classmethod
    def from_files(cls, setup: Setup) -> SapiensMaps:
        return cls(setup, _published(setup))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> SapiensMaps:
        return cls(setup, _toy(setup, seed))

    @property
    def nbytes(self) -> int:
        return self._net.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> View:
        size = (int(image.shape[0]), int(image.shape[1]))
        canvas = self._style.size_hw
        pixels = heatmaps.seen_by(image, heatmaps.whole(size, canvas), self._style)  # (3, h, w)
        return View(pixels, Frame((canvas[1] / size[1], canvas[0] / size[0]), (0.0, 0.0), size))

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to ``map`` (B, C, h, w): scores of classes, depth or raw normals."""
        return {"map": self._net(batch).float().cpu().numpy()}

    def parse(self, states: Sequence[Encoded], ask: Parse) -> list[PartMap]:
        return [PartMap(_best(_map(state), state.place.size_hw), people.PARTS_28) for state in states]

    def depth(self, states: Sequence[Encoded], ask: Depth) -> list[DepthMap]:
        """Larger is farther; of a person the numbers mean something, of the background they do not."""
        return [DepthMap(_resized(_map(state), state.place.size_hw)[0].numpy(), "depth") for state in states]

    def normals(self, states: Sequence[Encoded], ask: Normals) -> list[NormalMap]:
        return [NormalMap(_directions(_resized(_map(state), state.place.size_hw))) for state in states]


class _Net:
    """The net on its device: pictures float32 (B, 3, H, W) to what its head says, a tensor."""

    def __init__(self, setup: Setup, net: sapiens.Sapiens) -> None:
        self._device = torch.device(setup.device)
        self._dtype: torch.dtype = getattr(torch, setup.dtype)
        self._net = net.eval().to(self._device, self._dtype)

    def __call__(self, batch: Array) -> Tensor:
        with torch.inference_mode():
            answer: Tensor = self._net(torch.from_numpy(batch).to(self._device, self._dtype))
        return answer

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())


def _published(setup: Setup) -> sapiens.Sapiens:
    head, _, size = setup.kind.partition("-")
    [file] = setup.files.values()
    with torch.device("meta"):
        net = sapiens.Sapiens(sapiens.published(head, size))
    try:
        net.load_state_dict(sapiens.rename(load_file(file)), strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise BadWeights(f"{setup.name}: the weights do not fit the net: {reason}") from error
    return net


def _toy(setup: Setup, seed: int) -> sapiens.Sapiens:
    torch.manual_seed(seed)
    return sapiens.Sapiens(sapiens.toy(setup.kind.partition("-")[0]))


def _map(state: Encoded) -> Tensor:
    return torch.from_numpy(np.array(state.maps["map"], np.float32))  # (C, h, w); a state is not writeable


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
    """(3, H, W) to unit vectors (H, W, 3). The makers say "camera coordinates, XYZ" (issues 50 and 201 of their
    repository); x points right, y up and z to the camera, as there compared with another estimator."""
    length = raw.square().sum(0, keepdim=True).sqrt()  # (1, H, W)
    unit = torch.where(length > 1e-8, raw / length.clamp_min(1e-8), torch.zeros_like(raw))
    return np.ascontiguousarray(unit.permute(1, 2, 0).numpy())
