"""Our own dialect, ``/run/<task>``: asks and items one to one as JSON.

A request is ``{"model": ..., "ask": {...}, "items": [...]}``. The keys of ``ask`` are the fields of the ask; what is
left out takes its default, and an unknown key is refused. An item is one of

- ``"<base64>"``, the bytes of a picture, or the same with what was pointed at in it:
  ``{"image": "<base64>", "points": [[x, y, 1]], "boxes": [[l, t, r, b]], "mask": {"size", "counts"}, "exemplars"}``
- ``{"text": "..."}``
- ``{"clip": "<base64 of a video, or a list of pictures>", "fps", "start", "end", "cues"}``
- ``{"turns": [{"role": "user", "parts": ["<base64 of a picture>", {"text": "..."}]}]}``, a conversation; its parts may
  be clips too, without cues, and sounds: ``{"sound": "<base64>", "start", "end"}``

With multipart the same JSON is the part ``request``, and ``{"part": "name"}`` stands for base64 anywhere in its
items; without items, every part called ``image`` (or ``clip``) is one, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anmok.errors import AnmokError, BadRequest
from anmok.geometry import Rle
from anmok.inputs import Box, Clip, Conversation, Cue, Frames, Item, Point, Prompted, Role, Sign, Sound, Text, Turn
from anmok.inputs import Part as Said
from anmok.tasks import (
    Ask,
    Chat,
    Classify,
    Depth,
    Detect,
    Embed,
    Gaze,
    Inspect,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)
from anmok.wire import fields, refusals
from anmok.wire.intake import Intake, binary, encoded, picture, sized
from anmok.wire.refusals import WrongField

_KINDS: tuple[type[Ask[Any, Any]], ...] = (
    *(Chat, Classify, Depth, Detect, Embed, Gaze, Inspect, Matting, Normals, Parse, Pointing, Pose, Segment, Track),
)
ASKS: Mapping[str, type[Ask[Any, Any]]] = {kind.task: kind for kind in _KINDS}
REQUEST, IMAGE, CLIP = "request", "image", "clip"  # parts of a multipart body
TURNS, SOUND = "turns", "sound"
POINTED: Mapping[str, Any] = {
    "points": tuple[Point, ...],
    "boxes": tuple[Box, ...],
    "mask": Rle,
    "exemplars": tuple[tuple[Box, Sign], ...],
}
SPAN: Mapping[str, Any] = {"start": float, "end": float | None}
CHOSEN: Mapping[str, Any] = {"fps": float | None, **SPAN, "has_sound": bool}
CUT: Mapping[str, Any] = {"fps": float | None, **SPAN, "cues": tuple[Cue, ...]}

Parts = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: which model, what is asked, and of what. ``ignored`` are keys that the dialect lets pass and that
    change nothing here."""

    ask: Ask[Any, Any]
    items: tuple[Item, ...]
    model: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    data: bytes


def ask_from_json(task: str, content: object) -> Ask[Any, Any]:
    """The ask of a task from its fields.

    Raises:
        BadRequest: no such task, an unknown key (the message offers the nearest), or a wrong value.
    """
    if task not in ASKS:
        near = fields.nearest(task, ASKS)
        raise WrongField("task", f"unknown; {f'did you mean {near}?' if near else 'want ' + ', '.join(ASKS)}")
    ask: Ask[Any, Any] = fields.read(ASKS[task], content, "ask")
    return ask


def ask_to_json(ask: Ask[Any, Any]) -> dict[str, Any]:
    """The inverse of ``ask_from_json``; what stands at its default is left out."""
    content: dict[str, Any] = fields.plain(ask)
    return content


def item_from_json(value: object, name: str, intake: Intake, parts: Parts | None = None) -> Item:
    """One item; its picture stays the bytes that were sent."""
    if not isinstance(value, dict) or "part" in value:
        return _picture(value, name, intake, parts)
    if "text" in value:
        fields.known(value, ("text",), name)
        return Text(fields.value_as(str, value["text"], f"{name}.text"))
    if CLIP in value:
        return _clip(value, name, intake, parts, CUT)
    if TURNS in value:
        return _conversation(value, name, intake, parts)
    fields.known(value, (IMAGE, *POINTED), name)
    data = _picture(fields.wanted(value, IMAGE, name), f"{name}.{IMAGE}", intake, parts)
    pointed = given_of(value, POINTED, name)
    return Prompted(data, **pointed) if pointed else data


