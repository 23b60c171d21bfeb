"""One answer being written: the next token drawn, held to a schema where one was asked for, and made text."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from anmok import utterance
from anmok.results import Piece
from anmok.tasks import Chat
from anmok.utterance import Utterance
from anmok.wording import Reader
from anmok.wording.guide import Held


class Answer:
    """By one caller. ``text`` is what the last token added that can be shown, often nothing."""

    def __init__(
        self, reader: Reader, ends: Collection[int], writing: Utterance, ask: Chat, held: Held | None = None
    ) -> None:
        self._reader, self._ends, self._writing, self._ask, self._held = reader, ends, writing, ask, held
        self._rng = np.random.default_rng(ask.seed)
        self.text = ""

    @property
    def is_over(self) -> bool:
        return self._writing.is_over

    def drawn(self, logits: NDArray[np.float32]) -> int:
        """The next token, out of logits (V,); it is in the answer then.

        Raises:
            Unsupported: the schema allows more than can be worked out in a moment.
        """
        if self._held is not None:
            if self._held.is_over:  # the JSON is whole
                self._writing.end()
                self.text = ""
                return -1
            logits = np.where(self._held.mask(), logits, -np.inf).astype(np.float32)
        token = utterance.drawn(logits, self._ask, self._rng)
        if self._held is not None:
            self._held.take(token)
        if token in self._ends:
            self._writing.end()
            self.text = ""
        else:
            is_first = not self._writing.has_begun
            self.text = self._writing.add(self._reader.bytes_of(token, is_first=is_first))
        return token

    def last(self) -> Piece:
        """The rest and the whole, once it is over."""
        return self._writing.last()
