"""RepViT: a small convolutional net in the shape of a vision transformer, here for its maps at four sizes.

Architecture: A. Wang et al., "RepViT: Revisiting Mobile CNN From ViT Perspective" (CVPR 2024, arXiv:2307.09283), in
the first published form (M1 to M3). Modules carry the names that timm gives them when it is asked for maps, which
published checkpoints are stored under. Inference only: the branches stay apart, as they are stored.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

RATIO = 2  # inside an MLP, to the width outside
SQUEEZED, DIVISOR = 4, 8  # the gate's inner width is a quarter, brought to a multiple of eight


@dataclass(frozen=True)
class Config:
    """Channels and blocks of each stage; the first sees a quarter of the picture's side, each later one half of it."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]


M1 = Config(widths=(48, 96, 192, 384), depths=(2, 2, 14, 2))
TINY = Config(widths=(16, 24, 32, 40), depths=(1, 1, 2, 1))


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(outputs)))


class TokenMixer(nn.Module):
    """Each channel by itself: 3 x 3, 1 x 1, and as it was."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, 1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) + self.conv1(x) + x
        return y


class Gate(nn.Module):
    """Channels weighed by what the whole map holds (squeeze and excitation)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(DIVISOR, (width // SQUEEZED + DIVISOR // 2) // DIVISOR * DIVISOR)
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.fc1(x.mean((2, 3), keepdim=True))  # (B, inner, 1, 1)
        weights: Tensor = self.fc2(pooled.relu())  # (B, C, 1, 1)
        return x * weights.sigmoid()


class ChannelMixer(nn.Module):
    """An MLP on every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, width * RATIO)
        self.act = nn.GELU()
        self.conv2 = ConvNorm(width * RATIO, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.act(self.conv1(x)))
        return y


class Block(nn.Module):
    def __init__(self, width: int, is_gated: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = Gate(width) if is_gated else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.token_mixer(x))
        y: Tensor = x + self.channel_mixer(x)
        return y


class Downsample(nn.Module):
    """Half the side, more channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = Block(inputs, is_gated=False)
        self.spatial_downsample = ConvNorm(inputs, inputs, 3, stride=2, groups=inputs)
        self.channel_downsample = ConvNorm(inputs, outputs)
        self.ffn = ChannelMixer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial_downsample(self.pre_block(x))  # (B, inputs, H / 2, W / 2)
        x = self.channel_downsample(x)  # (B, outputs, H / 2, W / 2)
        y: Tensor = x + self.ffn(x)
        return y


class Stage(nn.Module):
    """Every other block has a gate, the first one among them."""

    def __init__(self, inputs: int, outputs: int, depth: int, is_first: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if is_first else Downsample(inputs, outputs)
        self.blocks = nn.Sequential(*(Block(outputs, is_gated=index % 2 == 0) for index in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.downsample(x))
        return y


class Stem(nn.Module):
    """A quarter of the picture's side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, 3, stride=2)
        self.act1 = nn.GELU()
        self.conv2 = ConvNorm(width // 2, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.act1(self.conv1(x)))
        return y


class RepVit(nn.Module):
    """Pictures (B, 3, H, W) -> one map per stage, (B, C, H / 4, W / 4) first and half the side each time."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config.widths[0])
        before = config.widths[0]
        for index, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            self.add_module(f"stages_{index}", Stage(before, width, depth, is_first=index == 0))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        x = self.stem(x)  # (B, C, H / 4, W / 4)
        for index in range(len(self.config.widths)):
            x = self.get_submodule(f"stages_{index}")(x)
            maps.append(x)
        return maps
