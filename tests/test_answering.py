"""One answer or failure per item, by the engine and by ``map``; a model that bills is never asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from anmok import Chat, Classify, Conversation, Prompted, cards
from anmok.catalogue.sources import RemoteSource
from anmok.engine import Engine, Limits
from anmok.errors import BadData, BadMedia, BadRequest, ModelFailed
from anmok.load import Model, tiny
from anmok.load.loading import _composed
from anmok.results import Failure, Reply, Scores
from anmok.tasks import Ask
from remote_vendor import OPENAI, Answer, Vendor, Write, openai, opened, set_up, vendor

RED = np.full((20, 30, 3), (220, 30, 30), np.uint8)
BLUE = np.full((20, 30, 3), (40, 50, 220), np.uint8)
POINTED = Prompted(RED, points=((3, 3, 1),))
ASK: Ask[Any, Any] = Classify(("red", "blue"))
QUESTIONS = [f"q{number}" for number in range(7)]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    """Answers each question with its own words; ``q2`` and ``q5`` are paid for and come back as no answer."""
    with vendor() as found:

        def said(number: int) -> Answer:
            def say(write: Write) -> None:
                question = found.asked[number].body["messages"][0]["content"]
                write(b"data: {oops\n\n" if question in ("q2", "q5") else openai([f"{question}!"]))

            return Answer(say)

        found.says(*(said(number) for number in range(50)))
        set_up(monkeypatch, OPENAI, found.root)
        yield found


def questions(there: Vendor) -> list[str]:
    """In the order of the alphabet: several are asked at a time."""
    return sorted(one.body["messages"][0]["content"] for one in there.asked)


def check_answers(answers: list[Any]) -> None:
    """Of ``QUESTIONS``: each has its own, and the two failures are of the right items."""
    for question, answer in zip(QUESTIONS, answers, strict=True):
        if question in ("q2", "q5"):
            assert isinstance(answer, Failure)
            assert answer.source == "conversation"
            assert isinstance(answer.error, BadData)
        else:
            assert isinstance(answer, Reply)
            assert answer.text == f"{question}!"


def test_the_engine_asks_a_model_that_bills_once_per_item(there: Vendor) -> None:
    items = [Conversation.about(question=question) for question in QUESTIONS]
    with Engine(2**30, lambda _: opened(OPENAI), limits=Limits(batch_items=32)) as engine:
        answers = engine.run("openai-chat", items, Chat())
        [status] = engine.status().models
    check_answers(answers)
    assert questions(there) == QUESTIONS  # each once
    assert (status.failed, status.retried) == (2, 0)


def test_map_asks_a_model_that_bills_once_per_item(there: Vendor) -> None:
    items = [Conversation.about(question=question) for question in QUESTIONS]
    check_answers(list(opened(OPENAI).map(items, Chat())))
    assert questions(there) == QUESTIONS


def test_a_picture_that_cannot_be_read_costs_no_question(there: Vendor) -> None:
    """And keeps no other from being asked."""
    items = [Conversation.about(b"no picture", question="q0"), Conversation.about(question="q1")]
    with Engine(2**30, lambda _: opened(OPENAI)) as engine:
        bad, good = engine.run("openai-chat", items, Chat())
    assert isinstance(bad, Failure)
    assert isinstance(bad.error, BadMedia)
    assert isinstance(good, Reply)
    assert questions(there) == ["q1"]


def test_what_bills_is_what_somebody_else_runs() -> None:
    """Also where it is only a part."""
    billed = {one.name for one in cards(is_hidden=True) if one.is_billed}
    assert billed == {one.name for one in cards(is_hidden=True) if isinstance(one.source, RemoteSource)}
    assert "openai-chat" in billed
    whole = next(one for one in cards() if "talks" in one.parts)
    assert not whole.is_billed
    assert _composed(whole, {"talks": "openai-chat"}).is_billed


def test_map_goes_on_after_what_cannot_be_answered() -> None:
    model = tiny("fake")
    found = list(model.map([RED, POINTED, BLUE, b"no picture"], ASK))
    assert [type(one) for one in found] == [Scores, Failure, Scores, Failure]
    alone = [model.run([one], ASK)[0] for one in (RED, BLUE)]
    for one, other in zip(alone, (found[0], found[2]), strict=True):
        assert isinstance(other, Scores)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-6)
    assert isinstance(found[1], Failure)
    assert isinstance(found[1].error, BadRequest)
    assert "takes no points or boxes" in str(found[1].error)
    assert found[1].error.__traceback__ is None  # its frames hold the batch
    assert isinstance(found[3], Failure)
    assert isinstance(found[3].error, BadMedia)


def test_map_raises_where_it_is_told_to() -> None:
    answers = tiny("fake").map([RED, POINTED], ASK, on_error="raise")
    with pytest.raises(BadRequest, match="takes no points"):
        next(answers)


def test_a_question_that_no_item_can_be_asked_ends_the_map_at_once() -> None:
    taken = 0

    def many() -> Iterator[Prompted]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield POINTED

    with pytest.raises(BadRequest, match="takes no points"):
        list(tiny("fake").map(many(), ASK))
    assert taken <= 32  # a batch, and the one that is read meanwhile
    [failure] = tiny("fake").map([POINTED], ASK)  # of one item nobody can tell
    assert isinstance(failure, Failure)


def test_a_later_batch_of_failures_ends_nothing() -> None:
    found = list(tiny("fake").map([RED] * 16 + [POINTED] * 16 + [RED], ASK))
    assert [isinstance(one, Failure) for one in found] == [False] * 16 + [True] * 16 + [False]


def test_what_a_model_should_not_raise_is_a_failure_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, sizes = tiny("fake"), list[int]()
    trips_over(monkeypatch, model, sizes)
    found = list(model.map([RED, np.zeros((1, 1, 3), np.uint8), BLUE], ASK))
    assert [type(one) for one in found] == [Scores, Failure, Scores]
    assert sizes == [3, 1, 1, 1]  # the batch, then each alone
    assert isinstance(found[1], Failure)
    assert isinstance(found[1].error, ModelFailed)
    assert isinstance(found[1].error.__cause__, ZeroDivisionError)
    assert found[1].error.__cause__.__traceback__ is None
    assert "oops" not in str(found[1].error)
    assert "oops" in caplog.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_map_is_interrupted_as_anything_is(monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]) -> None:
    model = tiny("fake")
    trips_over(monkeypatch, model, [], stop)
    with pytest.raises(stop):
        list(model.map([RED, np.zeros((1, 1, 3), np.uint8)], ASK))


def trips_over(
    patch: pytest.MonkeyPatch, model: Model, sizes: list[int], error: type[BaseException] = ZeroDivisionError
) -> None:
    """The net of this model raises where a picture of one pixel is in the batch; ``sizes`` gets those of all."""
    whole = model.kind.classify

    def classify(states: Any, ask: Any) -> Any:
        sizes.append(len(states))
        if any(one.place.size_hw == (1, 1) for one in states):
            raise error("oops")
        return whole(states, ask)

    patch.setattr(model.kind, "classify", classify, raising=False)
