"""The schemas of our own dialect hold for everything that is sent, and are no looser than the readers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import AnmokError
from anmok.wire import Call, ask_from_json, ask_to_json, call_to_json, item_to_json, result_to_json
from anmok.wire.schemas import answer_schema, ask_schema, call_schema, item_schema
from wire_samples import ASKS, CODE, ITEMS, RESULTS, corrupted, failures, fits

TASKS = sorted(ASKS)


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
def test_every_answer_fits(task: str, data: st.DataObject) -> None:
    result = data.draw(RESULTS[task] | failures)
    content = json.loads(json.dumps(result_to_json(result, is_whole=data.draw(st.booleans()))))
    assert fits(answer_schema(task), content)


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
def test_an_ask_fits_where_it_is_read_and_nowhere_else(task: str, data: st.DataObject) -> None:
    good = ask_to_json(data.draw(ASKS[task]))
    assert fits(ask_schema(task), good)
    content = corrupted(good, data.draw)
    with contextlib.suppress(AnmokError):
        ask_from_json(task, content)
        assert fits(ask_schema(task), json.loads(json.dumps(content), parse_float=whole))


def whole(text: str) -> int | float:
    """JSON Schema calls 3.0 an integer."""
    number = float(text)
    return int(number) if number.is_integer() else number


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_every_item_fits(item: Any) -> None:
    assert fits(item_schema(), json.loads(json.dumps(item_to_json(item))))


def test_requests_fit() -> None:
    call = Call(ask_from_json("detect", {"labels": ["cat"]}), (ITEMS[0], ITEMS[2]), "m")
    assert fits(call_schema("detect"), call_to_json(call))
    assert fits(call_schema("detect"), {"items": [{"image": {"part": "a"}}]})
    for wrong in ({}, {"items": []}, {"items": [CODE], "x": 1}, {"items": [{"image": 3}]}, {"items": [{"img": CODE}]}):
        assert not fits(call_schema("detect"), wrong)


def test_schemas_are_plain_json_and_say_what_they_mean() -> None:
    for task in TASKS:
        json.dumps([ask_schema(task), call_schema(task), answer_schema(task)], allow_nan=False)
    assert ask_schema("depth")["description"].startswith("How far is everything?")
