"""A server that answers word for word what a test tells it to, and a network that leads to nothing else."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

PUBLIC, ELSEWHERE = "93.184.215.14", "151.101.1.69"  # two hosts of the internet, which no test reaches
NAME = "pictures.example.com"  # the only name in the certificate

# Of this test alone, for NAME, from 2020 to 2120, signed by itself.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDpk7IsVQ+VC9UaFA
Ga9Jzxo3US66YdIWkEyxI6oSK7GhRANCAAQS/8kOPXRkaguIItiPZ8cpMtfsmbkn
JI7n4orzNUQ7xvNZB6KQGHGP3g1h9+5G0ARjBm2PQ5Yev/ziCb+53J0D
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBpDCCAUmgAwIBAgIBATAKBggqhkjOPQQDAjAWMRQwEgYDVQQDDAthbm1vayB0
ZXN0czAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFjEUMBIGA1UE
AwwLYW5tb2sgdGVzdHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQS/8kOPXRk
aguIItiPZ8cpMtfsmbknJI7n4orzNUQ7xvNZB6KQGHGP3g1h9+5G0ARjBm2PQ5Ye
v/ziCb+53J0Do4GFMIGCMB0GA1UdDgQWBBRgb06I8TqSRD/FgEFEBAIWZBwXNTAf
BgNVHSMEGDAWgBRgb06I8TqSRD/FgEFEBAIWZBwXNTAfBgNVHREEGDAWghRwaWN0
dXJlcy5leGFtcGxlLmNvbTAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIC
hDAKBggqhkjOPQQDAgNJADBGAiEA61AaoC0+xaKYQgDqEHZPSw+czUYbxSt+rPcB
r66sFWICIQDBv2JcDBoEJf2C2+vrU2TMCwWgO0BunlTl1TrZyjSewg==
-----END CERTIFICATE-----
"""

Script = Callable[[str], Iterable[bytes]]  # path -> what is sent, piece by piece


def answer(body: bytes, *headers: str, status: str = "200 OK") -> list[bytes]:
    """A whole answer with its length."""
    return [head(*headers, f"Content-Length: {len(body)}", status=status), body]


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def moved(location: str, status: str = "302 Found") -> list[bytes]:
    return answer(b"", f"Location: {location}", status=status)


class Server:
    """One thread per connection; ``asked`` holds the requests as they came."""

    def __init__(self, script: Script, context: ssl.SSLContext | None) -> None:
        self._script, self._context = script, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[bytes] = []
        self.is_closing = threading.Event()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        self.is_closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()  # wakes the one that accepts
        for thread in (self._accepting, *self._threads):
            thread.join(20)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            line, _ = self._listener.accept()
            if self.is_closing.is_set():
                line.close()
                return
            thread = threading.Thread(target=self._serve, args=(line,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:  # the reader leaves whenever it has seen enough
            line.settimeout(20)
            if self._context is not None:
                line = self._context.wrap_socket(line, server_side=True)
            with line:
                request = b""
                while b"\r\n\r\n" not in request and (piece := line.recv(65_536)):
                    request += piece
                self.asked.append(request)
                for piece in self._script(request.split(b" ")[1].decode("ascii")):
                    if self.is_closing.is_set():
                        return
                    line.sendall(piece)


class Network:
    """Names and hosts as a test wants them: every connection ends at one local server, and all of them are counted."""

    def __init__(self, names: dict[str, Sequence[str]], port: int = 9) -> None:
        self._names, self._port = names, port
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []

    def resolve(self, name: str, port: int) -> Sequence[str]:
        self.looked_up.append(name)
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self._names[name]

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        self.connected.append((address, port))
        return socket.create_connection(("127.0.0.1", self._port), seconds)


@contextlib.contextmanager
def serving(script: Script, folder: Path | None = None) -> Iterator[Server]:
    """A server that is closed with the block. With a folder to keep the certificate in, it speaks TLS."""
    context = None
    if folder is not None:
        (folder / "key.pem").write_text(KEY, encoding="ascii")
        (folder / "certificate.pem").write_text(CERTIFICATE, encoding="ascii")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    server = Server(script, context)
    try:
        yield server
    finally:
        server.close()
