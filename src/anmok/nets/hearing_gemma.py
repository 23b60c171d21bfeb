"""How Gemma 3n and Gemma 4 hear: up to half a minute of sound becomes tokens of their language models, 188 of any sound
for Gemma 3n, 25 of each second for Gemma 4.

Source: Google, Gemma 3n (2025), google/gemma-3n-E4B-it, and Gemma 4 (2026), google/gemma-4-E4B-it, with the feature
extractors, processors and towers that transformers publishes for both. The towers are those of a Universal Speech Model
(Y. Zhang et al., 2023, arXiv:2303.01037), run by transformers. Each sound is heard by itself, so it does not depend on
those beside it: the published processor of Gemma 3n pads several to the longest, whose silence its tower then hears.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anmok.errors import BadRequest, BadWeights
from anmok.nets.eyes.gemma import GemmaTokens
from anmok.nets.filterbank import RATE, STEP

BANDS: Final = 128
SECONDS: Final = 30  # the makers: the most at once
TOKENS: Final = 188  # of a sound of Gemma 3n, however long it is
GEMMA3N_TOKENS: Final = GemmaTokens("<audio_soft_token>", "<start_of_audio>", "<end_of_audio>")
GEMMA4_TOKENS: Final = GemmaTokens("<|audio|>", "<|audio>", "<audio|>", "")
MOST_SOUNDS: Final = 4
_WHOLE: Final = 128  # values that Gemma 3n's extractor fills the last part of a sound up to
_FOLDS: Final = {"gemma3n": 16, "gemma4": 4}  # windows that become one token
_TOLD: Final = {
    "min_frequency": "lowest",
    "max_frequency": "highest",
    "preemphasis": "emphasis",
    "mel_floor": "floor",
    "input_scale_factor": "scale",
}
_FIXED: Final[Mapping[str, object]] = {
    "sampling_rate": RATE,
    "feature_size": BANDS,
    "hop_length": STEP,
    "dither": 0.0,
    "per_bin_mean": None,
    "per_bin_stddev": None,
    "preemphasis_htk_flavor": True,
}


@dataclass(frozen=True, slots=True)
class MelRules:
    """How a sound becomes mel bands: windows of so many values every ``STEP``, ``padded`` with zeros for the transform;
    bands from ``lowest`` to ``highest`` Hz. ``lead`` zeros stand before the sound. The ``floor`` is what every band has
    at least, or where it ``is_added`` has more. A sound that ``is_filled`` ends with zeros, up to ``_WHOLE``. A window
    that ``is_coarse`` is computed in float32, which shows in the quiet bands beside a tone."""

    window: int
    padded: int
    lowest: float
    highest: float
    emphasis: float
    floor: float
    scale: float = 1.0
    lead: int = 0
    is_added: bool = False
    is_filled: bool = False
    is_coarse: bool = False

    @property
    def shortest(self) -> int:
        """Values of a sound of one window, whatever stands behind them; the last is no part of the window."""
        return self.window + 1 - self.lead

    def of(self, content: Mapping[str, Any], name: str = "preprocessor_config.json") -> MelRules:
        """What a ``preprocessor_config.json``, or ``feature_extractor`` in it, says; what it leaves out is as here.

        Raises:
            BadWeights: it asks for what this code does not do.
        """
        told = content.get("feature_extractor") or content
        fixed = {**_FIXED, "frame_length": self.window, "fft_length": self.padded}
        for key, wanted in fixed.items():
            if key in told and told[key] != wanted:
                raise BadWeights(f"{name}: {key} of its sounds is {told[key]!r}; want {wanted!r}")
        numbers = {ours: float(told[key]) for key, ours in _TOLD.items() if told.get(key) is not None}
        return replace(self, **numbers)  # type: ignore[arg-type]  # all of them floats

    def windows(self, length: int) -> int:
        """How many a sound of so many values has."""
        whole = -(-length // _WHOLE) * _WHOLE if self.is_filled else length
        return max(0, 1 + (whole - self.shortest) // STEP)


GEMMA3N_MEL: Final = MelRules(512, 1024, 125.0, 7600.0, 0.97, 1e-5, is_filled=True, is_coarse=True)
GEMMA4_MEL: Final = MelRules(320, 512, 0.0, 8000.0, 0.0, 1e-3, lead=160, is_added=True)


def log_mel(sound: NDArray[np.float32], rules: MelRules) -> NDArray[np.float32]:
    """A sound float32 (N,) of 16,000 values a second between -1 and 1 to float32 (windows, 128), as the published
    feature extractor makes it; without the windows that Gemma 4's leaves to its mask."""
    count = rules.windows(len(sound))
    behind = (count - 1) * STEP + rules.shortest - len(sound)
    whole = np.pad(sound * np.float32(rules.scale), (rules.lead, max(0, behind)))
    cut = whole[STEP * np.arange(count)[:, None] + np.arange(rules.window)]  # (T, window)
    first = cut[:, :1] * np.float32(1 - rules.emphasis)  # (T, 1); it stands before itself
    steps = np.concatenate([first, cut[:, 1:] - np.float32(rules.emphasis) * cut[:, :-1]], axis=1)  # (T, window)
    shaped = steps * _window(rules.window, rules.is_coarse)
    heard = np.abs(np.fft.rfft(shaped, rules.padded, axis=1)) @ _bands(rules)  # (T, 128)
    least = heard + rules.floor if rules.is_added else np.maximum(heard, rules.floor)
    return np.asarray(np.log(least), np.float32)


