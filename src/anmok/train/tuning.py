"""Tuning a picture tower and its linear head together, and going back as far as that is better.

First the head alone, fitted by whoever calls; then both (Kumar et al., "Fine-Tuning can Distort Pretrained Features",
ICLR 2022). A part of the pictures is kept from learning: it ends the run when it no longer improves, and then chooses
how far to go from the old weights to the new ones (Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR
2022). That part is the development pool's: no test picture comes near.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from anmok.nets.change import Change
from anmok.nets.trunk import Trunk
from anmok.train.examples import Inputs
from anmok.train.opening import How, opened
from anmok.train.recipe import Recipe
from anmok.train.trainer import Course, Curve, train

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from the old weights to the new
HEAD_RATE = 1.0  # times the tower's: it has been fitted before
_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A linear head on standardised features: ((features - mean) / scale) @ weight.T + bias."""

    weight: Array  # (K, F)
    bias: Array  # (K,)
    mean: Array  # (F,)
    scale: Array  # (F,)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """The development pool: inputs, labels (n,), and which of its rows teach and which judge."""

    inputs: Inputs
    labels: Rows
    teaching: Rows
    judging: Rows
    boundary: int = 0  # the stage that the inputs go into
    smoothing: float = 0.0
    weights: Array | None = None  # (n,): how much each example counts


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """``change`` is as far as ``share`` says; ``weight`` and ``bias`` belong to it."""

    change: Change
    weight: Array
    bias: Array
    share: float
    judged: tuple[float, ...]  # mean loss on the judging pictures, for each of ``SHARES``
    curve: Curve


def tune(
    trunk: Trunk,
    start: Start,
    lesson: Lesson,
    how: How,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Trains the trunk (in place) and the head.

    Raises:
        As ``opened`` and ``train``.
    """
    untouched = copy.deepcopy(trunk)
    one = opened(trunk, how)
    net = Headed(trunk, start, lesson.boundary)
    rates = {"head.": HEAD_RATE, **{f"trunk.{name}": rate for name, rate in one.rates.items()}}

    def loss(rows: Rows, step: int) -> Tensor:
        picked = lesson.teaching[rows]
        return _loss(net(lesson.inputs.at(picked, step)), lesson, picked)

    def judge() -> float:
        return judged_loss(net, lesson.inputs, lesson.labels, lesson.judging)

    course = Course(net, loss, len(lesson.teaching), judge, rates, about=_about(lesson, how))
    curve = train(course, recipe, checkpoint, report)
    weight, bias = net.head.weight.detach().clone(), net.head.bias.detach().clone()
    change, judged = one.change(), []
    for share in SHARES:
        part = copy.deepcopy(untouched)
        change.scaled(share).apply(part)
        there = Headed(part, _between(start, weight, bias, share), lesson.boundary)
        judged.append(judged_loss(there, lesson.inputs, lesson.labels, lesson.judging))
    share = SHARES[int(np.argmin(judged))]
    head = _between(start, weight, bias, share)
    return Tuned(change.scaled(share), head.weight, head.bias, share, tuple(judged), curve)


class Headed(nn.Module):
    """A trunk from stage ``boundary`` on, and a linear head on its standardised features."""

    mean: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk, start: Start, boundary: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.boundary = boundary
        self.head = nn.Linear(start.weight.shape[1], start.weight.shape[0])
        self.register_buffer("mean", torch.from_numpy(start.mean))
        self.register_buffer("scale", torch.from_numpy(start.scale))
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(start.weight))
            self.head.bias.copy_(torch.from_numpy(start.bias).clamp_min(-1e4))  # of a class without a picture

    def rows(self, x: Tensor) -> Tensor:
        """What goes into stage ``boundary`` to standardised features (b, F)."""
        return (self.trunk.after(x, self.boundary) - self.mean) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.rows(x))  # (b, K)
        return logits


def judged_loss(net: nn.Module, inputs: Inputs, labels: Rows, judging: Rows) -> float:
    """The mean cross-entropy on the judging rows, against their labels."""
    total = 0.0
    for first in range(0, len(judging), _AT_ONCE):
        rows = judging[first : first + _AT_ONCE]
        with torch.inference_mode():
            logits = net.eval()(inputs.at(rows, None))  # (b, K)
        wanted = torch.from_numpy(labels[rows])
        total += float(functional.cross_entropy(logits.float(), wanted, reduction="sum"))
    return total / len(judging)


def _loss(logits: Tensor, lesson: Lesson, rows: Rows) -> Tensor:
    wanted = torch.from_numpy(lesson.labels[rows])
    each = functional.cross_entropy(logits.float(), wanted, label_smoothing=lesson.smoothing, reduction="none")  # (b,)
    if lesson.weights is None:
        return each.mean()
    return (each * torch.from_numpy(lesson.weights[rows])).mean()


def _between(start: Start, weight: Tensor, bias: Tensor, share: float) -> Start:
    old_bias = np.maximum(start.bias, -1e4)
    return Start(
        ((1 - share) * start.weight + share * weight.numpy()).astype(np.float32),
        ((1 - share) * old_bias + share * bias.numpy()).astype(np.float32),
        start.mean,
        start.scale,
    )


def _about(lesson: Lesson, how: How) -> str:
    """What two runs must agree on beside the recipe. The pictures' hashes are the caller's to put into the path."""
    rows = (lesson.teaching.tolist(), lesson.judging.tolist(), lesson.labels.tolist())
    return f"{how}{rows}{lesson.smoothing}{lesson.boundary}"
