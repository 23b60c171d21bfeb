"""JSON that nobody vouches for, read value by value: the right type, or one line that names the field."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from anmok.errors import AnmokError, BadRequest, TooMuch
from anmok.geometry import Rle
from anmok.media import max_pixels
from anmok.wire.refusals import WrongField

_LONGEST = 40  # letters of a caller's key that a message repeats
_RUNS = 250_000  # letters or numbers of one mask; a person in a picture of 12 Mpx takes a few thousand
_VALUES = 2_000_000  # values of one body: [], in three bytes of it takes sixty bytes of memory
_EXACT = 2**53  # whole numbers up to here are the same in every JSON reader
_KINDS = {
    bool: "true or false",
    str: "a text",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def parsed(body: bytes, *, limit: int) -> Any:
    """The JSON in a body of at most ``limit`` bytes.

    Raises:
        BadRequest: larger than that, no JSON, NaN or Infinity, nested too deep, or half a surrogate pair.
        TooMuch: of more values than a request has; pictures are one each.
    """
    if len(body) > limit:
        raise BadRequest(f"the body has {len(body):,} bytes; {limit:,} are the limit")
    if len(body) > _VALUES and sum(map(body.count, (b",", b"[", b"{"))) > _VALUES:
        raise TooMuch(f"the body has more than {_VALUES:,} values; send pictures as files, tensors as bytes")
    try:
        value = json.loads(body, parse_constant=_no_constant)
        if b"\\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except ValueError as error:  # also what is no UTF-8
        raise BadRequest(f"the body is no JSON ({_reason(error)})") from None
    return value


def an_object(value: object, name: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise WrongField(name, f"want an object, got {kind_of(value)}")
    return value


def a_list(value: object, name: str, most: int) -> list[Any]:
    """A JSON list of at most ``most`` values."""
    if not isinstance(value, list):
        raise WrongField(name, f"want a list, got {kind_of(value)}")
    if len(value) > most:
        raise WrongField(name, f"{len(value):,} values; {most:,} are the limit")
    return value


def known(content: Mapping[str, Any], names: Collection[str], name: str) -> None:
    """Refuse a key that means nothing here, with the nearest one that does."""
    for key in content:
        if key in names:
            continue
        near = nearest(str(key), names)
        remedy = f"did you mean {near!r}?" if near else f"want {', '.join(names) or 'no keys at all'}"
        raise WrongField(name, f"unknown key {str(key)[:_LONGEST]!r}; {remedy}")


def nearest(word: str, names: Collection[str]) -> str:
    """The name that a mistyped word comes closest to; empty where none is near."""
    return next(iter(difflib.get_close_matches(word[:_LONGEST], names, 1)), "")


def wanted(content: Mapping[str, Any], key: str, name: str) -> Any:
    """The value of a key that must be there."""
    if content.get(key) is None:
        raise WrongField(f"{name}.{key}" if name else key, "is missing")
    return content[key]


def read(kind: Any, value: object, name: str) -> Any:
    """A dataclass from a JSON object with its fields; those left out take their defaults.

    Raises:
        BadRequest: an unknown key, a missing or a wrong value.
    """
    content = an_object(value, name)
    hints = _hints(kind)
    known(content, tuple(hints), name)
    for field in fields(kind):
        if field.name not in content and field.default is MISSING and field.default_factory is MISSING:
            raise WrongField(f"{name}.{field.name}", "is missing")
    return kind(**{key: value_as(hints[key], one, f"{name}.{key}") for key, one in content.items()})


def value_as(hint: Any, value: object, name: str) -> Any:
    """A JSON value as the type that ``hint`` names: a scalar, a literal, tuples of them, a dataclass, an ``Rle``,
    or ``None`` where the hint allows it.

    Raises:
        BadRequest: it is of another type; the message names the field.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return value_as(next(one for one in inner if one is not NoneType), value, name)
    if origin is Literal:
        return _literal(inner, value, name)
    if origin is tuple:
        return _tuple(inner, value, name)
    if hint is Rle:
        return rle(value, name)
    if is_dataclass(hint):
        return read(hint, value, name)
    return _scalar(hint, value, name)


def plain(value: Any) -> Any:
    """The inverse of ``value_as``. A field that holds its default is left out."""
    if isinstance(value, Rle):
        return value.to_coco()
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: plain(one) for field, one in pairs if field.default is MISSING or one != field.default}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value


def rle(value: object, name: str) -> Rle:
    """A mask in COCO's form, of a picture that is under the limit of pixels."""
    content = an_object(value, name)
    known(content, ("size", "counts"), name)
    height, width = value_as(tuple[int, int], wanted(content, "size", name), f"{name}.size")
    if height * width > max_pixels():
        raise WrongField(f"{name}.size", f"{width} x {height} is over the limit of {max_pixels():,} pixels")
    counts = wanted(content, "counts", name)
    if isinstance(counts, str | list) and len(counts) > _RUNS:
        raise WrongField(f"{name}.counts", f"{len(counts):,} letters or numbers; {_RUNS:,} are the limit")
    if isinstance(counts, list):
        counts = [_scalar(int, one, f"{name}.counts") for one in counts]
    try:
        return Rle.from_coco({"size": (height, width), "counts": counts})
    except AnmokError as error:
        raise WrongField(name, str(error)) from None


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    names = {
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return {key: hint for key, hint in get_type_hints(kind).items() if get_origin(hint) is not ClassVar}


def _literal(choices: tuple[Any, ...], value: object, name: str) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool | list | dict) or value not in choices:
        raise WrongField(name, f"want {' or '.join(str(one) for one in choices)}")
    return value


def _tuple(inner: tuple[Any, ...], value: object, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise WrongField(name, f"want a list, got {kind_of(value)}")
    hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
    if len(hints) != len(value):
        raise WrongField(name, f"want {len(hints)} values, got {len(value)}")
    return tuple(value_as(hint, one, f"{name}[{i}]") for i, (hint, one) in enumerate(zip(hints, value, strict=True)))


def _scalar(hint: Any, value: object, name: str) -> Any:
    if hint in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(hint, value, name)
    if not isinstance(value, hint) or isinstance(value, bool) is not (hint is bool):
        raise WrongField(name, f"want {_NAMES[hint]}, got {kind_of(value)}")
    if isinstance(value, str) and not value.isascii():
        _check_text(value, name)
    return value


def _check_text(value: str, name: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongField(name, "half a surrogate pair is no text") from None


def _number(hint: Any, value: float, name: str) -> float:
    is_whole = isinstance(value, int) or value.is_integer()
    if abs(value) > _EXACT or not math.isfinite(value):
        raise WrongField(name, "want a finite number of at most 2**53")
    if hint is int and not is_whole:
        raise WrongField(name, "want a whole number, got a fraction")
    return hint(value)  # type: ignore[no-any-return]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: ValueError) -> str:
    """Where it breaks, without the caller's own words."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error)[:80]
