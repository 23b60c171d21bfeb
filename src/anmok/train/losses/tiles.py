"""All pairs of N images and N texts, a square of them at a time: losses and their gradients in memory O(N d).

No N x N matrix is ever kept. Both gradients have closed forms, so autograd has nothing to store per pair:

- the sigmoid loss is a sum over pairs, so a square's share of the gradients is added up while its logits are there;
- the softmax loss needs the normaliser of a whole row or column before any gradient, so the forward pass gathers
  these alone (two vectors) and the backward pass computes the logits once more.

What is computed here has one dtype, float32 or float64; the callers bring halves up to it, so that products of bf16
are summed in fp32. The gradient of the scale comes from the inner product of images and their own gradient, which
costs N d where the sum over pairs costs N^2.

Idea of tiling a contrastive loss: Cheng et al., "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for
Contrastive Loss" (2024, arXiv:2410.17243). This is our own, in plain torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_SOFT = 40.0  # beyond it softplus(x) is x, also in float64 but for 1e-17


@dataclass(frozen=True, slots=True, eq=False)
class Positives:
    """Which texts belong to which images.

    With ``groups``, int64 (n,) of the images and (m,) of the texts, those of one number do. Without them text
    ``first + i`` is image i's; ``first=None`` says that there are no positives among these at all.
    """

    first: int | None = 0
    groups: tuple[Tensor, Tensor] | None = None

    def within(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        """bool (rows, columns), or None where no pair can be positive."""
        if self.groups is not None:
            images, texts = self.groups
            return images[rows, None] == texts[None, columns]  # (rows, columns)
        if self.first is None:
            return None
        low, high = rows.start + self.first, rows.stop + self.first  # their texts
        if high <= columns.start or low >= columns.stop:
            return None
        wanted = torch.arange(low, high, device=device)
        return wanted[:, None] == torch.arange(columns.start, columns.stop, device=device)  # (rows, columns)


def squares(count: int, other: int, chunk: int) -> Iterator[tuple[slice, slice]]:
    """Row by row, as slices of at most ``chunk``."""
    for row in range(0, count, chunk):
        for column in range(0, other, chunk):
            yield slice(row, min(row + chunk, count)), slice(column, min(column + chunk, other))


@dataclass(slots=True, eq=False)
class Sums:
    """What the sigmoid loss adds up over pairs; the gradients are those of the sum by logits, not yet scaled."""

    loss: Tensor  # ()
    bias: Tensor  # ()
    images: Tensor | None  # (n, d)
    texts: Tensor | None  # (m, d)

    @classmethod
    def zero(cls, images: Tensor, texts: Tensor, *, has_gradients: bool) -> Sums:
        seen, read = (torch.zeros_like(one) if has_gradients else None for one in (images, texts))
        return cls(images.new_zeros(()), images.new_zeros(()), seen, read)


def add_sigmoid(
    sums: Sums,
    pair: tuple[Tensor, Tensor],
    scale: Tensor,
    bias: Tensor,
    positives: Positives,
    chunk: int,
) -> None:
    """Adds the pairs of images (n, d) and texts (m, d) to ``sums``, in place."""
    images, texts = pair
    for rows, columns in squares(len(images), len(texts), chunk):
        logits = ((images[rows] * scale) @ texts[columns].T).add_(bias)  # (rows, columns)
        mine = positives.within(rows, columns, images.device)
        if mine is not None:  # a positive pair costs what a negative one of the opposite logit does
            logits = torch.where(mine, -logits, logits)
        sums.loss += functional.softplus(logits, threshold=_SOFT).sum()
        if sums.images is None or sums.texts is None:
            continue
        slope = logits.sigmoid_()
        if mine is not None:
            slope = torch.where(mine, -slope, slope)
        sums.bias += slope.sum()
        sums.images[rows].addmm_(slope, texts[columns])
        sums.texts[columns].addmm_(slope.T, images[rows])


class SigmoidSum(torch.autograd.Function):
    """The sum of the sigmoid loss over all pairs, ()."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, positives: Positives, settings: Settings
    ) -> Tensor:
        sums = Sums.zero(images, texts, has_gradients=settings.has_gradients)
        with exact(images):
            add_sigmoid(sums, (images, texts), scale, bias, positives, settings.chunk)
        if sums.images is not None:
            ctx.save_for_backward(images, sums.images, sums.texts, scale, sums.bias)
        return sums.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        return *sigmoid_gradients(given, *ctx.saved_tensors), None, None


