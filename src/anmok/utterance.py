"""An answer while it is being written: from the bytes of tokens to pieces that can be shown, and the counts at its end.

Shared by all model files that talk. A model file decodes, one token at a time; whatever becomes of the token is here.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.results import Piece, Reply
from anmok.results.talk import Finish
from anmok.tasks import Chat


@dataclass(frozen=True, slots=True)
class Length:
    """Of a prompt: ``tokens`` in all, of which ``image_tokens`` for pictures and ``sound_tokens`` for sounds; the model
    reads ``context`` of them."""

    tokens: int
    image_tokens: int
    context: int
    sound_tokens: int = 0

    def room(self, ask: Chat) -> int:
        """Tokens that the answer may have.

        Raises:
            BadRequest: the prompt leaves no room for an answer.
        """
        left = self.context - self.tokens
        if left < 1:
            pictures = f", {self.image_tokens:,} of them for pictures," if self.image_tokens else ""
            raise BadRequest(
                f"the conversation has {self.tokens:,} tokens{pictures} and the model reads {self.context:,}; "
                "shorten it, or leave pictures out"
            )
        return min(ask.max_tokens, left)


class Utterance:
    """One answer, token by token.

    A character of several bytes whose tokens are not all there yet, and text that may be the beginning of a stop
    text, are held back; so no piece has to be taken back.

    Raises:
        BadRequest: the prompt leaves no room for an answer.
    """

    def __init__(self, ask: Chat, length: Length) -> None:
        self._room = length.room(ask)
        self._length = length
        self._stops = ask.stop
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._told: list[str] = []
        self._began = time.perf_counter()
        self._first = 0.0
        self._tokens = 0
        self._finish: Finish | None = None

    @property
    def has_begun(self) -> bool:
        return self._tokens > 0

    @property
    def is_over(self) -> bool:
        return self._finish is not None

    def add(self, token: bytes) -> str:
        """One token more; the text that can be shown now, often none."""
        self._count()
        text = self._fresh(self._characters.decode(token))
        if self._finish is None and self._tokens >= self._room:
            self._finish = "length"
        return text

    def end(self) -> None:
        """The model's own end, which is a token too."""
        self._count()
        self._finish = "stop"

    def last(self) -> Piece:
        """What was held back and is no stop text after all, and the whole. Once it is over."""
        assert self._finish is not None
        if self._finish == "length":
            self._characters.reset()  # the beginning of a character that was cut off
        rest = self._held + self._characters.decode(b"", final=True)
        self._held = ""
        self._told.append(rest)
        reply = Reply(
            text="".join(self._told),
            finish=self._finish,
            tokens_in=self._length.tokens,
            tokens_out=self._tokens,
            image_tokens=self._length.image_tokens,
            sound_tokens=self._length.sound_tokens,
            seconds_to_first=self._first,
            seconds=time.perf_counter() - self._began,
        )
        return Piece(rest, reply)

    def _count(self) -> None:
        self._tokens += 1
        if self._tokens == 1:
            self._first = time.perf_counter() - self._began

    def _fresh(self, text: str) -> str:
        held = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self._finish = "stop"
            self._characters.reset()
            _, at = min(found)  # whichever was whole first, however the tokens are cut
            shown, self._held = held[:at], ""
        else:
            keep = max((_overlap(held, stop) for stop in self._stops), default=0)
            shown, self._held = held[: len(held) - keep], held[len(held) - keep :]
        self._told.append(shown)
        return shown


def pieces(utterance: Utterance, step: Callable[[], bytes | None]) -> Iterator[Piece]:
    """An answer pulled piece by piece. ``step`` gives the bytes of the next token, ``None`` for the one that ends the
    answer; it is not called again once the answer is over."""
    while not utterance.is_over:
        token = step()
        if token is None:
            utterance.end()
            break
        text = utterance.add(token)
        if text:
            yield Piece(text)
    yield utterance.last()


def whole(answer: Iterator[Piece]) -> Reply:
    """The reply at the end of the pieces."""
    for piece in answer:
        if piece.reply is not None:
            return piece.reply
    raise AssertionError("the last piece has the reply")


def drawn(logits: NDArray[np.float32], ask: Chat, rng: np.random.Generator) -> int:
    """The next token (V,) by temperature and nucleus (Holtzman et al., 2020): of the likeliest tokens as many as have
    ``top_p`` together, the one that passes it among them."""
    if ask.temperature == 0:
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / ask.temperature  # (V,)
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    before = np.cumsum(shares[order]) - shares[order]  # share of those that are likelier
    kept = order[before < ask.top_p]
    chosen = rng.choice(kept, p=shares[kept] / shares[kept].sum())
    return int(chosen)


def _overlap(text: str, stop: str) -> int:
    """Letters at the end of the text that the stop text begins with."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)