@functools.cache
def _window(length: int, is_coarse: bool) -> NDArray[np.float32]:
    """Hann's, of a period of ``length``: (length,)."""
    values: NDArray[np.floating] = np.arange(length).astype(np.float32 if is_coarse else np.float64)  # (length,)
    return np.asarray(0.5 * (1 - np.cos(2 * np.pi * values / length)), np.float32)


@functools.cache
def _bands(rules: MelRules) -> NDArray[np.float64]:
    """Triangles whose edges are of equal distance on the mel scale and whose sides are straight over Hz:
    (padded / 2 + 1, 128)."""
    lowest, highest = (2595 * math.log10(1 + one / 700) for one in (rules.lowest, rules.highest))
    edges = 700 * (10 ** (np.linspace(lowest, highest, BANDS + 2) / 2595) - 1)  # (130,)
    places = RATE / rules.padded * np.arange(rules.padded // 2 + 1)[:, None]  # (F, 1)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]  # (128,) each
    rising, falling = (places - left) / (middle - left), (right - places) / (right - middle)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float64)  # (F, 128)


def tokens(family: str, length: int) -> int:
    """How many a sound of so many windows is heard as by the tower of ``gemma3n`` or ``gemma4``."""
    return -(-length // _FOLDS[family])


class GemmaEars(ABC):
    """For sounds, what ``nets.eyes`` is for pictures."""

    rate = RATE
    seconds: float = SECONDS

    def __init__(self, family: str, rules: MelRules, marks: GemmaTokens) -> None:
        self._family, self._rules, self._marks = family, rules, marks

    def prepare(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound float32 (N,) of 16,000 values a second between -1 and 1 to its mel bands float32 (T, 128), silence
        behind one that is shorter than a window.

        Raises:
            BadRequest: it is longer than is heard at once.
        """
        if len(sound) > round(self.seconds * RATE):
            raise BadRequest(f"sound: over {self.seconds:g} s of it, which are the most at once: give start and end")
        return log_mel(np.pad(sound, (0, max(0, self._rules.shortest - len(sound)))), self._rules)

    def prepare_track(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same of a clip's sound track."""
        return self.prepare(sound)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 128), all of one length, to rows (B, N, D) of the language model's width.

        Raises:
            BadWeights: the tower makes more or fewer rows than are foretold.
        """
        rows = self._heard(batch)  # (B, N, D)
        if rows.shape[1] != (count := tokens(self._family, batch.shape[1])):
            made = f"its tower made {rows.shape[1]} rows of a sound, and {count} were foretold"
            raise BadWeights(f"{self._family}: {made}")
        return rows

    def slot(self, count: int) -> str:
        """The text that stands for a sound of so many rows in a prompt."""
        return self._marks.slot(count)

    @abstractmethod
    def _heard(self, batch: Tensor) -> Tensor:
        """What the tower makes of (B, T, 128): rows (B, N, D)."""


class Gemma3nEars(GemmaEars):
    """Of ``gemma3n.Gemma3n``. What is shorter than the longest is filled up with the row of the last of the words that
    stand for sounds, as the net was trained; those rows are tokens like any other."""

    def __init__(self, net: Any, facts: Mapping[str, Any]) -> None:
        super().__init__("gemma3n", GEMMA3N_MEL.of(facts), GEMMA3N_TOKENS)
        self._net = net
        self._count = int(net.content.get("audio_soft_tokens_per_image", TOKENS))
        self.seconds = min(float(SECONDS), self._count * _FOLDS["gemma3n"] * STEP / RATE)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 128), all of one length, to rows (B, 188, D) of the language model's width."""
        rows = super().encode(batch)  # (B, N, D)
        table = self._net.sight.embed_audio
        last = torch.tensor([[table.vocab_offset + table.vocab_size - 1]], device=rows.device)
        blank = table(input_ids=last).to(rows.dtype)  # (1, 1, D)
        return torch.cat([rows, blank.expand(len(rows), self._count - rows.shape[1], -1)], 1)  # (B, 188, D)

    def _heard(self, batch: Tensor) -> Tensor:
        table = self._net.sight.embed_audio
        is_blank = torch.zeros(batch.shape[:2], dtype=torch.bool, device=batch.device)  # (B, T)
        told = self._net.ear(batch.to(table.embedding.weight.dtype), is_blank).last_hidden_state  # (B, N, C)
        rows: Tensor = table(inputs_embeds=told)  # (B, N, D)
        return rows


class Gemma4Ears(GemmaEars):
    """Of ``Gemma4ForConditionalGeneration`` with a tower for sounds: E2B and E4B have one."""

    def __init__(self, net: Any, facts: Mapping[str, Any]) -> None:
        super().__init__("gemma4", GEMMA4_MEL.of(facts), GEMMA4_TOKENS)
        self._net = net

    def _heard(self, batch: Tensor) -> Tensor:
        is_there = torch.ones(batch.shape[:2], dtype=torch.bool, device=batch.device)  # (B, T)
        rows: Tensor = self._net.model.get_audio_features(batch, is_there, return_dict=True).pooler_output  # (B, N, D)
        return rows
