"""Depth Anything 3: depth and cameras of any number of views, and depth of single pictures with their sky.

Architecture: H. Lin et al., "Depth Anything 3: Recovering the Visual Space from Any Views" (2025, arXiv:2511.10647;
github.com/ByteDance-Seed/Depth-Anything-3). The published files load after ``rename``. Left out: the head for 3-D
Gaussians of the giant size, and cameras estimated from the rays by sampling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets import camera_tokens, dino_views, dual_dpt
from anmok.nets.camera_tokens import Cameras
from anmok.nets.dual_dpt import Mono, Rays

SKY = 0.3  # from here on a pixel is sky
_FAR = 0.99  # the share of pixels that lie nearer than the sky is put
_FEW = 10  # pixels of sky, or of anything else, that say nothing


@dataclass(frozen=True)
class AnyViewConfig:
    """Of ``AnyView``: the transformer, the dense head over it, and the encoder and decoder of cameras."""

    backbone: dino_views.Config
    head: dual_dpt.Config
    camera: camera_tokens.Config


@dataclass(frozen=True)
class OneViewConfig:
    """Of ``OneView``: the transformer and the dense head over it."""

    backbone: dino_views.Config
    head: dual_dpt.Config


class Scene(NamedTuple):
    """What the net finds in S views of each of B scenes.

    ``depth`` and ``confidence`` (above 1) are (B, S, H, W). ``cameras`` are those of the views: depth and places
    share one unit, which the net is free to choose. ``rays`` are there if they were asked for.
    """

    depth: Tensor
    confidence: Tensor
    cameras: Cameras
    rays: Rays | None


class AnyView(nn.Module):
    """Views (B, S, 3, H, W) of B scenes, with or without their cameras -> depth, rays and cameras."""

    def __init__(self, config: AnyViewConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = nn.ModuleDict({"pretrained": dino_views.DinoViews(config.backbone)})
        self.head = dual_dpt.DualDpt(config.head)
        self.cam_enc = camera_tokens.CameraEncoder(config.camera)
        self.cam_dec = camera_tokens.CameraDecoder(config.camera)

    def forward(self, images: Tensor, cameras: Cameras | None, needs_rays: bool) -> Scene:
        """``cameras`` are those of the views where they are known, as ``camera_tokens.from_the_first`` gives them and
        with intrinsics in the pixels of ``images``.

        Raises:
            BadRequest: sides that are no multiples of 14 pixels.
        """
        size_hw = (images.shape[-2], images.shape[-1])
        tokens = None if cameras is None else self.cam_enc(cameras, size_hw)  # (B, S, D)
        taps = self.backbone["pretrained"](images, tokens)
        dense = self.head([tap.patches for tap in taps], size_hw, needs_rays)
        found = camera_tokens.cameras_of(self.cam_dec(taps[-1].camera), size_hw)
        return Scene(dense.depth, dense.confidence, found, dense.rays)


class OneView(nn.Module):
    """Images (B, 3, H, W) -> depth and sky, each (B, H, W), no image seeing another."""

    def __init__(self, config: OneViewConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = nn.ModuleDict({"pretrained": dino_views.DinoViews(config.backbone)})
        self.head = dual_dpt.Dpt(config.head)

    def forward(self, images: Tensor) -> Mono:
        """Raises:
        BadRequest: sides that are no multiples of 14 pixels.
        """
        taps = self.backbone["pretrained"](images[:, None], None)  # views (B, 1, 3, H, W)
        maps = self.head([tap.patches for tap in taps], (images.shape[-2], images.shape[-1]))
        return Mono(maps.depth[:, 0], maps.sky[:, 0])  # (B, H, W)


def with_far_sky(maps: Mono) -> Tensor:
    """The depth (B, H, W) with each image's sky put behind 99 % of the rest; as it is where either is missing.

    The reference takes this quantile of 100,000 pixels drawn at random where there are more; here it is of all.
    """
    depth = maps.depth.clone()
    for image, is_sky in zip(depth, maps.sky >= SKY, strict=True):
        if min(int(is_sky.sum()), int((~is_sky).sum())) > _FEW:
            image[is_sky] = image[~is_sky].float().quantile(_FAR).to(image.dtype)
    return depth


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published file under this net's names, without those that no answer depends on.

    The files prefix every name with ``model.``. The giant size brings a head for Gaussians, and all sizes the outputs
    of three levels of the ray branch that training used; both are left out. One layer norm serves the outputs of all
    four levels, and a file may hold it under the name of the first alone.
    """
    plain = {re.sub(r"^model\.", "", name): tensor for name, tensor in state.items()}
    shared = {name: re.sub(_FIRST_NORM, rf"\g<1>{dual_dpt.LAST}.2.", name) for name in plain}
    kept = {name: tensor for name, tensor in plain.items() if not re.match(_UNREAD, name)}
    return {shared[name]: plain[name] for name in plain if shared[name] != name} | kept