def sigmoid_gradients(
    given: Tensor, images: Tensor, by_images: Tensor, by_texts: Tensor, scale: Tensor, by_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By images (n, d), texts (m, d), scale () and bias (), from the sums and the gradient () of their sum."""
    factor = given * scale
    return by_images * factor, by_texts * factor, (images * by_images).sum() * given, by_bias * given


class SoftmaxSums(torch.autograd.Function):
    """What the softmax loss is made of: three vectors, in double precision where the device has it.

    ``rows`` (n,) and ``columns`` (m,) are the logarithms of the sums of exponentials of the logits over texts and
    over images; ``matched`` (n,) is the sum of each image's positive logits. A difference of a normaliser and a
    logit of 100 each is a loss of 1e-6 in a net that has learned: hence the precision, and hence the logits of the
    positives come from the same products as the normalisers.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, positives: Positives, settings: Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        fine = torch.float64 if images.device.type != "mps" else images.dtype
        rows = images.new_full((len(images),), -torch.inf, dtype=fine)
        columns = images.new_full((len(texts),), -torch.inf, dtype=fine)
        matched = torch.zeros_like(rows)
        with exact(images):
            for row, column in squares(len(images), len(texts), settings.chunk):
                logits = (images[row] * scale) @ texts[column].T  # (row, column)
                mine = positives.within(row, column, images.device)
                if mine is not None:
                    matched[row] += torch.where(mine, logits, 0).sum(1)
                rows[row] = torch.logaddexp(rows[row], _normaliser(logits, 1, fine))
                columns[column] = torch.logaddexp(columns[column], _normaliser(logits, 0, fine))
        ctx.save_for_backward(images, texts, scale, rows.to(images.dtype), columns.to(images.dtype))
        ctx.positives, ctx.chunk = positives, settings.chunk
        return rows, columns, matched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_row: Tensor, by_column: Tensor, by_match: Tensor) -> tuple[Tensor | None, ...]:
        images, texts, scale, rows, columns = ctx.saved_tensors
        given = by_row.to(images.dtype), by_column.to(images.dtype), by_match.to(images.dtype)
        by_images, by_texts = torch.zeros_like(images), torch.zeros_like(texts)
        with exact(images):
            for row, column in squares(len(images), len(texts), ctx.chunk):
                logits = (images[row] * scale) @ texts[column].T  # (row, column)
                slope = (logits - rows[row, None]).exp_().mul_(given[0][row, None])
                slope += logits.sub_(columns[column]).exp_().mul_(given[1][column])
                mine = ctx.positives.within(row, column, images.device)
                if mine is not None:
                    slope += torch.where(mine, given[2][row, None], 0)
                by_images[row].addmm_(slope, texts[column])
                by_texts[column].addmm_(slope.T, images[row])
        return by_images * scale, by_texts * scale, (images * by_images).sum(), None, None


@dataclass(frozen=True, slots=True)
class Settings:
    """The side of a square, and whether gradients will be asked for."""

    chunk: int
    has_gradients: bool = True


def exact(tensor: Tensor) -> torch.autocast:
    """Autocast off: it would round the logits to eight bits."""
    return torch.autocast(tensor.device.type, enabled=False)


def _normaliser(logits: Tensor, dimension: int, fine: torch.dtype) -> Tensor:
    """The log of the sum of exponentials, over one of two dimensions of (r, c): the largest one apart from the rest."""
    top = logits.amax(dimension, keepdim=True)
    rest = (logits - top).exp_().sum(dimension)  # at least 1
    return top.squeeze(dimension).to(fine) + rest.to(fine).log()
