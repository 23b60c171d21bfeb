"""The shape of OpenAI's API under ``/v1``: models and embeddings (chat has a module of its own); images, and chat where
no model of the server talks, answer with what is missing.

Pictures on ``/v1/embeddings`` come in three dialects, and all are read: infinity's (``data:`` addresses in ``input``,
with or without ``"modality": "image"``), Jina's (``{"image": ...}`` and ``{"text": ...}`` in ``input``) and vLLM's
(``messages`` with one ``image_url`` or ``text`` part). One answer serves them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anmok.errors import AnmokError, BadRequest
from anmok.inputs import Item, Text
from anmok.results import Embedding, Failure, Result
from anmok.tasks import Embed
from anmok.wire import fields, refusals
from anmok.wire.intake import Intake, picture
from anmok.wire.own import Call
from anmok.wire.refusals import NotYet, WrongField

_KEYS = ("model", "input", "messages", "modality", "encoding_format", "dimensions", "user")
_IGNORED = ("user", "task", "normalized", "embedding_type", "truncate", "truncate_prompt_tokens", "priority")
_TEXTS = 2048  # of one request, as OpenAI has it
_LATER = {
    "chat/completions": "language model",
    "completions": "language model",
    "images/generations": "image generator",
    "images/edits": "image editor",
    "images/variations": "image generator",
}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class EmbeddingCall(Call):
    """A ``Call`` with how its vectors are written, and how many numbers the caller expects of each."""

    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def models(rows: Iterable[tuple[str, int]], owner: str = "anmok") -> dict[str, Any]:
    """``/v1/models``: names with the time (Unix seconds) they were made."""
    return {"object": "list", "data": [model(name, created, owner) for name, created in rows]}


def model(name: str, created: int, owner: str = "anmok") -> dict[str, Any]:
    """``/v1/models/<name>``."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def embedding_call(content: object, intake: Intake) -> EmbeddingCall:
    """What ``/v1/embeddings`` is asked.

    Raises:
        BadRequest: anything in the body is not as the dialects have it.
    """
    body = fields.an_object(content, "body")
    ignored = tuple(key for key in _IGNORED if key in body)
    fields.known({key: body[key] for key in body if key not in ignored}, _KEYS, "body")
    encoding = fields.value_as(Literal["float", "base64"] | None, body.get("encoding_format"), "encoding_format")
    dimensions = fields.value_as(int | None, body.get("dimensions"), "dimensions")
    name = fields.value_as(str, fields.wanted(body, "model", ""), "model")
    items = _messages(body, intake) if body.get("messages") is not None else _inputs(body, intake)
    return EmbeddingCall(Embed(), items, name, ignored, encoding or "float", dimensions)


def embeddings(results: Sequence[Result], call: EmbeddingCall, tokens: int = 0) -> dict[str, Any]:
    """The answer, with ``tokens`` read in all; pictures count none.

    Raises:
        BadRequest: the model's vectors have another length than the caller wants.
        AnmokError: what an item failed with.
    """
    rows = []
    for index, result in enumerate(results):
        if isinstance(result, Failure):
            raise result.error
        if not isinstance(result, Embedding):
            raise BadRequest(f"embeddings: {type(result).__name__} is no vector")
        if call.dimensions not in (None, result.vector.size):
            raise WrongField("dimensions", f"this model's vectors have {result.vector.size} numbers, and are not cut")
        rows.append({"object": "embedding", "index": index, "embedding": _written(result, call.encoding)})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": call.model, "usage": usage}


def not_yet(route: str) -> NotYet:
    """What ``chat/completions``, ``images/generations`` and the like answer until their models are here."""
    return NotYet(route, _LATER.get(route, "such route"))


def error_body(error: AnmokError, status: int | None = None) -> dict[str, Any]:
    """An error with all four fields; ``status`` where the server answers with another than the error's own."""
    number = status or error.status
    kind = _TYPES.get(number, "invalid_request_error" if number < 500 else "server_error")
    content = {"message": refusals.public_message(error), "type": kind}
    code = "model_not_found" if number == 404 else refusals.code(error)
    return {"error": content | {"param": refusals.place(error), "code": code}}


def part_of(value: object, name: str, intake: Intake) -> Text | bytes:
    """One part of a message: ``{"type": "text", "text"}`` or ``{"type": "image_url", "image_url": {"url"}}``, whose
    ``detail`` changes nothing.

    Raises:
        WrongField: it is neither.
    """
    part = fields.an_object(value, name)
    kind = fields.value_as(Literal["text", "image_url"], part.get("type"), f"{name}.type")
    if kind == "text":
        return _text(fields.wanted(part, "text", name), f"{name}.text")
    address = fields.wanted(part, "image_url", name)
    if isinstance(address, dict):
        address = fields.wanted(address, "url", f"{name}.image_url")
    return picture(address, f"{name}.image_url.url", intake)


def _inputs(body: Mapping[str, Any], intake: Intake) -> tuple[Item, ...]:
    value = fields.wanted(body, "input", "")
    modality = fields.value_as(Literal["text", "image"] | None, body.get("modality"), "modality")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise WrongField("input", "give at least one")
    if isinstance(values[0], int | list):
        raise WrongField("input", "token numbers belong to one tokenizer; send the text itself")
    fields.a_list(values, "input", _TEXTS)
    items = tuple(_input(one, f"input[{i}]", modality, intake) for i, one in enumerate(values))
    pictures = sum(isinstance(item, bytes) for item in items)
    if pictures > intake.items:
        raise WrongField("input", f"{pictures:,} pictures; {intake.items:,} are the limit")
    return items


def _input(value: object, name: str, modality: str | None, intake: Intake) -> Item:
    if isinstance(value, dict):  # Jina's
        fields.known(value, ("image", "text"), name)
        if len(value) != 1:
            raise WrongField(name, "want either image or text")
        [(key, one)] = value.items()
        return _text(one, f"{name}.text") if key == "text" else picture(one, f"{name}.image", intake)
    is_image = modality == "image" or (modality is None and str(value)[:11].lower() == "data:image/")
    return picture(value, name, intake) if is_image else _text(value, name)


def _messages(body: Mapping[str, Any], intake: Intake) -> tuple[Item, ...]:
    """vLLM's: a conversation is one input, so there is one part in it and one vector for it."""
    if body.get("input") is not None:
        raise WrongField("input", "give input or messages, not both")
    parts: list[Item] = []
    for i, message in enumerate(fields.a_list(body["messages"], "messages", intake.items)):
        name = f"messages[{i}]"
        content = fields.wanted(fields.an_object(message, name), "content", name)
        if isinstance(content, str):
            parts.append(_text(content, f"{name}.content"))
            continue
        rows = fields.a_list(content, f"{name}.content", intake.items)
        parts += [part_of(row, f"{name}.content[{j}]", intake) for j, row in enumerate(rows)]
    if len(parts) != 1:
        raise WrongField("messages", f"want one picture or one text, which gives one vector; got {len(parts)}")
    return (parts[0],)


def _text(value: object, name: str) -> Text:
    text: str = fields.value_as(str, value, name)
    if not text:
        raise WrongField(name, "the text is empty")
    return Text(text)


def _written(result: Embedding, encoding: str) -> str | list[float]:
    """Numbers, or base64 of little-endian float32."""
    if encoding == "base64":
        return base64.b64encode(result.vector.astype("<f4").tobytes()).decode("ascii")
    numbers: list[float] = result.vector.tolist()
    return numbers
