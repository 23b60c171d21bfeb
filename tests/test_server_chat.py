"""Chat by this server's own models: the real ``openai`` and Hugging Face clients, and plain HTTP, on a real socket."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import httpx2
import huggingface_hub
import openai
import pytest
from huggingface_hub import InferenceClient
from openai import OpenAI

import anmok.server.engines
from anmok import Chat, Conversation, Piece
from anmok.load import Model, load
from anmok.server.settings import Key, Served, Settings
from anmok.wire import call_to_json, result_from_json
from anmok.wire.own import Call
from serving import RED_BOX, Running, png, running, scene

TALKING = tuple(Served.of(name) for name in ("fake", "fake-talk", "fake-talk-text"))
RED = png(scene({"red": (0, 0, 80, 60)}))
SECRET, NARROW = "a key of the tests, long enough", "a narrow key of the tests"
SLOW, BROKEN = "slowly", "break down"


def address(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def about(question: str, *pictures: bytes, system: str = "") -> Any:
    shown = [{"type": "image_url", "image_url": {"url": address(one)}} for one in pictures]
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": [*shown, {"type": "text", "text": question}]}]


class Slow:
    """A model that waits after two pieces where it is told to speak slowly, and breaks where it is told to."""

    def __init__(self) -> None:
        self.opens = threading.Event()

    def load(self, name: str, **settings: Any) -> Model:
        model = load(name, **settings)
        if "chat" in model.card.tasks:
            model.kind.talk = self._held(model.kind.talk)
        return model

    def _held(self, talk: Callable[..., Iterator[Piece]]) -> Callable[..., Iterator[Piece]]:
        def held(state: Conversation, ask: Chat) -> Iterator[Piece]:
            question = state.turns[-1].text
            for number, piece in enumerate(talk(state, ask)):
                if number == 2 and BROKEN in question:
                    raise RuntimeError("a secret of this machine")
                if number >= 2 and SLOW in question:
                    assert self.opens.wait(30)
                yield piece

        return held


@pytest.fixture(scope="module")
def slow() -> Slow:
    return Slow()


@pytest.fixture(scope="module")
def server(slow: Slow) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", slow.load)
        with running(Settings(models=TALKING)) as found:
            yield found
            slow.opens.set()
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_an_answer(client: OpenAI) -> None:
    messages = about("뭐예요? 🌈", RED, RED_BOX, system="Be short.")
    answer = client.chat.completions.create(model="fake-talk", messages=messages)
    [choice] = answer.choices
    text = "Be short. I see red, black. Question 1: 뭐예요? 🌈"
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (text, "assistant", "stop")
    assert (answer.model, answer.object, answer.id[:9]) == ("fake-talk", "chat.completion", "chatcmpl-")
    assert 0 <= time.time() - answer.created < 60
    assert answer.usage is not None
    # Texts of 9 and 15 bytes in threes, two turns of 2, two pictures of 16; the answer's bytes, and its end.
    out = -(-len(text.encode()) // 3) + 1
    counts = answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens
    assert counts == (3 + 5 + 4 + 32, out, 44 + out)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.image_tokens == 32  # type: ignore[attr-defined]


def test_the_same_in_pieces(client: OpenAI) -> None:
    messages = about("뭐예요? 🌈", RED)
    whole = client.chat.completions.create(model="fake-talk", messages=messages)
    with client.chat.completions.create(
        model="fake-talk", messages=messages, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    texts = [one.choices[0].delta.content for one in chunks if one.choices and one.choices[0].delta.content]
    assert "".join(texts) == whole.choices[0].message.content == "I see red. Question 1: 뭐예요? 🌈"
    assert len(texts) > 5
    assert not any("\ufffd" in text for text in texts)  # characters of three and four bytes, in tokens of three
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-2:] == [None, "stop"]
    assert (chunks[-1].choices, chunks[-1].usage) != ([], None)
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert len({one.id for one in chunks}) == 1
    without = list(client.chat.completions.create(model="fake-talk", messages=messages, stream=True))
    assert [one.usage for one in without] == [None] * len(without)


def test_pieces_come_while_the_model_is_at_work_and_whoever_leaves_ends_it(
    client: OpenAI, server: Running, slow: Slow
) -> None:
    assert server.server is not None
    engine = server.server.desk.engine
    stream = client.chat.completions.create(model="fake-talk", messages=about(f"Say it {SLOW}"), stream=True)
    first = [next(stream).choices[0].delta.content for _ in range(3)]
    assert first == ["", "Que", "sti"]  # and the model waits before the next one
    assert engine.status().items == 1
    before = cancelled(server)
    stream.close()
    slow.opens.set()
    until(lambda: engine.status().items == 0)
    assert cancelled(server) == before + 1  # what was left was not asked of the model
    slow.opens.clear()


def cancelled(server: Running) -> int:
    assert server.server is not None
    return next(one.cancelled for one in server.server.desk.engine.status().models if one.name == "fake-talk")


def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.02)


def test_what_is_asked_for_is_done(client: OpenAI) -> None:
    create = client.chat.completions.create
    cut = create(model="fake-talk", messages=about("Hm?"), max_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("Questi", "length")
    cut = create(model="fake-talk", messages=about("Hm?"), max_completion_tokens=1, max_tokens=5)
    assert cut.choices[0].message.content == "Que"
    for stop in ("on 1", ["zz", "on 1"]):
        ended = create(model="fake-talk", messages=about("Hm?"), stop=stop)
        assert (ended.choices[0].message.content, ended.choices[0].finish_reason) == ("Questi", "stop")
    pieces = create(model="fake-talk", messages=about("Hm?"), stop="on 1", stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == "Questi"
    drawn = [
        create(model="fake-talk", messages=about("?", RED), temperature=2, seed=seed).choices[0].message.content
        for seed in (0, 0, 1, 2, 3, 4, 5, 6)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    messages = [*about("a", RED), {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    told = create(model="fake-talk", messages=messages)
    assert told.choices[0].message.content == "I see red. Question 2: c"
    raw = client.chat.completions.with_raw_response.create(model="fake-talk", messages=about("a"), user="me")
    assert raw.headers["x-anmok-ignored"] == "user"


WRONG: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str | None]] = {
    "model": ({"model": "gpt-5"}, openai.NotFoundError, "no model called 'gpt-5'", None),
    "no chat": ({"model": "fake"}, openai.InternalServerError, "fake does not chat; it can embed, classify", None),
    "role": (
        {"messages": [{"role": "tool", "content": "a", "tool_call_id": "x"}]},
        openai.UnprocessableEntityError,
        r"messages\[0\].role: want system, developer, user, assistant",
        "messages[0].role",
    ),
    "blind": (
        {"model": "fake-talk-text", "messages": about("a", RED)},
        openai.UnprocessableEntityError,
        "1 picture for fake-talk-text, which takes none: it only reads",
        None,
    ),
    "pictures": (
        {"messages": about("a", *[RED] * 5)},
        openai.UnprocessableEntityError,
        "5 pictures for fake-talk, which takes 4 in a conversation",
        None,
    ),
    "no picture": ({"messages": about("a", b"no")}, openai.UnprocessableEntityError, "not an image that anmok", None),
    "empty": ({"messages": about(" ")}, openai.UnprocessableEntityError, "nothing is said in it", "messages[0]"),
    "long": ({"messages": about("word " * 9000)}, openai.UnprocessableEntityError, "the model reads 4,096", None),
    "schema": (
        {"response_format": {"type": "json_object"}},
        openai.InternalServerError,
        "fake-talk cannot be held to a schema",
        None,
    ),
    "tools": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        openai.UnprocessableEntityError,
        "tools: this server does not do that",
        "tools",
    ),
}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_errors_are_the_clients_own_streamed_or_not(client: OpenAI, name: str, is_streamed: bool) -> None:
    given, kind, sentence, place = WRONG[name]
    asked: Any = {"model": "fake-talk", "messages": about("a"), "stream": is_streamed} | given
    with pytest.raises(kind, match=sentence) as caught:
        client.chat.completions.create(**asked)
    assert caught.value.param == place


def test_what_breaks_in_the_middle_is_told_in_the_stream(client: OpenAI) -> None:
    heard = []
    stream = client.chat.completions.create(model="fake-talk", messages=about(BROKEN), stream=True)
    with pytest.raises(openai.APIError, match="the server could not answer; its log says why") as caught:
        heard.extend(chunk.choices[0].delta.content for chunk in stream)
    assert heard == ["", "Que", "sti"]
    assert "secret" not in str(caught.value.body)


def test_hugging_faces_client(server: Running) -> None:
    client = InferenceClient(model=f"{server.address}/models/fake-talk", provider="hf-inference")
    assert client.chat_completion(about("Hm?", RED)).choices[0].message.content == "I see red. Question 1: Hm?"
    pieces = client.chat_completion(about("Hm?", RED), stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == "I see red. Question 1: Hm?"
    assert client.chat_completion(about("Hm?"), max_tokens=1).choices[0].finish_reason == "length"
    assert client.get_endpoint_info()["tasks"] == ["chat"]


def test_the_events_as_they_are(server: Running) -> None:
    reply = server.post("/v1/chat/completions", {"model": "fake-talk", "messages": about("한"), "stream": True})
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
    rows = reply.body.decode().split("\n\n")
    assert rows[-2:] == ["data: [DONE]", ""]
    assert "한" in reply.body.decode()  # other alphabets as they are


def test_our_own_dialect_whole_and_line_by_line(server: Running) -> None:
    said = [Conversation.about(RED, question="a", system="s"), Conversation.about(question="b")]
    body = call_to_json(Call(Chat(20), tuple(said), "fake-talk"))
    whole = server.post("/run/chat", body)
    assert [one["text"] for one in whole.json["answers"]] == ["s I see red. Question 1: a", "Question 1: b"]
    assert whole.json["answers"][0]["image_tokens"] == 16
    one = call_to_json(Call(Chat(20), (said[0],), "fake-talk"))
    lines = server.post("/run/chat", one, accept="application/x-ndjson").body.splitlines()
    pieces = [result_from_json("chat", json.loads(line)) for line in lines]
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert "".join(json.loads(line)["piece"] for line in lines) == "s I see red. Question 1: a"
    assert json.loads(lines[-1])["reply"]["tokens_out"] == 10
    many = server.post("/run/chat", body, accept="application/x-ndjson").body.splitlines()
    assert [json.loads(line)["text"] for line in many] == ["s I see red. Question 1: a", "Question 1: b"]
    # Where one model alone talks as asked, it need not be named.
    unnamed = server.post("/run/chat", {"items": body["items"]})
    assert (unnamed.status, unnamed.json["error"]["field"]) == (422, "model")


def test_an_address_is_opened_where_the_server_opens_addresses(server: Running) -> None:
    shown = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}, {"type": "text", "text": "a"}]
    reply = server.post(
        "/v1/chat/completions", {"model": "fake-talk", "messages": [{"role": "user", "content": shown}]}
    )
    assert reply.json["error"]["param"] == "messages[0].content[0].image_url.url"


def test_many_at_once_do_not_mix(server: Running) -> None:
    def ask(number: int) -> bool:
        body = {"model": "fake-talk", "messages": about(f"n{number}", RED), "stream": number % 2 == 0}
        reply = server.post("/v1/chat/completions", body)
        rows = [row.removeprefix("data: ") for row in reply.body.decode().split("\n\n")] if number % 2 == 0 else []
        deltas = [json.loads(row)["choices"][0]["delta"] for row in rows if row and row != "[DONE]"]
        text = "".join(one.get("content", "") for one in deltas) or reply.json["choices"][0]["message"]["content"]
        return bool(text == f"I see red. Question 1: n{number}")

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))
    assert server.server is not None
    until(lambda: server.server.desk.engine.status().items == 0)  # type: ignore[union-attr]


def test_a_key_asks_its_own_models_alone() -> None:
    keys = (Key.of(SECRET, "team"), replace(Key.of(NARROW, "narrow"), models=("fake",)))
    with running(Settings(models=TALKING[:2], keys=keys)) as server:
        with OpenAI(base_url=f"{server.address}/v1", api_key=SECRET) as client:
            answer = client.chat.completions.create(model="fake-talk", messages=about("a"))
            assert answer.choices[0].message.content == "Question 1: a"
        with OpenAI(base_url=f"{server.address}/v1", api_key=NARROW, max_retries=0) as client:
            with pytest.raises(openai.NotFoundError, match="no model called 'fake-talk'; it has fake"):
                client.chat.completions.create(model="fake-talk", messages=about("a"))
            with pytest.raises(openai.InternalServerError, match="this server has no language model yet"):
                client.chat.completions.create(model="fake", messages=about("a"))


def test_the_only_model_that_talks_need_not_be_named() -> None:
    with running(Settings(models=TALKING[:2])) as server:
        reply = server.post("/v1/chat/completions", {"messages": about("a", RED)})
        assert (reply.status, reply.json["model"]) == (200, "fake-talk")
        assert (
            server.post("/run/chat", {"items": [{"turns": [{"role": "user", "parts": [{"text": "a"}]}]}]}).status == 200
        )


def test_a_client_that_hangs_up_before_the_first_word_is_not_waited_for(server: Running, slow: Slow) -> None:
    body = json.dumps({"model": "fake-talk", "messages": about(f"whole, {SLOW}")}).encode()
    with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        time.sleep(0.2)
    slow.opens.set()
    assert server.server is not None
    desk = server.server.desk
    until(lambda: desk.under_way == 0 and desk.engine.status().items == 0)
    slow.opens.clear()


def test_pieces_arrive_one_by_one(server: Running) -> None:
    """Not gathered on the way: each is a line of its own, as soon as it is there."""
    body = {"model": "fake-talk", "messages": about(SLOW), "stream": True}
    with httpx2.stream("POST", f"{server.address}/v1/chat/completions", json=body, trust_env=False) as response:
        rows = []
        for row in response.iter_lines():
            rows.append(row)
            if "sti" in row:  # the model waits now, and would for ever
                break
    assert sum(row.startswith("data: ") for row in rows) == 3
