"""Text towers from token embeddings instead of token ids, so that some of them can be learned.

transformers' towers of CLIP and SigLIP take ids only. Their own layers run here, in the order of their ``forward``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def clip_rows(tower: Any, vectors: Tensor, is_token: Tensor) -> Tensor:
    """A CLIP text tower on embeddings (N, T, W), places not yet added, with ``is_token`` (N, T) true up to the end of
    each text: the state at that end (N, W), after the last layer norm."""
    x = tower.embeddings(inputs_embeds=vectors)  # (N, T, W), with places
    length = x.shape[1]
    later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)  # (T, T)
    # Added to the scores, which every implementation of the attention takes alike.
    mask = torch.zeros(length, length, dtype=x.dtype, device=x.device).masked_fill(later, torch.finfo(x.dtype).min)
    states = tower.encoder(inputs_embeds=x, attention_mask=mask[None, None]).last_hidden_state  # (N, T, W)
    ends = is_token.sum(1) - 1  # (N,)
    rows: Tensor = tower.final_layer_norm(states[torch.arange(len(x), device=x.device), ends])  # (N, W)
    return rows


def siglip_rows(tower: Any, vectors: Tensor) -> Tensor:
    """A SigLIP text tower on embeddings (N, T, W) of the whole context, padding included, which it sees: (N, D)."""
    x = tower.embeddings(inputs_embeds=vectors)  # (N, T, W), with places
    states = tower.encoder(inputs_embeds=x, attention_mask=None).last_hidden_state  # (N, T, W)
    rows: Tensor = tower.head(tower.final_layer_norm(states)[:, -1])  # (N, D)
    return rows
