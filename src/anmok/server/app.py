"""The application: every dialect over one desk, and one door in front."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from anmok import __version__, addresses
from anmok.engine import Batched
from anmok.errors import AnmokError, BadRequest
from anmok.server import docs_page, health, hugging, labelling, open_ai, open_inference, own
from anmok.server.desk import Desk
from anmok.server.door import Door, Gone, broken
from anmok.server.engines import Engines
from anmok.server.metrics import Metrics
from anmok.server.refusing import NoSuchRoute, WrongMethod, refusal
from anmok.server.settings import Settings
from anmok.server.tracing import Tracing, tracer
from anmok.server.upstreams import Upstream, Upstreams
from anmok.weights import require_licence

_DIALECTS = (own, hugging, open_ai, open_inference, labelling)
_ABOUT = (
    "Image foundation models behind one server that speaks the Hugging Face Inference API, OpenAI's API, the Open "
    "Inference Protocol, Label Studio's backend and anmok's own dialect."
)


@dataclass(frozen=True, slots=True)
class Server:
    """An application that is ready to be run, and what it is made of."""

    app: ASGIApp
    desk: Desk
    render: health.Render
    api: FastAPI
    engines: Engines
    door: Door
    tracing: Tracing

    def close(self, *, seconds: float) -> None:
        """Ends the engine and its processes; whatever is under way is refused."""
        self.engines.close(seconds=seconds)


def build(settings: Settings) -> Server:
    """A server of these settings; nothing is loaded and no socket opened yet.

    Raises:
        BadRequest: open to others without a key.
        UnknownModel: a model that has no card.
        LicenceRequired: a model whose licence was not accepted.
        BadData: an adapter's folder that is none.
    """
    settings.check_open()
    for one in settings.models:
        require_licence(one.card.licence, settings.accept_licences)
    tracing = tracer(os.environ)

    def observe(batched: Batched) -> None:
        metrics.observe(batched)
        tracing.observe(batched)

    engines = Engines(settings, observe)
    intake = replace(settings.intake, fetch=addresses.fetch) if settings.allow_urls else settings.intake
    upstreams = Upstreams([Upstream.parse(address) for address in settings.engines], fetch=intake.fetch)
    desk = Desk(settings, engines.engine, intake, upstreams)

    def render(accept: str) -> tuple[bytes, str]:
        elsewhere = {one.label: one.is_up for one in upstreams.status()}
        return metrics.render(desk.engine.status(), accept=accept, upstreams=elsewhere, workers=engines.workers())

    routers = [*(dialect.routes(desk) for dialect in _DIALECTS), health.routes(desk, render)]
    api = _api(routers)
    docs_page.add(api, desk)
    templates = [route.path for router in routers for route in router.routes if isinstance(route, Route)]
    metrics = Metrics(desk.models, templates)
    door = Door(api, settings, metrics, desk, tracing)
    app: ASGIApp = door
    if settings.origins:
        app = CORSMiddleware(app, settings.origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    return Server(app, desk, render, api, engines, door, tracing)


def _api(routers: Sequence[APIRouter]) -> FastAPI:
    api = FastAPI(
        title="anmok",
        version=__version__,
        description=_ABOUT,
        license_info={"name": "Apache-2.0"},
        docs_url=None,  # these load scripts from elsewhere; docs_page has ours
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        api.include_router(router)
    api.add_exception_handler(AnmokError, _refused)
    api.add_exception_handler(HTTPException, _lost)
    api.add_exception_handler(Gone, _gone)
    api.add_exception_handler(Exception, _broken)
    return api


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnmokError)
    state = request.scope["state"]
    state["error"] = error
    return refusal(request.url.path, error, state["request_id"])


def _lost(request: Request, error: Exception) -> Response:
    """An address that is not there, or that takes another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _refused(request, NoSuchRoute("nothing answers at this address; /docs lists what does"))
    if error.status_code == 405:
        return _refused(request, WrongMethod("this address takes another method; /docs says which"))
    return _refused(request, BadRequest("the request makes no sense"))


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody receives it


def _broken(request: Request, error: Exception) -> Response:
    return _refused(request, broken(error, request.scope["state"]["request_id"]))
