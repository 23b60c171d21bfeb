"""Label Studio's machine-learning backend: boxes and masks drawn before a person looks.

The address to give to Label Studio is ``http://host:8000/label-studio/<model>``; ``http://host:8000`` itself is the
first model that detects or segments.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.errors import UnknownModel
from anmok.server.desk import Desk
from anmok.server.own import written
from anmok.server.refusing import JSON
from anmok.server.settings import Served
from anmok.wire import fields, label_studio

_TASKS = ("detect", "segment")


def routes(desk: Desk) -> APIRouter:
    """``predict``, ``setup``, ``health`` and the rest of the contract, with and without a model in the address."""
    router = APIRouter(tags=["Label Studio"])
    places = _Places()

    @router.post("/label-studio/{name}/predict", response_class=Response)
    async def predict(request: Request, name: str) -> Response:
        """One prediction per task, for the labelling interface in the body."""
        return await _predicted(desk, places, request, desk.served(request, name))

    @router.post("/predict", response_class=Response)
    async def predict_first(request: Request) -> Response:
        """The same from the first model that detects or segments."""
        return await _predicted(desk, places, request, _first(desk, request))

    @router.post("/label-studio/{name}/setup", response_class=Response)
    async def setup(request: Request, name: str) -> Response:
        """A project introduces itself; the answer is the model's version."""
        return await _set_up(desk, places, request, desk.served(request, name))

    @router.post("/setup", response_class=Response)
    async def setup_first(request: Request) -> Response:
        """The same for the first model that detects or segments."""
        return await _set_up(desk, places, request, _first(desk, request))

    @router.get("/label-studio/{name}/health", response_class=Response)
    @router.get("/label-studio/{name}", response_class=Response)
    async def health(request: Request, name: str) -> Response:
        """The backend is up."""
        return JSONResponse(label_studio.health(desk.served(request, name).name))

    @router.get("/label-studio/{name}/versions", response_class=Response)
    async def versions(request: Request, name: str) -> Response:
        """The versions of a model: one."""
        return JSONResponse({"versions": [_version(desk.served(request, name))]})

    @router.post("/label-studio/{name}/train", response_class=Response)
    @router.post("/label-studio/{name}/webhook", response_class=Response)
    async def train(request: Request, name: str) -> Response:
        """Training comes later."""
        desk.served(request, name)
        raise label_studio.train()

    return router


class _Places:
    """Where the projects' own pictures lie: what ``setup`` said, for the last few of them."""

    _MOST = 64

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}

    def keep(self, model: str, hostname: str) -> None:
        self._hosts.pop(model, None)
        self._hosts[model] = hostname
        while len(self._hosts) > self._MOST:
            del self._hosts[next(iter(self._hosts))]

    def of(self, model: str) -> str:
        return self._hosts.get(model, "")


async def _predicted(desk: Desk, places: _Places, request: Request, one: Served) -> Response:
    limit, host = desk.intake.body_bytes, places.of(one.name)
    call = await desk.read(
        request, lambda body: label_studio.predict_call(fields.parsed(body, limit=limit), desk.intake, host)
    )
    results = await desk.answers(request, one, call)
    body = await desk.write(call, lambda: written(label_studio.predictions(results, call, _version(one))))
    return Response(body, media_type=JSON)


async def _set_up(desk: Desk, places: _Places, request: Request, one: Served) -> Response:
    limit = desk.intake.body_bytes
    told = await desk.read(request, lambda body: label_studio.setup(fields.parsed(body, limit=limit)))
    places.keep(one.name, told.hostname)
    return JSONResponse({"model_version": _version(one)})


def _first(desk: Desk, request: Request) -> Served:
    found = next((one for one in desk.visible(request) if set(_TASKS) & set(one.card.tasks)), None)
    if found is None:
        raise UnknownModel("this server has no model that detects or segments")
    return desk.served(request, found.name)


def _version(one: Served) -> str:
    revision = one.card.revision
    return f"{one.name}@{revision[:12]}" if revision else one.name