_FIRST_NORM = r"^(head\.scratch\.output_conv2_aux\.)0\.2\."
_UNREAD = r"head\.scratch\.output_conv[12]_aux\.[012]\.|gs_head\.|gs_adapter\."


def fill(net: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Loads a published file's tensors into a net. ``name`` is the card's, for messages.

    Raises:
        BadWeights: a tensor is missing, left over, or of another shape.
    """
    try:
        net.load_state_dict(rename(state), strict=True)
    except RuntimeError as error:
        raise BadWeights(f"{name}: the weights do not fit the net ({' '.join(str(error).split())})") from None


def _any_view(
    backbone: dino_views.Config, levels: tuple[int, int, int, int], width: int, camera_heads: int
) -> AnyViewConfig:
    read = backbone.tap_width
    head = dual_dpt.Config(inputs=read, levels=levels, width=width)
    camera = camera_tokens.Config(width=backbone.width, depth=4, heads=camera_heads, read=read)
    return AnyViewConfig(backbone, head, camera)


def _one_view(backbone: dino_views.Config, levels: tuple[int, int, int, int], width: int) -> OneViewConfig:
    return OneViewConfig(backbone, dual_dpt.Config(inputs=backbone.tap_width, levels=levels, width=width))


_SMALL = dino_views.Config(
    width=384, hidden=1536, depth=12, heads=6, grid=37, is_gated=False, taps=(5, 7, 9, 11), meets_from=4
)
_BASE = dino_views.Config(
    width=768, hidden=3072, depth=12, heads=12, grid=37, is_gated=False, taps=(5, 7, 9, 11), meets_from=4
)
_LARGE = dino_views.Config(
    width=1024, hidden=4096, depth=24, heads=16, grid=37, is_gated=False, taps=(11, 15, 19, 23), meets_from=8
)
_GIANT = dino_views.Config(
    width=1536, hidden=4096, depth=40, heads=24, grid=37, is_gated=True, taps=(19, 27, 33, 39), meets_from=13
)
_LARGE_ALONE = dino_views.Config(
    width=1024, hidden=4096, depth=24, heads=16, grid=37, is_gated=False, taps=(4, 11, 17, 23), meets_from=None
)
_TINY = dino_views.Config(
    width=32, hidden=64, depth=8, heads=2, grid=5, is_gated=False, taps=(1, 3, 5, 7), meets_from=2
)
_TINY_ALONE = dino_views.Config(
    width=32, hidden=64, depth=4, heads=2, grid=5, is_gated=False, taps=(0, 1, 2, 3), meets_from=None
)

_FULL = (256, 512, 1024, 1024)
PUBLISHED: Mapping[str, AnyViewConfig | OneViewConfig] = {
    "anyview-s": _any_view(_SMALL, (48, 96, 192, 384), 64, camera_heads=16),
    "anyview-b": _any_view(_BASE, (96, 192, 384, 768), 128, camera_heads=16),
    "anyview-l": _any_view(_LARGE, _FULL, 256, camera_heads=16),
    "anyview-g": _any_view(_GIANT, _FULL, 256, camera_heads=16),
    "mono-l": _one_view(_LARGE_ALONE, _FULL, 256),
    "metric-l": _one_view(_LARGE_ALONE, _FULL, 256),
}
TINY: Mapping[str, AnyViewConfig | OneViewConfig] = {
    "anyview": _any_view(_TINY, (8, 8, 8, 8), 16, camera_heads=2),
    "mono": _one_view(_TINY_ALONE, (8, 8, 8, 8), 16),
    "metric": _one_view(_TINY_ALONE, (8, 8, 8, 8), 16),
}
