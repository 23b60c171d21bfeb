"""From what a vendor sends to pieces: stop texts, counts, and the reason why an answer ends."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from anmok.errors import BadRequest, Refused
from anmok.inputs import Conversation
from anmok.results import Piece, Reply
from anmok.results.talk import Count, Finish
from anmok.tasks import Chat
from anmok.utterance import Length, Utterance

log: Final = logging.getLogger("anmok")

_MOST_LETTERS: Final = 2**22
_ENDLESS: Final = 2**20  # parts of an answer: the vendor counts its tokens, and ends it


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens, as far as the vendor says; ``None`` for what it does not."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    image_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """One part of an answer as it comes. ``counts`` may come more than once: the last ones hold."""

    text: str = ""
    finish: Finish | None = None
    counts: Counts | None = None


Speech: TypeAlias = Callable[[Conversation, Chat], Iterator[Said]]


def spoken(said: Iterator[Said], ask: Chat) -> Iterator[Piece]:
    """The pieces. Stop texts are looked for here as well: vendors take four or five, we sixteen.

    Raises:
        Refused: the answer breaks off, or has no end.
        AnmokError: whatever the vendor refuses.
    """
    writing = Utterance(dataclasses.replace(ask, max_tokens=_ENDLESS), Length(0, 0, 2 * _ENDLESS))
    counts, finish, letters = Counts(), None, 0
    with contextlib.closing(_closable(said)) as parts:
        for part in parts:
            counts, finish = part.counts or counts, part.finish or finish
            letters += len(part.text)
            if letters > _MOST_LETTERS:
                raise Refused(f"an answer of more than {_MOST_LETTERS:,} letters; ask for fewer tokens")
            text = writing.add(part.text.encode("utf-8", "replace")) if part.text else ""
            if text:
                yield Piece(text)
            if writing.is_over:  # at a stop text that the vendor was not told: its counts never come
                counts, finish = Counts(), "stop"
                break
    if finish is None:
        raise Refused("the answer broke off before its end; ask again")
    if not writing.is_over:
        writing.end()
    last = writing.last()
    assert last.reply is not None
    yield Piece(last.text, _counted(last.reply, counts, finish))


def withheld(place: str, why: str) -> BadRequest:
    """An answer that the vendor keeps back: asking again does not help."""
    return BadRequest(f"{place}: will not answer this ({why[:200]}); ask otherwise, or another model")


def check_model(asked: str, answers: object) -> None:
    """Vendors answer for a model that they withdrew with another one: that is said in the log, once."""
    if isinstance(answers, str) and answers and not _is_same(asked, answers):
        _warn(asked, answers[:100])


@lru_cache(maxsize=256)
def _warn(asked: str, answers: str) -> None:
    log.warning("asked for %s, and %s answers: the vendor sent the request on", asked, answers)


def _is_same(asked: str, answers: str) -> bool:
    """Dates, owners and addresses before or after the name are no difference."""
    first, second = (name.lower().rpartition("/")[2].partition(":")[0] for name in (asked, answers))
    return first.startswith(second) or second.startswith(first)


def _counted(reply: Reply, counts: Counts, finish: Finish) -> Reply:
    numbers: dict[Count, int | None] = {
        "tokens_in": counts.tokens_in,
        "tokens_out": counts.tokens_out,
        "image_tokens": counts.image_tokens,
    }
    tokens_in, tokens_out, image_tokens = (value or 0 for value in numbers.values())
    return dataclasses.replace(
        reply,
        finish=finish,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        image_tokens=min(image_tokens, tokens_in),
        unknown=tuple(name for name, value in numbers.items() if value is None),
    )


def _closable(said: Iterator[Said]) -> Generator[Said, None, None]:
    yield from said
