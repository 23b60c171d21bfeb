"""MobileNet-V5, the vision tower of Gemma 3n: convolutions that end in attention of many queries and one key.

Source: Google, Gemma 3n (2025); there is no paper of the tower. Its blocks are those of Qin et al., "MobileNetV4 -
Universal Models for the Mobile Ecosystem" (ECCV 2024, arXiv:2404.10518). Names and sums are those of
``mobilenetv5_300m_enc`` in huggingface/pytorch-image-models (Apache-2.0), through which transformers runs it; here
neither that package nor torchvision is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Edge:
    """A convolution that widens by ``expand`` and one of a pixel that narrows to ``width``."""

    width: int
    stride: int = 1
    expand: int = 4
    kernel: int = 3


@dataclass(frozen=True, slots=True)
class Inverted:
    """Widened between two of a pixel, each channel by itself filtered before (``start``) and between (``middle``)
    where these have a size."""

    width: int
    stride: int = 1
    expand: int = 4
    start: int = 0
    middle: int = 0


@dataclass(frozen=True, slots=True)
class Attending:
    """``heads`` queries a pixel, and one key and value of ``size`` for each ``stride`` x ``stride`` pixels."""

    width: int
    heads: int
    size: int
    stride: int = 1


Block = Edge | Inverted | Attending


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages, of which the last two are put together: ``features`` wide, ``side`` x ``side`` pixels."""

    stem: int
    stages: tuple[tuple[Block, ...], ...]
    features: int = 2048
    side: int = 16

    @property
    def widths(self) -> tuple[int, ...]:
        """Of what each stage gives."""
        return tuple(stage[-1].width for stage in self.stages)


def _attended(times: int, block: Attending) -> tuple[Block, ...]:
    """Each followed by a block of single pixels."""
    return (block, Inverted(block.width, expand=2)) * times


_WIDE: Final = (640, 1280)
PLANS: Final[Mapping[str, Plan]] = {
    "mobilenetv5_300m_enc": Plan(
        64,
        (
            (Edge(128, stride=2), Edge(128), Edge(128)),
            (
                Inverted(256, stride=2, expand=6, start=3, middle=5),
                *(Inverted(256, start=size) for size in (5, 3, 5, 3)),
            ),
            (
                Inverted(_WIDE[0], stride=2, expand=6, start=5, middle=5),
                *(Inverted(_WIDE[0], start=5) for _ in range(7)),
                Inverted(_WIDE[0], expand=1),
                *_attended(14, Attending(_WIDE[0], heads=12, size=64, stride=2)),
            ),
            (
                Inverted(_WIDE[1], stride=2, expand=6, start=5, middle=5),
                *_attended(19, Attending(_WIDE[1], heads=16, size=96)),
            ),
        ),
    ),
    # For tests: every sort of block.
    "toy": Plan(
        8,
        (
            (Edge(8, stride=2), Edge(8)),
            (Inverted(16, stride=2, expand=2, start=3, middle=5), Inverted(16, expand=2, start=5)),
            (Inverted(16, stride=2, expand=2, start=5, middle=5), *_attended(1, Attending(16, 2, 8, stride=2))),
            (Inverted(24, stride=2, expand=2, start=3, middle=3), *_attended(1, Attending(24, 3, 8))),
        ),
        features=16,
        side=2,
    ),
}


class Rms(nn.Module):
    """Divides each pixel by the root of the mean square of its channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w), of the same shape."""
        share = torch.rsqrt(maps.square().mean(1, keepdim=True) + 1e-6)  # (B, 1, h, w)
        return maps * share * self.weight[:, None, None]


