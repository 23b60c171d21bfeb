"""BERT as a sentence encoder: token states and their unit-length mean.

Architecture: J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding" (NAACL 2019, arXiv:1810.04805); the pooling of N. Reimers and I. Gurevych, "Sentence-BERT"
(EMNLP 2019, arXiv:1908.10084). Modules carry the names of the published checkpoints. Inference only: the
dropout of the original is left out, and so is its pooler, which sentence encoders do not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest


@dataclass(frozen=True)
class Config:
    """``vocabulary`` and ``positions`` are table lengths in tokens, ``segments`` the number of token types;
    ``width`` is D, ``hidden`` the width inside the MLP, ``epsilon`` that of every layer norm."""

    vocabulary: int
    positions: int
    segments: int
    width: int
    hidden: int
    depth: int
    heads: int
    epsilon: float


MINILM_L6 = Config(
    vocabulary=30522, positions=512, segments=2, width=384, hidden=1536, depth=6, heads=12, epsilon=1e-12
)
TINY = Config(vocabulary=64, positions=16, segments=2, width=32, hidden=64, depth=2, heads=4, epsilon=1e-12)


class Embeddings(nn.Module):
    """Word, place and segment of each token, summed and normalised."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.segments, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, words: Tensor) -> Tensor:
        """Rows of the word table (B, T, D), or what stands in their place."""
        places = self.position_embeddings.weight[: words.shape[1]]  # (T, D)
        # A single text is all of segment 0.
        x: Tensor = self.LayerNorm(words + places + self.token_type_embeddings.weight[0])  # (B, T, D)
        return x


class SelfAttention(nn.Module):
    """Every token looks at every token that is not padding."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, is_token: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D/heads)
            for project in (self.query, self.key, self.value)
        )
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=is_token)  # (B, heads, T, D/heads)
        return x.transpose(1, 2).flatten(2)  # (B, T, D)


class Joined(nn.Module):
    """A linear layer, added to the stream and normalised after the sum."""

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, x: Tensor, stream: Tensor) -> Tensor:
        y: Tensor = self.LayerNorm(self.dense(x) + stream)  # (B, T, D)
        return y


class Layer(nn.Module):
    """Attention, then the MLP, each joined to the stream."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": Joined(config, config.width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.hidden)})
        self.output = Joined(config, config.hidden)

    def forward(self, x: Tensor, is_token: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, is_token), x)  # (B, T, D)
        wide = functional.gelu(self.intermediate["dense"](x))  # (B, T, hidden), GELU through erf
        y: Tensor = self.output(wide, x)  # (B, T, D)
        return y


class Bert(nn.Module):
    """Token ids -> token states."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.depth))})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``input_ids`` int64 (B, T) and ``attention_mask`` (B, T), nonzero at tokens and 0 at padding ->
        states float (B, T, D). The states of padding mean nothing. Every text has at least one token.

        Raises ``BadRequest`` for a text longer than the table of positions.
        """
        return self.read(self.words(input_ids), attention_mask)

    def words(self, input_ids: Tensor) -> Tensor:
        """Token ids int64 (B, T) to their rows of the word table (B, T, D)."""
        rows: Tensor = self.embeddings.word_embeddings(input_ids)  # (B, T, D)
        return rows

    def read(self, words: Tensor, attention_mask: Tensor) -> Tensor:
        """As ``forward``, from what ``words`` gives."""
        if words.shape[1] > self.config.positions:
            raise BadRequest(
                f"a text of {words.shape[1]} tokens, where this encoder reads at most "
                f"{self.config.positions}: truncate it"
            )
        is_token = attention_mask.bool()[:, None, None, :]  # (B, 1, 1, T)
        x: Tensor = self.embeddings(words)  # (B, T, D)
        for layer in self.encoder["layer"].children():
            x = layer(x, is_token)  # (B, T, D)
        return x


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """States (B, T, D) and mask (B, T), nonzero at tokens -> (B, D): the mean over tokens, at unit length."""
    is_token = attention_mask.bool().unsqueeze(-1)  # (B, T, 1)
    # The sum points where the mean does, and only the direction is left after normalising.
    return functional.normalize(torch.where(is_token, states, 0.0).sum(1), dim=-1)  # (B, D)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict without the two things that this net has no place for: the pooler, and the
    counting numbers that old checkpoints store as ``position_ids``."""
    unread = ("pooler.", "embeddings.position_ids")
    return {name: tensor for name, tensor in state.items() if not name.startswith(unread)}
