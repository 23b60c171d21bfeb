"""A contrastive loss with its own scale and bias, which are learned: for any training loop."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.train.losses.contrastive import clip_loss, siglip_loss
from anmok.train.losses.pairs import Chunk

_LARGEST = 100.0  # of CLIP's scale


class Matching(nn.Module):
    """``sigmoid`` begins at scale 10 and bias -10 as SigLIP does, ``softmax`` at 1/0.07 without a bias as CLIP does.

    The logarithm of the scale is what is learned. CLIP's scale is held at 100 at most.
    """

    def __init__(self, kind: Literal["sigmoid", "softmax"] = "sigmoid", chunk: Chunk | None = "auto") -> None:
        super().__init__()
        self.kind = kind
        self.chunk: Chunk | None = chunk
        self.ln_scale = nn.Parameter(torch.tensor(math.log(10.0 if kind == "sigmoid" else 1 / 0.07)))
        self.bias = nn.Parameter(torch.tensor(-10.0)) if kind == "sigmoid" else None

    @property
    def scale(self) -> Tensor:
        """The factor on the cosines, ()."""
        scale = self.ln_scale.exp()
        return scale if self.bias is not None else scale.clamp(max=_LARGEST)

    def forward(self, images: Tensor, texts: Tensor, groups: Tensor | None = None) -> Tensor:
        """Rows (N, d) of any length, which are brought to length one, to the loss ()."""
        images, texts = functional.normalize(images, dim=1), functional.normalize(texts, dim=1)
        if self.bias is None:
            return clip_loss(images, texts, self.scale, groups, self.chunk)
        return siglip_loss(images, texts, self.scale, self.bias, groups, self.chunk)
