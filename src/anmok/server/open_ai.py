"""OpenAI's API under ``/v1``: models; embeddings, of texts and of pictures; chat, by our models or another engine's."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.server import chatting, openapi
from anmok.server.bodies import is_multipart, parts_of
from anmok.server.desk import Desk
from anmok.server.door import Gone
from anmok.server.own import ignored, written
from anmok.server.refusing import JSON
from anmok.wire import fields, openai

_OWNER = "anmok"
_PASSED = ("completions",)


def routes(desk: Desk) -> APIRouter:
    """The routes that OpenAI's clients call."""
    router = APIRouter(tags=["OpenAI"], prefix="/v1", responses=openapi.refused(_ERROR))
    started = int(time.time())

    @router.get("/models", response_class=Response)
    async def models(request: Request) -> Response:
        """The models that this key may use, those of other engines among them."""
        names = [*(one.name for one in desk.visible(request)), *desk.names_elsewhere(request)]
        return JSONResponse(openai.models([(name, started) for name in names], _OWNER))

    @router.get("/models/{name}", response_class=Response)
    async def model(request: Request, name: str) -> Response:
        """One of them."""
        known = desk.elsewhere(request, name) or desk.served(request, name).name
        return JSONResponse(openai.model(known, started, _OWNER))

    @router.post("/embeddings", openapi_extra=_json(_EMBEDDINGS), response_class=Response)
    async def embeddings(request: Request) -> Response:
        """Vectors of texts or pictures: ``data:`` addresses, ``{"image": ...}``, or messages with one part."""
        response = await passed(desk, request, "embeddings")
        if response is not None:
            return response
        call = await desk.read(request, lambda body: openai.embedding_call(_parsed(desk, body), desk.intake))
        one = desk.served(request, call.model)
        results = await desk.answers(request, one, call)
        body = await desk.write(call, lambda: written(openai.embeddings(results, call)))
        return Response(body, media_type=JSON, headers=ignored(call))

    _add_chat(router, desk)
    _add_later(router, desk)
    return router


def _add_chat(router: APIRouter, desk: Desk) -> None:
    @router.post("/chat/completions", openapi_extra=_json(_CHAT), response_class=Response)
    async def chat_completions(request: Request) -> Response:
        """An answer to a conversation with pictures in it, whole or as server-sent events (``stream``)."""
        return await passed(desk, request, chatting.ROUTE) or await chatting.chatted(desk, request)


def _add_later(router: APIRouter, desk: Desk) -> None:
    for route in _LATER:
        router.add_api_route(
            f"/{route}",
            _later(desk, route),
            methods=["POST"],
            response_class=Response,
            summary=route,
            openapi_extra=_LATER[route],
        )


async def passed(desk: Desk, request: Request, route: str, name: str = "") -> Response | None:
    """The answer of another engine, as it comes; None where none of them has the model.

    Args:
        desk: of the server.
        request: whose body goes on as it is, if all in it may.
        route: ``chat/completions``, ``completions`` or ``embeddings``.
        name: of the model; where it is empty, the body's.

    Raises:
        AnmokError: as ``Upstreams.send``.
        Gone: the client left before the answer began.
    """
    if not desk.upstreams.names():
        return None
    name = name or await desk.read(request, lambda body: _named(desk, request, body))
    model = desk.elsewhere(request, name)
    if model is None:
        return None
    state = request.scope["state"]
    response = await desk.upstreams.respond(
        request.receive, route, state["body"], model=model, request_id=state["request_id"]
    )
    if response is None:
        raise Gone
    return response


def _later(desk: Desk, route: str) -> Any:
    """A route whose models are those of other engines, or come later: the body is read as it will be, and the answer
    names what is missing."""

    async def later(request: Request) -> Response:
        response = await passed(desk, request, route) if route in _PASSED else None
        if response is not None:
            return response
        name = await desk.read(request, lambda body: _named(desk, request, body))
        if name:
            desk.served(request, name)
        raise openai.not_yet(route)

    return later


def _named(desk: Desk, request: Request, body: bytes) -> str:
    """The model that a JSON or multipart body names."""
    kind = request.headers.get("content-type", "")
    if is_multipart(kind):
        named = [part.data for part in parts_of(body, kind) if part.name == "model"]
        return named[0][:100].decode("utf-8", "replace") if named else ""
    content = fields.an_object(_parsed(desk, body), "body")
    name: str = fields.value_as(str, content.get("model", ""), "model")
    return name


def _parsed(desk: Desk, body: bytes) -> Any:
    return fields.parsed(body, limit=desk.intake.body_bytes)


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_FORM: dict[str, Any] = {"schema": {"type": "object", "additionalProperties": True}}
_LATER: dict[str, dict[str, Any]] = {
    "completions": {"requestBody": {"required": True, "content": {JSON: _FORM}}},
    "images/generations": {"requestBody": {"required": True, "content": {JSON: _FORM}}},
    "images/edits": {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM, JSON: _FORM}}},
    "images/variations": {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}},
}
_CHAT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}},
        "max_tokens": {"type": ["integer", "null"]},
        "max_completion_tokens": {"type": ["integer", "null"]},
        "temperature": {"type": ["number", "null"]},
        "top_p": {"type": ["number", "null"]},
        "seed": {"type": ["integer", "null"]},
        "stop": {},
        "response_format": {"type": ["object", "null"]},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
        "n": {"type": ["integer", "null"]},
    },
    "required": ["messages"],
}
_EMBEDDINGS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "input": {},
        "messages": {"type": "array"},
        "modality": {"enum": ["text", "image"]},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer"},
    },
    "required": ["model"],
}
