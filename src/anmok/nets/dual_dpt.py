"""Dense heads over the states of a transformer: depth with the sky, or depth with the rays of the camera.

Architecture: R. Ranftl et al., "Vision Transformers for Dense Prediction" (ICCV 2021, arXiv:2103.13413), with the
two branches of H. Lin et al., "Depth Anything 3" (2025, arXiv:2511.10647;
github.com/ByteDance-Seed/Depth-Anything-3). Modules carry the names of the published checkpoints. The dual head's
training uses an output at each of four levels of its ray branch; here only the last, the one that is read, exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.nets.dino_views import PATCH

VIEWS_AT_ONCE = 8  # the maps of one view at full size are large
LAST = "3"  # the level of the ray branch that is read
_NARROW = 32  # channels before an output
_RAY = 7  # a ray's direction and origin, and their confidence
_OWN_PLACE = 0.1  # weight of the added places
_FREQUENCY = 100.0


@dataclass(frozen=True)
class Config:
    """``inputs`` is the width of the states that come in, ``levels`` the channels of the four maps made of them, from
    fine to coarse, ``width`` that of the fused map."""

    inputs: int
    levels: tuple[int, int, int, int]
    width: int


class Rays(NamedTuple):
    """The ray through every cell of a map, ``rays`` (B, S, 8h, 8w, 6) for h x w patches, and ``confidence``
    (B, S, 8h, 8w), above 1."""

    rays: Tensor
    confidence: Tensor


class Dense(NamedTuple):
    """What the dual head says: ``depth`` and ``confidence`` (B, S, H, W), above 1, and the rays if asked for."""

    depth: Tensor
    confidence: Tensor
    rays: Rays | None


class Mono(NamedTuple):
    """What the single head says: ``depth`` and ``sky``, equal in shape. Sky is at least 0."""

    depth: Tensor
    sky: Tensor


class Residual(nn.Module):
    """Two convolutions, added to what came in. (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x.relu()).relu())  # (B, C, H, W)
        return x + y


class Fusion(nn.Module):
    """A coarse map, with a finer one added where there is one, brought to the next finer size."""

    def __init__(self, width: int, is_first: bool) -> None:
        super().__init__()
        if not is_first:
            self.resConfUnit1 = Residual(width)
        self.resConfUnit2 = Residual(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: tuple[int, int]) -> Tensor:
        """(B, C, H, W) both -> (B, C, *size)."""
        if fine is not None:
            coarse = coarse + self.resConfUnit1(fine)  # (B, C, H, W)
        y: Tensor = self.out_conv(resized(self.resConfUnit2(coarse), size))  # (B, C, *size)
        return y


class Dpt(nn.Module):
    """Four states (B, S, h*w, C) -> depth and sky at full size."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.projects = _projections(config)
        self.resize_layers = _resizers(config)
        self.scratch = nn.ModuleDict({**_fusion(config), **_neck(config)})
        self.scratch["output_conv2"] = _output(config, 1)
        self.scratch["sky_output_conv2"] = _output(config, 1)

    def forward(self, states: Sequence[Tensor], size_hw: tuple[int, int]) -> Mono:
        """``size_hw`` is that of the images, in pixels. The answer's maps are (B, S, H, W)."""
        scenes = states[0].shape[0]
        parts = [self._part(part, size_hw) for part in _parts(states)]
        return Mono(*(torch.unflatten(torch.cat(maps), 0, (scenes, -1)) for maps in zip(*parts, strict=True)))

    def _part(self, states: Sequence[Tensor], size_hw: tuple[int, int]) -> Mono:
        levels = [
            resize(project(_map(state, size_hw)))
            for state, project, resize in zip(states, self.projects, self.resize_layers, strict=True)
        ]
        x = _climbed(self.scratch, levels, "")  # (B, width, 8h, 8w)
        x = resized(self.scratch["output_conv1"](x), size_hw)  # (B, width/2, H, W)
        depth = self.scratch["output_conv2"](x)[:, 0].exp()  # (B, H, W)
        sky = self.scratch["sky_output_conv2"](x)[:, 0].relu()  # (B, H, W)
        return Mono(depth, sky)


