"""A sound as codes of a book that a language model has words for: the speech tokenizer of CosyVoice 2, 25 codes a
second out of 6,561.

Source: Z. Du et al., "CosyVoice 2: Scalable Streaming Speech Synthesis with Large Language Models" (2024,
arXiv:2412.10117), as github.com/xingchensong/S3Tokenizer and NAVER's OmniServe (``encoder/audio/track_b``) run it. A
few layers of a Whisper-like encoder, whose places turn and whose attention remembers its neighbours (FSMN); the last
states fall into one of three steps along each of eight directions (FSQ).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

RATE: Final = 16_000
STEP: Final = 160  # values from one window to the next
BANDS: Final = 128
MOST_SECONDS: Final = 80  # at once
FEWEST: Final = 1600  # values of a piece; a shorter end goes with the piece before
_WINDOW: Final = 400
_STEPS: Final = 3
_INNER: Final = 0.9990000128746033  # so that no direction ever rounds to a step more


@dataclass(frozen=True, slots=True)
class Sizes:
    """As published, where a configuration does not say."""

    width: int = 1280
    depth: int = 6
    heads: int = 20
    directions: int = 8
    kernel: int = 31

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Sizes:
        """Of ``discrete_audio_config`` what sets sizes."""
        return cls(**{key: int(told[key]) for key in cls.__slots__ if key in told})


class Attention(nn.Module):
    """Attention by turned places, with what its values' neighbours leave beside."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.fsmn_block = nn.Conv1d(
            width, width, sizes.kernel, padding=(sizes.kernel - 1) // 2, groups=width, bias=False
        )

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        value = self.value(x)  # (B, T, C)
        beside = self.fsmn_block(value.transpose(1, 2)).transpose(1, 2) + value  # (B, T, C)
        query, key = _turned(self._split(self.query(x)), turns), _turned(self._split(self.key(x)), turns)
        seen = functional.scaled_dot_product_attention(query, key, self._split(value))  # (B, H, T, d)
        y: Tensor = self.out(seen.transpose(1, 2).flatten(2)) + beside  # (B, T, C)
        return y

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, T, d)


class Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.attn = Attention(sizes)
        self.attn_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.attn_ln(x), turns)
        y: Tensor = x + self.mlp(self.mlp_ln(x))
        return y


class Encoder(nn.Module):
    """Four windows become one state."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, sizes.width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(sizes.width, sizes.width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))

    def forward(self, bands: Tensor) -> Tensor:
        """(B, 128, T) to (B, T / 4, C)."""
        x = functional.gelu(self.conv1(bands))  # (B, C, T / 2)
        x = functional.gelu(self.conv2(x)).transpose(1, 2)  # (B, T / 4, C)
        size = self.blocks[0].attn.query.out_features // self.blocks[0].attn.heads  # type: ignore[operator,union-attr]
        turns = _turns(x.shape[1], int(size), x)
        for block in self.blocks:
            x = block(x, turns)
        return x


class SpeechCodes(nn.Module):
    """The tokenizer, under the names of the published checkpoint."""

    stays_exact: Final = True  # rows that are near may have another code

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = Encoder(sizes)
        self.quantizer = nn.ModuleDict(
            {"_codebook": nn.ModuleDict({"project_down": nn.Linear(sizes.width, sizes.directions)})}
        )

    def forward(self, sound: Tensor) -> Tensor:
        """A sound float (N,) of 16,000 values a second to codes int64 (M,), 25 a second; of a long one 80 seconds at a
        time. N is no less than 1,600."""
        return torch.cat([self._codes(piece) for piece in pieces(sound)])

    def _codes(self, piece: Tensor) -> Tensor:
        down: Any = self.quantizer["_codebook"]["project_down"]  # type: ignore[index]
        states = self.encoder(log_mel(piece)[None].to(down.weight.dtype))[0]  # (M, C)
        steps = (down(states).float().tanh() * _INNER).round().long() + 1  # (M, d), of 0, 1 and 2
        places = _STEPS ** torch.arange(steps.shape[1], device=steps.device)  # (d,)
        codes: Tensor = (steps * places).sum(1)  # (M,)
        return codes


def pieces(sound: Tensor) -> list[Tensor]:
    """A sound (N,) in pieces of 80 seconds, the last of which may be shorter, or a tenth of a second longer."""
    most = MOST_SECONDS * RATE
    ends = [end for end in range(most, len(sound), most) if len(sound) - end >= FEWEST]
    return list(sound.tensor_split(ends))


def log_mel(sound: Tensor) -> Tensor:
    """A sound (N,), N over 200, to Whisper's 128 bands (128, N // 160)."""
    found = torch.stft(
        sound.float(), _WINDOW, STEP, window=torch.hann_window(_WINDOW, device=sound.device), return_complex=True
    )
    power = found[:, :-1].abs().square()  # (201, T)
    bands = (_bands().to(sound.device) @ power).clamp(min=1e-10).log10()  # (128, T)
    shifted: Tensor = bands.maximum(bands.max() - 8) + 4  # (128, T)
    return shifted / 4


@functools.cache
def _bands() -> Tensor:
    found = mel_filter_bank(_WINDOW // 2 + 1, BANDS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(found.T).float()  # (128, 201)


def _turns(length: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, size) of places."""
    pace = 1 / 10_000 ** (torch.arange(0, size, 2, device=like.device) / size)  # (size / 2,)
    angles = torch.outer(torch.arange(length, device=like.device), pace).repeat(1, 2)  # (T, size)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * turns[0] + torch.cat([-right, left], dim=-1) * turns[1]
