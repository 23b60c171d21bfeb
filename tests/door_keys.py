"""Keys, addresses and raw requests for tests of the door."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
from typing import Any

from anmok.server.settings import Key
from serving import RED_BOX

HOST = b"Host: localhost\r\n"
LAST = b"Connection: close\r\n\r\n"
KEYS = {"all": "k" * 24, "some": "s" * 24, "slow": "l" * 24}
CODE = base64.b64encode(RED_BOX).decode()
PATH = "/models/fake/image-feature-extraction"


def key(name: str, **more: Any) -> Key:
    return Key(name, hashlib.sha256(KEYS[name].encode()).hexdigest(), **more)


def said(port: int, *pieces: bytes, wait: float = 10.0) -> bytes:
    """All that comes back on one connection, until the other side closes it."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=wait)) as line:
        for piece in pieces:
            line.sendall(piece)
        return b"".join(iter(lambda: line.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(length: int | bytes, *lines: bytes) -> bytes:
    """The head of a request whose body has so many bytes, by its own word."""
    told = length if isinstance(length, bytes) else b"%d" % length
    head = (b"POST /run/embed HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *lines)
    return b"\r\n".join((*head, b"Content-Length: " + told, b"", b""))


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}
