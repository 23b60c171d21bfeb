"""Adapt the eye first: masked pre-training on a user's unlabelled pictures, as a loss that the trainer runs.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022, arXiv:2111.06377): three quarters of
the patches are left out. It knows no labels and no texts, so a tower that shares a space with a text tower drifts out
of it: use what comes out for rungs that learn from images, never for zero-shot. Whether it helped, the ladder must
measure; with a few hundred pictures it often does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anmok.errors import BadRequest
from anmok.nets.change import Change
from anmok.nets.masked import MaskedNet
from anmok.nets.trunk import Trunk
from anmok.train.examples import Inputs
from anmok.train.opening import How, opened
from anmok.train.recipe import Recipe
from anmok.train.trainer import Course, Curve, train

SHARE = 0.75  # of the patches that are hidden


@dataclass(frozen=True, slots=True)
class Masking:
    """How much is hidden, and the decoder's size. It is thrown away afterwards."""

    share: float = SHARE
    width: int = 128
    depth: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadRequest(f"masking: a share of {self.share} of the patches; it must lie between 0 and 1")
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads or self.width % 4:
            raise BadRequest(f"masking: depth from 1, and a width that heads and 4 divide: {self}")


def kept_patches(pictures: int, count: int, share: float = SHARE, generator: torch.Generator | None = None) -> Tensor:
    """Which of ``count`` patches each picture keeps: int64 (pictures, K), rising in each row, every choice as likely.

    At least one is kept and one hidden. Without a generator torch's own is asked, which the trainer seeds.

    Raises:
        BadRequest: fewer than two patches.
    """
    if count < 2:
        raise BadRequest(f"a picture of {count} patches has none to hide: take larger pictures")
    kept = min(max(1, round(count * (1 - share))), count - 1)
    order = torch.rand(pictures, count, generator=generator).argsort(1)  # (pictures, count)
    return order[:, :kept].sort(1).values


def masked_loss(
    net: MaskedNet, pixels: Tensor, share: float = SHARE, generator: torch.Generator | None = None
) -> Tensor:
    """The loss () of pictures (B, 3, H, W) under masks drawn anew."""
    rows, columns = net.grid(pixels)
    loss: Tensor = net(pixels, kept_patches(len(pixels), rows * columns, share, generator).to(pixels.device))
    return loss


def masked_net(trunk: Trunk, masking: Masking, seed: int) -> MaskedNet:
    """The trunk with a fresh decoder of that seed. The trunk's readout is frozen; what else moves, it says itself.

    Raises:
        Unsupported: the trunk is no transformer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MaskedNet(trunk, width=masking.width, depth=masking.depth, heads=masking.heads)
    return net.to(next(trunk.parameters()).device)


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What pre-training did to the tower, and how its loss went."""

    change: Change
    curve: Curve


def adapt_eye(
    trunk: Trunk,
    inputs: Inputs,
    recipe: Recipe,
    masking: Masking | None = None,
    how: How | None = None,
    *,
    checkpoint: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Adapted:
    """Pre-trains a trunk, in place, on pictures without labels.

    Args:
        trunk: of a transformer tower.
        inputs: its pictures, which the development pool may hold and the test set may not.
        recipe: learning rate, steps, seed.
        masking: a share of 0.75 and a small decoder where it is not given.
        how: what of the trunk moves; all of it where it is not given.
        checkpoint: a file to go on from; the pictures' hashes are the caller's to put into its name.
        report: is told steps done and in all.

    Raises:
        Unsupported: a convolutional trunk.
        As ``train``.
    """
    masking = masking or Masking()
    net = masked_net(trunk, masking, recipe.seed)  # refuses before anything is opened
    one = opened(trunk, how or How("full"))
    trunk.stages[-1].requires_grad_(False)  # nothing flows to the readout
    device = next(trunk.parameters()).device

    def loss(rows: NDArray[np.int64], step: int) -> Tensor:
        return masked_loss(net, inputs.at(rows, step).to(device), masking.share)

    rates = {f"trunk.{name}": rate for name, rate in one.rates.items()}
    course = Course(net, loss, len(inputs), rates=rates, about=f"masked {masking} {one.how} {len(inputs)}")
    curve = train(course, recipe, checkpoint, report)
    return Adapted(one.change(), curve)
