"""A picture tower as a chain of stages, so that its end can be trained while its beginning stands still.

Every tower becomes the same thing: first a stage that takes pixels in, then its blocks, last a stage that reads the
features out. Cutting the chain anywhere gives activations that can be kept (only the end is trained on them), and a
stage's place gives its learning rate. A trunk shares its weights with the tower that it is made of: whoever trains one
hands in a copy.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.nets.clip_resnet import ClipResNet
from anmok.nets.efficientnet_lite import EfficientNetLite, fuse

ATTENTION = r".*\.(q_proj|k_proj|v_proj)"  # of any transformer block; SigLIP's pooling head has none of that name
POINTWISE = r".*\.(expand|project)\.conv"  # EfficientNet's 1 x 1 convolutions; its depthwise ones are thin already
RESNET = r"block\d+\.\d+\.conv[13]"
CONVNEXT = r".*\.pointwise_conv[12]"
BASIC = r"(block\d+|readout\.last)\.layer\.[01]\.convolution"  # of ResNet-18, whose convolutions are 3 x 3 all
QUERIES = r".*\.attention\.(query|key|value)"  # of MobileViT
_BEHIND = r"stages\.block\d+\..*(out_proj|o_proj|mlp|project|pointwise_conv2|conv3)"  # attention and MLP, or their like
_BEHIND_BASIC = r"stages\.(block\d+|readout\.last)\.layer\.1"


class Trunk(nn.Module):
    """Pixels (B, 3, H, W) to features (B, F), stage by stage.

    ``low_rank`` and ``behind`` are patterns, of whole names, of the layers that LoRA goes on and of those that a
    bottleneck goes behind. Batch norms keep their running
    statistics while training: a user's few images are too few to replace those of millions.
    """

    def __init__(self, stages: Iterable[tuple[str, nn.Module]], low_rank: str, behind: str = _BEHIND) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(stages))
        self.low_rank = rf"stages\.{low_rank}"
        self.behind = behind
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.float().eval()

    @property
    def blocks(self) -> int:
        """Stages between the first, which takes pixels, and the last, which reads the features out."""
        return len(self.stages) - 2

    def boundary(self, last: int) -> int:
        """Index of the first stage where the ``last`` blocks and the readout are trained."""
        return max(0, len(self.stages) - 1 - last)

    def before(self, x: Tensor, boundary: int) -> Tensor:
        """Pixels (B, 3, H, W) to what goes into stage ``boundary``."""
        return self._through(x, 0, boundary)

    def after(self, x: Tensor, boundary: int) -> Tensor:
        """From what goes into stage ``boundary`` to features (B, F)."""
        return self._through(x, boundary, len(self.stages))

    def forward(self, x: Tensor) -> Tensor:
        return self._through(x, 0, len(self.stages))  # (B, F)

    def beginning(self, boundary: int) -> nn.Module:
        """A frozen copy of the stages before ``boundary``, for running only: equal but for rounding, and faster."""
        part = copy.deepcopy(self.stages[:boundary])
        fuse(part)
        return part.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Trunk:
        """Only dropout learns to drop; batch norms and positions stay as in use."""
        super().train(mode)
        for module in self.modules():
            if not isinstance(module, nn.Dropout) and not list(module.children()):
                module.training = False
        return self

    def _through(self, x: Tensor, first: int, end: int) -> Tensor:
        for stage in list(self.stages)[first:end]:
            x = stage(x)
        return x


def of_efficientnet(net: EfficientNetLite) -> Trunk:
    """Features as ``EfficientNetLite.features`` gives them, of a net that is ``unfolded``."""
    blocks = [(f"block{i}", block) for i, block in enumerate(net.blocks)]
    return Trunk([("stem", _Turned(net.stem)), *blocks, ("readout", _Averaged(net.head))], POINTWISE)


def of_clip(vision: nn.Module) -> Trunk:
    """transformers' ``CLIPVisionModel``: the class token after the last layer norm."""
    tower: Any = vision
    blocks = [(f"block{i}", _Layer(layer)) for i, layer in enumerate(tower.encoder.layers)]
    stem = nn.Sequential(tower.embeddings, tower.pre_layrnorm)
    return Trunk([("stem", stem), *blocks, ("readout", _ClassToken(tower.post_layernorm))], ATTENTION)


def of_siglip(vision: nn.Module) -> Trunk:
    """transformers' ``SiglipVisionModel``: its attention-pooled picture."""
    tower: Any = vision
    blocks = [(f"block{i}", _Layer(layer)) for i, layer in enumerate(tower.encoder.layers)]
    readout = nn.Sequential(tower.post_layernorm, tower.head)
    return Trunk([("stem", tower.embeddings), *blocks, ("readout", readout)], ATTENTION)


