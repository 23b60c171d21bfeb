"""Answers over the wire: the object that comes out is the object that went in; nothing malformed gets through."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import AnmokError, BadRequest, BadWeights, CannotWrite, UnknownModel
from anmok.results import Detections, Failure, Result, Scores
from anmok.results.maps import packed
from anmok.wire import ASKS, NotYet, WrongField, answers_from_json, answers_to_json, result_from_json, result_to_json
from anmok.wire.refusals import code, error_of, public_message
from anmok.wire.schemas import reply_schema
from wire_samples import RESULTS, corrupted, detections, failures, fits, json_values, keypoints, masks, scores

TASKS = sorted(RESULTS)


def through(task: str, result: Result, *, is_whole: bool = True) -> Result:
    """Out and in again, as real JSON text."""
    return result_from_json(task, json.loads(json.dumps(result_to_json(result, is_whole=is_whole), allow_nan=False)))


def assert_same(ours: object, theirs: object) -> None:
    assert type(ours) is type(theirs)
    for field in fields(ours):  # type: ignore[arg-type]
        mine, its = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, its)
            assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        elif isinstance(mine, Result):
            assert_same(mine, its)
        elif field.name == "frames":
            for one, other in zip(mine, its, strict=True):
                assert_same(one, other)
        else:
            assert mine == its, field.name


def test_every_task_has_a_reader_and_an_ask() -> None:
    assert sorted(ASKS) == TASKS


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
def test_the_same_object_comes_back(task: str, data: st.DataObject) -> None:
    result = data.draw(RESULTS[task])
    assert_same(through(task, result), result)


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
def test_nothing_malformed_gets_through(task: str, data: st.DataObject) -> None:
    content = data.draw(json_values | st.just(None))
    if content is None:
        content = corrupted(result_to_json(data.draw(RESULTS[task])), data.draw)
    with contextlib.suppress(AnmokError):
        assert isinstance(result_from_json(task, content), Result)


@given(st.one_of(scores(), detections(), masks(), keypoints()))
def test_a_bare_answer_says_as_much_as_it_holds(result: Result) -> None:
    """What a person reads off the answer is the same after the trip."""
    task = {"Scores": "classify", "Detections": "detect", "Masks": "segment", "Keypoints": "pose"}[
        type(result).__name__
    ]
    back = through(task, result, is_whole=False)
    if isinstance(result, Scores):  # whether the model abstained is not in there for the client to judge again
        assert back.to_dict()["scores"] == result.to_dict()["scores"]
    else:
        assert back.to_dict() == result.to_dict()


@given(failures, st.sampled_from(TASKS))
def test_a_failure_comes_back_as_one(failure: Failure, task: str) -> None:
    back = through(task, failure)
    assert isinstance(back, Failure)
    assert type(back.error) is type(failure.error)
    assert (back.source, str(back.error)) == (failure.source, " ".join(str(failure.error).split()))


@given(st.lists(detections() | failures, max_size=3))
def test_a_whole_reply_keeps_the_order(results: list[Result]) -> None:
    content = json.loads(json.dumps(answers_to_json("m", results)))
    assert content["model"] == "m"
    assert fits(reply_schema("detect"), content)
    back = answers_from_json("detect", content)
    assert [one.to_dict() for one in back] == [result_to_json(one, is_whole=False) for one in results]
    for wrong in ([], {}, {"answers": 3}, {"answers": [3]}):
        with pytest.raises(BadRequest):
            answers_from_json("detect", wrong)


def test_only_the_best_are_sent_where_only_they_are_shown() -> None:
    values = np.asarray([0.1, 0.6, 0.0, 0.3], np.float32)
    whole = Scores(("a", "b", "c", "d"), values, "softmax", 0.2, 2)
    back = through("classify", whole)
    assert isinstance(back, Scores)
    assert (back.labels, back.top_k, back.threshold, back.label) == (("b", "d"), 2, 0.2, "b")
    assert back.to_dict() == whole.to_dict()
    assert len(json.dumps(result_to_json(whole))) < 200


def test_two_classes_of_one_name_stay_two() -> None:
    """ImageNet has two cranes."""
    found = Detections(
        np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.asarray([2, 0]), ("crane", "cat", "crane"), (3, 3)
    )
    back = through("detect", found)
    assert isinstance(back, Detections)
    assert back.class_ids.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("task", "content"),
    [
        ("classify", {"scores": [], "scoring": "softmax"}),
        ("classify", {"scores": [{"label": "a", "score": 1}], "scoring": "other"}),
        ("classify", {"scores": [{"label": "a", "score": 1}], "scoring": "softmax", "order": [0, 1]}),
        ("embed", {"space": "other", "vector": [1]}),
        ("detect", {"size": [3, 3], "detections": [], "labels": [3], "class_ids": []}),
        ("detect", {"size": [0, 3], "detections": []}),
        ("parse", {"size": [2, 2], "parts": [{"part": "a", "rle": {"size": [3, 3], "counts": [0, 9]}}]}),
        ("parse", {"size": [2, 2], "parts": [], "names": ["a"]}),  # pixels of which nothing is said
        ("depth", {"kind": "depth", "depth": {"shape": [1, 1], "zlib": "AAAA"}}),
        ("paint", {}),
    ],
)
def test_what_is_no_answer_is_told_so(task: str, content: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        result_from_json(task, content)


def test_a_bomb_is_not_unpacked() -> None:
    content = {"alpha": packed(np.zeros((2, 2), np.float32)) | {"shape": [10**6, 10**6]}}
    with pytest.raises(BadRequest, match="no answer to matte"):
        result_from_json("matte", content)
    with pytest.raises(BadRequest):
        result_from_json("parse", {"size": [10**6, 10**6], "parts": [], "names": ["a"]})


@pytest.mark.parametrize(
    ("error", "seen", "sentence"),
    [
        (BadRequest("labels: give\nat least one"), "bad_request", "labels: give at least one"),
        (WrongField("ask.top_k", "want a whole number"), "bad_request", "ask.top_k: want a whole number"),
        (NotYet("chat", "language model"), "unsupported", "chat: this server has no language model yet"),
        (UnknownModel("no model siglip3"), "unknown_model", "no model siglip3"),
        (
            BadWeights("/home/a/model.bin: torn"),
            "bad_weights",
            "the model's weights cannot be used; the server's log says why",
        ),
        (CannotWrite("/var/x: full"), "cannot_write", "the server's disk is full or read-only"),
        (BadRequest("x" * 9999), "bad_request", "x" * 500),
        (AnmokError("/secret"), "anmok_error", "the server could not answer; its log says why"),
    ],
)
def test_errors_say_nothing_of_this_machine(error: AnmokError, seen: str, sentence: str) -> None:
    assert (code(error), public_message(error)) == (seen, sentence)
    content: dict[str, Any] = result_to_json(Failure("image of 3 bytes", error))
    assert content["message"] == sentence
    assert isinstance(error, type(error_of(content["error"], content["message"])))
