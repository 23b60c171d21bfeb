"""How VideoLLaMA2.1-AV hears: half a minute of sound becomes 1,496 tokens of its language model.

Source: Z. Cheng et al., "VideoLLaMA 2" (2024, arXiv:2406.07476), branch ``audio_visual`` of
github.com/DAMO-NLP-SG/VideoLLaMA2. The net is BEATs. The authors cut a random half minute out of a longer sound; here
it is the first, so that the same sound is heard the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
        tower: Config = BEATS,
    ) -> Hearing:
        """With the tensors of a checkpoint.

        Args:
            config: what ``config.json`` says of ``mm_projector_a_type`` and ``hidden_size``.
            state: of the ear alone (``parted``).
            dtype: of the net's weights.
            name: of the card, for messages.
            tower: its sizes, which ``config.json`` does not say.

        Raises:
            BadWeights: a tensor is missing, left over, or of another shape.
        """
        with torch.device("meta"):
            connector = projector(config.get("mm_projector_a_type", "linear"), tower.width, int(config["hidden_size"]))
            net = cls(Beats(tower), connector)
        return fill(net, state, dtype, name)


class Ears:
    """For sounds, what ``nets.eyes`` is for pictures; ``audio_token`` is the token's text."""

    def __init__(self, net: Hearing, audio_token: str = AUDIO_TOKEN) -> None:
        self._net, self._audio_token = net, audio_token

    def prepare(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound float32 (N,) of 16,000 values a second between -1 and 1 to its filterbank float32 (T, 128): the first
        half minute, silence behind a shorter one."""
        heard = np.zeros(SECONDS * RATE, np.float32)
        first = sound[: len(heard)]
        heard[: len(first)] = first
        return filterbank(heard * np.float32(_FULL_SCALE))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, T, 128) to rows (B, N, D) of the language model's width."""
        rows: Tensor = self._net.mm_projector_a(self._net.audio_tower(batch))  # (B, N, D)
        return rows

    def slot(self) -> str:
        """The text that stands for a sound in a prompt."""
        return self._audio_token * TOKENS


def parted(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint in two: what ``Hearing`` is filled with, and the rest as it is."""
    heard = {key.removeprefix("model."): one for key, one in state.items() if key.startswith(_PARTS)}
    whole = {key.removeprefix(_TOWER): one for key, one in heard.items() if key.startswith(_TOWER)}
    tower = {f"{_TOWER}{key}": one for key, one in kept(whole).items()}
    rest = {key: one for key, one in state.items() if not key.startswith(_PARTS)}
    return {key: one for key, one in heard.items() if not key.startswith(_TOWER)} | tower, rest