def of_dino(net: nn.Module, size: int) -> Trunk:
    """transformers' DINOv2, DINOv3 and DINOv3 ConvNeXt, for pictures of ``size`` pixels a side."""
    tower: Any = net
    if hasattr(tower, "rope_embeddings"):
        with torch.no_grad():
            turn = tower.rope_embeddings(torch.zeros(1, 3, size, size))
        blocks = [(f"block{i}", _TurnedLayer(layer, turn)) for i, layer in enumerate(tower.model.layer)]
        return Trunk([("stem", tower.embeddings), *blocks, ("readout", _ClassToken(tower.norm))], ATTENTION)
    if hasattr(tower, "pool"):  # a ConvNeXt: its pointwise layers are linear
        maps = [(f"block{i}", stage) for i, stage in enumerate(tower.model.stages)]
        readout = _Pooled(tower.pool, tower.layer_norm)
        return Trunk([("stem", nn.Identity()), *maps, ("readout", readout)], CONVNEXT)
    layers = [(f"block{i}", _Layer(layer)) for i, layer in enumerate(tower.encoder.layer)]
    return Trunk([("stem", tower.embeddings), *layers, ("readout", _ClassToken(tower.layernorm))], ATTENTION)


def of_clip_resnet(net: ClipResNet) -> Trunk:
    """OpenAI's ResNet: what its attention pool gives."""
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    blocks = [(f"block{i}", stage) for i, stage in enumerate(stages)]
    return Trunk([("stem", _ResNetStem(net)), *blocks, ("readout", net.attnpool)], RESNET)


def of_vit(vit: nn.Module) -> Trunk:
    """transformers' ``ViTModel``: the class token after the last layer norm."""
    tower: Any = vit
    blocks = [(f"block{i}", _Layer(layer)) for i, layer in enumerate(tower.layers)]
    return Trunk([("stem", tower.embeddings), *blocks, ("readout", _ClassToken(tower.layernorm))], ATTENTION)


def of_resnet(resnet: nn.Module) -> Trunk:
    """transformers' ``ResNetModel`` of basic blocks: the mean of the last map."""
    tower: Any = resnet
    layers = [layer for stage in tower.encoder.stages for layer in stage.layers]
    blocks = [(f"block{i}", layer) for i, layer in enumerate(layers[:-1])]
    return Trunk([("stem", tower.embedder), *blocks, ("readout", _Mean(layers[-1]))], BASIC, _BEHIND_BASIC)


def of_mobilevit(mobilevit: nn.Module) -> Trunk:
    """transformers' ``MobileViTModel``: the mean of the last map. It was trained on blue, green, red."""
    tower: Any = mobilevit
    blocks = [(f"block{i}", stage) for i, stage in enumerate(tower.encoder.layer)]
    behind = r"stages\.block\d+\..*(reduce_1x1|conv_projection|attention\.output)"
    return Trunk(
        [("stem", _BlueFirst(tower.conv_stem)), *blocks, ("readout", _Mean(tower.conv_1x1_exp))], QUERIES, behind
    )


class _Turned(nn.Module):
    """EfficientNet's net looks at its picture turned by half a turn; see ``efficientnet_lite``."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.conv = stem

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(2, 3).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.conv(x)  # (B, 32, H/2, W/2)
        return y


class _Averaged(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x).mean((2, 3))  # (B, F)
        return y


class _Mean(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(x).mean((2, 3))  # (B, F)
        return y


class _BlueFirst(nn.Module):
    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.stem(x.flip(1))  # (B, C, H/2, W/2)
        return y


class _Layer(nn.Module):
    """A transformer block that attends to everything."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x, None)  # (B, T, D)
        return y


class _TurnedLayer(nn.Module):
    """A block with rotary positions, which depend on the size of the picture alone."""

    def __init__(self, layer: nn.Module, turn: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("cos", turn[0], persistent=False)
        self.register_buffer("sin", turn[1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x, position_embeddings=(self.cos, self.sin))  # (B, T, D)
        return y


class _ClassToken(nn.Module):
    """The class token, normalised. A layer norm takes each token by itself, so the others need not go through."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x[:, 0])  # (B, D)
        return y


class _Pooled(nn.Module):
    def __init__(self, pool: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.pool(x).flatten(1))  # (B, F)
        return y


class _ResNetStem(nn.Module):
    def __init__(self, tower: ClipResNet) -> None:
        super().__init__()
        self.conv1, self.bn1 = tower.conv1, tower.bn1
        self.conv2, self.bn2 = tower.conv2, tower.bn2
        self.conv3, self.bn3 = tower.conv3, tower.bn3

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))  # (B, width/2, H/2, W/2)
        x = functional.relu(self.bn2(self.conv2(x)))  # (B, width/2, H/2, W/2)
        x = functional.relu(self.bn3(self.conv3(x)))  # (B, width, H/2, W/2)
        return functional.avg_pool2d(x, 2)  # (B, width, H/4, W/4)
