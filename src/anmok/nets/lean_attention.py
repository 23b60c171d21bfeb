"""Attention of a tower's rows by bfloat16 on a processor: head by head. That of a prompt is in ``lean_blocks``.

All heads at once make scores that no cache holds; those of one head are 2 MB for 1,024 patches, and stay there. And
their exponentials are taken as they are, without the greatest of a row taken off first; only where the sums show that
these left the range of bfloat16, it is done again by softmax. What both bring is in the first token of ``python -m
benchmarks chat``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

_NAME: Final = "anmok_heads"
# Of scores (..., S), which are used up, weights; the sums that these have yet to be divided by go into (...).
_Shares: TypeAlias = Callable[[Tensor, Tensor], Tensor]
_SAFE: Final = (1e-30, 1e30)  # such sums lost nothing that counts, and times values of ten million are in range
_AT_ONCE: Final = 2**20  # scores that are made together
_FEWEST: Final = 128  # rows from which on it is worth it


def attend_by_heads(tower: nn.Module) -> bool:
    """Makes a transformers tower attend so, if it attends by ``scaled_dot_product_attention``; whether it does."""
    config: Any = getattr(tower, "config", None)
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return False
    from transformers import AttentionInterface, AttentionMaskInterface  # there already, where such a tower is
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attended)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    config._attn_implementation = _NAME
    return True


def by_heads(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """(B, H, T, D), (B, H, S, D) and (B, H, S, E) to bfloat16 (B, T, H, E): every row sees every other."""
    batch, heads, count, width = query.shape
    q = (query * scaling).to(torch.bfloat16).reshape(-1, count, width)  # (B * H, T, D)
    k = key.to(torch.bfloat16).reshape(batch * heads, -1, width).transpose(1, 2)  # (B * H, D, S)
    v = value.to(torch.bfloat16).reshape(batch * heads, -1, value.shape[-1])  # (B * H, S, E)
    made = torch.empty(batch, count, heads, v.shape[-1], dtype=torch.bfloat16)
    for b in range(batch):  # each by itself, so that a picture does not depend on the others
        own = slice(b * heads, (b + 1) * heads)
        _head_by_head(q[own], k[own], v[own], made[b])
    return made


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """bfloat16 (T, H, D) each, the queries scaled, to (T, H * D): every row sees every other, or those that a mask (1,
    T, T) lets it."""
    count, heads, width = query.shape
    if mask is not None or count < _FEWEST:
        q, k, v = (one.transpose(0, 1)[None] for one in (query, key, value))  # (1, H, T, D)
        seen = functional.scaled_dot_product_attention(q, k, v, mask, scale=1.0)  # (1, H, T, D)
        return seen[0].transpose(0, 1).reshape(count, heads * width)
    made = torch.empty_like(query, memory_format=torch.contiguous_format)
    _head_by_head(query.transpose(0, 1), key.permute(1, 2, 0), value.transpose(0, 1), made)
    return made.view(count, heads * width)


def is_safe(totals: Tensor) -> bool:
    """Whether exponentials with such sums left nothing out that counts, and none is out of range."""
    least, most = totals.aminmax()
    return _SAFE[0] < float(least) <= float(most) < _SAFE[1]  # which is not so of what is not a number


def _raised(scores: Tensor, totals: Tensor) -> Tensor:
    """What overflows where scores are loud."""
    torch.sum(scores.exp_(), -1, out=totals)
    return scores


def _softmaxed(scores: Tensor, totals: Tensor) -> Tensor:
    """The same whatever the scores."""
    totals.fill_(1)
    return scores.softmax(-1)


def _head_by_head(queries: Tensor, keys: Tensor, values: Tensor, into: Tensor) -> None:
    """Scaled queries (H, T, D), keys (H, D, S) and values (H, S, E): what becomes of them goes into (T, H, E)."""
    totals = queries.new_empty(queries.shape[:2])  # (H, T)
    for shares in (_raised, _softmaxed):
        for one in zip(queries, keys, values, totals, into.unbind(1), strict=True):
            _one_head(*one, shares)
        if is_safe(totals):
            break


def _one_head(query: Tensor, key: Tensor, value: Tensor, totals: Tensor, into: Tensor, shares: _Shares) -> None:
    """(T, D), (D, S) and (S, E) into (T, E), and the sums that were divided by into (T,)."""
    rows = max(1, _AT_ONCE // key.shape[1])
    for some, total, made in zip(*(torch.split(one, rows) for one in (query, totals, into)), strict=True):
        weights = shares(some @ key, total)  # (n, S)
        torch.div(weights @ value, total[:, None], out=made)  # (n, E)


def _attended(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' way to ask for attention."""
    sees_all = attention_mask is None and not rest.get("is_causal", getattr(module, "is_causal", True))
    is_used = not (torch.is_grad_enabled() and query.requires_grad)  # and not trained
    is_plain = is_used and sees_all and key.shape[:2] == query.shape[:2] and not rest.get("dropout")
    if not is_plain or query.shape[2] < _FEWEST or query.device.type != "cpu":
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    scaling = rest.get("scaling")
    made = by_heads(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return made.to(query.dtype), None
