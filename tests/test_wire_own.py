"""Our own dialect: asks, items and whole requests as JSON and multipart, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok import media
from anmok.errors import AnmokError, BadRequest
from anmok.inputs import Clip, Conversation, Encoded, Item, Prompted, Text
from anmok.tasks import (
    Classify,
    Depth,
    Detect,
    Everything,
    Pose,
    Segment,
)
from anmok.wire import (
    Call,
    Intake,
    Part,
    ask_from_json,
    ask_to_json,
    call_from_json,
    call_from_parts,
    call_to_json,
    error_to_json,
    item_from_json,
    item_to_json,
    lines,
)
from anmok.wire.fields import parsed
from anmok.wire.refusals import WrongField
from wire_samples import ASKS, CODE, ITEMS, PICTURE, corrupted, json_values

INTAKE = Intake()
SMALL = Intake(image_bytes=100, clip_bytes=150, items=2)


@pytest.mark.parametrize("task", sorted(ASKS))
@given(data=st.data())
def test_an_ask_comes_back_equal(task: str, data: st.DataObject) -> None:
    ask = data.draw(ASKS[task])
    content = json.loads(json.dumps(ask_to_json(ask), allow_nan=False))
    back = ask_from_json(task, content)
    assert back == ask
    assert hash(back) == hash(ask)  # a server batches by it


def test_what_stands_at_its_default_is_left_out() -> None:
    assert ask_to_json(Classify(("cat",))) == {"labels": ["cat"]}
    assert ask_to_json(Segment(everything=Everything(16))) == {"everything": {"points_per_side": 16}}
    assert ask_to_json(Pose()) == {}
    assert ask_from_json("segment", {"everything": {}}) == Segment()


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("detekt", {}, "task: unknown; did you mean detect?"),
        ("segmnt", {}, "task: unknown; did you mean segment?"),
        ("xyzzy", {}, "task: unknown; want chat, classify, depth, detect"),
        ("detect", [], "ask: want an object, got a list"),
        ("detect", {"treshold": 0.5}, "ask: unknown key 'treshold'; did you mean 'threshold'?"),
        ("depth", {"q": 1}, "ask: unknown key 'q'; want focal_px"),
        ("parse", {"q": 1}, "ask: unknown key 'q'; want no keys at all"),
        (
            "segment",
            {"everything": {"min_aera": 3}},
            "ask.everything: unknown key 'min_aera'; did",
        ),
        ("detect", {"labels": "cat"}, "ask.labels: want a list, got a text"),
        ("detect", {"labels": ["cat", 3]}, r"ask.labels\[1\]: want a text, got a number"),
        ("detect", {"labels": []}, "labels: give at least one"),
        ("detect", {"labels": ["\ud800"]}, r"ask.labels\[0\]: half a surrogate pair is no text"),
        ("detect", {"threshold": "0.5"}, "ask.threshold: want a number, got a text"),
        ("detect", {"threshold": True}, "ask.threshold: want a number, got true or false"),
        ("detect", {"threshold": float("nan")}, "ask.threshold: want a finite number"),
        ("detect", {"threshold": 10**400}, "ask.threshold: want a finite number"),
        ("detect", {"threshold": 2}, "threshold 2.0: must lie between 0 and 1"),
        ("detect", {"top_k": 1.5}, "ask.top_k: want a whole number, got a fraction"),
        ("detect", {"top_k": None, "nms": {}}, "ask.nms: want a number, got an object"),
        ("embed", {"space": "imagee"}, "ask.space: want image or features"),
        ("embed", {"space": None}, "ask.space: want image or features"),
        ("segment", {"everything": None}, "ask.everything: want an object, got null"),
        ("segment", {"candidates": True}, "ask.candidates: want a whole number, got true or false"),
    ],
)
def test_wrong_asks_are_told_what_is_wrong(task: str, content: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}") as caught:
        ask_from_json(task, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", sorted(ASKS))
@given(data=st.data())
def test_no_malformed_ask_breaks_anything(task: str, data: st.DataObject) -> None:
    content = data.draw(json_values)
    if data.draw(st.booleans()):
        content = corrupted(ask_to_json(data.draw(ASKS[task])), data.draw)
    with contextlib.suppress(AnmokError):
        assert ask_from_json(task, content).task == task


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_an_item_comes_back_the_same(item: Item) -> None:
    back = item_from_json(json.loads(json.dumps(item_to_json(item))), "item", INTAKE)
    assert type(back) is type(item)
    if isinstance(item, bytes | Text):
        assert back == item
    elif isinstance(item, Conversation):
        assert repr(back) == repr(item)  # the bytes of its pictures are in it
    else:
        assert all(getattr(back, field.name) == getattr(item, field.name) for field in fields(item))  # type: ignore[arg-type]


def test_arrays_travel_as_png() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    back = item_from_json(item_to_json(array), "item", INTAKE)
    assert isinstance(back, bytes)
    np.testing.assert_array_equal(media.read(back), array)


@pytest.mark.parametrize("item", ["photo.png", Encoded("m", {}), io.BytesIO(b"x"), Clip("clip.mp4")])
def test_what_has_no_wire_form_says_so(item: Item) -> None:
    with pytest.raises(BadRequest, match="has no wire form; give the bytes"):
        item_to_json(item)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/etc/passwd", "item: want base64 of the file itself; paths and addresses are not opened"),
        ("file:///etc/passwd", "item: want base64"),
        ("https://example.org/a.png", "item: this server opens no addresses"),
        ("HTTP://127.0.0.1/", "item: this server opens no addresses"),
        ("data:image/png,abc", "item: want data:<type>;base64,<bytes>"),
        ("", "item: the file is empty"),
        ("A" * 400, "item: about 300 bytes; 100 are the limit"),
        (None, "item: want base64 of the file, got null"),
        ({"image": None}, "item.image: is missing"),
        ({"imgae": CODE}, "item: unknown key 'imgae'; did you mean 'image'?"),
        ({"image": "AAAA", "points": [[1, 2]]}, r"item.points\[0\]: want 3 values, got 2"),
        ({"image": "AAAA", "points": [[1, 2, 5]]}, r"item.points\[0\]\[2\]: want 0 or 1"),
        ({"image": "AAAA", "points": [["1", 2, 1]]}, r"item.points\[0\]\[0\]: want a number, got a text"),
        ({"image": "AAAA", "boxes": [[5, 5, 1, 1]]}, r"box \(5.0, 5.0, 1.0, 1.0\): want left, top, right, bottom"),
        ({"image": "AAAA", "mask": {"size": [9, 9], "counts": [80]}}, "item.mask: mask: COCO runs do not fill"),
        ({"image": "AAAA", "mask": {"size": [60000, 60000], "counts": [36 * 10**8]}}, "item.mask.size: 60000 x 60000"),
        ({"image": "AAAA", "mask": {"size": [9, 9], "counts": "1" * 250_001}}, "item.mask.counts: 250,001 letters"),
        ({"x" * 10**6: CODE}, "item: unknown key 'x{40}'; want image"),
        ({"text": 3}, "item.text: want a text, got a number"),
        ({"text": "a", "image": "AAAA"}, "item: unknown key 'image'; want text"),
        ({"clip": "AAAA", "cues": [{}]}, r"item.cues\[0\].frame: is missing"),
        ({"clip": "AAAA", "fps": 0}, "clip: fps 0.0 must lie above 0"),
        ({"clip": ["A" * 120, "A" * 120]}, "item.clip: over 150 bytes"),
        ({"part": "a"}, "item.part: there is no such part in the body"),
    ],
)
def test_wrong_items_are_told_what_is_wrong(value: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        item_from_json(value, "item", SMALL)


def test_an_address_is_only_opened_by_what_the_server_hands_in() -> None:
    asked: list[tuple[str, int]] = []

    def fetch(address: str, limit: int) -> bytes:
        asked.append((address, limit))
        return PICTURE

    intake = replace(SMALL, fetch=fetch)
    assert item_from_json("https://example.org/a.png", "item", intake) == PICTURE
    assert asked == [("https://example.org/a.png", 100)]
    with pytest.raises(BadRequest, match="7 bytes; 5 are the limit"):
        item_from_json("http://a", "item", Intake(image_bytes=5, fetch=lambda address, limit: b"1234567"))


def test_a_request_comes_back_the_same() -> None:
    call = Call(Detect(("cat", "dog"), top_k=3), (PICTURE, PICTURE), "owlv2-b16")
    content = json.loads(json.dumps(call_to_json(call)))
    assert sorted(content) == ["ask", "items", "model"]
    assert call_from_json("detect", content, INTAKE) == call
    assert call_from_json("depth", {"items": [CODE]}, INTAKE) == Call(Depth(), (PICTURE,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "request: want an object, got a list"),
        ({}, "items: is missing"),
        ({"items": []}, "items: give at least one"),
        ({"items": CODE}, "items: want a list, got a text"),
        ({"items": ["AAAA"] * 3}, "items: 3 values; 2 are the limit"),
        ({"items": ["AAAA", "?"]}, r"items\[1\]: want base64"),
        ({"items": ["AAAA"], "model": 3}, "model: want a text, got a number"),
        ({"items": ["AAAA"], "tasks": 3}, "request: unknown key 'tasks'; did you mean 'ask'?"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(content: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        call_from_json("detect", content, SMALL)


def test_multipart_brings_the_bytes_as_they_are() -> None:
    request = json.dumps({"model": "m", "ask": {"labels": ["cat"]}}).encode()
    call = call_from_parts("detect", [Part("image", PICTURE), Part("request", request), Part("image", b"2")], INTAKE)
    assert call == Call(Detect(("cat",)), (PICTURE, b"2"), "m")
    assert call_from_parts("detect", [Part("image", PICTURE)], INTAKE) == Call(Detect(), (PICTURE,))
    clip = call_from_parts("track", [Part("clip", b"video")], INTAKE).items[0]
    assert isinstance(clip, Clip)
    assert clip.source == b"video"
    pointed = {"items": [{"image": {"part": "a"}, "points": [[1, 1, 1]]}, {"part": "b"}, CODE]}
    parts = [Part("a", b"1"), Part("request", json.dumps(pointed).encode()), Part("b", b"2")]
    first, second, third = call_from_parts("segment", parts, INTAKE).items
    assert isinstance(first, Prompted)
    assert (first.image, second, third) == (b"1", b"2", PICTURE)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "items: give at least one"),
        ([Part("request", b"{}"), Part("request", b"{}")], "request: one part of that name"),
        ([Part("request", b"[]")], "request: want an object"),
        ([Part("request", b"{")], "the body is no JSON"),
        ([Part("file", b"1")], "file: unknown part; want request, image or clip"),
        ([Part("image", b"")], r"items\[0\]: the file is empty"),
        ([Part("image", b"1" * 101)], r"items\[0\]: 101 bytes; 100 are the limit"),
        ([Part("clip", b"1" * 151)], r"items\[0\].clip: 151 bytes; 150 are the limit"),
        ([Part("image", b"1")] * 3, "items: 3 values; 2 are the limit"),
        ([Part("a", b"1"), Part("a", b"2"), Part("request", b'{"items": [{"part": "a"}]}')], "items: parts that"),
        ([Part("request", b'{"items": [{"part": "request"}]}')], r"items\[0\].part: there is no such part"),
    ],
)
def test_wrong_multipart_is_told_what_is_wrong(parts: list[Part], message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        call_from_parts("detect", parts, SMALL)


@given(st.data())
def test_no_malformed_request_breaks_anything(data: st.DataObject) -> None:
    good = [call_to_json(Call(Segment(), (item,), "m")) for item in ITEMS]
    content = corrupted(data.draw(st.sampled_from(good)), data.draw)
    with contextlib.suppress(AnmokError):
        assert isinstance(call_from_json("segment", content, INTAKE), Call)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        value = parsed(body, limit=1000)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"\xff", "not UTF-8"),
        (b"[NaN]", "NaN is no number of JSON"),
        (b'{"a": Infinity}', "Infinity is no number"),
        (b"[" * 50_000, "nested too deep"),
        (b'"\\ud800"', "not UTF-8"),
        (b"1" * 5000, "no JSON"),
        (b" " * 100_001, "the body has 100,001 bytes; 100,000 are the limit"),
    ],
)
def test_bodies_that_are_no_json(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parsed(body, limit=100_000)


def test_errors_have_a_code_a_field_and_an_id() -> None:
    assert error_to_json(WrongField("ask.top_k", "want a whole number"), "r1") == {
        "error": {
            "code": "bad_request",
            "message": "ask.top_k: want a whole number",
            "field": "ask.top_k",
            "request_id": "r1",
        }
    }
    assert error_to_json(BadRequest("no")) == {"error": {"code": "bad_request", "message": "no"}}


def test_lines_are_one_object_each() -> None:
    assert list(lines([{"a": "가\n"}, {}])) == ['{"a": "가\\n"}\n'.encode(), b"{}\n"]
