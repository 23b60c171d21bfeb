"""The real ``openai`` client, unmodified, against a server on a real socket."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import huggingface_hub
import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient
from openai import OpenAI

from anmok.inputs import Text
from anmok.load import load
from anmok.server.settings import Key, Settings
from anmok.tasks import Embed
from serving import FAKES, RED_BOX, Running, png, running, scene
from upstream_stand_in import WORDS, StandIn

BLUE_BOX = png(scene({"blue": (20, 10, 50, 30)}))
SECRET, NARROW = "a key of the tests, long enough", "a narrow key of the tests"


def address(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=FAKES[:3])) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.address}/v1", api_key="none") as found:
        yield found


def expected(*items: Any) -> list[list[float]]:
    return [one.vector.tolist() for one in load("fake").run(items, Embed())]


def vectors(answer: openai.types.CreateEmbeddingResponse) -> list[list[float]]:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def test_models(client: OpenAI) -> None:
    found = list(client.models.list())
    assert [one.id for one in found] == ["fake", "fake-sigmoid", "fake-places"]
    one = client.models.retrieve("fake-places")
    assert (one.id, one.object, one.owned_by) == ("fake-places", "model", "anmok")
    assert 0 <= time.time() - one.created < 600
    with pytest.raises(openai.NotFoundError, match="this server has no model called 'nobody'; it has fake, "):
        client.models.retrieve("nobody")


def test_embeddings_of_texts(client: OpenAI) -> None:
    """base64 unless the caller says float; the same numbers either way."""
    one = client.embeddings.create(model="fake", input="a red thing")
    assert vectors(one) == expected(Text("a red thing"))
    assert (one.object, one.model, one.usage.prompt_tokens) == ("list", "fake", 0)
    texts = ["a red thing", "blue", "고양이"]
    for encoding in ("float", "base64"):
        many = client.embeddings.create(model="fake", input=texts, encoding_format=encoding)
        if encoding == "base64":  # asked for by name, the client leaves it as it came
            raw = [np.frombuffer(base64.b64decode(str(row.embedding)), "<f4").tolist() for row in many.data]
            assert raw == expected(*map(Text, texts))
        else:
            assert vectors(many) == expected(*map(Text, texts))
    assert vectors(client.embeddings.create(model="fake", input="blue", dimensions=3)) == expected(Text("blue"))


def test_embeddings_of_pictures_in_all_three_dialects(client: OpenAI) -> None:
    both = expected(RED_BOX, BLUE_BOX)
    plain = client.embeddings.create(model="fake", input=[address(RED_BOX), address(BLUE_BOX)])
    assert vectors(plain) == both
    bare = [base64.b64encode(picture).decode() for picture in (RED_BOX, BLUE_BOX)]
    infinity = client.embeddings.create(model="fake", input=bare, extra_body={"modality": "image"})
    assert vectors(infinity) == both
    rows: Any = [{"image": address(RED_BOX)}, {"text": "a red thing"}, {"image": bare[1]}]
    jina = client.embeddings.create(model="fake", input=rows, extra_body={"normalized": True})
    assert vectors(jina) == expected(RED_BOX, Text("a red thing"), BLUE_BOX)
    part = {"type": "image_url", "image_url": {"url": address(BLUE_BOX)}}
    body = {"model": "fake", "messages": [{"role": "user", "content": [part]}], "encoding_format": "float"}
    vllm = client.post("/embeddings", cast_to=openai.types.CreateEmbeddingResponse, body=body)
    assert vectors(vllm) == both[1:]


def test_keys_that_change_nothing_are_named(client: OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="fake", input="red", user="me", extra_body={"task": "x"})
    assert raw.headers["x-anmok-ignored"] == "user, task"
    assert raw.parse().data[0].embedding == expected(Text("red"))[0]


MESSAGES: Any = [
    {"role": "system", "content": "Be short."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": address(RED_BOX), "detail": "low"}},
        ],
    },
]
LATER: dict[str, tuple[Callable[[OpenAI], Any], str]] = {
    "chat": (
        lambda it: it.chat.completions.create(model="fake", messages=MESSAGES),
        "chat/completions: this server has no language model yet",
    ),
    "streamed chat": (
        lambda it: list(
            it.chat.completions.create(
                model="fake", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        ),
        "chat/completions: this server has no language model yet",
    ),
    "generate": (
        lambda it: it.images.generate(model="fake", prompt="a cat", n=1, size="256x256"),
        "images/generations: this server has no image generator yet",
    ),
    "generate by whatever model": (
        lambda it: it.images.generate(prompt="a cat"),
        "images/generations: this server has no image generator yet",
    ),
    "edit": (
        lambda it: it.images.edit(model="fake", image=RED_BOX, prompt="blue"),
        "images/edits: this server has no image editor yet",
    ),
    "edit several with a mask": (
        lambda it: it.images.edit(
            model="fake", image=[("a.png", RED_BOX), ("b.png", BLUE_BOX)], mask=("m.png", RED_BOX), prompt="blue"
        ),
        "images/edits: this server has no image editor yet",
    ),
    "vary": (
        lambda it: it.post(
            "/images/variations",
            cast_to=object,
            body={"model": "fake"},
            files={"image": ("a.png", RED_BOX)},
            options={"headers": {"Content-Type": "multipart/form-data"}},
        ),
        "images/variations: this server has no image generator yet",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_comes_later_names_what_is_missing(server: Running, name: str) -> None:
    """And the client, which tries everything from 500 on again, is told that there is no use."""
    call, sentence = LATER[name]
    sent: list[str] = []
    with OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=2) as client:
        client._client.event_hooks["request"] = [lambda request: sent.append(str(request.url))]
        with pytest.raises(openai.InternalServerError, match=sentence) as caught:
            call(client)
    assert len(sent) == 1
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (501, "server_error", "unsupported")


WRONG: dict[str, tuple[Callable[[OpenAI], Any], type[openai.APIStatusError], str, tuple[Any, ...]]] = {
    "model": (
        lambda it: it.embeddings.create(model="text-embedding-3-small", input="a"),
        openai.NotFoundError,
        "this server has no model called 'text-embedding-3-small'",
        ("invalid_request_error", None, "model_not_found"),
    ),
    "chat with another model": (
        lambda it: it.chat.completions.create(model="gpt-5", messages=MESSAGES),
        openai.NotFoundError,
        "this server has no model called 'gpt-5'",
        ("invalid_request_error", None, "model_not_found"),
    ),
    "edit with another model": (
        lambda it: it.images.edit(model="gpt-image-1", image=RED_BOX, prompt="blue"),
        openai.NotFoundError,
        "this server has no model called 'gpt-image-1'",
        ("invalid_request_error", None, "model_not_found"),
    ),
    "dimensions": (
        lambda it: it.embeddings.create(model="fake", input="a", dimensions=2),
        openai.UnprocessableEntityError,
        "dimensions: this model's vectors have 3 numbers, and are not cut",
        ("invalid_request_error", "dimensions", "bad_request"),
    ),
    "tokens": (
        lambda it: it.embeddings.create(model="fake", input=[1, 2]),
        openai.UnprocessableEntityError,
        "input: token numbers belong to one tokenizer; send the text itself",
        ("invalid_request_error", "input", "bad_request"),
    ),
    "no picture": (
        lambda it: it.embeddings.create(model="fake", input=["red", address(b"nothing of the kind")]),
        openai.UnprocessableEntityError,
        "not an image that anmok reads",
        ("invalid_request_error", None, "bad_media"),
    ),
    "an address": (
        lambda it: it.embeddings.create(
            model="fake", input=["http://127.0.0.1/a.png"], extra_body={"modality": "image"}
        ),
        openai.UnprocessableEntityError,
        r"input\[0\]: this server opens no addresses",
        ("invalid_request_error", "input[0]", "bad_request"),
    ),
    "key of the body": (
        lambda it: it.embeddings.create(model="fake", input="a", extra_body={"dimension": 2}),
        openai.UnprocessableEntityError,
        "unknown key 'dimension'; did you mean 'dimensions'",
        ("invalid_request_error", "body", "bad_request"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_the_clients_own_with_all_four_fields(client: OpenAI, name: str) -> None:
    call, kind, sentence, fields = WRONG[name]
    with pytest.raises(kind, match=sentence) as caught:
        call(client)
    assert (caught.value.type, caught.value.param, caught.value.code) == fields
    body = json.loads(caught.value.response.content)["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert caught.value.request_id == caught.value.response.headers["x-request-id"] != ""


@pytest.fixture(scope="module")
def passing() -> Iterator[tuple[StandIn, Running]]:
    """A server with an engine behind it, and keys of which one may not use the engine's model."""
    keys = (Key.of(SECRET, "team"), replace(Key.of(NARROW, "narrow"), models=("fake",)))
    with StandIn() as engine:
        settings = Settings(models=FAKES[:1], engines=(f"vllm://127.0.0.1:{engine.port}",), keys=keys)
        with running(settings) as server:
            yield engine, server
            huggingface_hub.close_session()


