"""Hugging Face's Inference API under ``/models/<name>``, as ``huggingface_hub.InferenceClient`` speaks it.

The client is given the whole address as its model: ``client.object_detection(image, model="http://host/models/m")``.
What it has no method for has the task in its address: ``/models/<name>/depth-estimation``. The header
``x-anmok-task`` says what was answered, ``x-anmok-ignored`` which keys of the request changed nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.server import chatting, openapi
from anmok.server.desk import Desk, raised
from anmok.server.open_ai import passed
from anmok.server.own import ignored, written
from anmok.server.refusing import JSON
from anmok.wire import huggingface


def routes(desk: Desk) -> APIRouter:
    """Asked by the model's address alone, or with a task behind it or before it."""
    router = APIRouter(tags=["Hugging Face"], responses=openapi.refused(_ERROR))

    @router.post("/models/{name}", openapi_extra=_BODY, response_class=Response)
    async def ask(request: Request, name: str) -> Response:
        """The model's own task, or what the body gives away: candidate labels, a text, a question."""
        return await _answered(desk, request, name, None)

    @router.post("/models/{name}/{task}", openapi_extra=_BODY, response_class=Response)
    async def ask_task(request: Request, name: str, task: str) -> Response:
        """A task by the API's name for it: depth-estimation, mask-generation, zero-shot-object-detection ..."""
        return await _answered(desk, request, name, task)

    @router.post("/models/{name}/pipeline/{task}", openapi_extra=_BODY, response_class=Response)
    async def ask_pipeline(request: Request, name: str, task: str) -> Response:
        """The same, with the address that the hub has for it."""
        return await _answered(desk, request, name, task)

    @router.post("/models/{name}/v1/chat/completions", openapi_extra=_CHAT, response_class=Response)
    async def chat(request: Request, name: str) -> Response:
        """Chat with a model by its address, whatever the body calls it."""
        return await passed(desk, request, chatting.ROUTE, name) or await chatting.chatted(desk, request, name)

    _add_facts(router, desk)
    return router


def _add_facts(router: APIRouter, desk: Desk) -> None:
    """What asks no model."""

    @router.get("/models/{name}/health", response_class=Response)
    async def health(request: Request, name: str) -> Response:
        """For ``InferenceClient.health_check``."""
        if desk.elsewhere(request, name) is None:
            desk.served(request, name)
        return JSONResponse({"status": "ok"})

    @router.get("/models/{name}/info", response_class=Response)
    @router.get("/models/{name}", response_class=Response)
    async def info(request: Request, name: str) -> Response:
        """What the model is, for ``InferenceClient.get_endpoint_info``."""
        if desk.elsewhere(request, name) is not None:
            return JSONResponse({"model_id": name, "model_sha": None, "tasks": ["chat"]})
        card = desk.served(request, name).card
        facts = {"model_id": name, "model_sha": card.revision or None, "model_dtype": desk.settings.dtype}
        return JSONResponse(facts | {"tasks": list(card.tasks), "licence": card.licence.id, "summary": card.summary})


async def _answered(desk: Desk, request: Request, name: str, task: str | None) -> Response:
    one = desk.served(request, name)
    kind = request.headers.get("content-type", "")
    opened = await desk.read(request, lambda body: huggingface.opened(body, kind, desk.intake))
    task = task or _task(one.card.tasks, opened, request.headers.get("accept", ""))
    call = huggingface.call(task, opened, desk.intake)
    results = raised(await desk.answers(request, one, call))
    body = await desk.write(call, lambda: written(huggingface.answer(task, results, opened)))
    return Response(body, media_type=JSON, headers={"x-anmok-task": task} | ignored(call))


def _task(tasks: tuple[str, ...], opened: huggingface.Request, accept: str) -> str:
    """What the address does not say; a client that wants a picture back asks for it with ``Accept``."""
    return huggingface.drawn(opened) if accept.startswith("image/") else huggingface.pipeline(tasks, opened)


_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {"anyOf": [{"type": "string"}, {"type": "object"}]},  # an object where the route is OpenAI's
        "error_type": {"type": "string"},
        "estimated_time": {"type": "number"},
    },
    "required": ["error"],
}
_CHAT: dict[str, Any] = {"requestBody": {"required": True, "content": {JSON: {"schema": {"type": "object"}}}}}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"inputs": {}, "parameters": {"type": "object"}},
    "required": ["inputs"],
    "additionalProperties": True,
}
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": _SCHEMA}, "image/*": _PICTURE, "application/octet-stream": _PICTURE},
    },
    "responses": {"200": {"description": "As the API has it for the task", "content": {JSON: {"schema": {}}}}},
}
