"""The Open Inference Protocol, version 2, under ``/v2``: clients of Triton and KServe move over."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok import __version__
from anmok.server import openapi
from anmok.server.desk import Desk
from anmok.server.own import ignored
from anmok.server.refusing import JSON
from anmok.wire import inference_protocol as protocol

_LENGTH = "inference-header-content-length"


def routes(desk: Desk) -> APIRouter:
    """Health, metadata and inference. A version in an address is read and means nothing: each name has one."""
    router = APIRouter(tags=["Open Inference Protocol"], prefix="/v2", responses=openapi.refused(_ERROR))

    @router.get("", response_class=Response)
    async def server() -> Response:
        """The server's metadata."""
        return JSONResponse(protocol.server_metadata(__version__))

    @router.get("/health/live", response_class=Response)
    async def live() -> Response:
        """The process is there."""
        return JSONResponse(protocol.live(is_live=True))

    @router.get("/health/ready", response_class=Response)
    async def ready() -> Response:
        """The models that were asked for are loaded."""
        is_ready = desk.is_ready and not desk.is_draining
        return JSONResponse(protocol.ready(is_ready=is_ready), 200 if is_ready else 503)

    _add_metadata(router, desk)

    @router.post("/models/{name}/versions/{version}/infer", openapi_extra=_BODY | _VERSION, response_class=Response)
    @router.post("/models/{name}/infer", openapi_extra=_BODY, response_class=Response)
    async def infer(request: Request, name: str) -> Response:
        """Tensors in, tensors out: as JSON, or as bytes behind it."""
        one = desk.served(request, name)
        length = request.headers.get(_LENGTH)
        opened = await desk.read(request, lambda body: protocol.opened(body, length, desk.intake))
        call = protocol.call(one.card.tasks, opened, desk.intake)
        results = await desk.answers(request, one, call)
        body, head = await desk.write(call, lambda: protocol.answer(opened, name, call.ask.task, results))
        if head is None:
            return Response(body, media_type=JSON, headers=ignored(call))
        headers = {_LENGTH: str(head)} | ignored(call)
        return Response(body, media_type="application/octet-stream", headers=headers)

    return router


def _add_metadata(router: APIRouter, desk: Desk) -> None:
    """What is asked of a model before anything is inferred."""

    @router.get("/models/{name}/versions/{version}", openapi_extra=_VERSION, response_class=Response)
    @router.get("/models/{name}", response_class=Response)
    async def metadata(request: Request, name: str) -> Response:
        """A model's tensors."""
        return JSONResponse(protocol.model_metadata(name, desk.served(request, name).card.tasks))

    @router.get("/models/{name}/versions/{version}/ready", openapi_extra=_VERSION, response_class=Response)
    @router.get("/models/{name}/ready", response_class=Response)
    async def model_ready(request: Request, name: str) -> Response:
        """Whether a model is in memory. Asking loads nothing."""
        desk.served(request, name)
        is_ready = any(one.name == name and one.state == "ready" for one in desk.engine.status().models)
        return JSONResponse(protocol.ready(is_ready=is_ready, model=name), 200 if is_ready else 503)


_VERSION = openapi.path_version()
_ERROR: dict[str, Any] = {"type": "object", "properties": {"error": {"type": "string"}}}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
    "required": ["name", "shape", "datatype"],
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "items": _TENSOR},
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                    "required": ["inputs"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
