"""What an operator does to a running server, on a port of its own that only this machine reaches."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import asdict

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.errors import AnmokError, BadRequest, Forbidden, UnknownModel
from anmok.isolation import ProcessStatus
from anmok.server.desk import Desk
from anmok.server.health import Render
from anmok.server.refusing import NoSuchRoute, WrongMethod, refusal

_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
_ROUTES = "GET /status and /metrics, POST /load/<model>?pin=true, /unload/<model> and /drain"


def control_app(
    desk: Desk, render: Render, drain: Callable[[], None], workers: Callable[[], tuple[ProcessStatus, ...]] = tuple
) -> FastAPI:
    """Load, pin, unload, drain, status and metrics."""
    app = FastAPI(title="anmok control", openapi_url=None, docs_url=None, redoc_url=None)

    _guard(app)

    @app.get("/status")
    async def status() -> Response:
        processes = [asdict(one) for one in workers()]
        return JSONResponse(asdict(desk.engine.status()) | {"is_draining": desk.is_draining, "processes": processes})

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


def _guard(app: FastAPI) -> None:
    """Who is let in, and how a refusal reads."""

    @app.middleware("http")
    async def check(request: Request, go_on: RequestResponseEndpoint) -> Response:
        """A page in a browser on this machine could ask too: it is given away by its Origin, or a false Host."""
        hosts = request.headers.getlist("host")
        is_local = len(hosts) == 1 and _LOCAL.fullmatch(hosts[0].lower()) is not None
        if not is_local or "origin" in request.headers or "sec-fetch-site" in request.headers:
            return refusal("", Forbidden("control is for programs on this machine, not for pages"), "")
        return await go_on(request)

    @app.exception_handler(AnmokError)
    async def refused(_: Request, error: AnmokError) -> Response:
        return refusal("", error, "")

    @app.exception_handler(RequestValidationError)
    async def unread(_: Request, __: RequestValidationError) -> Response:
        return refusal("", BadRequest("pin: want true or false"), "")

    @app.exception_handler(HTTPException)
    async def lost(_: Request, error: HTTPException) -> Response:
        kind = WrongMethod if error.status_code == 405 else NoSuchRoute
        return refusal("", kind(f"control has {_ROUTES}"), "")


def _check(desk: Desk, name: str) -> None:
    if name not in desk.models:
        raise UnknownModel(f"this server has no model called {name[:60]!r}; it has {', '.join(desk.models)}")
