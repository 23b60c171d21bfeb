"""Connections with an end to their patience. uvicorn waits for a header, and for whoever does not read his answer, as
long as it takes, and keeps a header of any size; nobody has shown a key at that point.

=======================================================  ===================================
a header that has more bytes than ``HEADER_BYTES``       431, and the connection is closed
one that is not whole after ``HEADER_SECONDS``           closed, also before its first byte
a body that goes on after it was refused                 closed after as many seconds
an answer of which nothing was read in ``READ_SECONDS``  broken off, and what waits for it ends
=======================================================  ===================================
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_BYTES: Final = 64 * 2**10  # and at most what one read of the socket brings beside it
HEADER_SECONDS: Final = 20.0
READ_SECONDS: Final = 30.0
_TOLD = b'{"error": {"code": "too_much", "message": "the header is too large"}}'
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_TOLD), _TOLD)
)


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    header_bytes = HEADER_BYTES
    header_seconds = HEADER_SECONDS
    read_seconds = READ_SECONDS

    _is_heading = False  # between the first byte of a header and its last
    _head = 0  # bytes of it so far
    _heading: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_is_here()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_heading:
            self._head += len(data)
            if self._head > self.header_bytes:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        if self._is_heading or self.cycle is None or self.cycle.response_complete:
            self._await_header()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_heading, self._head = True, 0

    def on_headers_complete(self) -> None:
        self._is_heading = False
        self._header_is_here()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client reads slower than the answer is written."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: whoever asks for a WebSocket gets an answer without one, and no lines in the log."""

    def _await_header(self) -> None:
        if self._heading is None:
            self._heading = self.loop.call_later(self.header_seconds, self._give_up)

    def _header_is_here(self) -> None:
        if self._heading is not None:
            self._heading.cancel()
            self._heading = None

    def _give_up(self) -> None:
        self._heading = None
        if not self.transport.is_closing():
            self.transport.close()

    def _watch(self, unread: int) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self.loop.call_later(self.read_seconds, self._check_read, unread)

    def _check_read(self, before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread < before:
            self._watch(unread)
        else:
            self.transport.abort()
