"""The addresses behind the Label tab. Gradio's events take too long for a key that is pressed every second.

All of them name a session and an image by ids; the only picture that they give is one of an open session's folder.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anmok.errors import AnmokError, BadRequest, CannotWrite, Forbidden, Refused, UnknownModel
from anmok.labelling import BoxStanding, BoxTask, Task
from anmok.ui import telling
from anmok.ui.host import Host
from anmok.ui.labelling.rooms import LABELS, Room, Rooms, Wanted, rooms_of
from anmok.ui.labelling.saying import boxes_html, standing_html
from anmok.ui.labelling.taking import Said
from anmok.ui.texts import LANGUAGES, Words
from anmok.wire import refusals

_MOST_AHEAD: Final = 32
_MOST_STROKES: Final = 200  # in one request
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
# The picture of an id changes when its file does, which labelling is no time for.
_PICTURE: Final = {"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}

Handler = Callable[[Request], Awaitable[Response]]


class NoRoom(BadRequest):
    """No session of that id is open: the server was started again, or another one needed the place."""


def routes(host: Host) -> APIRouter:
    """``/label/open``, ``/label/{room}/next``, ``/strokes``, ``/standing`` and ``/pictures/{id}``."""
    desk = _Desk(host, rooms_of(host))
    router = APIRouter(prefix="/label")
    for path, method, handler in (
        ("/open", "POST", desk.open),
        ("/{room}/next", "GET", desk.next),
        ("/{room}/strokes", "POST", desk.strokes),
        ("/{room}/standing", "GET", desk.standing),
        ("/{room}/pictures/{image}", "GET", desk.picture),
    ):
        router.add_api_route(
            path, _guarded(handler, host.root), methods=[method], include_in_schema=False, response_model=None
        )
    return router


class _Desk:
    def __init__(self, host: Host, rooms: Rooms) -> None:
        self._host = host
        self._rooms = rooms

    async def open(self, request: Request) -> Response:
        """A session goes on, after the server was started again or the page was loaded again."""
        given = await _body(request)
        labels = given.get("labels")
        if not isinstance(labels, list) or not all(isinstance(one, str) for one in labels):
            raise BadRequest("labels: want a list of texts")
        model = _text(given, "model")
        if model and (model not in self._host.models or not self._host.may_use(request.scope, model)):
            raise UnknownModel(f"this server has no model called {model[:60]!r}")
        wanted = Wanted(_text(given, "place"), _text(given, "kind") or LABELS, tuple(labels), model)
        room = await run_in_threadpool(self._rooms.open, wanted)
        return _json(facts(room))

    async def next(self, request: Request) -> Response:
        """What this labeller sees next."""
        room, by = self._room(request), request.query_params.get("by", "")
        count = request.query_params.get("count", "8")
        if not count.isdecimal() or not 1 <= int(count) <= _MOST_AHEAD:
            raise BadRequest(f"count: want 1 to {_MOST_AHEAD}")
        tasks = await run_in_threadpool(self._next, room, int(count), _name(by))
        return _json({"tasks": [_task(task) for task in tasks]})

    async def strokes(self, request: Request) -> Response:
        """Answers that come one after the other; all up to ``saved`` are on the disk."""
        room, given = self._room(request), await _body(request)
        by, client = _name(_text(given, "by")), _text(given, "client")
        strokes = given.get("strokes")
        if not client or len(client) > 64 or not isinstance(strokes, list) or len(strokes) > _MOST_STROKES:
            raise BadRequest(f"strokes: want the client's id and up to {_MOST_STROKES} strokes")
        before = given.get("before")
        if before is not None and (not isinstance(before, list) or len(before) > _MOST_STROKES):
            raise BadRequest("before: want the strokes that were saved last")
        said, earlier = [_said(one) for one in strokes], None if before is None else [_said(one) for one in before]
        written = await run_in_threadpool(room.taker.write, by, client, said, earlier)
        words = _words(request)
        return _json(
            {
                "saved": written.number,
                "undone": [[number, _task(task)] for number, task in written.undone],
                "named": written.named,
                "refused": [[number, words.error(error)] for number, error in written.refused],
            }
        )

    async def standing(self, request: Request) -> Response:
        """How it stands, as HTML in the page's language."""
        room = self._room(request)
        standing = await run_in_threadpool(room.standing)
        words = _words(request)
        if isinstance(standing, BoxStanding):
            return _json({"html": boxes_html(words, standing)})
        return _json({"html": standing_html(words, standing)})

    async def picture(self, request: Request) -> Response:
        """An image of the session at the size of a screen, without what its file says of place and camera."""
        room = self._room(request)
        file = room.session.photo(request.path_params["image"])
        picture = await run_in_threadpool(self._rooms.pictures.get, file)
        return Response(picture.data, media_type=picture.kind, headers=_PICTURE)

    def _next(self, room: Room, count: int, by: str) -> Sequence[Task | BoxTask]:
        tasks: Sequence[Task | BoxTask] = room.session.next(count, by=by)
        self._rooms.pictures.ahead([room.session.photo(task.id) for task in tasks])
        return tasks

    def _room(self, request: Request) -> Room:
        room = self._rooms.find(request.path_params["room"])
        if room is None:
            raise NoRoom("this session is not open; open it again")
        return room


