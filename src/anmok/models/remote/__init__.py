"""Models that somebody else runs: OpenAI's and whatever speaks its chat API, Gemini, and what Hugging Face hosts.

There are no weights here. Words and pictures go to the vendor, which the card's licence asks consent for; a picture
goes as a JPEG or PNG made anew of its pixels, so that nothing else of the file (place, camera, name) goes along.
Nothing is asked twice by itself. Answers are not promised to come out the same again, whatever the seed.

Where a model is and what it is called there is in the environment: see ``places``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok import utterance
from anmok.geometry import View
from anmok.inputs import Conversation
from anmok.models.remote import gemini, huggingface, openai, photos, places, speaking, standing_in
from anmok.models.remote.speaking import Speech
from anmok.results import Piece, Reply
from anmok.tasks import Chat, Setup

_AT_ONCE: Final = 4  # conversations of one batch


class Remote:
    """``kind`` is the door: ``openai``, ``gemini`` or ``huggingface``."""

    most_pictures: Final = 16

    def __init__(self, setup: Setup, speech: Speech) -> None:
        self._setup = setup
        self._speech = speech

    @classmethod
    def from_files(cls, setup: Setup) -> Remote:
        """Looks at the environment; nobody is asked yet.

        Raises:
            BadRequest: the environment names no model, or an address that is none.
            Unauthorized: it has no key for that address.
        """
        place = places.found(setup.kind)
        doors = {"openai": openai.speech, "gemini": gemini.speech, "huggingface": huggingface.speech}
        return cls(setup, doors[setup.kind](place))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Remote:
        """With a vendor of our own in this very process, who speaks the same protocol."""
        return cls(setup, standing_in.speech(setup.kind))

    @property
    def nbytes(self) -> int:
        return 0

    def prepare(self, image: NDArray[np.uint8]) -> View:
        """(H, W, 3) to its levels, (3, h, w), no side longer than the card's size."""
        return photos.shrunk(image, self._setup.pixels)

    def encode(self, batch: NDArray[Any]) -> dict[str, NDArray[np.generic]]:
        """(B, 3, h, w) to ``file`` uint8 (B, N), JPEG or PNG with zeros after it, and ``length`` int64 (B,)."""
        return photos.files(batch)

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        """Several at a time; where one fails, those that were not asked yet are not."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda state: utterance.whole(self.talk(state, ask)), states))

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        """Raises:
        Refused: nobody there, too slow, or overloaded (``Busy``, ``Loading``).
        Unauthorized: the key is not taken.
        BadRequest: what the vendor finds wrong with the conversation, or will not answer.
        TooMuch: pictures that are too large together.
        BadData: an answer that is not of this API.
        """
        return speaking.spoken(self._speech(state, ask), ask)
