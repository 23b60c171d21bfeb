"""Attention of a tower, head by head, where its numbers are bfloat16 on a processor.

All heads at once make scores that no cache holds; those of one head are 2 MB for 1,024 patches, and stay there. What it
brings is in the first token of ``python -m benchmarks chat --models smolvlm-256m``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

_NAME: Final = "anmok_heads"
_Shares: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor | None]]
_SAFE: Final = 60.0  # exp(60) times a million, times values of a million, is in the range of bfloat16; exp(-60) too
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
        shares = _shares(q[own], k[own], -2)
        for i in range(heads):
            _one_head(q[own][i], k[own][i], v[own][i], shares, made[b, :, i])
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
    shares = _shares(query, key, -1)
    for i in range(heads):
        _one_head(query[:, i], key[:, i].T, value[:, i], shares, made[:, i])
    return made.view(count, heads * width)


def _one_head(query: Tensor, key: Tensor, value: Tensor, shares: _Shares, into: Tensor) -> None:
    """Scaled queries (T, D), keys (D, S) and values (S, E): what becomes of them goes into (T, E)."""
    rows = max(1, _AT_ONCE // key.shape[1])
    for start in range(0, len(query), rows):
        part = slice(start, start + rows)
        weights, total = shares(query[part] @ key)  # (n, S), (n, 1)
        into[part] = weights @ value if total is None else (weights @ value).div_(total)


def _shares(query: Tensor, key: Tensor, axis: int) -> _Shares:
    """How scores (n, S) become weights (n, S), and the sums (n, 1) that they still have to be divided by, if any.

    Where no product of queries and keys, each along its own axis, can be so large that its exponential leaves the range
    of bfloat16, the greatest score of a row does not have to be found and taken off first.
    """
    longest = [
        torch.linalg.vector_norm(one, dim=dim, dtype=torch.float32).amax() for one, dim in ((query, -1), (key, axis))
    ]
    return _raised if float(longest[0] * longest[1]) < _SAFE else _softmax


def _raised(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    scores.exp_()
    return scores, scores.sum(-1, keepdim=True)


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    return scores.softmax(-1), None


def _attended(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' way to ask for attention."""
    sees_all = attention_mask is None and not rest.get("is_causal", getattr(module, "is_causal", True))
    is_plain = sees_all and key.shape[:2] == query.shape[:2] and not rest.get("dropout")
    if not is_plain or query.shape[2] < _FEWEST or query.device.type != "cpu":
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    scaling = rest.get("scaling")
    made = by_heads(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return made.to(query.dtype), None
