"""OpenAI's chat completions by the models of this server: whole, or as server-sent events."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from anmok.errors import AnmokError
from anmok.results import Failure, Piece, Result
from anmok.server.desk import Desk
from anmok.server.door import broken
from anmok.server.own import first, ignored, written
from anmok.server.refusing import JSON
from anmok.wire import chat, fields, openai

ROUTE: Final = "chat/completions"
_EVENTS: Final = "text/event-stream"


async def chatted(desk: Desk, request: Request, name: str = "") -> Response:
    """The answer to a conversation.

    Args:
        desk: of the server.
        request: with the body.
        name: of the model, where the address has it; the body's otherwise.

    Raises:
        UnknownModel: no such model.
        Unsupported: it does not chat, or no model here does.
        AnmokError: what is wrong with the conversation.
    """
    if not any("chat" in one.card.tasks for one in desk.visible(request)):
        wanted = name or await desk.read(request, lambda body: _named(desk, body))
        if wanted:
            desk.served(request, wanted)
        raise openai.not_yet(ROUTE)
    call = await desk.read(request, lambda body: _call(desk, body))
    one = desk.chosen(request, name or call.model, "chat")
    call = replace(call, model=one.name)
    number, created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
    if call.is_streamed:
        return await _streamed(request, await desk.streamed(request, one, call), call, (number, created))
    [answer] = await desk.answers(request, one, call)
    body = written(chat.completion(answer, call, number, created))
    return Response(body, media_type=JSON, headers=ignored(call))


def _call(desk: Desk, body: bytes) -> chat.ChatCall:
    return chat.chat_call(fields.parsed(body, limit=desk.intake.body_bytes), desk.intake)


def _named(desk: Desk, body: bytes) -> str:
    """The model that a body names, whatever else is in it."""
    content = fields.an_object(fields.parsed(body, limit=desk.intake.body_bytes), "body")
    return fields.value_as(str | None, content.get("model"), "model") or ""


async def _streamed(
    request: Request, answers: AsyncIterator[Result | Failure], call: chat.ChatCall, named: tuple[str, int]
) -> Response:
    """The first piece is waited for, so that what cannot be answered at all has its status."""
    request_id = request.scope["state"]["request_id"]
    begun = await first(request, answers)

    async def events() -> AsyncIterator[bytes]:
        try:
            if isinstance(begun, Piece):
                yield chat.chunks(begun, call, *named, is_first=True)
            async for piece in answers:
                if isinstance(piece, Piece):
                    yield chat.chunks(piece, call, *named, is_first=False)
        except AnmokError as error:
            yield chat.broken_off(error)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            yield chat.broken_off(broken(error, request_id))

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"} | ignored(call)
    return StreamingResponse(events(), media_type=_EVENTS, headers=headers)