def item_to_json(item: Item | Frames | Sound, name: str = "item") -> Any:
    """The inverse of ``item_from_json``. Arrays and PIL images go as PNG.

    Raises:
        BadRequest: it has no wire form: a path, an encoding, an open file, frames with times of their own.
    """
    if isinstance(item, Text):
        return {"text": item.text}
    if isinstance(item, Clip):
        whole = isinstance(item.source, bytes) or not isinstance(item.source, Sequence)
        source = encoded(item.source, name) if whole else [encoded(one, name) for one in item.source]  # type: ignore[arg-type, union-attr]
        keys = [key for key in {**CUT, **CHOSEN} if getattr(item, key)]
        return {CLIP: source, **{key: fields.plain(getattr(item, key)) for key in keys}}
    if isinstance(item, Sound):
        if not isinstance(item.source, bytes):
            raise BadRequest(f"{name}: {type(item.source).__name__} has no wire form; give the bytes of the sound file")
        return {SOUND: encoded(item.source, name), **{key: getattr(item, key) for key in SPAN if getattr(item, key)}}
    if isinstance(item, Frames):
        raise BadRequest(f"{name}: Frames have no wire form; send the clip, or its pictures as one")
    if isinstance(item, Conversation):
        turns = [{"role": turn.role, "parts": [item_to_json(part, name) for part in turn.parts]} for turn in item.turns]
        return {TURNS: turns}
    if isinstance(item, Prompted):
        pointed = {key: fields.plain(getattr(item, key)) for key in POINTED if getattr(item, key)}
        return {IMAGE: encoded(item.image, name), **pointed}
    return encoded(item, name)


def call_from_json(task: str, content: object, intake: Intake, parts: Parts | None = None) -> Call:
    """A whole request.

    Raises:
        BadRequest: anything in it is not as the dialect has it.
    """
    body = fields.an_object(content, "request")
    fields.known(body, ("model", "ask", "items"), "request")
    ask = ask_from_json(task, body.get("ask", {}))
    values = fields.a_list(fields.wanted(body, "items", ""), "items", intake.items)
    if not values:
        raise WrongField("items", "give at least one")
    shown = sum(_shown(value) for value in values)
    if shown > intake.items:
        raise WrongField("items", f"{shown:,} pictures and clips in the turns; {intake.items:,} are the limit")
    items = tuple(item_from_json(value, f"items[{i}]", intake, parts) for i, value in enumerate(values))
    return Call(ask, items, fields.value_as(str, body.get("model", ""), "model"))


def call_from_parts(task: str, parts: Sequence[Part], intake: Intake) -> Call:
    """A whole request that came as multipart.

    Raises:
        BadRequest: as ``call_from_json``, or a part is named twice that is referred to by its name.
    """
    requests = [part.data for part in parts if part.name == REQUEST]
    if len(requests) > 1:
        raise WrongField(REQUEST, "one part of that name, not several")
    body = fields.an_object(fields.parsed(requests[0], limit=intake.body_bytes), "request") if requests else {}
    if "items" in body:
        named = [part for part in parts if part.name != REQUEST]
        if len({part.name for part in named}) < len(named):
            raise WrongField("items", "parts that are referred to need different names")
        return call_from_json(task, body, intake, {part.name: part.data for part in named})
    for part in parts:
        if part.name not in (REQUEST, IMAGE, CLIP):
            raise WrongField(part.name[:40], f"unknown part; want {REQUEST}, {IMAGE} or {CLIP}")
    files = [part for part in parts if part.name != REQUEST]
    items = [{"part": f"{i}"} if part.name == IMAGE else {CLIP: {"part": f"{i}"}} for i, part in enumerate(files)]
    return call_from_json(task, body | {"items": items}, intake, {f"{i}": part.data for i, part in enumerate(files)})


def call_to_json(call: Call) -> dict[str, Any]:
    """The inverse of ``call_from_json``."""
    items = [item_to_json(item, f"items[{i}]") for i, item in enumerate(call.items)]
    model = {"model": call.model} if call.model else {}
    return {**model, "ask": ask_to_json(call.ask), "items": items}


