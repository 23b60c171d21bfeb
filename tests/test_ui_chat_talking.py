"""What the tab Chat makes of answers that break off, and what it says of a model's languages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from anyio import CapacityLimiter

from anmok.catalogue import card
from anmok.errors import ModelFailed
from anmok.results import Piece
from anmok.ui.chatting import bringing, showing
from anmok.ui.chatting.talking import Said, failed, grown, retried, told
from anmok.ui.texts import Words

BEFORE = (Said("user", "first"), Said("assistant", "one"))
ASKED = (*BEFORE, Said("user", "second", ("up/red.png",)))


class Breaking(Iterator[Piece]):
    """Two pieces, at once, and no more."""

    def __init__(self) -> None:
        self.left = ["Que", "sti"]
        self.is_closed = False

    def __next__(self) -> Piece:
        if not self.left:
            raise ModelFailed("the wires are cut")
        return Piece(self.left.pop(0))

    def close(self) -> None:
        self.is_closed = True


def test_pieces_that_came_right_before_the_end_are_seen() -> None:
    pieces, seen = Breaking(), []

    async def read() -> None:
        async for piece in grown(pieces, threading.Event(), CapacityLimiter(1)):  # type: ignore[arg-type]
            seen.append(piece.text)

    with pytest.raises(ModelFailed):
        asyncio.run(read())
    assert "".join(seen) == "Questi"
    assert pieces.is_closed


def test_a_failed_question_is_shown_and_told_to_no_model_until_it_is_asked_again() -> None:
    turns = failed(ASKED, "half an")
    assert [one.is_failed for one in turns] == [False, False, True, True]
    assert told(turns) == BEFORE
    assert retried(turns) == ASKED
    seen = showing.talk(Words("en"), turns)
    assert (seen.count("half an</p>"), seen.count("The answer broke off here.")) == (1, 1)
    assert "second" in seen
    seen = showing.talk(Words("ko"), failed(ASKED, ""))
    assert (seen.count('class="words"'), seen.count("답을 받지 못했습니다.")) == (3, 1)


def test_a_model_that_has_not_learned_the_language_of_the_page_says_so() -> None:
    mini, fake = card("mini-chat"), card("fake-talk")
    assert bringing.other_tongues(Words("en"), mini) == ""
    assert bringing.other_tongues(Words("ko"), fake) == ""
    assert bringing.other_tongues(Words("ko"), mini).endswith("다음 언어로 물어보세요: 영어.")
