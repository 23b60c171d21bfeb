"""Names that lead to a server of the test, and what is brought from there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pytest

from address_server import ELSEWHERE, NAME, PUBLIC, Network, Script, head, serving
from anmok import addresses
from anmok.errors import BadMedia

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8  # 2,056 bytes
NAMES: dict[str, Sequence[str]] = {
    NAME: [PUBLIC],
    "cdn.example.com": [ELSEWHERE],
    "inside.example.com": ["10.0.0.7"],
    "\ud55c\uad6d.example.com".encode("idna").decode(): [PUBLIC],
}

SHORT = 0.3  # seconds; what is slow here never ends by itself


def brought(script: Script, url: str = f"http://{NAME}/a.png", limit: int = 10_000, seconds: float = 20.0) -> bytes:
    with serving(script) as server:
        network = Network(NAMES, server.port)
        return addresses.fetch(url, limit, seconds=seconds, resolve=network.resolve, connect=network.connect)


def refused(script: Script, limit: int = 10_000, seconds: float = 20.0) -> str:
    with pytest.raises(BadMedia) as caught:
        brought(script, limit=limit, seconds=seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield head("Transfer-Encoding: chunked")
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
