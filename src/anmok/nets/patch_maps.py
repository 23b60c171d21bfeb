"""Maps of patches out of nets that were built for one vector a picture: what inspection compares.

Middle stages of a convolutional net are joined as PatchCore does it (Roth et al., "Towards Total Recall in Industrial
Anomaly Detection", CVPR 2022): each is averaged over 3 x 3 neighbours, brought to the finer one's grid, and put side by
side. A transformer's patch tokens are a map as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from anmok.errors import BadRequest
from anmok.nets.clip_resnet import ClipResNet
from anmok.nets.efficientnet_lite import PART, STAGES, EfficientNetLite

_MIDDLE = (3, 5)  # stages of EfficientNet after which a map is taken: strides 8 and 16


def joined(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C_i, h_i, w_i), the finest first, to (B, h, w, sum of C_i).

    The mean over 3 x 3 neighbours leaves out what lies beyond the frame; zeros there would make every frame look
    alike.
    """
    size = maps[0].shape[-2:]
    pooled = [functional.avg_pool2d(one, 3, 1, 1, count_include_pad=False) for one in maps]
    level = [
        one if one.shape[-2:] == size else functional.interpolate(one, size, mode="bilinear", align_corners=False)
        for one in pooled
    ]
    return torch.cat(level, 1).permute(0, 2, 3, 1)  # (B, h, w, C)


def of_efficientnet(net: EfficientNetLite, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, H, W) to patches (B, H/8, W/8, C) and the last map's cells (B, H/32, W/32, 1280), whose mean is
    the net's feature vector."""
    parts = [_of_efficientnet(net, part) for part in torch.split(pixels, PART)]
    return torch.cat([patches for patches, _ in parts]), torch.cat([cells for _, cells in parts])


def _of_efficientnet(net: EfficientNetLite, pixels: Tensor) -> tuple[Tensor, Tensor]:
    # This net sees its pictures turned by half a turn; the maps are turned back.
    x = net.stem(pixels.flip(2, 3).contiguous(memory_format=torch.channels_last))  # (B, 32, H/2, W/2)
    kept, ends = [], _ends(net)
    for index, block in enumerate(net.blocks):
        x = block(x)  # (B, C, H/s, W/s)
        if index in ends:
            kept.append(x.flip(2, 3))
    return joined(kept), net.head(x).flip(2, 3).permute(0, 2, 3, 1)


def _ends(net: EfficientNetLite) -> tuple[int, ...]:
    """The last block of each middle stage."""
    starts, index = [], 0
    for place, stage in enumerate(STAGES):
        starts.append(index)
        is_inner = 0 < place < len(STAGES) - 1
        index += math.ceil(stage.repeats * net.config.depth) if is_inner else stage.repeats
    return tuple(starts[stage] - 1 for stage in _MIDDLE)


def of_resnet(net: ClipResNet, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) to patches (B, H/8, W/8, 24 * width): the second and third stage."""
    x = functional.relu_(net.bn1(net.conv1(pixels)))  # (B, width/2, H/2, W/2)
    x = functional.relu_(net.bn2(net.conv2(x)))  # (B, width/2, H/2, W/2)
    x = functional.relu_(net.bn3(net.conv3(x)))  # (B, width, H/2, W/2)
    second = net.layer2(net.layer1(functional.avg_pool2d(x, 2)))  # (B, 8*width, H/8, W/8)
    return joined([second, net.layer3(second)])


def of_tokens(tokens: Tensor, size_hw: tuple[int, int], patch: int) -> Tensor:
    """Tokens (B, T, C) of a picture of ``size_hw`` pixels to patches (B, h, w, C); what comes before the patches
    (class token, registers) is left out.

    Raises:
        BadRequest: a picture smaller than one patch.
    """
    height, width = size_hw[0] // patch, size_hw[1] // patch
    if not 0 < height * width <= tokens.shape[1]:
        raise BadRequest(f"a picture of {size_hw[1]} x {size_hw[0]} pixels has no patches of {patch}: enlarge it")
    patches = tokens[:, -height * width :]  # (B, h * w, C)
    return patches.reshape(len(tokens), height, width, tokens.shape[2])
