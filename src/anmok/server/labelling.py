"""Label Studio's machine-learning backend: boxes and masks drawn before a person looks.

The address to give to Label Studio is ``http://host:8000/label-studio/<model>``; ``http://host:8000`` itself is the
first model that can do what the labelling interface asks for: boxes from any that detects or segments, brushes and
smart tools from one that segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.errors import UnknownModel
from anmok.server import openapi
from anmok.server.desk import Desk
from anmok.server.own import written
from anmok.server.refusing import JSON
from anmok.server.settings import Served
from anmok.wire import fields, label_studio
from anmok.wire.schemas import error_schema


def routes(desk: Desk) -> APIRouter:
    """``predict``, ``setup``, ``health`` and the rest of the contract, with and without a model in the address."""
    router = APIRouter(tags=["Label Studio"], responses=openapi.refused(error_schema()))
    places = _Places()

    @router.post("/label-studio/{name}/predict", openapi_extra=_PREDICT, response_class=Response)
    async def predict(request: Request, name: str) -> Response:
        """One prediction per task, for the labelling interface in the body."""
        return await _predicted(desk, places, request, name)

    @router.post("/predict", openapi_extra=_PREDICT, response_class=Response)
    async def predict_first(request: Request) -> Response:
        """The same from the first model that can."""
        return await _predicted(desk, places, request, "")

    @router.post("/label-studio/{name}/setup", openapi_extra=_SETUP, response_class=Response)
    async def setup(request: Request, name: str) -> Response:
        """A project introduces itself; the answer is the model's version."""
        return await _set_up(desk, places, request, name)

    @router.post("/setup", openapi_extra=_SETUP, response_class=Response)
    async def setup_first(request: Request) -> Response:
        """The same for the first model that can."""
        return await _set_up(desk, places, request, "")

    _add_others(router, desk)
    return router


def _add_others(router: APIRouter, desk: Desk) -> None:
    """What asks no model."""

    @router.get("/label-studio/{name}/health", response_class=Response)
    @router.get("/label-studio/{name}", response_class=Response)
    async def health(request: Request, name: str) -> Response:
        """The backend is up."""
        return JSONResponse(label_studio.health(desk.served(request, name).name))

    @router.get("/label-studio/{name}/versions", response_class=Response)
    async def versions(request: Request, name: str) -> Response:
        """The versions of a model: one."""
        return JSONResponse({"versions": [_version(desk.served(request, name))]})

    @router.post("/label-studio/{name}/train", openapi_extra=_ANY, response_class=Response)
    @router.post("/label-studio/{name}/webhook", openapi_extra=_ANY, response_class=Response)
    async def train(request: Request, name: str) -> Response:
        """Training comes later."""
        desk.served(request, name)
        raise label_studio.train()


class _Places:
    """Where the projects' own pictures lie: what ``setup`` said, for the last few of them. What one key says holds
    for that key's projects alone."""

    _MOST = 64

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, str], str] = {}

    def keep(self, request: Request, project: str, hostname: str) -> None:
        key = _key(request), project
        self._hosts.pop(key, None)
        self._hosts[key] = hostname
        while len(self._hosts) > self._MOST:
            del self._hosts[next(iter(self._hosts))]

    def of(self, request: Request, project: str) -> str:
        return self._hosts.get((_key(request), project), "")


def _key(request: Request) -> str:
    caller = request.scope["state"]["caller"]
    return str(caller.name) if caller else ""


async def _predicted(desk: Desk, places: _Places, request: Request, name: str) -> Response:
    content = await desk.read(request, lambda body: _parsed(desk, body))
    one = desk.served(request, name) if name else _first(desk, request, label_studio.able(content))
    host = places.of(request, label_studio.project(content))
    call = await desk.read(
        request, lambda _: label_studio.predict_call(content, desk.intake, host, tasks=one.card.tasks)
    )
    results = await desk.answers(request, one, call)
    body = await desk.write(call, lambda: written(label_studio.predictions(results, call, _version(one))))
    return Response(body, media_type=JSON)


async def _set_up(desk: Desk, places: _Places, request: Request, name: str) -> Response:
    content = await desk.read(request, lambda body: _parsed(desk, body))
    told = label_studio.setup(content)
    one = desk.served(request, name) if name else _first(desk, request, label_studio.able(content))
    places.keep(request, label_studio.project(content), told.hostname)
    return JSONResponse({"model_version": _version(one)})


def _parsed(desk: Desk, body: bytes) -> Any:
    return fields.parsed(body, limit=desk.intake.body_bytes)


def _first(desk: Desk, request: Request, tasks: Sequence[str]) -> Served:
    """The first model with the first of these tasks that any model has."""
    found = [one for task in tasks for one in desk.visible(request) if task in one.card.tasks]
    if not found:
        raise UnknownModel(f"this server has no model that does {' or '.join(tasks)}")
    return desk.served(request, found[0].name)


def _version(one: Served) -> str:
    revision = one.card.revision
    return f"{one.name}@{revision[:12]}" if revision else one.name


def _json(properties: dict[str, Any], needed: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": needed, "additionalProperties": True}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


_TEXT, _OBJECT = {"type": "string"}, {"type": "object"}
_PREDICT = _json(
    {"tasks": {"type": "array", "items": _OBJECT}, "project": _TEXT, "label_config": _TEXT, "params": _OBJECT},
    ["tasks", "label_config"],
)
_SETUP = _json({"project": _TEXT, "schema": _TEXT, "hostname": _TEXT, "access_token": _TEXT}, [])
_ANY = _json({}, [])
