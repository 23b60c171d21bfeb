"""What passes to an engine: a body that was read here first, key by key, and no address that it would open.

An engine trusts its callers: vLLM follows http addresses in a request, LMDeploy opens any path in place of a picture,
and both take keys that load, compile or run things. So a body passes only when each of its keys is known
(``anmok.server.proxy.keys``); it then passes byte for byte, but for the model's name and the pictures fetched here.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from PIL import Image as pillow

from anmok import media
from anmok.errors import BadRequest
from anmok.server.proxy import keys
from anmok.server.proxy.limits import Caps
from anmok.wire import fields
from anmok.wire.intake import binary, sized
from anmok.wire.refusals import WrongField

_DATA: Final = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
_HTTP: Final = re.compile(r"https?://", re.IGNORECASE)
_TEXTS = 2048  # of one request, as OpenAI has it
_TOOLS = 128  # likewise
_SCHEMA_BYTES = 65_536  # an engine compiles it into an automaton
_TOOLS_BYTES = 262_144

INLINE: Final = 128 * 2**10  # bytes of a body that is read in the loop itself; a thread costs more than that takes

Fetch = Callable[[str, int], bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """A body that may pass. ``content`` is what was read in it; ``body`` is it, unless a picture was put in."""

    content: Mapping[str, Any]
    body: bytes

    @property
    def is_stream(self) -> bool:
        return self.content.get("stream") is True

    async def body_for(self, model: str) -> bytes:
        """The bytes for an engine that calls the model ``model``."""
        if self.content.get("model") == model:
            return self.body
        content = {**self.content, "model": model}
        return _written(content) if len(self.body) <= INLINE else await asyncio.to_thread(_written, content)


def asked(route: str, body: bytes, caps: Caps, fetch: Fetch | None = None) -> Asked:
    """The body of a request to ``route`` (``chat/completions``), if it may pass.

    ``fetch`` brings what is at an http(s) address, guarded; without it such addresses are refused.

    Raises:
        BadRequest: no JSON, too much of it, or a key or value that does not pass; the message names it.
        BadMedia: a picture that is none, or has too many pixels.
    """
    known = keys.ROUTES.get(route)
    if known is None:
        raise BadRequest(f"want one of {', '.join(keys.ROUTES)}")
    content = _read(body, caps.body_bytes)
    given = {key: value for key, value in content.items() if value is not None}
    for key in given:
        if key not in known:
            raise WrongField(key[:40], _why_not(key, known))
    _check_values(given, caps)
    gallery = _Gallery(caps, fetch)
    if "messages" in given:
        _check_messages(given["messages"], gallery)
    for key in ("prompt", "input"):
        if key in given:
            _check_texts(given[key], key)
    return Asked(content, _written(content) if gallery.has_put else body)


class _Gallery:
    """The pictures of one request, counted and looked at."""

    def __init__(self, caps: Caps, fetch: Fetch | None) -> None:
        self._caps = caps
        self._fetch = fetch
        self._count = 0
        self.has_put = False

    def check(self, holder: dict[str, Any], key: str, name: str) -> None:
        """The address in ``holder[key]``: ``data:`` stays, http(s) is fetched and put in its place."""
        self._count += 1
        if self._count > self._caps.images:
            raise WrongField(name, f"more than {self._caps.images} pictures in one request")
        address = holder[key]
        if not isinstance(address, str):
            raise WrongField(name, f"want a data: address, got {fields.kind_of(address)}")
        if _HTTP.match(address):
            if self._fetch is None:
                raise WrongField(name, "this server opens no addresses; send the picture as data:image/...;base64,")
            data = sized(self._fetch(address, self._caps.image_bytes), name, self._caps.image_bytes)
            holder[key] = f"data:{_type_of(data, name)};base64,{base64.b64encode(data).decode('ascii')}"
            self.has_put = True
        elif _DATA.match(address):
            _type_of(binary(address, name, self._caps.image_bytes), name)
        else:
            raise WrongField(name, "want data:image/...;base64,<the file>; paths and other addresses are not opened")


def _read(body: bytes, limit: int) -> dict[str, Any]:
    """The object, in the one way that any reader of JSON takes it."""
    content = fields.an_object(fields.parsed(body, limit=limit), "body")
    if b"\0" in body:  # UTF-16 and UTF-32, which Python reads and others do not
        raise BadRequest("the body is no UTF-8")
    json.loads(body, object_pairs_hook=_unique)
    return content


def _why_not(key: str, known: Collection[str]) -> str:
    if key in keys.REFUSED:
        return f"is not passed to an engine: {keys.REFUSED[key]}"
    near = fields.nearest(key, known)
    return f"is not passed to an engine; did you mean {near!r}?" if near else "is no key that passes to an engine"


def _unique(pairs: list[tuple[str, Any]]) -> None:
    """Of two equal keys one reader takes the first, another the last: what is checked must be what is used."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise BadRequest("the body has an object with the same key twice")


