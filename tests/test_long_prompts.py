"""Prompts of megabytes are refused by their length, before anything of them becomes ids."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from anmok import Chat, Conversation, Detect
from anmok.errors import BadRequest
from anmok.load import Model, tiny
from anmok.wording.reader import Span

HUGE = "x " * 2_500_000  # letters
PART = len(HUGE) // 50
NAMES = ("florence2-base", "moondream2")
PICTURE = np.full((40, 60, 3), 90, np.uint8)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny(request.param)


def least_seconds(model: Model) -> float:
    """That the ids of a fiftieth take: what is tokenized whole takes fifty times as long."""
    reader: Any = model.kind._reader
    found = []
    for _ in range(3):
        began = time.perf_counter()
        assert len(reader.ids([Span(HUGE[:PART], is_said=True)])) >= PART // reader.longest
        found.append(time.perf_counter() - began)
    return min(found)


def refused(model: Model, said: Conversation) -> tuple[str, float]:
    model.encode([PICTURE])  # nothing is done for the first time
    began = time.perf_counter()
    with pytest.raises(BadRequest) as told:
        model.run([said], Chat())
    return str(told.value), time.perf_counter() - began


def test_a_question_of_megabytes_is_refused_at_once(model: Model) -> None:
    message, seconds = refused(model, Conversation.about(question=HUGE))
    assert "tokens and the model reads" in message
    assert message.endswith("; shorten it")
    assert "\n" not in message
    assert seconds < 5 * least_seconds(model)  # of the fifty


def test_many_turns_of_megabytes_are_refused_at_once() -> None:
    """None of which alone is too long."""
    model = tiny("moondream2")
    said = Conversation.about(question="a")
    part = "x" * (int(model.kind._mind.context) // 2)
    for _ in range(2000):
        said = said.then(part, part)
    message, seconds = refused(model, said)
    assert "the conversation has over" in message
    letters = sum(len(turn.text) for turn in said.turns)
    assert seconds < 5 * least_seconds(model) * letters / len(HUGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_label_of_megabytes_is_refused_at_once(name: str) -> None:
    model = tiny(name)
    [state] = model.encode([PICTURE])
    began = time.perf_counter()
    with pytest.raises(BadRequest, match="the text has over .* tokens and the model reads"):
        model.run([state], Detect((HUGE[:-1],)))
    assert time.perf_counter() - began < 5 * least_seconds(model)


def test_what_just_fits_is_read(model: Model) -> None:
    """Bytes of one letter each: the check by length refuses nothing that the count of tokens would not."""
    context = model.kind._context if hasattr(model.kind, "_context") else model.kind._mind.context
    for letters, is_read in ((context // 2, True), (context + 100, False)):
        said = Conversation.about(question="x" * letters)
        if is_read:
            assert model.run([said], Chat(1))[0].tokens_in >= letters
        else:
            with pytest.raises(BadRequest, match="tokens and the model reads"):
                model.run([said], Chat(1))
