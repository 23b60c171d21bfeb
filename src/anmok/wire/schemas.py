"""JSON Schema (2020-12) of our own dialect, made from the asks themselves, for OpenAPI."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anmok.geometry import Rle
from anmok.inputs import Box, Cue, Point, Role, Sign
from anmok.wire.own import ASKS, CHOSEN, SPAN

Schema = dict[str, Any]

_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_SCALARS: Mapping[Any, Schema] = {str: _TEXT, int: _WHOLE, float: _NUMBER, bool: {"type": "boolean"}}
_FILE: Schema = {"type": "string", "contentEncoding": "base64"}
_PART: Schema = {"type": "object", "properties": {"part": _TEXT}, "required": ["part"], "additionalProperties": False}


def ask_schema(task: str) -> Schema:
    """What ``ask_from_json`` takes. Ranges are checked by the ask and told in its message."""
    return _of(ASKS[task])


def item_schema() -> Schema:
    """What ``item_from_json`` takes."""
    file: Schema = {"anyOf": [_FILE, _PART]}
    pointed = {"points": _of(tuple[Point, ...]), "boxes": _of(tuple[Box, ...]), "mask": _of(Rle)}
    pointed["exemplars"] = _of(tuple[tuple[Box, Sign], ...])
    clip: Schema = {"anyOf": [*file["anyOf"], {"type": "array", "items": file}]}
    cut = {"fps": _NUMBER, "start": _NUMBER, "end": _NUMBER, "cues": _of(tuple[Cue, ...])}
    prompted, cut_clip = _object({"image": file, **pointed}, ["image"]), _object({"clip": clip, **cut}, ["clip"])
    heard = {"has_sound": _SCALARS[bool]}
    shown_clip = _object({"clip": clip, **{key: (cut | heard)[key] for key in CHOSEN}}, ["clip"])
    sound = _object({"sound": file, **{key: cut[key] for key in SPAN}}, ["sound"])
    said: Schema = {"anyOf": [*file["anyOf"], _object({"text": _TEXT}), shown_clip, sound]}
    turns = _list(_object({"role": _of(Role), "parts": _list(said)}))
    return {"anyOf": [*file["anyOf"], prompted, _object({"text": _TEXT}), cut_clip, _object({"turns": turns})]}


def call_schema(task: str) -> Schema:
    """What ``call_from_json`` takes."""
    items: Schema = {"type": "array", "items": item_schema(), "minItems": 1}
    return _object({"model": _TEXT, "ask": ask_schema(task), "items": items}, ["items"])


def answer_schema(task: str) -> Schema:
    """What ``result_to_json`` gives for a task, or for what could not be read."""
    failure = _object({"source": _TEXT, "error": _TEXT, "message": _TEXT})
    made = _object({**_ANSWERS[task], **_REST.get(task, {})}, list(_ANSWERS[task]))
    others = {
        "track": [_object({"frames": _list(made), "broken": _list(_WHOLE)})],
        "chat": [_object({"piece": _TEXT, "reply": made}, ["piece"])],
    }
    return {"anyOf": [made, *others.get(task, ()), failure]}


def reply_schema(task: str) -> Schema:
    """What ``answers_to_json`` gives."""
    return _object({"model": _TEXT, "answers": _list(answer_schema(task))})


def error_schema() -> Schema:
    """What ``error_to_json`` gives."""
    content = {"code": _TEXT, "message": _TEXT, "field": _TEXT, "request_id": _TEXT}
    return _object({"error": _object(content, ["code", "message"])})


def _of(hint: Any) -> Schema:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [_of(one) for one in inner if one is not NoneType]
        return {"anyOf": [*kinds, {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return _list(_of(inner[0]))
        places = [_of(one) for one in inner]
        return {"type": "array", "prefixItems": places, "minItems": len(places), "maxItems": len(places)}
    if hint is Rle:
        return _object({"size": _list(_WHOLE, 2), "counts": {"anyOf": [_TEXT, _list(_WHOLE)]}})
    return _dataclass(hint) if is_dataclass(hint) else dict(_SCALARS[hint])


def _dataclass(kind: Any) -> Schema:
    hints = get_type_hints(kind)
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    schema = _object({one.name: _of(hints[one.name]) for one in fields(kind)}, needed)
    return {"title": kind.__name__, "description": inspect.getdoc(kind), **schema}


def _object(properties: Mapping[str, Schema], needed: list[str] | None = None) -> Schema:
    """All of the properties are needed where nothing is said."""
    required = list(properties) if needed is None else needed
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def _list(item: Schema, length: int | None = None) -> Schema:
    schema: Schema = {"type": "array", "items": item}
    return schema if length is None else schema | {"minItems": length, "maxItems": length}


_SIZE, _PLACE, _BOX, _SHARE = _list(_WHOLE, 2), _list(_NUMBER, 2), _list(_NUMBER, 4), {"type": "number"}
_MAYBE: Schema = {"anyOf": [_NUMBER, {"type": "null"}]}
_RLE = _of(Rle)
_MAP = _object({"dtype": {"enum": ["float32"]}, "shape": _list(_WHOLE), "zlib": _FILE})
_READ: Schema = {"type": "object", "additionalProperties": _TEXT}
_MASK = {"score": _SHARE, "box": _BOX, "area": _WHOLE, "rle": _RLE, "label": _TEXT}
_POINT = _object({"name": _TEXT, "x": _NUMBER, "y": _NUMBER, "score": _SHARE})
_PERSON = _object({"box": _BOX, "score": _SHARE, "keypoints": _list(_POINT)})
_GAZE = {"eye": _PLACE, "target": {"anyOf": [_PLACE, {"type": "null"}]}, "score": _SHARE, "face": _BOX}
_CLASSES = {"labels": _list(_TEXT), "class_ids": _list(_WHOLE), "read_as": _READ}

# What every answer to a task has,
_ANSWERS: Mapping[str, Mapping[str, Schema]] = {
    "chat": {
        "text": _TEXT,
        "finish": {"enum": ["stop", "length"]},
        "tokens_in": _WHOLE,
        "tokens_out": _WHOLE,
        "image_tokens": _WHOLE,
        "seconds_to_first": _NUMBER,
        "seconds": _NUMBER,
    },
    "classify": {
        "label": {"anyOf": [_TEXT, {"type": "null"}]},
        "scores": _list(_object({"label": _TEXT, "score": _SHARE})),
        "scoring": {"enum": ["softmax", "sigmoid"]},
    },
    "depth": {
        "size": _SIZE,
        "kind": {"enum": ["disparity", "depth", "metric"]},
        "unit": {"enum": ["m", "relative"]},
        "nearest": _NUMBER,
        "farthest": _NUMBER,
        "depth": _MAP,
    },
    "detect": {"size": _SIZE, "detections": _list(_object({"label": _TEXT, "score": _SHARE, "box": _BOX}))},
    "embed": {"space": {"enum": ["image", "features", "text"]}, "vector": _list(_NUMBER)},
    "gaze": {"size": _SIZE, "people": _list(_object(_GAZE, ["eye", "target", "score"]))},
    "inspect": {
        "size": _SIZE,
        "score": _NUMBER,
        "threshold": _MAYBE,
        "is_strange": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "p_value": _MAYBE,
        "peak": _list(_WHOLE, 2),
        "map": _MAP,
    },
    "matte": {"size": _SIZE, "alpha": _MAP},
    "normals": {"size": _SIZE, "axes": _TEXT, "normals": _MAP},
    "parse": {
        "size": _SIZE,
        "parts": _list(_object({"part": _TEXT, "area": _WHOLE, "box": _BOX, "rle": _RLE})),
    },
    "point": {"size": _SIZE, "points": _list(_object({"label": _TEXT, "score": _SHARE, "point": _PLACE}))},
    "pose": {"size": _SIZE, "people": _list(_PERSON)},
    "segment": {"size": _SIZE, "masks": _list(_object(_MASK, ["score", "box", "area", "rle"]))},
    "track": {
        "frame": _WHOLE,
        "seconds": _NUMBER,
        "size": _SIZE,
        "objects": _list(_object(_MASK | {"id": _WHOLE}, ["score", "box", "area", "rle", "id"])),
    },
}
# and what stands beside it where it is whole, or where there is something to say.
_REST: Mapping[str, Mapping[str, Schema]] = {
    "classify": {
        "order": _list(_WHOLE),
        "threshold": _SHARE,
        "top_k": {"anyOf": [_WHOLE, {"type": "null"}]},
        "read_as": _READ,
        "decided": _TEXT,
    },
    "chat": {"frames": _list(_list(_NUMBER)), "unknown": _list(_TEXT), "sound_tokens": _WHOLE},
    "depth": {"confidence": _MAP, "points": _MAP, "intrinsics": _list(_list(_NUMBER, 3), 3)},
    "detect": _CLASSES,
    "point": _CLASSES,
    "parse": {"names": _list(_TEXT)},
    "pose": {"names": _list(_TEXT), "edges": _list(_list(_WHOLE, 2)), "threshold": _SHARE},
    "segment": _CLASSES,
    "track": _CLASSES,
}
