"""The same two losses where every process holds a part of the batch, over ``torch.distributed``.

A process answers for its own images against all texts. Each returns the mean over its own pairs, so that the mean
over processes is the loss of the whole batch; gradients of what a process gave to the others come back to it summed.
Averaged over processes, as ``DistributedDataParallel`` does, all gradients are those of the whole batch.

The softmax needs all texts (N d) in each process; its column sums are joined from the processes' parts, so that no
image travels. The sigmoid needs one process's texts at a time: they go round a ring, their gradient with them, and
after a full turn both are home. Source of the ring: Zhai et al. (ICCV 2023, arXiv:2303.15343), section 3.3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from anmok.errors import BadRequest
from anmok.train.losses.contrastive import checked, counts, needs_gradients
from anmok.train.losses.pairs import Chunk, Positives, Settings, Sums
from anmok.train.losses.tiles import SoftmaxSums, add_sigmoid, exact, sigmoid_gradients, suited


def clip_loss_across(
    images: Tensor, texts: Tensor, scale: Tensor | float, groups: Tensor | None = None, chunk: Chunk = "auto"
) -> Tensor:
    """``clip_loss`` of a batch that lies in all processes of the default group, this one's part of the mean, ().

    Arguments as for ``clip_loss``, this process's n pairs; all must have the same n. Without a process group it is
    ``clip_loss``.

    Raises:
        BadRequest: shapes that do not belong together, or parts of different sizes.
    """
    given = images, texts
    images, texts, factor, _ = checked(images, texts, scale, 0.0, groups, chunk)
    if not _is_shared():
        everything, own = texts, 0
    else:
        _same_size(images)
        everything, own = _Gathered.apply(texts), distributed.get_rank() * len(texts)  # type: ignore[no-untyped-call]
    numbers = None if groups is None else _gathered(groups)  # (N,)
    positives = Positives(own) if groups is None or numbers is None else Positives(groups=(groups, numbers))
    rows, part, matched = SoftmaxSums.apply(images, everything, factor, positives, suited(*given, chunk))  # type: ignore[no-untyped-call]
    parts = _Gathered.apply(part[None]) if _is_shared() else part[None]  # type: ignore[no-untyped-call]  # (W, N)
    columns = parts.logsumexp(0)[own : own + len(texts)]  # (n,)
    share = 1.0 if groups is None or numbers is None else 1 / counts(groups, numbers).to(matched.dtype)
    loss: Tensor = ((rows + columns) / 2 - matched * share).mean()
    return loss.to(images.dtype)


def siglip_loss_across(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    groups: Tensor | None = None,
    chunk: Chunk = "auto",
) -> Tensor:
    """``siglip_loss`` of a batch that lies in all processes of the default group, this one's part of the mean, ().

    Arguments as for ``siglip_loss``, this process's n pairs; all must have the same n, and all must call ``backward``
    with the same factor on the loss: gradients are summed on the way round, before it is known.

    Raises:
        BadRequest: shapes that do not belong together, or parts of different sizes.
    """
    given = images, texts
    images, texts, factor, offset = checked(images, texts, scale, bias, groups, chunk)
    if _is_shared():
        _same_size(images)
    way = suited(*given, chunk, has_gradients=needs_gradients(images, texts, factor, offset))
    total: Tensor = _Ring.apply(images, texts, factor, offset, groups, way)  # type: ignore[no-untyped-call]
    loss: Tensor = total / len(images)
    return loss


class _Gathered(torch.autograd.Function):
    """Rows (n, ...) of every process, in order: (W n, ...). Back come the gradients that all of them give to ours."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        return _gathered(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> Tensor:
        whole = given.contiguous().clone()
        distributed.all_reduce(whole)
        start = distributed.get_rank() * ctx.count
        return whole[start : start + ctx.count]


class _Ring(torch.autograd.Function):
    """The sum of the sigmoid loss over this process's images and everyone's texts, ()."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, groups: Tensor | None, settings: Settings
    ) -> Tensor:
        sums = Sums.zero(images, texts, has_gradients=settings.has_gradients)
        turns = distributed.get_world_size() if _is_shared() else 1
        read, numbers = texts, groups
        with exact(images):
            for turn in range(turns):
                positives = Positives(0 if turn == 0 else None)  # texts of others are no one's here
                if groups is not None and numbers is not None:
                    positives = Positives(groups=(groups, numbers))
                add_sigmoid(sums, (images, read), (scale, bias), positives, settings)
                if turns > 1:
                    read, numbers, sums.texts = _passed_on(read, numbers, sums.texts)
        if sums.images is not None:
            ctx.save_for_backward(sums.images, sums.texts, scale, sums.by_scale(images), sums.bias)
        return sums.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        return *sigmoid_gradients(given, *ctx.saved_tensors), None, None


def _passed_on(
    texts: Tensor, numbers: Tensor | None, gradient: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Each to the next process, and what the one before had."""
    rank, count = distributed.get_rank(), distributed.get_world_size()
    sent = [one.contiguous() if one is not None else None for one in (texts, numbers, gradient)]
    received = [torch.empty_like(one) if one is not None else None for one in sent]
    work = []
    for out, into in zip(sent, received, strict=True):
        if out is not None and into is not None:
            work.append(distributed.P2POp(distributed.isend, out, (rank + 1) % count))
            work.append(distributed.P2POp(distributed.irecv, into, (rank - 1) % count))
    for request in distributed.batch_isend_irecv(work):
        request.wait()
    assert received[0] is not None
    return received[0], received[1], received[2]


def _gathered(rows: Tensor) -> Tensor:
    """(n, ...) of every process, in order: (W n, ...)."""
    if not _is_shared():
        return rows
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _same_size(rows: Tensor) -> None:
    """Raises ``BadRequest`` in every process where one of them has another number of rows: they would wait forever."""
    sizes = _gathered(torch.tensor([len(rows)], device=rows.device)).tolist()
    if len(set(sizes)) > 1:
        raise BadRequest(f"processes hold {sizes} pairs: all must hold the same number (drop the last, smaller batch)")
