"""Locked-image tuning: pictures stay where a frozen tower puts them, and texts learn to go there.

Source: Zhai et al., "LiT: Zero-Shot Transfer with Locked-image Text Tuning" (CVPR 2022, arXiv:2111.07991), with the
sigmoid loss of Zhai et al. (ICCV 2023, arXiv:2303.15343). The features of the pictures are computed once and never
change, so minutes suffice. Here what is trained is a map on the vectors of a frozen sentence encoder: linear, begun at
the ridge regression from texts to pictures, and with ``hidden`` a second layer beside it that begins at zero. To train
a text tower itself, give ``Matching`` of ``train.losses`` its output and these features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anmok.errors import BadData, BadRequest
from anmok.train.losses import Matching
from anmok.train.recipe import Recipe
from anmok.train.trainer import Course, Curve, train

Array = NDArray[np.floating]
Report = Callable[[int, int], None]

_FEWEST = 10  # pairs that can judge


@dataclass(frozen=True, slots=True)
class Locking:
    """``hidden``: width of the second layer, 0 for a linear map. ``ridge``: the penalty of the map that it begins at,
    as a share of the texts' mean square. ``judging``: share of the pairs that is not learned from; the map that fits
    these best is kept. It is 0 for fewer than ``_FEWEST`` of them."""

    recipe: Recipe = field(default_factory=lambda: Recipe(steps=500, rate=1e-3, batch=1024, weight_decay=1e-4))
    hidden: int = 0
    ridge: float = 0.1
    judging: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden < 0 or not 0 < self.ridge < np.inf or not 0 <= self.judging < 1:
            raise BadRequest(f"locking: hidden from 0, a positive ridge and judging below 1: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Locked:
    """A trained map from text vectors into the space of the pictures, float32."""

    weight: NDArray[np.float32]  # (T, F)
    bias: NDArray[np.float32]  # (F,)
    inner: NDArray[np.float32]  # (T, H), H = 0 for a linear map
    inner_bias: NDArray[np.float32]  # (H,)
    outer: NDArray[np.float32]  # (H, F)
    scale: float  # of the cosines, with ``offset`` the logit that a text belongs to a picture
    offset: float
    curve: Curve

    def vectors(self, texts: Array) -> NDArray[np.float32]:
        """Text vectors (N, T) to unit rows (N, F), to be compared with unit picture features."""
        rows = _unit(texts, "texts")
        out = rows @ self.weight + self.bias  # (N, F)
        if self.inner.shape[1]:
            with torch.inference_mode():
                out = (
                    out + nn.functional.gelu(torch.from_numpy(rows @ self.inner + self.inner_bias)).numpy() @ self.outer
                )
        return _unit(out, "mapped texts")

    def logits(self, images: Array, texts: Array) -> NDArray[np.float32]:
        """Picture features (N, F) and text vectors (M, T) to (N, M)."""
        return np.asarray(_unit(images, "images") @ self.vectors(texts).T * self.scale + self.offset, np.float32)


def locked(
    images: Array,
    texts: Array,
    locking: Locking | None = None,
    groups: NDArray[np.integer] | None = None,
    report: Report | None = None,
) -> Locked:
    """Learns the map from pairs; the same inputs and seed give the same map.

    Args:
        images: cached picture features (N, F), of any length.
        texts: vectors of their captions (N, T), of any length. Rows that are equal are positives of each other.
        locking: how.
        groups: int (N,): pairs of one number are positives of each other; overrules the equality of texts.
        report: is told steps done and in all.

    Raises:
        BadData: rows that do not pair up, fewer than two, or values that are no numbers or zero.
        BadRequest: groups of another shape.
    """
    locking = locking or Locking()
    seen, read = _unit(images, "images"), _unit(texts, "texts")
    if len(seen) != len(read) or len(seen) < 2:
        raise BadData(f"{len(seen)} images and {len(read)} texts: pairs are needed, two at least")
    if groups is not None and groups.shape != (len(seen),):
        raise BadRequest(f"groups {groups.shape} must be ({len(seen)},)")
    numbers = np.unique(read, axis=0, return_inverse=True)[1].reshape(-1) if groups is None else groups
    recipe = locking.recipe
    order = np.random.default_rng(recipe.seed).permutation(len(seen))
    count = round(locking.judging * len(seen))
    judging, learning = np.split(order, [count if count >= _FEWEST else 0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = _Map(seen[learning], read[learning], locking)
        rows, places, alike = torch.from_numpy(seen), torch.from_numpy(read), torch.from_numpy(numbers.astype(np.int64))

        def loss(picked: NDArray[np.int64], step: int) -> Tensor:
            # a batch at the end of one pass and the beginning of the next may hold a pair twice
            return net.loss(rows, places, alike, learning[np.unique(picked)])

        def judge() -> float:
            return float(net.loss(rows, places, alike, judging))

        course = Course(net, loss, len(learning), judge if len(judging) else None)
        curve = train(course, recipe, report=report)
    return net.locked(curve)


class _Map(nn.Module):
    def __init__(self, images: NDArray[np.float32], texts: NDArray[np.float32], locking: Locking) -> None:
        super().__init__()
        weight, bias = ridge(texts, images, locking.ridge)
        self.linear = nn.Linear(*weight.shape)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(weight.T.copy()))  # (F, T)
            self.linear.bias.copy_(torch.from_numpy(bias))
        self.inner = nn.Linear(weight.shape[0], locking.hidden) if locking.hidden else None
        self.outer = nn.Linear(locking.hidden, weight.shape[1], bias=False) if locking.hidden else None
        if self.outer is not None:
            nn.init.zeros_(self.outer.weight)  # the second layer begins as nothing
        self.matching = Matching("sigmoid")

    def forward(self, texts: Tensor) -> Tensor:
        """(N, T) to (N, F), not normalised."""
        out: Tensor = self.linear(texts)
        if self.inner is None or self.outer is None:
            return out
        beside: Tensor = self.outer(nn.functional.gelu(self.inner(texts)))
        return out + beside  # (N, F)

    def loss(self, images: Tensor, texts: Tensor, groups: Tensor, picked: NDArray[np.int64]) -> Tensor:
        """The sigmoid loss () of some of the pairs."""
        rows = torch.from_numpy(picked)
        loss: Tensor = self.matching(images[rows], self(texts[rows]), groups[rows])
        return loss

    def locked(self, curve: Curve) -> Locked:
        wide, narrow = self.linear.weight.shape
        return Locked(
            weight=_numbers(self.linear.weight.T),
            bias=_numbers(self.linear.bias),
            inner=_numbers(self.inner.weight.T) if self.inner else np.zeros((narrow, 0), np.float32),
            inner_bias=_numbers(self.inner.bias) if self.inner else np.zeros(0, np.float32),
            outer=_numbers(self.outer.weight.T) if self.outer else np.zeros((0, wide), np.float32),
            scale=float(self.matching.scale.detach()),
            offset=0.0 if self.matching.bias is None else float(self.matching.bias.detach()),
            curve=curve,
        )


def ridge(texts: Array, images: Array, penalty: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The map (T, F) and its constant (F,) that take texts (N, T) closest to images (N, F)."""
    middle, target = texts.mean(0, dtype=np.float64), images.mean(0, dtype=np.float64)
    x, y = texts - middle, images - target
    square = x.T @ x  # (T, T)
    amount = penalty * float(np.trace(square)) / len(square) + float(np.finfo(np.float32).tiny)
    weight = np.linalg.solve(square + amount * np.eye(len(square)), x.T @ y)  # (T, F)
    return weight.astype(np.float32), np.asarray(target - middle @ weight, np.float32)


def _numbers(tensor: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.detach().float().contiguous().cpu().numpy()
    return found


def _unit(rows: Array, name: str) -> NDArray[np.float32]:
    """(N, D) brought to length one.

    Raises:
        BadData: another shape, or a row that has no direction.
    """
    wide = np.asarray(rows, np.float64)
    if wide.ndim != 2 or 0 in wide.shape:
        raise BadData(f"{name} have the shape {wide.shape}; rows (N, D) are needed")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)  # (N, 1)
    wrong = np.flatnonzero(~((lengths > 0) & np.isfinite(lengths)))
    if len(wrong):
        raise BadData(f"{name}: row {wrong[0]} is zero or not a number ({len(wrong)} such); leave it out")
    return np.asarray(wide / lengths, np.float32)
