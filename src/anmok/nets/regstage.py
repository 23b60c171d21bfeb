"""A stage of residual blocks whose channels are weighed by a gate: what convolutional connectors are made of.

Architecture: the block of I. Radosavovic et al., "Designing Network Design Spaces" (CVPR 2020, arXiv:2003.13678),
RegNetY, with a layer norm over channels and SiLU instead of batch norm and ReLU. Honeybee, HyperCLOVA X and VideoLLaMA2
take it from timm (github.com/huggingface/pytorch-image-models, ``timm.models.regnet.RegStage``); modules carry its
names, which their checkpoints are stored under.

Two things are easily missed: the 3 x 3 convolution sees each channel by itself, and the gate's inner width is a quarter
of what enters the *block*, not the gate.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

SQUEEZED = 4  # the width that enters a block, over the gate's inner width


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of a map (B, C, H, W), at each place by itself."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # there (B, H, W, C)


class ConvNorm(nn.Sequential):
    """Convolution without bias, norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=ChannelNorm(outputs)))


class Gate(nn.Module):
    """Channels weighed by what the whole map holds (squeeze and excitation)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.fc1(x.mean((2, 3), keepdim=True))  # (B, inner, 1, 1)
        weights = self.fc2(functional.silu(seen)).sigmoid()  # (B, C, 1, 1)
        y: Tensor = x * weights  # (B, C, H, W)
        return y


class Block(nn.Module):
    """(B, C, H, W) to (B, C', H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, groups=outputs)
        self.se = Gate(outputs, round(inputs / SQUEEZED))
        self.conv3 = ConvNorm(outputs, outputs)
        self.downsample = nn.Identity() if inputs == outputs else ConvNorm(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.conv1(x))  # (B, C', H, W)
        y = functional.silu(self.conv2(y))
        y = self.conv3(self.se(y)) + self.downsample(x)  # (B, C', H, W)
        return functional.silu(y)


class RegStage(nn.Sequential):
    """``depth`` blocks, ``b1`` and so on; the first takes ``inputs`` channels, all give ``outputs``."""

    def __init__(self, depth: int, inputs: int, outputs: int) -> None:
        widths = [inputs] + [outputs] * depth
        super().__init__(OrderedDict((f"b{i + 1}", Block(widths[i], outputs)) for i in range(depth)))