class DualDpt(nn.Module):
    """Four states (B, S, h*w, C) -> depth at full size and rays at 8 x 8 a patch, both with their confidence."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.inputs)
        self.projects = _projections(config)
        self.resize_layers = _resizers(config)
        self.scratch = nn.ModuleDict({**_fusion(config), **_neck(config), **_chain(config, "_aux")})
        self.scratch["output_conv2"] = _output(config, 2)
        self.scratch["output_conv1_aux"] = _LastLevel(_ray_neck(config))
        self.scratch["output_conv2_aux"] = _LastLevel(_ray_output(config))

    def forward(self, states: Sequence[Tensor], size_hw: tuple[int, int], needs_rays: bool) -> Dense:
        """``size_hw`` is that of the images, in pixels. Rays take a third of the time or more."""
        scenes = states[0].shape[0]
        depths, rays = [], []
        for part in _parts(states):
            levels = self._levels(part, size_hw)
            depths.append(self._depth(levels, size_hw))
            if needs_rays:
                rays.append(self._rays(levels, size_hw))
        depth, confidence = torch.unflatten(torch.cat(depths), 0, (scenes, -1)).unbind(2)  # each (B, S, H, W)
        if not needs_rays:
            return Dense(depth.exp(), confidence.exp() + 1, None)
        found = torch.unflatten(torch.cat(rays), 0, (scenes, -1))  # (B, S, 7, 8h, 8w)
        return Dense(
            depth.exp(),
            confidence.exp() + 1,
            Rays(found[:, :, :-1].movedim(2, -1), found[:, :, -1].exp() + 1),  # (B, S, 8h, 8w, 6), (B, S, 8h, 8w)
        )

    def _levels(self, states: Sequence[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        """States (B, h*w, C) -> four maps (B, its own channels, its own size), fine to coarse."""
        aspect = size_hw[1] / size_hw[0]
        return [
            resize(placed(project(_map(self.norm(state), size_hw)), aspect))
            for state, project, resize in zip(states, self.projects, self.resize_layers, strict=True)
        ]

    def _depth(self, levels: Sequence[Tensor], size_hw: tuple[int, int]) -> Tensor:
        """Logarithms of depth and of confidence above 1, (B, 2, H, W)."""
        x = _climbed(self.scratch, levels, "")  # (B, width, 8h, 8w)
        x = placed(resized(self.scratch["output_conv1"](x), size_hw), size_hw[1] / size_hw[0])  # (B, width/2, H, W)
        y: Tensor = self.scratch["output_conv2"](x)  # (B, 2, H, W)
        return y

    def _rays(self, levels: Sequence[Tensor], size_hw: tuple[int, int]) -> Tensor:
        """Rays and the logarithm of their confidence above 1, (B, 7, 8h, 8w)."""
        x = _climbed(self.scratch, levels, "_aux")  # (B, width, 8h, 8w)
        x = placed(self.scratch["output_conv1_aux"](x), size_hw[1] / size_hw[0])  # (B, width/2, 8h, 8w)
        y: Tensor = self.scratch["output_conv2_aux"](x)  # (B, 7, 8h, 8w)
        return y


class _LastLevel(nn.Module):
    """A module under the name of the last of four levels, the one that is read."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.add_module(LAST, module)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(LAST)(x)
        return y


class _Permuted(nn.Module):
    """The axes of a map in another order; between convolutions, for a norm over channels."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*self.axes)


def resized(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Maps (B, C, H, W) -> (B, C, *size_hw); corners stay corners."""
    return functional.interpolate(x, size=size_hw, mode="bilinear", align_corners=True)


