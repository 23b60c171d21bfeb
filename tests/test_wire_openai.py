"""OpenAI's shape: bodies as the openai client and the three dialects of pictures write them, and what they get."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import AnmokError, BadMedia, BadRequest, BadWeights, UnknownModel
from anmok.inputs import Text
from anmok.results import Embedding, Failure, Scores
from anmok.tasks import Embed
from anmok.wire import Intake, WrongField, openai
from wire_samples import corrupted, json_values

INTAKE = Intake(items=2)
CODE = base64.b64encode(b"a picture").decode()
DATA = f"data:image/png;base64,{CODE}"
VECTOR = Embedding(np.asarray([0.1, -2.5, 1e-7], np.float32), "image")

BODIES: list[dict[str, Any]] = [
    {"model": "m", "input": ["a cat", DATA], "encoding_format": "base64", "user": "u"},
    {"model": "m", "input": [DATA], "modality": "image"},
    {"model": "m", "input": [{"image": CODE}, {"text": "a cat"}], "dimensions": 3},
    {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}]}],
        "encoding_format": "float",
    },
]


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (BODIES[0], (Text("a cat"), b"a picture")),
        (BODIES[1], (b"a picture",)),
        (BODIES[1] | {"input": DATA}, (b"a picture",)),
        (BODIES[1] | {"input": CODE}, (b"a picture",)),
        (BODIES[1] | {"input": DATA, "modality": "text"}, (Text(DATA),)),
        (BODIES[2], (b"a picture", Text("a cat"))),
        (BODIES[2] | {"input": [{"image": DATA}]}, (b"a picture",)),
        (BODIES[3], (b"a picture",)),
        ({"model": "m", "messages": [{"role": "user", "content": "a cat"}]}, (Text("a cat"),)),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": DATA}]}]},
            (b"a picture",),
        ),
        ({"model": "m", "input": "a cat"}, (Text("a cat"),)),
    ],
)
def test_every_dialect_is_read(body: dict[str, Any], items: tuple[object, ...]) -> None:
    call = openai.embedding_call(body, INTAKE)
    assert (call.ask, call.model, call.items) == (Embed(), "m", items)


def test_vectors_are_numbers_or_base64_as_asked() -> None:
    whole = openai.embedding_call(BODIES[0], INTAKE)
    assert (whole.encoding, whole.ignored) == ("base64", ("user",))
    answer = json.loads(json.dumps(openai.embeddings([VECTOR, VECTOR], whole, tokens=4)))
    decoded = np.frombuffer(base64.b64decode(answer["data"][1]["embedding"]), np.float32)  # as the openai client does
    np.testing.assert_array_equal(decoded, VECTOR.vector)
    assert (answer["object"], answer["model"]) == ("list", "m")
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert [row["index"] for row in answer["data"]] == [0, 1]
    plain = openai.embeddings([VECTOR], openai.embedding_call(BODIES[2], INTAKE))
    assert plain["data"] == [{"object": "embedding", "index": 0, "embedding": VECTOR.vector.tolist()}]


def test_vectors_are_not_cut() -> None:
    call = openai.embedding_call({"model": "m", "input": "a", "dimensions": 2}, INTAKE)
    with pytest.raises(WrongField, match="dimensions: this model's vectors have 3 numbers, and are not cut"):
        openai.embeddings([VECTOR], call)


def test_what_an_item_failed_with_is_raised() -> None:
    call = openai.embedding_call(BODIES[1], INTAKE)
    with pytest.raises(BadMedia, match="torn"):
        openai.embeddings([Failure("a", BadMedia("torn"))], call)
    with pytest.raises(BadRequest, match="Scores is no vector"):
        openai.embeddings([Scores(("a",), np.ones(1, np.float32), "softmax")], call)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "body: want an object, got a list"),
        ({"input": "a"}, "model: is missing"),
        ({"model": "m"}, "input: is missing"),
        ({"model": "m", "input": []}, "input: give at least one"),
        ({"model": "m", "input": ""}, r"input\[0\]: the text is empty"),
        ({"model": "m", "input": [1, 2]}, "input: token numbers belong to one tokenizer"),
        ({"model": "m", "input": [[1, 2]]}, "input: token numbers"),
        ({"model": "m", "input": ["a", 3]}, r"input\[1\]: want a text, got a number"),
        ({"model": "m", "input": [DATA] * 3}, "input: 3 pictures; 2 are the limit"),
        ({"model": "m", "input": ["a"] * 2049}, "input: 2,049 values; 2,048 are the limit"),
        ({"model": "m", "inputs": "a"}, "body: unknown key 'inputs'; did you mean 'input'?"),
        ({"model": "m", "input": "a", "encoding_format": "hex"}, "encoding_format: want float or base64"),
        ({"model": "m", "input": "a", "modality": "audio"}, "modality: want text or image"),
        ({"model": "m", "input": [{"image": CODE, "text": "a"}]}, r"input\[0\]: want either image or text"),
        (
            {"model": "m", "input": ["https://a/b.png"], "modality": "image"},
            r"input\[0\]: this server opens no addresses",
        ),
        ({"model": "m", "input": [{"image": "file:///a.png"}]}, r"input\[0\].image: want base64"),
        ({"model": "m", "messages": [{"content": [{"type": "text", "text": ""}]}]}, r".*text: the text is empty"),
        (BODIES[3] | {"input": "a"}, "input: give input or messages, not both"),
        (
            {"model": "m", "messages": [{"content": "a"}, {"content": "b"}]},
            "messages: want one picture or one text, which gives one vector; got 2",
        ),
        ({"model": "m", "messages": []}, "messages: want one picture or one text, which gives one vector; got 0"),
        ({"model": "m", "messages": [{"role": "user"}]}, r"messages\[0\].content: is missing"),
        (
            {"model": "m", "messages": [{"content": [{"type": "input_audio"}]}]},
            r"messages\[0\].content\[0\].type: want text or image_url",
        ),
        (
            {"model": "m", "messages": [{"content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}]},
            r"messages\[0\].content\[0\].image_url.url: this server opens no addresses",
        ),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(body: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        openai.embedding_call(body, INTAKE)


@given(st.data())
def test_no_body_breaks_anything(data: st.DataObject) -> None:
    content = corrupted(data.draw(st.sampled_from(BODIES)), data.draw) if data.draw(st.booleans()) else None
    with contextlib.suppress(AnmokError):
        openai.embedding_call(content or data.draw(json_values), INTAKE)


def test_models_are_listed() -> None:
    assert openai.models([("mini", 1), ("siglip2-b16-256", 2)])["data"][1] == {
        "id": "siglip2-b16-256",
        "object": "model",
        "created": 2,
        "owned_by": "anmok",
    }
    assert openai.models([]) == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (WrongField("input[0]", "is empty"), None, "invalid_request_error", "input[0]", "bad_request"),
        (UnknownModel("no model gpt-9"), None, "invalid_request_error", None, "model_not_found"),
        (BadWeights("/a"), None, "server_error", None, "bad_weights"),
        (BadRequest("slow down"), 429, "rate_limit_error", None, "bad_request"),
        (openai.not_yet("chat/completions"), None, "server_error", None, "unsupported"),
    ],
)
def test_errors_have_all_four_fields(
    error: AnmokError, status: int | None, kind: str, param: str | None, code: str
) -> None:
    content = openai.error_body(error, status)["error"]
    assert sorted(content) == ["code", "message", "param", "type"]
    assert (content["type"], content["param"], content["code"]) == (kind, param, code)
    assert content["message"]


def test_later_routes_name_what_is_missing() -> None:
    error = openai.not_yet("images/edits")
    assert (str(error), error.status) == ("images/edits: this server has no image editor yet", 501)
