"""A small net learns to answer as a large one does: on the user's pictures, those without a label among them.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015, arXiv:1503.02531), and for the features
Yang et al., "CLIP-KD" (CVPR 2024, arXiv:2307.12732), where matching them alone was most of the gain.

The teacher answers once per picture, not once per crop that the student sees: a teacher that looks along costs more
than the student's training, on a processor. Beyer et al., "Knowledge distillation: A good teacher is patient and
consistent" (CVPR 2022), found the same crop for both to be better where it can be paid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest
from anmok.nets.change import Change
from anmok.nets.trunk import Trunk
from anmok.train.examples import Inputs
from anmok.train.opening import How, opened
from anmok.train.recipe import Recipe
from anmok.train.trainer import Course, Curve, train
from anmok.train.tuning import HEAD_RATE, Headed, Start, judged_loss

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

UNLABELLED = -1
MANY = 20  # classes above which the teacher's answers are softened more
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Blend:
    """``temperature`` softens the answers of both; ``share`` is the teacher's in the loss, the rest is the label's,
    and a picture without one has the teacher alone; ``features`` weighs the likeness of the features."""

    temperature: float
    share: float = 0.9
    features: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 <= self.share <= 1 and self.features >= 0):
            raise BadRequest(f"distillation: temperature above 0, share in 0 to 1, features from 0: {self}")


def blend_for(classes: int) -> Blend:
    """The usual: temperature 2 for up to 20 classes, 4 beyond."""
    return Blend(2.0 if classes <= MANY else 4.0)


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """What it answered for each picture: logits (n, K) and, where its features are to be met, those (n, F)."""

    logits: Array
    features: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """The pictures of a student: ``labels`` (n,) are -1 where there is none. Rows that teach and rows that judge; those
    that judge have a label each."""

    inputs: Inputs
    teacher: Teacher
    labels: Rows
    teaching: Rows
    judging: Rows
    blend: Blend
    boundary: int = 0  # the stage that the inputs go into


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """``weight`` and ``bias`` belong to the student's standardised features. Without ``is_better`` nothing that was
    learned beat the start, and ``change`` is empty."""

    change: Change
    weight: Array  # (K, F)
    bias: Array  # (K,)
    is_better: bool
    before: float  # mean loss on the judging pictures
    after: float
    curve: Curve


def soft_loss(student: Tensor, teacher: Tensor, labels: Tensor, blend: Blend) -> Tensor:
    """Logits (b, K) of both and labels (b,), -1 for none, to the mean (): (1 - share) CE + share T^2 KL."""
    heat = blend.temperature
    ours, theirs = functional.log_softmax(student / heat, 1), functional.log_softmax(teacher / heat, 1)  # (b, K)
    apart = heat**2 * (theirs.exp() * (theirs - ours)).sum(1)  # (b,)
    is_labelled = labels >= 0
    wrong = functional.cross_entropy(student, labels.clamp_min(0), reduction="none")  # (b,)
    return torch.where(is_labelled, (1 - blend.share) * wrong + blend.share * apart, apart).mean()


def feature_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Rows (b, F) of both to the mean of 1 - cosine, ()."""
    return (1 - functional.cosine_similarity(ours, theirs, dim=1)).mean()


def distil(
    trunk: Trunk,
    start: Start,
    transfer: Transfer,
    how: How,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Distilled:
    """Trains the student's trunk (in place) and head.

    Args:
        trunk: the student's.
        start: the head that it begins with.
        transfer: pictures, and what the teacher answered.
        how: which weights move.
        recipe: how long, how fast.
        checkpoint: a file that the run goes on from.
        report: is told steps done and in all.

    Raises:
        BadRequest: shapes of teacher, labels and head do not fit, or a judging picture has no label.
        As ``opened`` and ``train``.
    """
    _check(start, transfer)
    one = opened(trunk, how)
    net = _Student(trunk, start, transfer, recipe.seed)
    rates = {"head.": HEAD_RATE, "projection.": HEAD_RATE}
    rates |= {f"trunk.{name}": rate for name, rate in one.rates.items()}

    def loss(rows: Rows, step: int) -> Tensor:
        picked = transfer.teaching[rows]
        return _loss(net, transfer, picked, step)

    def judge() -> float:
        return judged_loss(net, transfer.inputs, transfer.labels, transfer.judging)

    before = judge()
    course = Course(net, loss, len(transfer.teaching), judge, rates, about=_about(transfer, how))
    curve = train(course, recipe, checkpoint, report)
    after = min(value for _, value in curve.checks)
    if after >= before:
        return Distilled(Change(), start.weight, start.bias, False, before, before, curve)
    weight, bias = (p.detach().clone().numpy() for p in (net.head.weight, net.head.bias))
    return Distilled(one.change(), weight, bias, True, before, after, curve)


class _Student(Headed):
    """With a map from its features to the teacher's, for learning alone: no one asks the student for these."""

    def __init__(self, trunk: Trunk, start: Start, transfer: Transfer, seed: int) -> None:
        super().__init__(trunk, start, transfer.boundary)
        width = start.weight.shape[1]
        features, weight = transfer.teacher.features, transfer.blend.features
        self.projection: nn.Linear | None = None
        if features is not None and weight > 0:
            self.projection = nn.Linear(width, features.shape[1], bias=False)
            generator = torch.Generator().manual_seed(seed)
            nn.init.normal_(self.projection.weight, std=width**-0.5, generator=generator)


def _loss(net: _Student, transfer: Transfer, rows: Rows, step: int) -> Tensor:
    seen = net.rows(transfer.inputs.at(rows, step))  # (b, F)
    wanted, labels = torch.from_numpy(transfer.teacher.logits[rows]), torch.from_numpy(transfer.labels[rows])
    total = soft_loss(net.head(seen).float(), wanted, labels, transfer.blend)
    if net.projection is not None and transfer.teacher.features is not None:
        theirs = torch.from_numpy(transfer.teacher.features[rows])  # (b, Ft)
        total = total + transfer.blend.features * feature_loss(net.projection(seen).float(), theirs)
    return total


def _check(start: Start, transfer: Transfer) -> None:
    n, classes = len(transfer.labels), len(start.bias)
    features = transfer.teacher.features
    if transfer.teacher.logits.shape != (n, classes) or (features is not None and len(features) != n):
        raise BadRequest(f"distillation: the teacher answered {transfer.teacher.logits.shape}; want ({n}, {classes})")
    if not len(transfer.judging) or (transfer.labels[transfer.judging] < 0).any():
        raise BadRequest("distillation: pictures that judge must have a label, and there must be some")


def _about(transfer: Transfer, how: How) -> str:
    """What two runs must agree on beside the recipe. The pictures' hashes are the caller's to put into the path."""
    digest = hashlib.sha256(np.ascontiguousarray(transfer.teacher.logits).tobytes())
    for rows in (transfer.labels, transfer.teaching, transfer.judging):
        digest.update(np.ascontiguousarray(rows).tobytes())
    if transfer.teacher.features is not None:
        digest.update(np.ascontiguousarray(transfer.teacher.features).tobytes())
    return f"distil {how}{transfer.blend}{transfer.boundary}{digest.hexdigest()}"