def placed(x: Tensor, aspect: float) -> Tensor:
    """Maps (B, C, H, W) with the waves of each place added: half the channels tell the column, half the row.

    Places are those of cells on a plane with a diagonal of 2, centred at 0, that is ``aspect`` times as wide as high.
    """
    height, width = x.shape[2:]
    diagonal = (aspect**2 + 1) ** 0.5
    columns = _waves(_centres(width, aspect / diagonal, x), x.shape[1] // 2)  # (C/2, W)
    rows = _waves(_centres(height, 1 / diagonal, x), x.shape[1] // 2)  # (C/2, H)
    waves = torch.cat([columns[:, None].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)])  # (C, H, W)
    return x + waves.to(x.dtype) * _OWN_PLACE


def _centres(cells: int, reach: float, like: Tensor) -> Tensor:
    """The centres of equal cells that cover -reach..reach."""
    end = reach * (cells - 1) / cells
    return torch.linspace(-end, end, cells, device=like.device)  # (cells,)


def _waves(places: Tensor, channels: int) -> Tensor:
    """(N,) -> (channels, N): sines, then cosines, from fast to slow."""
    half = channels // 2
    speeds = 1.0 / _FREQUENCY ** (torch.arange(half, device=places.device) / half)  # (channels/2,)
    angles = speeds[:, None] * places  # (channels/2, N)
    return torch.cat([angles.sin(), angles.cos()])  # (channels, N)


def _parts(states: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The views of all scenes, a few at a time: each state (B, S, N, C) -> (few, N, C)."""
    flat = [state.flatten(0, 1) for state in states]  # (B*S, N, C)
    for start in range(0, len(flat[0]), VIEWS_AT_ONCE):
        yield [state[start : start + VIEWS_AT_ONCE] for state in flat]


def _map(state: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(B, h*w, C) -> (B, C, h, w)."""
    return torch.unflatten(state.transpose(1, 2), 2, (size_hw[0] // PATCH, size_hw[1] // PATCH))


def _climbed(scratch: nn.ModuleDict, levels: Sequence[Tensor], branch: str) -> Tensor:
    """Four maps, fine to coarse -> one (B, width, 8h, 8w), each fused into what comes from below it."""
    height, width = levels[0].shape[2:]
    sizes = [(2 * height, 2 * width), *(level.shape[2:] for level in levels[:3])]
    x: Tensor = scratch[f"refinenet4{branch}"](scratch["layer4_rn"](levels[3]), None, sizes[3])
    for number in (3, 2, 1):
        here = scratch[f"layer{number}_rn"](levels[number - 1])  # (B, width, H, W)
        x = scratch[f"refinenet{number}{branch}"](x, here, sizes[number - 1])
    return x


def _projections(config: Config) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(config.inputs, width, 1) for width in config.levels)


def _resizers(config: Config) -> nn.ModuleList:
    """h x w maps to four, twice, once and half the size."""
    finest, fine, _, coarse = config.levels
    return nn.ModuleList(
        [
            nn.ConvTranspose2d(finest, finest, 4, 4),
            nn.ConvTranspose2d(fine, fine, 2, 2),
            nn.Identity(),
            nn.Conv2d(coarse, coarse, 3, 2, padding=1),
        ]
    )


def _fusion(config: Config) -> dict[str, nn.Module]:
    """What brings each level to one width, and the chain of the main branch."""
    levels = enumerate(config.levels, start=1)
    adapters: dict[str, nn.Module] = {
        f"layer{number}_rn": nn.Conv2d(width, config.width, 3, padding=1, bias=False) for number, width in levels
    }
    return {**adapters, **_chain(config, "")}


def _chain(config: Config, branch: str) -> dict[str, nn.Module]:
    return {f"refinenet{number}{branch}": Fusion(config.width, is_first=number == 4) for number in (1, 2, 3, 4)}


def _neck(config: Config) -> dict[str, nn.Module]:
    return {"output_conv1": nn.Conv2d(config.width, config.width // 2, 3, padding=1)}


def _output(config: Config, channels: int) -> nn.Sequential:
    wide = nn.Conv2d(config.width // 2, _NARROW, 3, padding=1)
    return nn.Sequential(wide, nn.ReLU(), nn.Conv2d(_NARROW, channels, 1))


def _ray_neck(config: Config) -> nn.Sequential:
    """Five convolutions, narrow and wide by turns."""
    wide, narrow = config.width, config.width // 2
    pairs = itertools.pairwise([wide, narrow, wide, narrow, wide, narrow])
    return nn.Sequential(*(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairs))


def _ray_output(config: Config) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(config.width // 2, _NARROW, 3, padding=1),
        _Permuted(0, 2, 3, 1),
        nn.LayerNorm(_NARROW),
        _Permuted(0, 3, 1, 2),
        nn.ReLU(),
        nn.Conv2d(_NARROW, _RAY, 1),
    )