def facts(room: Room) -> dict[str, Any]:
    """What the browser keeps of a session, and opens it by again."""
    wanted = room.wanted
    labels = list(room.session.labels)
    return {"room": room.id, "place": room.place.name, "kind": wanted.kind, "labels": labels, "model": wanted.model}


def _guarded(handler: Handler, root: Path | None) -> Handler:
    """Errors of ours as one line in the page's language."""

    @functools.wraps(handler)
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except AnmokError as error:
            told = {"error": telling.told(_words(request), error, root), "code": refusals.code(error)}
            headers = dict(_HEADERS)
            if isinstance(error, Refused):
                headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
            return JSONResponse(told, _status(error), headers)

    return guarded


def _status(error: AnmokError) -> int:
    match error:
        case NoRoom() | UnknownModel():
            return 404
        case Forbidden():
            return 403
        case Refused():
            return 503
        case CannotWrite():
            return 507
        case _:
            return 400


def _words(request: Request) -> Words:
    said = request.query_params.get("lang", "")
    return Words(said if said in LANGUAGES else LANGUAGES[0])


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request; a page of another origin cannot send one without being asked first.

    Raises:
        BadRequest: it is none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("want content-type: application/json")
    read = request.scope.get("state", {}).get("body")  # where something in front of us has read it
    raw = read if isinstance(read, bytes) else await request.body()
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    if not isinstance(given, dict):
        raise BadRequest("the body: want an object")
    return given


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise BadRequest(f"{key}: want a text")
    return value


def _name(by: str) -> str:
    if not by.strip():
        raise BadRequest("by: want the name of who labels")
    return by


def _said(given: object) -> Said:
    if not isinstance(given, dict):
        raise BadRequest("strokes: want objects")
    number, seconds, xyxy = given.get("n"), given.get("seconds", 0.0), given.get("xyxy", [0, 0, 0, 0])
    if not isinstance(number, int) or not 0 <= number < 10**12:
        raise BadRequest("n: want the stroke's number")
    if not isinstance(seconds, int | float):
        raise BadRequest("seconds: want a number")
    if not isinstance(xyxy, list) or len(xyxy) != 4 or not all(isinstance(one, int | float) for one in xyxy):
        raise BadRequest("xyxy: want left, top, right, bottom")
    left, top, right, bottom = (float(one) for one in xyxy)
    return Said(
        number,
        _text(given, "do"),
        _text(given, "image"),
        _text(given, "answer"),
        float(seconds),
        _text(given, "box"),
        (left, top, right, bottom),
        _text(given, "label"),
    )


def _task(task: Task | BoxTask) -> dict[str, Any]:
    """Without the path: a folder's or a file's name may give the answer away."""
    if isinstance(task, Task):
        proposals = [[label, round(score, 4)] for label, score in task.proposals[:3]]
        return {"id": task.id, "stream": task.stream, "proposals": proposals, "chosen": task.is_chosen}
    boxes = [
        {"id": box.id, "xyxy": list(box.xyxy), "label": box.label, "score": round(box.score, 4), "state": box.state}
        for box in task.boxes
    ]
    ready = {"ready": task.is_ready, "size": list(task.size_hw[::-1]), "boxes": boxes}
    return {"id": task.id, "stream": task.stream, "proposals": [], **ready}


def _json(content: Mapping[str, Any]) -> Response:
    return JSONResponse(content, headers=_HEADERS)
