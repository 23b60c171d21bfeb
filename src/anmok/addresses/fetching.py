"""Bringing a file from an address."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import cast

from anmok.addresses.lines import UNREACHED, Connect, Deadline, Incoming, Resolve, connected, dial, look_up
from anmok.addresses.places import PORTS, Place, place_of
from anmok.addresses.signatures import LOOK, is_media
from anmok.errors import AddressRefused, BadMedia

REDIRECTS = 3
SECONDS = 10.0

_HEADER = 65_536  # bytes of an answer's header, and of what chunks add to a small file
_PIECE = 65_536
_OK = 200
_MOVED = frozenset({301, 302, 303, 307, 308})
_REQUEST = (
    "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: anmok\r\nAccept: image/*, video/*, */*;q=0.1\r\n"
    "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
)


def fetch(
    url: str,
    limit: int,
    *,
    seconds: float = SECONDS,
    ports: Collection[int] = PORTS,
    sniff: Callable[[bytes], bool] | None = is_media,
    resolve: Resolve = look_up,
    connect: Connect = dial,
) -> bytes:
    """The file behind an http or https address, of at most ``limit`` bytes, by the policy of this package.

    Args:
        url: as it came in the request.
        limit: bytes of the file.
        seconds: over everything, look-up and redirects included.
        ports: those that may be opened.
        sniff: told the first 512 bytes, or the whole of a shorter file; False ends it. None takes anything.
        resolve: name and port to IP addresses; asked once for each host on the way.
        connect: opens the connection to an IP address that was found public.

    Raises:
        AddressRefused: the address, or one that it is redirected to, is not allowed.
        BadMedia: there is no such file, it is too large, too slow, compressed or no picture or clip.
    """
    deadline = Deadline(seconds)
    place = place_of(url, ports)
    for _ in range(1 + REDIRECTS):
        with connected(place, resolve, connect, deadline) as line, _asked(line, place, deadline) as answer:
            if answer.http.status not in _MOVED:
                return answer.body(limit, sniff)
            place = place.moved(answer.location(), ports)
    raise AddressRefused(f"the address is redirected more than {REDIRECTS} times")


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of which the header was read."""

    http: HTTPResponse
    incoming: Incoming

    def location(self) -> str:
        found = self._all("Location")
        if len(found) != 1:
            raise BadMedia("the address answers with a redirect to nowhere")
        return found[0]

    def body(self, limit: int, sniff: Callable[[bytes], bool] | None) -> bytes:
        self._check_header(limit)
        self.incoming.allow(2 * limit)  # whoever sends chunks so small that their sizes outweigh them is no friend
        file = io.BytesIO()
        is_checked = sniff is None
        while piece := self.http.read(min(_PIECE, limit + 1 - file.tell())):
            file.write(piece)
            if file.tell() > limit:
                raise _too_large(limit)
            if not is_checked and file.tell() >= LOOK:
                is_checked = _check_kind(file.getvalue()[:LOOK], sniff)
        if self.http.length:  # http.client itself takes the end of the line for the end of the file
            raise BadMedia(UNREACHED)
        if not is_checked:
            _check_kind(file.getvalue(), sniff)
        return file.getvalue()

    def _check_header(self, limit: int) -> None:
        if self.http.status != _OK:
            raise BadMedia(f"the address answers {self.http.status} instead of a file")
        codings = [*self._all("Content-Encoding"), *self._all("Transfer-Encoding")]
        plain = {"", "identity", "chunked"} if self.http.chunked else {"", "identity"}
        if any(coding.strip().lower() not in plain for coding in codings):
            raise BadMedia("the address answers with a compressed file, and was asked for a plain one")
        if (self.http.length or 0) > limit:
            raise _too_large(limit)

    def _all(self, name: str) -> list[str]:
        return self.http.headers.get_all(name) or []


@contextlib.contextmanager
def _asked(line: socket.socket, place: Place, deadline: Deadline) -> Iterator[_Answer]:
    """Ask for the place's file and read the header of the answer; the body is read inside of the block."""
    incoming = Incoming(line, deadline, _HEADER)
    http = HTTPResponse(cast("socket.socket", _Readable(incoming)), method="GET")
    with contextlib.closing(http):
        try:
            line.settimeout(deadline.left())
            line.sendall(_REQUEST.format(target=place.target, host=place.netloc).encode("ascii"))
            http.begin()
            yield _Answer(http, incoming)
        except TimeoutError:
            raise deadline.passed() from None
        except (HTTPException, OSError, ValueError) as error:  # ValueError: chunks of a negative size
            raise BadMedia(UNREACHED) from error


class _Readable:
    """All that ``http.client`` wants of a socket that an answer comes from."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._incoming)


def _check_kind(head: bytes, sniff: Callable[[bytes], bool] | None) -> bool:
    if sniff is not None and not sniff(head):
        raise BadMedia("what lies at the address is no picture or clip that anmok reads")
    return True


def _too_large(limit: int) -> BadMedia:
    return BadMedia(f"the file at the address is larger than {limit:,} bytes")
