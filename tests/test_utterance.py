"""From tokens to pieces: characters out of bytes, stop texts across pieces, counts, and draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import BadRequest
from anmok.results import Piece
from anmok.tasks import Chat
from anmok.utterance import Length, Utterance, drawn, pieces, whole

LENGTH = Length(10, 4, 100)


def spoken(tokens: list[bytes], ask: Chat, prompt: Length = LENGTH) -> list[Piece]:
    rest: Iterator[bytes] = iter(tokens)
    return list(pieces(Utterance(ask, prompt), lambda: next(rest, None)))


def cut(text: str, size: int) -> list[bytes]:
    data = text.encode()
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_pieces_and_totals() -> None:
    found = spoken([b"ab", b"c"], Chat())
    assert [piece.text for piece in found] == ["ab", "c", ""]
    assert [piece.reply for piece in found[:-1]] == [None, None]
    reply = found[-1].reply
    assert reply is not None
    assert (reply.text, reply.finish) == ("abc", "stop")
    assert (reply.tokens_in, reply.image_tokens, reply.tokens_out) == (10, 4, 3)  # the end is a token too
    assert 0 < reply.seconds_to_first <= reply.seconds


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_character_comes_whole(size: int) -> None:
    text = "한글 🌈👩‍👩‍👧 é שלום"
    found = spoken(cut(text, size), Chat())
    assert "".join(piece.text for piece in found) == text
    assert not any("\ufffd" in piece.text for piece in found)


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    found = spoken([b"a\xff", b"b\xf0\x9f"], Chat())
    assert "".join(piece.text for piece in found) == "a\ufffdb\ufffd"


def test_length() -> None:
    [*_, last] = spoken(cut("abcdef", 1), Chat(3))
    assert last.reply is not None
    assert (last.reply.text, last.reply.finish, last.reply.tokens_out) == ("abc", "length", 3)
    # The beginning of a character is none.
    [*_, last] = spoken(cut("a🌈", 1), Chat(3))
    assert last.reply is not None
    assert last.reply.text == "a"


def test_the_context_bounds_prompt_and_answer() -> None:
    [*_, last] = spoken(cut("a" * 200, 1), Chat(), Length(95, 0, 100))
    assert last.reply is not None
    assert (last.reply.tokens_out, last.reply.finish) == (5, "length")
    with pytest.raises(
        BadRequest, match="the conversation has 100 tokens, 64 of them for pictures, and the model reads"
    ):
        Utterance(Chat(), Length(100, 64, 100))


def test_nothing_is_asked_of_the_net_after_the_end() -> None:
    asked = []

    def step() -> bytes:
        asked.append(1)
        return b"stop it"

    [*_, last] = pieces(Utterance(Chat(stop=("op",)), LENGTH), step)
    assert last.reply is not None
    assert (last.reply.text, len(asked)) == ("st", 1)


def test_what_may_become_a_stop_text_is_held_back() -> None:
    found = spoken(cut("one##two###three", 1), Chat(stop=("###",)))
    assert [piece.text for piece in found] == ["o", "n", "e", "##t", "w", "o", ""]
    reply = found[-1].reply
    assert reply is not None
    assert (reply.text, reply.finish, reply.tokens_out) == ("one##two", "stop", 11)
    # And is told where the answer ends with it.
    assert [piece.text for piece in spoken(cut("a##", 1), Chat(stop=("###",)))] == ["a", "##"]


@given(st.text("ab#", max_size=12), st.lists(st.text("ab#", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_how_tokens_are_cut_changes_no_answer(text: str, stops: list[str], size: int) -> None:
    """An oracle that reads letter by letter: the answer ends before the stop text that is whole first."""
    found = spoken(cut(text, size), Chat(stop=tuple(stops)))
    ends = ((end, end - len(stop)) for end in range(len(text) + 1) for stop in stops if text[:end].endswith(stop))
    first = min(ends, default=None)
    assert "".join(piece.text for piece in found) == (text if first is None else text[: first[1]])
    assert whole(iter(found)).text == "".join(piece.text for piece in found)


def test_draws() -> None:
    logits = np.log(np.asarray([0.5, 0.3, 0.15, 0.05], np.float32))
    rng = np.random.default_rng(0)
    assert {drawn(logits, Chat(), rng) for _ in range(20)} == {0}
    counts = np.bincount([drawn(logits, Chat(temperature=1.0), rng) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.03)  # four standard errors
    # The one that passes the share is among them.
    kept = np.bincount([drawn(logits, Chat(temperature=1.0, top_p=0.6), rng) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(kept, [0.625, 0.375, 0, 0], atol=0.035)
    assert {drawn(logits, Chat(temperature=1.0, top_p=0.5), rng) for _ in range(50)} == {0}
    hot = np.bincount([drawn(logits, Chat(temperature=2.0), rng) for _ in range(4000)], minlength=4) / 4000
    flat = np.sqrt([0.5, 0.3, 0.15, 0.05])
    np.testing.assert_allclose(hot, flat / flat.sum(), atol=0.035)
    assert drawn(np.asarray([-np.inf, 3.0, -np.inf], np.float32), Chat(temperature=1.0), rng) == 1
