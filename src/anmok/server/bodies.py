"""Multipart bodies taken apart in memory: they were counted when they came in, and nothing is put on the disk."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from anmok.errors import BadRequest, TooMuch
from anmok.wire import Part

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

logging.getLogger("python_multipart").disabled = True  # it tells of each bad body, and shows some of it
_PARTS = 300
_HEADER = 8192  # bytes of one header of a part
# The standard library's reader of these takes time with the square of their length.
_BOUNDARY = re.compile(r';\s*boundary=(?:"([ -!#-~]{1,100})"|([!-~]{1,100}?)\s*(?=;|$))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)


def is_multipart(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def parts_of(body: bytes, content_type: str) -> list[Part]:
    """The parts in their order; names of files mean nothing here and are dropped.

    Raises:
        BadRequest: no multipart body, or one that is cut off.
        TooMuch: more than 300 parts.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadRequest("the multipart body has no boundary in its Content-Type")
    boundary = found[1] or found[2]
    reader = _Reader()
    parser = MultipartParser(boundary.encode(), reader.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError:
        raise BadRequest("the multipart body is damaged") from None
    if not reader.is_whole:
        raise BadRequest("the multipart body is cut off")
    return reader.parts


class _Reader:
    """Gathers what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.is_whole = False
        self._field = self._value = self._disposition = b""
        self._data: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": self._end,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._whole,
        }

    def _begin(self) -> None:
        if len(self.parts) >= _PARTS:
            raise TooMuch(f"more than {_PARTS} parts in one body: send fewer")
        self._field = self._value = self._disposition = b""
        self._data = []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._check(self._field)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check(self._value)

    def _check(self, header: bytes) -> None:
        if len(header) > _HEADER:
            raise TooMuch(f"a header of a part has more than {_HEADER:,} bytes")

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _end(self) -> None:
        self.parts.append(Part(_named(self._disposition), b"".join(self._data)))

    def _whole(self) -> None:
        self.is_whole = True


def _named(disposition: bytes) -> str:
    """What a Content-Disposition calls its part."""
    found = _NAME.search(disposition)
    if found is None:
        return ""
    name = re.sub(rb"\\(.)", rb"\1", found[1] or b"") or found[2] or b""
    return name.decode("utf-8", "replace")
