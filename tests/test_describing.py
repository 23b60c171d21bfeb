"""Descriptions by a language model: a stand-in server that speaks OpenAI's chat API, and one that does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from anmok.errors import AnmokError, BadData, BadRequest, Busy, MissingDependency, Refused, Unauthorized
from anmok.train import writers
from anmok.train.describing import Written, describe, waffle
from anmok.train.writers import Endpoint, Local

pytest.importorskip("httpx2")
CLASSES = ("scratch", "dent")


@dataclass
class StandIn:
    """Answers of the server, one for each request; the last one stays."""

    address: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def says(self, *texts: str | None, tokens: int = 70, status: int = 200) -> None:
        for text in texts:
            message = {"role": "assistant", "content": text}
            content = {"choices": [{"message": message}], "usage": {"total_tokens": tokens}}
            self.answers.append((status, json.dumps(content).encode()))


@pytest.fixture
def server() -> Iterator[StandIn]:
    state, turn = StandIn(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with turn:
                state.bodies.append({**body, "path": self.path})
                state.keys.append(self.headers.get("authorization"))
                status, data = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        state.address = f"http://127.0.0.1:{listening.server_address[1]}/v1"
        yield state
        listening.shutdown()


def test_each_class_is_asked_for_once_and_paid_for(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    server.says('["A long scratch on steel.", "It is a thin bright line."]')
    found = describe(CLASSES[:1], Endpoint(server.address, "writer-1", "A_KEY"), 2)
    assert found.sentences == (("A long scratch on steel.", "scratch: It is a thin bright line."),)
    assert (found.calls, found.tokens) == (1, 70)
    assert found.writer == f"writer-1 at {server.address[7:-3]}"
    assert "secret" not in repr(found)
    assert server.keys == ["Bearer secret"]
    [body] = server.bodies
    assert body["path"] == "/v1/chat/completions"
    assert body["model"] == "writer-1"
    assert '"scratch"' in body["messages"][1]["content"]
    assert "Write 2 different sentences" in body["messages"][1]["content"]


def test_the_order_is_that_of_the_classes_and_no_key_goes_unasked(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    names = tuple(f"thing {i}" for i in range(9))
    server.says('["Something round.", "Something flat."]')
    found = describe(names, Endpoint(server.address, "w"), 2)
    assert [group[0] for group in found.sentences] == [f"{name}: Something round." for name in names]
    assert (found.calls, found.tokens) == (9, 630)
    assert server.keys == [None] * 9


@pytest.mark.parametrize(
    "text",
    [
        '```json\n["A dent in a door."]\n```',
        'Here you are:\n["A dent in a door."] Good luck!',
        '["A dent in a door.", 7]',
    ],
)
def test_what_stands_around_the_list_does_not_matter(server: StandIn, text: str) -> None:
    server.says(text)
    assert describe(("dent",), Endpoint(server.address, "w"), 5).sentences == (("A dent in a door.",),)


def test_nonsense_is_asked_for_once_more_and_then_refused(server: StandIn) -> None:
    server.says("Sorry, what?", '["A dent."]')
    found = describe(("dent",), Endpoint(server.address, "w"), 1)
    assert (found.calls, found.tokens) == (2, 140)
    server.says("Sorry, what?")
    server.answers = server.answers[-1:]
    with pytest.raises(BadData, match="no JSON list of sentences on 'dent', twice"):
        describe(("dent",), Endpoint(server.address, "w"), 1)
    assert len(server.bodies) == 4


@pytest.mark.parametrize(
    ("status", "data", "kind", "said"),
    [
        (401, b"{}", Unauthorized, "wants an API key"),
        (404, b"{}", BadRequest, "no model 'w'"),
        (429, b"{}", Busy, "quota"),
        (400, b'{"error":\n "max_tokens is unknown"}', BadRequest, "answered 400 .*max_tokens is unknown"),
        (500, b"", Refused, "answered 500 .no reason given"),
        (302, b"", Refused, "answered 302"),
        (200, b"<html>", BadData, "is no JSON"),
        (200, b"\xff", BadData, "is no JSON"),
        (200, b"[]", BadData, "is no JSON"),
        (200, b'{"choices": []}', BadData, "has no choices"),
        (200, b'{"choices": [{"message": 3}]}', BadData, "has no choices"),
        (200, b'{"choices": [{"message": {"refusal": "I may not."}}]}', BadData, "declined .*I may not"),
        (200, b'{"choices": [{"message": {"content": null}}]}', BadData, "declined .*empty answer"),
        (200, b'"' + b"x" * 2**21 + b'"', Refused, "too long"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(
    server: StandIn, status: int, data: bytes, kind: type[AnmokError], said: str
) -> None:
    server.answers = [(status, data)]
    with pytest.raises(kind, match=said) as raised:
        describe(("dent",), Endpoint(server.address, "w"), 1)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_server_that_is_not_there_or_too_slow(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="no answer .ConnectError"):
        describe(("dent",), Endpoint("http://127.0.0.1:9/v1", "w"), 1)
    release = threading.Event()
    monkeypatch.setattr(StandIn, "answers", property(lambda self: release.wait(5) and [(500, b"")]), raising=False)
    try:
        with pytest.raises(Refused, match="no answer .ReadTimeout"):
            describe(("dent",), Endpoint(server.address, "w", seconds=0.2), 1)
    finally:
        release.set()


@pytest.mark.parametrize(
    "address", ["host/v1", "ftp://host/v1", "http://me:pw@host/v1", "http://[x/v1", "http://a\n/v1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(BadRequest, match="want an address") as raised:
        Endpoint(address, "w")
    assert "pw" not in str(raised.value)


def test_a_key_that_is_not_set_is_named() -> None:
    with pytest.raises(BadRequest, match="NO_SUCH_KEY is not set"):
        Endpoint("http://host/v1", "w", "NO_SUCH_KEY")


@dataclass(frozen=True)
class Fixed:
    sentences: tuple[str, ...]
    name: str = "fixed"
    at_once: int = 1

    def write(self, thing: str, count: int) -> Written:
        return Written(self.sentences, 1, 5)


def test_only_usable_sentences_stay() -> None:
    rough = ("a  DENT\n here", "", "...", "x" * 301, "a  DENT\n here", "a bowl", "a hole")
    assert describe(("dent",), Fixed(rough), 2).sentences == (("a DENT here", "dent: a bowl"),)
    with pytest.raises(BadData, match="no usable description of 'dent'"):
        describe(("dent",), Fixed(("", "?!")), 2)


@pytest.mark.parametrize(("classes", "count"), [((), 2), (("a", "a"), 2), (("a", " "), 2), (("a",), 0), (("a",), 51)])
def test_questions_that_make_no_sense(classes: tuple[str, ...], count: int) -> None:
    with pytest.raises(BadRequest, match="descriptions"):
        describe(classes, Fixed(("a",)), count)


def test_the_control_has_the_lengths_of_the_sentences_and_cannot_tell_classes_apart() -> None:
    like = (("one two three four five", "one two three"), ("one two three four five six", "one two three"))
    control = waffle(("scratch", "deep dent"), like, 3)
    assert [[len(one.split()) for one in group] for group in control] == [[5, 3], [6, 3]]
    assert [one.split(", ")[0] for group in control for one in group] == ["scratch"] * 2 + ["deep dent"] * 2
    first, second = (group[0].split(", ")[1].split() for group in control)
    assert first == second[:4]
    assert control == waffle(("scratch", "deep dent"), like, 3)
    assert control != waffle(("scratch", "deep dent"), like, 4)
    vowels = [sum(letter in "aeiou" for letter in one.split(", ")[1]) for one in control[0]]
    assert vowels[0] >= 4 * 2  # made-up words can be said, letters need not
    with pytest.raises(BadRequest, match="1 groups of sentences for 2 classes"):
        waffle(("a", "b"), (("x",),), 0)


def test_a_name_longer_than_the_sentence_still_gets_one_word() -> None:
    assert len(waffle(("a very long name",), (("two words",),), 0)[0][0].split()) == 5


def test_the_small_model_names_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingDependency, match=r"needs gguf: pip install 'anmok\[tune\]'"):
        describe(("dent",), Local(), 1)
