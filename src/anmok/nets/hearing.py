"""How VideoLLaMA2.1-AV hears: half a minute of sound becomes 1,496 tokens of its language model.

Source: Z. Cheng et al., "VideoLLaMA 2" (2024, arXiv:2406.07476), branch ``audio_visual`` of
github.com/DAMO-NLP-SG/VideoLLaMA2. The net is BEATs. The authors cut a random half minute out of a longer sound; here
that is the caller's to choose, so that the same sound is heard the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anmok.nets.beats import PATCH, Beats, Config, kept
from anmok.nets.filterbank import BANDS, RATE, filterbank, windows
from anmok.nets.pretrained import fill
from anmok.nets.projectors import projector

BEATS: Final = Config()
AUDIO_TOKEN: Final = "<audio>"
SECONDS: Final = 30
TOKENS: Final = windows(SECONDS * RATE) // PATCH * (BANDS // PATCH)
_FULL_SCALE: Final = 2**15
_PIECES: Final = 8  # of a clip's sound track
_PIECE: Final = 2  # seconds
_TOWER: Final = "audio_tower."
_PARTS: Final = (f"model.{_TOWER}", "model.mm_projector_a.")


class Hearing(nn.Module):
    """What lies between a sound and the language model, under the names of the published checkpoint."""

    def __init__(self, tower: Beats, connector: nn.Module) -> None:
        super().__init__()
        self.audio_tower = tower
        self.mm_projector_a = connector

    @classmethod
    def filled(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        dtype: torch.dtype,
        name: str,
        tower: Config | None = None,
    ) -> Hearing:
        """With the tensors of a checkpoint.

        Args:
            config: what ``config.json`` says of ``mm_projector_a_type`` and ``hidden_size``.
            state: of the ear alone (``parted``).
            dtype: of the net's weights.
            name: of the card, for messages.
            tower: its sizes, where they are not those that ``config.json`` names.

        Raises:
            BadWeights: a tensor is missing, left over, or of another shape.
        """
        with torch.device("meta"):
            net = cls.made(config, tower)
        return fill(net, state, dtype, name)

    @classmethod
    def made(cls, config: Mapping[str, Any], tower: Config | None = None) -> Hearing:
        """As a ``config.json`` describes it, filled at random."""
        sizes = tower or tower_of(config)
        kind = config.get("mm_projector_a_type", "linear")
        return cls(Beats(sizes), projector(kind, sizes.width, int(config["hidden_size"])))


class Ears:
    """For sounds, what ``nets.eyes`` is for pictures; ``audio_token`` is the token's text."""

    rate = RATE

    def __init__(self, net: Hearing, audio_token: str = AUDIO_TOKEN, seconds: int = SECONDS) -> None:
        self._net, self._audio_token = net, audio_token
        self.seconds = seconds

    def prepare(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound float32 (N,) of 16,000 values a second between -1 and 1 to its filterbank float32 (T, 128): the first
        half minute, silence behind a shorter one."""
        heard = np.zeros(self.seconds * RATE, np.float32)
        first = sound[: len(heard)]
        heard[: len(first)] = first
        return filterbank(heard * np.float32(_FULL_SCALE))

    def prepare_track(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same of a clip's sound track: eight pieces of it, one behind the other, in steps of 16 bits, as the
        weights were trained."""
        steps = np.rint(np.concatenate(pieces(sound)) * _FULL_SCALE) / _FULL_SCALE  # (M,)
        return self.prepare(steps.astype(np.float32))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 128) to rows (B, N, D) of the language model's width."""
        rows: Tensor = self._net.mm_projector_a(self._net.audio_tower(batch))  # (B, N, D)
        return rows

    def slot(self, count: int) -> str:
        """The text that stands for a sound in a prompt; as long as all are, however many rows there are."""
        return self._audio_token * (windows(self.seconds * RATE) // PATCH * (BANDS // PATCH))


def pieces(sound: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Eight times two seconds of a sound (N,), evenly spread; of a shorter one, eight times the whole.

    Where they begin is pytorchvideo's choice (``ConstantClipsPerVideoSampler`` of its last release, 0.1.5, which the
    authors name): in eighths of the time that a piece can begin in, so that the end is not heard. Later versions count
    in sevenths.
    """
    free = Fraction(max(len(sound) / RATE - _PIECE, 0))
    starts = [free / _PIECES * number for number in range(_PIECES)]
    return [sound[int(start * RATE) : int((start + _PIECE) * RATE)] for start in starts]


def tower_of(config: Mapping[str, Any]) -> Config:
    """The sizes of the tower that ``config.json`` names; it is the same for all that are published. A dict in the place
    of the name has them."""
    told = config.get("mm_audio_tower")
    return Config(**{key: value for key, value in told.items() if key != "seconds"}) if _is_told(told) else BEATS


def seconds_of(config: Mapping[str, Any]) -> int:
    """How long a sound it hears."""
    told = config.get("mm_audio_tower")
    return int(told.get("seconds", SECONDS)) if _is_told(told) else SECONDS


def _is_told(told: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(told, Mapping)


def parted(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint in two: what ``Hearing`` is filled with, and the rest as it is."""
    heard = {key.removeprefix("model."): one for key, one in state.items() if key.startswith(_PARTS)}
    whole = {key.removeprefix(_TOWER): one for key, one in heard.items() if key.startswith(_TOWER)}
    tower = {f"{_TOWER}{key}": one for key, one in kept(whole).items()}
    rest = {key: one for key, one in state.items() if not key.startswith(_PARTS)}
    return {key: one for key, one in heard.items() if not key.startswith(_TOWER)} | tower, rest
