"""The page in a server on a real socket of this process, with the fakes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from anmok.server.app import Server, build
from anmok.server.callers import Callers
from anmok.server.pages import host_of
from anmok.server.running import listening, serve
from anmok.server.settings import PageSettings, Settings
from anmok.server.visitors import Visitors
from anmok.ui import Host, mount
from serving import FAKES, Running


@contextlib.contextmanager
def shown(
    root: Path | None = None,
    *,
    settings: Settings | None = None,
    prefix: str = "",
    changed: Callable[[Host], Host] = lambda host: host,
    seconds: float = 60.0,
) -> Iterator[Running]:
    """The page at ``/ui``, ready when the block begins. With a prefix, behind something that takes it away, as a
    proxy does: the page's address is then ``{prefix}/ui``."""
    page = PageSettings(folder=None if root is None else str(root), prefix=prefix)
    server = build(replace(settings or Settings(models=FAKES), page=page))
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(listening("127.0.0.1", 0))
        port = socket.getsockname()[1]
        server.door.visitors = visitors = Visitors("/ui", Callers(server.desk.settings.keys))
        host = host_of(server, visitors, f"http://127.0.0.1:{port}{prefix}")
        mount(server.api, changed(host), "/ui")
        if prefix:
            server = replace(server, app=_stripped(server.app, prefix))
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(serve(server, socket, None, stop)), daemon=True)
        thread.start()
        stack.callback(_stopped, server, thread, stop)
        deadline = time.monotonic() + seconds
        while not server.desk.is_ready:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield Running(port, server)


def _stopped(server: Server, thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join(60)
    server.close(seconds=5)
    assert not thread.is_alive()


def _stripped(app: ASGIApp, prefix: str) -> ASGIApp:
    async def stripped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(prefix), scope["path"]
            path = scope["path"].removeprefix(prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return stripped