def test_chat_goes_to_the_engine_that_has_the_model(passing: tuple[StandIn, Running]) -> None:
    engine, server = passing
    engine.seen.clear()
    with OpenAI(base_url=f"{server.address}/v1", api_key=SECRET) as client:
        assert [one.id for one in client.models.list()] == ["fake", "tiny-vl"]
        assert client.models.retrieve("tiny-vl").id == "tiny-vl"
        whole = client.chat.completions.create(model="tiny-vl", messages=MESSAGES)
        assert whole.choices[0].message.content == "".join(WORDS)
        stream = client.chat.completions.create(
            model="tiny-vl", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        pieces = list(stream)
        assert "".join(one.choices[0].delta.content or "" for one in pieces if one.choices) == "".join(WORDS)
        assert (pieces[-1].choices, getattr(pieces[-1].usage, "total_tokens", 0)) == ([], 13)
        assert client.completions.create(model="tiny-vl", prompt="A").choices[0].text == "".join(WORDS)
        theirs = client.embeddings.create(model="tiny-vl", input="a", encoding_format="float")
        assert theirs.data[0].embedding == [0.5, -0.25]
        assert vectors(client.embeddings.create(model="fake", input="red")) == expected(Text("red"))
        with pytest.raises(openai.InternalServerError, match="no language model yet"):
            client.chat.completions.create(model="fake", messages=MESSAGES)
    assert [one.path for one in engine.asked] == [
        "/v1/chat/completions",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    ]
    assert all(SECRET not in str(one.headers) for one in engine.asked)
    assert engine.asked[0].content["messages"] == MESSAGES


def test_chat_with_the_address_of_the_model_as_hugging_faces_client_has_it(passing: tuple[StandIn, Running]) -> None:
    """It calls every model ``dummy``."""
    engine, server = passing
    engine.seen.clear()
    client = InferenceClient(model=f"{server.address}/models/tiny-vl", provider="hf-inference", token=SECRET)
    assert client.chat_completion(MESSAGES).choices[0].message.content == "".join(WORDS)
    pieces = client.chat_completion(MESSAGES, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == "".join(WORDS)
    assert [one.content["model"] for one in engine.asked] == ["tiny-vl", "tiny-vl"]
    assert client.health_check() is True
    assert client.get_endpoint_info()["tasks"] == ["chat"]


def test_a_key_that_may_not_use_the_engines_model_does_not_see_it(passing: tuple[StandIn, Running]) -> None:
    _, server = passing
    with OpenAI(base_url=f"{server.address}/v1", api_key=NARROW) as client:
        assert [one.id for one in client.models.list()] == ["fake"]
        for call in (
            lambda: client.models.retrieve("tiny-vl"),
            lambda: client.chat.completions.create(model="tiny-vl", messages=MESSAGES),
            lambda: client.embeddings.create(model="tiny-vl", input="a"),
        ):
            with pytest.raises(openai.NotFoundError, match="this server has no model called 'tiny-vl'; it has fake"):
                call()
    reply = server.post("/models/tiny-vl/v1/chat/completions", {"messages": MESSAGES}, x_api_key=NARROW)
    assert (reply.status, reply.json["error"]["code"]) == (404, "model_not_found")


def test_keys() -> None:
    keys = (
        replace(Key.of(SECRET, "team"), requests_per_minute=2),
        replace(Key.of(NARROW, "narrow"), models=("fake-sigmoid",)),
    )
    with running(Settings(models=FAKES[:2], keys=keys)) as server:
        address = f"{server.address}/v1"
        with OpenAI(base_url=address, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError, match="this server needs an API key") as denied:
                client.models.list()
            assert (denied.value.status_code, denied.value.type) == (401, "authentication_error")
        with OpenAI(base_url=address, api_key=NARROW) as client:
            assert [one.id for one in client.models.list()] == ["fake-sigmoid"]
            with pytest.raises(openai.NotFoundError, match="called 'fake'; it has fake-sigmoid"):
                client.embeddings.create(model="fake", input="red")
        with OpenAI(base_url=address, api_key=SECRET, max_retries=0) as client:
            for _ in range(2):
                assert len(client.embeddings.create(model="fake", input="red").data) == 1
            with pytest.raises(openai.RateLimitError, match="2 requests a minute are used up") as limited:
                client.embeddings.create(model="fake", input="red")
            assert (limited.value.type, limited.value.code) == ("rate_limit_error", "busy")
            assert 0 < int(limited.value.response.headers["retry-after"]) <= 30  # two a minute
