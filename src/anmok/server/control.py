"""What an operator does to a running server, on a port of its own that only this machine reaches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from fastapi import FastAPI
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.errors import AnmokError, Forbidden, UnknownModel
from anmok.server.desk import Desk
from anmok.server.health import Render
from anmok.server.refusing import refusal

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def control_app(desk: Desk, render: Render, drain: Callable[[], None]) -> FastAPI:
    """Load, pin, unload, drain, status and metrics."""
    app = FastAPI(title="anmok control", openapi_url=None, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def check(request: Request, go_on: RequestResponseEndpoint) -> Response:
        """A page in a browser on this machine could ask too: it is given away by its Origin, or a false Host."""
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if host not in _LOCAL or "origin" in request.headers or "sec-fetch-site" in request.headers:
            return refusal("", Forbidden("control is for programs on this machine, not for pages"), "")
        return await go_on(request)

    @app.exception_handler(AnmokError)
    async def refused(_: Request, error: AnmokError) -> Response:
        return refusal("", error, "")

    @app.get("/status")
    async def status() -> Response:
        return JSONResponse(asdict(desk.engine.status()) | {"is_draining": desk.is_draining})

    @app.get("/metrics")
    async def counted(request: Request) -> Response:
        body, kind = render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    @app.post("/load/{name}")
    async def load(name: str, pin: bool = False) -> Response:
        """Returns when the model is there."""
        _check(desk, name)
        await asyncio.wrap_future(desk.engine.pin(name) if pin else desk.engine.load(name))
        return JSONResponse({"model": name, "state": "ready"})

    @app.post("/unload/{name}")
    async def unload(name: str) -> Response:
        _check(desk, name)
        await asyncio.to_thread(desk.engine.unload, name)
        return JSONResponse({"model": name, "state": "absent"})

    @app.post("/drain")
    async def drained() -> Response:
        """What is under way is answered, and then the server ends."""
        drain()
        return JSONResponse({"status": "draining"})

    return app


def _check(desk: Desk, name: str) -> None:
    if name not in desk.models:
        raise UnknownModel(f"this server has no model called {name[:60]!r}; it has {', '.join(desk.models)}")
