"""Errors as each dialect words them: a status, a body of its shape, and when to come back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

from starlette.responses import Response

from anmok.errors import AnmokError, BadRequest, Loading, Unauthorized, UnknownModel, Unsupported
from anmok.wire import error_to_json, huggingface, inference_protocol, openai

JSON: Final = "application/json"
_SOON: Final = 5.0  # seconds; after as many an engine tries again what could not be loaded


class NoSuchRoute(UnknownModel):
    """Nothing answers at that address."""


class WrongMethod(BadRequest):
    """The address is there, and takes another method."""

    status = 405


class WrongType(BadRequest):
    """A Content-Type that the route does not read."""

    status = 415


class TooSlow(BadRequest):
    """The body did not come in time."""

    status = 408


class WrongHost(BadRequest):
    """A Host that is not this server's: somebody's name that points at it, as in DNS rebinding."""

    status = 421


def refusal(path: str, error: AnmokError, request_id: str) -> Response:
    """The response to a request that is not answered."""
    body = json.dumps(_shape(path)(error, request_id), ensure_ascii=False).encode()
    return Response(body, error.status, headers=headers_of(error), media_type=JSON)


def headers_of(error: AnmokError) -> dict[str, str]:
    """What goes with an error beside its body."""
    found: dict[str, str] = {}
    after = getattr(error, "retry_after", _SOON if error.status == 503 else None)
    if after is not None:
        found["retry-after"] = str(max(1, math.ceil(after)))  # whole seconds, as HTTP has it
    if isinstance(error, Unauthorized):
        found["www-authenticate"] = "Bearer"
    if isinstance(error, Unsupported):
        found["x-should-retry"] = "false"  # openai's client tries all of 500 and above again
    if isinstance(error, TooSlow):
        found["connection"] = "close"  # whatever else of the body comes is not waited for
    return found


def _shape(path: str) -> Callable[[AnmokError, str], dict[str, Any]]:
    if path.startswith("/v1/") or "/v1/" in path:
        return lambda error, _: openai.error_body(error)
    if path.startswith("/models/"):
        return _hugging
    if path.startswith("/v2"):
        return lambda error, _: inference_protocol.error_body(error)
    return error_to_json


def _hugging(error: AnmokError, request_id: str) -> dict[str, Any]:
    return huggingface.error_body(error, error.retry_after if isinstance(error, Loading) else None)
