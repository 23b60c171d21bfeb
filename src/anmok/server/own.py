"""Our own dialect: ``POST /run/<task>``, as JSON or multipart, whole or line by line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from anmok.errors import AnmokError
from anmok.results import Failure, Result
from anmok.server import openapi
from anmok.server.bodies import is_multipart, parts_of
from anmok.server.desk import Desk
from anmok.server.door import broken, unless_left
from anmok.server.refusing import JSON, WrongType
from anmok.wire import ASKS, Call, answers_to_json, call_from_json, call_from_parts, error_to_json, result_to_json
from anmok.wire.fields import parsed
from anmok.wire.schemas import call_schema, error_schema, reply_schema

LINES: Final = "application/x-ndjson"


def routes(desk: Desk) -> APIRouter:
    """One route per task."""
    router = APIRouter(tags=["anmok"], responses=openapi.refused(error_schema()))
    for task in ASKS:
        router.add_api_route(
            f"/run/{task}",
            _route(desk, task),
            methods=["POST"],
            name=f"run_{task}",
            summary=f"{task}: asks and answers as in Python",
            openapi_extra=_described(task),
            response_class=Response,
        )
    return router


def _route(desk: Desk, task: str) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        call = await desk.read(request, lambda body: _call(desk, task, request, body))
        one = desk.chosen(request, call.model, task)
        if LINES in request.headers.get("accept", ""):
            return await _lines(desk, request, await desk.streamed(request, one, call))
        answers = await desk.answers(request, one, call)
        body = await desk.write(call, lambda: written(answers_to_json(one.name, answers)))
        return Response(body, media_type=JSON)

    return run


def written(content: Any) -> bytes:
    """JSON, with other alphabets as they are."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def ignored(call: Call) -> dict[str, str]:
    """A header with the keys of a request that its dialect has and that change nothing here."""
    names = ("".join(c for c in key[:40] if (c.isascii() and c.isalnum()) or c in "_-") for key in call.ignored)
    return {"x-anmok-ignored": ", ".join(names)} if call.ignored else {}


def _call(desk: Desk, task: str, request: Request, body: bytes) -> Call:
    kind = request.headers.get("content-type", JSON)
    if is_multipart(kind):
        return call_from_parts(task, parts_of(body, kind), desk.intake)
    if kind.partition(";")[0].strip().lower() != JSON:  # what a page can send without asking first is not read
        raise WrongType(f"Content-Type {kind[:40]!r}: want {JSON} or multipart/form-data (curl -H 'content-type: ...')")
    return call_from_json(task, parsed(body, limit=desk.intake.body_bytes), desk.intake)


async def _lines(desk: Desk, request: Request, answers: AsyncIterator[Result | Failure]) -> Response:
    """One answer per line. The first is waited for, so that what cannot be answered at all has its status; what goes
    wrong later is the last line."""
    request_id = request.scope["state"]["request_id"]
    one = await first(request, answers)

    async def lines() -> AsyncIterator[bytes]:
        if one is not None:
            yield written(result_to_json(one)) + b"\n"
        try:
            async for answer in answers:
                yield written(result_to_json(answer)) + b"\n"
        except AnmokError as error:
            yield written(error_to_json(error, request_id)) + b"\n"
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            yield written(error_to_json(broken(error, request_id), request_id)) + b"\n"

    return StreamingResponse(lines(), media_type=LINES)


async def first(request: Request, answers: AsyncIterator[Result | Failure]) -> Result | Failure | None:
    """The first answer, or None where there is none.

    Raises:
        AnmokError: what keeps it from being given.
        Gone: the client left before.
    """

    async def answer() -> Result | Failure | None:
        return await anext(answers, None)

    return await unless_left(request.receive, asyncio.create_task(answer()))


def _described(task: str) -> dict[str, Any]:
    """What OpenAPI says of a route."""
    content = {JSON: {"schema": reply_schema(task)}, LINES: {"schema": {"type": "string"}}}
    reply = {"description": "One answer per item, in their order", "content": content}
    parts = {"type": "object", "properties": {"request": {"type": "string"}}, "additionalProperties": True}
    return {
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": call_schema(task)}, "multipart/form-data": {"schema": parts}},
        },
        "responses": {"200": reply},
    }
