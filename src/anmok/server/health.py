"""Whether the server lives, can answer, and what it is. Nothing here loads a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok import __version__
from anmok.engine import EngineStatus
from anmok.server.desk import Desk

Render: TypeAlias = Callable[[str], tuple[bytes, str]]  # the Accept of a request -> metrics and their content type


def routes(desk: Desk, render: Render) -> APIRouter:
    """Those that every orchestrator knows, and the catalogue of this server."""
    router = APIRouter(tags=["Operate"])
    _states(router, desk)

    @router.get("/version", response_class=Response)
    async def version() -> Response:
        """The version of anmok."""
        return JSONResponse({"version": __version__})

    @router.get("/info", response_class=Response)
    @router.get("/models", response_class=Response)
    async def info(request: Request) -> Response:
        """The models that this caller may use, and what each one does."""
        status = desk.engine.status()
        rows = [_described(one.name, desk, status) for one in desk.visible(request)]
        return JSONResponse({"name": "anmok", "version": __version__, "models": rows})

    @router.get("/metrics", response_class=Response)
    async def counted(request: Request) -> Response:
        """For Prometheus."""
        body, kind = render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    return router


def _states(router: APIRouter, desk: Desk) -> None:
    """Alive, and ready. HEAD is answered too: some who watch ask so."""

    @router.head("/ping", include_in_schema=False)
    @router.head("/livez", include_in_schema=False)
    @router.get("/ping", response_class=Response)
    @router.get("/livez", response_class=Response)
    async def live() -> Response:
        """The process is there."""
        return JSONResponse({"status": "ok"})

    @router.head("/health", include_in_schema=False)
    @router.head("/healthz", include_in_schema=False)
    @router.head("/readyz", include_in_schema=False)
    @router.get("/health", response_class=Response)
    @router.get("/healthz", response_class=Response)
    @router.get("/readyz", response_class=Response)
    async def ready() -> Response:
        """200 when requests are answered at once; 503 while models are loaded, and when the server shuts down."""
        if desk.is_draining:
            return JSONResponse({"status": "DOWN", "reason": "shutting down"}, 503)
        if not desk.is_ready:
            return JSONResponse({"status": "DOWN", "reason": "loading"}, 503, {"retry-after": "2"})
        engines = {one.label: "up" if one.is_up else "down" for one in desk.upstreams.status()}
        facts = {"status": "UP", "model_class": "anmok"}  # Label Studio's words
        return JSONResponse(facts | ({"engines": engines} if engines else {}))


def _described(name: str, desk: Desk, status: EngineStatus) -> dict[str, Any]:
    card = desk.models[name].card
    state = next((one.state for one in status.models if one.name == name), "absent")
    return {
        "name": name,
        "tasks": list(card.tasks),
        "state": state,
        "licence": card.licence.id,
        "summary": card.summary,
        "languages": list(card.languages),
    }
