"""OpenAI's API under ``/v1``: models and embeddings, of texts and of pictures; chat where another engine serves it."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.server.bodies import is_multipart, parts_of
from anmok.server.desk import Desk
from anmok.server.own import written
from anmok.server.refusing import JSON
from anmok.wire import fields, openai

_OWNER = "anmok"


def routes(desk: Desk) -> APIRouter:
    """The routes that OpenAI's clients call."""
    router = APIRouter(tags=["OpenAI"], prefix="/v1")
    started = int(time.time())

    @router.get("/models", response_class=Response)
    async def models(request: Request) -> Response:
        """The models that this key may use."""
        return JSONResponse(openai.models([(one.name, started) for one in desk.visible(request)], _OWNER))

    @router.get("/models/{name}", response_class=Response)
    async def model(request: Request, name: str) -> Response:
        """One of them."""
        return JSONResponse(openai.model(desk.served(request, name).name, started, _OWNER))

    @router.post("/embeddings", openapi_extra=_json(_EMBEDDINGS), response_class=Response)
    async def embeddings(request: Request) -> Response:
        """Vectors of texts or pictures: ``data:`` addresses, ``{"image": ...}``, or messages with one part."""
        call = await desk.read(request, lambda body: openai.embedding_call(_parsed(desk, body), desk.intake))
        one = desk.served(request, call.model)
        results = await desk.answers(request, one, call)
        body = await desk.write(call, lambda: written(openai.embeddings(results, call)))
        return Response(body, media_type=JSON)

    for route in ("chat/completions", "images/generations", "images/edits", "images/variations"):
        router.add_api_route(f"/{route}", _later(desk, route), methods=["POST"], response_class=Response, summary=route)
    return router


def _later(desk: Desk, route: str) -> Any:
    """A route whose models come later: the body is read as it will be, and the answer names what is missing."""

    async def later(request: Request) -> Response:
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
