"""How Phi-4-multimodal hears: a second of sound becomes twelve and a half tokens of its language model.

Source: Microsoft, "Phi-4-Mini Technical Report: Compact yet Powerful Multimodal Language Models via
Mixture-of-LoRAs" (2025, arXiv:2503.01743), and the feature extractor and net that transformers publishes for
microsoft/Phi-4-multimodal-instruct. What hears is a conformer, of transformers; the language model listens by an
adapter of its own (``speech-lora``), as it sees by another. A sound beside a picture is heard by the adapter for
pictures, and comes to the language model by a projection that was learned with that.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anmok.nets.filterbank import PADDED, RATE, STEP, WINDOW, triangles, windows

AUDIO_TOKEN: Final = "<|endoftext11|>"
SECONDS: Final = 300  # the report: 40 s for most tasks, half an hour for summaries; the cost grows with the square
BANDS: Final = 80
_HIGHEST: Final = 7690.0  # Hz
_EMPHASIS: Final = 0.97
_FULL_SCALE: Final = 2**15
_FOLD: Final = 8  # windows that become one token


class Phi4Ears:
    """For sounds by themselves, what ``nets.eyes`` is for pictures; ``net`` is a ``Phi4MultimodalForCausalLM``."""

    rate, seconds = RATE, SECONDS

    def __init__(self, net: Any, facts: Mapping[str, Any] | None = None) -> None:
        self._embed: Any = net.model.embed_tokens_extend.audio_embed

    def prepare(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound float32 (N,) of 16,000 values a second between -1 and 1 to its log-mel bands float32 (T, 80)."""
        return log_mel(np.pad(sound, (0, max(0, WINDOW - len(sound)))))

    def prepare_track(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same: it takes no clips."""
        return self.prepare(sound)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 80), all of one length, to rows (B, T / 8, D) of the language model's width."""
        return self._projected(self._heard(batch), "speech")

    def _heard(self, batch: Tensor) -> Tensor:
        """(B, T, 80) to (B, T / 8, C)."""
        heard: Tensor = self._embed.encoder(batch.to(self._embed.up_proj_for_speech.weight.dtype), None)
        return heard[:, : tokens(batch.shape[1])]

    def _projected(self, heard: Tensor, mode: str) -> Tensor:
        """(B, N, C) to (B, N, D)."""
        up, down = (getattr(self._embed, f"{side}_proj_for_{mode}") for side in ("up", "down"))
        rows: Tensor = down(functional.gelu(up(heard)))
        return rows

    def slot(self, count: int) -> str:
        """The text that stands for a sound of so many rows in a prompt."""
        return AUDIO_TOKEN * count


class Phi4EarsBesideEyes(Phi4Ears):
    """Of the net that sees as well. What else is in a conversation is not known while a sound is heard, so its rows
    are made in both ways, and lie side by side."""

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 80), all of one length, to rows (B, T / 8, 2 D): for a sound by itself, then for one beside a
        picture."""
        heard = self._heard(batch)
        return torch.cat([self._projected(heard, mode) for mode in ("speech", "vision_speech")], 2)  # (B, N, 2 D)

    def packed(self, rows: Tensor, *, is_beside_picture: bool) -> Tensor:
        """Those of a conversation, (N, 2 D) to (N, D)."""
        return rows.chunk(2, 1)[is_beside_picture]


def tokens(length: int) -> int:
    """How many stand for so many windows."""
    return -(-length // _FOLD)


def log_mel(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sound float32 (N,) of 16,000 values a second between -1 and 1 to float32 (windows, 80), as the published
    feature extractor makes it: no mean is taken off, and what is quieter than one is silence."""
    starts = STEP * np.arange(windows(len(sound)))
    cut = sound[starts[:, None] + np.arange(WINDOW)].astype(np.float32)  # (T, 400)
    before = np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)  # (T, 400); the first value stands before itself
    shaped = (cut - np.float32(_EMPHASIS) * before) * np.float32(_FULL_SCALE)
    heard = np.fft.rfft(np.hamming(WINDOW) * shaped, PADDED, axis=1).astype(np.complex64)  # (T, 257)
    energies = np.abs(heard) ** 2 @ _bands().T  # (T, 80)
    return np.asarray(np.log(np.maximum(energies, np.float32(1))), np.float32)


@functools.cache
def _bands() -> NDArray[np.float32]:
    return triangles(BANDS, 0.0, _HIGHEST, PADDED // 2 + 1)  # (80, 257)