def _check_values(given: Mapping[str, Any], caps: Caps) -> None:
    fields.value_as(str, fields.wanted(given, "model", ""), "model")
    fields.value_as(bool | None, given.get("stream"), "stream")
    choices = fields.value_as(int | None, given.get("n"), "n")
    if choices is not None and not 1 <= choices <= caps.choices:
        raise WrongField("n", f"want 1 to {caps.choices}")
    if "stream_options" in given:
        fields.known(fields.an_object(given["stream_options"], "stream_options"), keys.STREAMING, "stream_options")
    if "response_format" in given:
        shape = fields.an_object(given["response_format"], "response_format")
        fields.value_as(Literal[keys.FORMATS], shape.get("type"), "response_format.type")
        _check_size(shape, "response_format", _SCHEMA_BYTES)
    if "tools" in given:
        for i, tool in enumerate(fields.a_list(given["tools"], "tools", _TOOLS)):
            if fields.an_object(tool, f"tools[{i}]").get("type") != "function":
                raise WrongField(f"tools[{i}].type", "want 'function': other tools are run by the engine itself")
        _check_size(given["tools"], "tools", _TOOLS_BYTES)
    if "chat_template_kwargs" in given:
        options = fields.an_object(given["chat_template_kwargs"], "chat_template_kwargs")
        fields.known(options, keys.TEMPLATE, "chat_template_kwargs")
        if not all(isinstance(one, bool) or one in ("low", "medium", "high") for one in options.values()):
            raise WrongField("chat_template_kwargs", "want true, false, 'low', 'medium' or 'high'")


def _check_messages(value: object, gallery: _Gallery) -> None:
    for i, message in enumerate(fields.a_list(value, "messages", _TEXTS)):
        name = f"messages[{i}]"
        given = {key: one for key, one in fields.an_object(message, name).items() if one is not None}
        fields.known(given, sorted(keys.MESSAGE), name)
        content = given.get("content")
        if content is None or isinstance(content, str):
            continue
        for j, part in enumerate(fields.a_list(content, f"{name}.content", _TEXTS)):
            _check_part(part, f"{name}.content[{j}]", gallery)


def _check_part(value: object, name: str, gallery: _Gallery) -> None:
    """A part is read by its type alone: an engine may look under any other key that is there."""
    part = fields.an_object(value, name)
    kind = part.get("type")
    if kind not in ("text", "refusal", "image_url"):
        raise WrongField(f"{name}.type", "only text and image_url pass to an engine")
    fields.known(part, ("type", kind), name)
    if kind != "image_url":
        fields.value_as(str, fields.wanted(part, kind, name), f"{name}.{kind}")
        return
    address = fields.wanted(part, "image_url", name)
    if not isinstance(address, dict):
        gallery.check(part, "image_url", f"{name}.image_url")
        return
    fields.known(address, keys.PICTURE, f"{name}.image_url")
    fields.value_as(Literal["auto", "low", "high"] | None, address.get("detail"), f"{name}.image_url.detail")
    tiles = fields.value_as(int | None, address.get("max_dynamic_patch"), f"{name}.image_url.max_dynamic_patch")
    if tiles is not None and not 1 <= tiles <= 64:
        raise WrongField(f"{name}.image_url.max_dynamic_patch", "want 1 to 64")
    fields.wanted(address, "url", f"{name}.image_url")
    gallery.check(address, "url", f"{name}.image_url.url")


def _check_texts(value: object, name: str) -> None:
    """A text, its tokens, or a list of either."""
    rows = fields.a_list(value, name, 10**6) if isinstance(value, list) else [value]
    many = [row for row in rows if not isinstance(row, int) or isinstance(row, bool)]
    if len(many) > _TEXTS:
        raise WrongField(name, f"{len(many):,} texts; {_TEXTS:,} are the limit")
    for row in many:
        tokens = row if isinstance(row, list) else []
        if not isinstance(row, str | list) or any(type(one) is not int for one in tokens):
            raise WrongField(name, "want a text, a list of texts, or token numbers")


def _check_size(value: object, name: str, limit: int) -> None:
    if len(json.dumps(value, ensure_ascii=False)) > limit:
        raise WrongField(name, f"more than {limit:,} letters of JSON")


def _type_of(data: bytes, name: str) -> str:
    """The media type of a picture, from its header, with its pixels counted: not every engine counts them."""
    try:
        with pillow.open(io.BytesIO(data), formats=_formats()) as picture:
            (width, height), form = picture.size, picture.format or ""
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):  # the second where warnings are errors
        raise WrongField(name, f"over the limit of {media.max_pixels():,} pixels") from None
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error, zlib.error, MemoryError):
        raise WrongField(name, "not a picture that anmok reads (JPEG, PNG, WEBP, TIFF, BMP, GIF ...)") from None
    if width * height > media.max_pixels():
        raise WrongField(name, f"{width} x {height} is over the limit of {media.max_pixels():,} pixels")
    return pillow.MIME.get("JPEG" if form == "MPO" else form, "image/png")


@cache
def _formats() -> tuple[str, ...]:
    pillow.init()
    return tuple(name for name in media.FORMATS if name in pillow.OPEN)


def _written(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