def error_to_json(error: AnmokError, request_id: str = "") -> dict[str, Any]:
    """An error body: a code, one line, the field where it is known, and the request's id."""
    content = {"code": refusals.code(error), "message": refusals.public_message(error)}
    extra = {"field": refusals.place(error), "request_id": request_id}
    return {"error": content | {key: value for key, value in extra.items() if value}}


def lines(values: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    """NDJSON: one object per line, as they come."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n" for value in values)


def _clip(content: dict[str, Any], name: str, intake: Intake, parts: Parts | None, keys: Mapping[str, Any]) -> Clip:
    """``keys`` are ``CUT``, or fewer."""
    fields.known(content, (CLIP, *keys), name)
    value, place = fields.wanted(content, CLIP, name), f"{name}.{CLIP}"
    if not isinstance(value, list):
        return Clip(_referred(value, place, intake.clip_bytes, parts), **given_of(content, keys, name))
    total, pictures = 0, []
    for i, one in enumerate(fields.a_list(value, place, intake.stills)):
        pictures.append(_picture(one, f"{place}[{i}]", intake, parts))
        total += len(pictures[-1])
        if total > intake.clip_bytes:
            raise WrongField(place, f"over {intake.clip_bytes:,} bytes, which are the limit")
    return Clip(pictures, **given_of(content, keys, name))


def _conversation(content: dict[str, Any], name: str, intake: Intake, parts: Parts | None) -> Conversation:
    fields.known(content, (TURNS,), name)
    turns = []
    for i, one in enumerate(fields.a_list(content[TURNS], f"{name}.{TURNS}", intake.turns)):
        place = f"{name}.{TURNS}[{i}]"
        turn = fields.an_object(one, place)
        fields.known(turn, ("role", "parts"), place)
        role: Role = fields.value_as(Role, fields.wanted(turn, "role", place), f"{place}.role")
        given = fields.a_list(fields.wanted(turn, "parts", place), f"{place}.parts", intake.items)
        said = tuple(_said(part, f"{place}.parts[{j}]", intake, parts) for j, part in enumerate(given))
        turns.append(Turn(role, said))
    return Conversation(tuple(turns))


def _shown(value: object) -> int:
    """Pictures in a conversation that nobody has read yet, of whatever form."""
    turns = value.get(TURNS) if isinstance(value, dict) else None
    rows = [turn.get("parts") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    parts = [part for row in rows if isinstance(row, list) for part in row]
    return sum(not (isinstance(part, dict) and "text" in part) for part in parts)


def _said(value: object, name: str, intake: Intake, parts: Parts | None) -> Said:
    """One part of a turn."""
    if isinstance(value, dict) and "text" in value:
        fields.known(value, ("text",), name)
        return Text(fields.value_as(str, value["text"], f"{name}.text"))
    if isinstance(value, dict) and CLIP in value:
        return _clip(value, name, intake, parts, CHOSEN)
    if isinstance(value, dict) and SOUND in value:
        fields.known(value, (SOUND, *SPAN), name)
        data = _referred(value[SOUND], f"{name}.{SOUND}", intake.sound_bytes, parts)
        return Sound(data, **given_of(value, SPAN, name))
    return _picture(value, name, intake, parts)


def given_of(content: Mapping[str, Any], hints: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of ``POINTED`` or ``CUT`` that a request gives, each of its own type.

    Raises:
        WrongField: one is of another.
    """
    given = ((key, content[key]) for key in hints if content.get(key) is not None)
    return {key: fields.value_as(hints[key], value, f"{name}.{key}") for key, value in given}


def _picture(value: object, name: str, intake: Intake, parts: Parts | None) -> bytes:
    if isinstance(value, dict):
        return _referred(value, name, intake.image_bytes, parts)
    return picture(value, name, intake)


def _referred(value: object, name: str, limit: int, parts: Parts | None) -> bytes:
    """Base64, or the part of a multipart body that ``{"part": name}`` means."""
    if not isinstance(value, dict):
        return binary(value, name, limit)
    fields.known(value, ("part",), name)
    part = fields.value_as(str, fields.wanted(value, "part", name), f"{name}.part")
    if part not in (parts or {}):
        raise WrongField(f"{name}.part", "there is no such part in the body")
    return sized((parts or {})[part], name, limit)