class Scale(nn.Module):
    """A factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.gamma[:, None, None]


class Convolution(nn.Conv2d):
    """Filled up at the edges as TensorFlow does: so many pixels come out as strides fit in, and where an odd number of
    them is missing, one more is put below and at the right."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, ceil(h / stride), ceil(w / stride))."""
        down, across = (self._missing(side) for side in maps.shape[-2:])
        filled = functional.pad(maps, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(filled)

    def _missing(self, side: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((-(-side // stride) - 1) * stride + kernel - side, 0)


class Normed(nn.Module):
    """A convolution, ``Rms``, and GELU where it is wanted."""

    def __init__(self, conv: Convolution, *, has_gelu: bool = True) -> None:
        super().__init__()
        self.conv, self.bn = conv, Rms(conv.out_channels)
        self._has_gelu = has_gelu

    def forward(self, maps: Tensor) -> Tensor:
        made: Tensor = self.bn(self.conv(maps))
        return _gelu(made) if self._has_gelu else made


class EdgeBlock(nn.Module):
    def __init__(self, width: int, plan: Edge) -> None:
        super().__init__()
        inner = width * plan.expand
        self.conv_exp, self.bn1 = Convolution(width, inner, plan.kernel, plan.stride, bias=False), Rms(inner)
        self.conv_pwl, self.bn2 = Convolution(inner, plan.width, 1, bias=False), Rms(plan.width)
        self._has_skip = plan.stride == 1 and width == plan.width

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h / stride, w / stride)."""
        wide = _gelu(self.bn1(self.conv_exp(maps)))
        made: Tensor = self.bn2(self.conv_pwl(wide))
        return made + maps if self._has_skip else made


class InvertedBlock(nn.Module):
    def __init__(self, width: int, plan: Inverted, *, is_last: bool = False) -> None:
        super().__init__()
        inner = width * plan.expand
        first = 1 if plan.middle else plan.stride
        self.dw_start = _alone(width, plan.start, first, has_gelu=False)
        self.pw_exp = Normed(Convolution(width, inner, 1, bias=False))
        self.dw_mid = _alone(inner, plan.middle, plan.stride, has_gelu=True)
        self.pw_proj = Normed(Convolution(inner, plan.width, 1, bias=False), has_gelu=False)
        self.layer_scale = nn.Identity() if is_last else Scale(plan.width)
        self._has_skip = plan.stride == 1 and width == plan.width and not is_last

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h / stride, w / stride)."""
        made: Tensor = self.layer_scale(self.pw_proj(self.dw_mid(self.pw_exp(self.dw_start(maps)))))
        return made + maps if self._has_skip else made


class Keys(nn.Sequential):
    """One key, or value, for some pixels."""

    def __init__(self, width: int, plan: Attending) -> None:
        super().__init__()
        if plan.stride > 1:
            self.add_module("down_conv", Convolution(width, width, 3, plan.stride, groups=width, bias=False))
            self.add_module("norm", Rms(width))
        self.add_module("proj", nn.Conv2d(width, plan.size, 1, bias=False))


class Attention(nn.Module):
    def __init__(self, width: int, plan: Attending) -> None:
        super().__init__()
        self._plan, inner = plan, plan.heads * plan.size
        self.query = nn.Sequential()
        self.query.add_module("proj", nn.Conv2d(width, inner, 1, bias=False))
        self.key, self.value = Keys(width, plan), Keys(width, plan)
        self.output = nn.Sequential()
        self.output.add_module("proj", nn.Conv2d(inner, plan.width, 1, bias=False))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w), of the same shape."""
        plan, (height, width) = self._plan, maps.shape[-2:]
        asked = self.query(maps).reshape(-1, plan.heads, plan.size, height * width).transpose(2, 3)  # (B, H, h * w, d)
        keys, values = (one(maps).flatten(2).transpose(1, 2)[:, None] for one in (self.key, self.value))  # (B, 1, n, d)
        told = functional.scaled_dot_product_attention(asked, keys, values)  # (B, H, h * w, d)
        made: Tensor = self.output(told.transpose(2, 3).reshape(-1, plan.heads * plan.size, height, width))
        return made


class AttentionBlock(nn.Module):
    def __init__(self, width: int, plan: Attending) -> None:
        super().__init__()
        self.norm, self.attn, self.layer_scale = Rms(width), Attention(width, plan), Scale(plan.width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w), of the same shape."""
        made: Tensor = self.layer_scale(self.attn(self.norm(maps)))
        return made + maps


class Fusion(nn.Module):
    """What two stages give, put together and made so many pixels."""

    def __init__(self, width: int, plan: Plan) -> None:
        super().__init__()
        self.ffn = InvertedBlock(width, Inverted(plan.features, expand=2), is_last=True)
        self.norm = Rms(plan.features)
        self._side = plan.side

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, C, h, w) and (B, D, h / 2, w / 2) to (B, features, side, side)."""
        size, side = fine.shape[-2:], self._side
        joined = torch.cat([fine, functional.interpolate(coarse, size, mode="nearest")], 1)  # (B, C + D, h, w)
        made = self.ffn(joined)  # (B, features, h, w)
        if size[0] % side or size[1] % side:
            made = functional.interpolate(made, (side, side), mode="bilinear")  # (B, features, side, side)
        elif size != (side, side):
            made = functional.avg_pool2d(made, (size[0] // side, size[1] // side))  # (B, features, side, side)
        normed: Tensor = self.norm(made)
        return normed


class MobileNetV5(nn.Module):
    """The tower that a plan describes, filled at random."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.conv_stem = Normed(Convolution(3, plan.stem, 3, 2))
        self.blocks = nn.Sequential()
        width = plan.stem
        for stage in plan.stages:
            made = nn.Sequential()
            for block in stage:
                made.append(_block(width, block))
                width = block.width
            self.blocks.append(made)
        self.msfa = Fusion(sum(plan.widths[-2:]), plan)

    def forward(self, pixels: Tensor) -> Tensor:
        """Levels from 0 to 1, (B, 3, h, w), to (B, features, side, side)."""
        maps: Tensor = self.conv_stem(pixels)  # (B, stem, h / 2, w / 2)
        given = []
        for stage in self.blocks:
            maps = stage(maps)
            given.append(maps)
        fused: Tensor = self.msfa(given[-2], given[-1])
        return fused


def _gelu(maps: Tensor) -> Tensor:
    return functional.gelu(maps, approximate="tanh")


def _alone(width: int, kernel: int, stride: int, *, has_gelu: bool) -> nn.Module:
    """Each channel filtered by itself; nothing where the filter has no size."""
    if not kernel:
        return nn.Identity()
    return Normed(Convolution(width, width, kernel, stride, groups=width, bias=False), has_gelu=has_gelu)


def _block(width: int, plan: Block) -> nn.Module:
    if isinstance(plan, Edge):
        return EdgeBlock(width, plan)
    return InvertedBlock(width, plan) if isinstance(plan, Inverted) else AttentionBlock(width, plan)
