"""Running a server: sockets, signals, loading before the first answer, and an end that leaves nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from anmok.errors import AnmokError, MissingDependency
from anmok.server import logs
from anmok.server.app import Server, build
from anmok.server.connections import Connection
from anmok.server.control import control_app
from anmok.server.desk import Desk
from anmok.server.settings import Settings

log: Final = logging.getLogger("anmok.server")

_BACKLOG = 2048  # connections that wait to be taken
_MAX_FRAMES = 20_000  # of a clip, where the environment says nothing: eleven minutes
_CLOSING_SECONDS = 5.0  # for what is left of the engine after all answers have gone out


class _Main(uvicorn.Server):
    """uvicorn that goes on listening while answers are under way, so that whoever comes then is told to go elsewhere,
    and closes its sockets after them."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk
        self._ends: float | None = None  # time.monotonic, of the drain
        self.stop = threading.Event()

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second."""
        if self.stop.is_set() and self._ends is None:
            self.handle_exit(signal.SIGTERM, None)
        if self._ends is not None:
            left = self._ends - time.monotonic()
            self.config.timeout_graceful_shutdown = max(1, round(left))
            self.should_exit |= not self._desk.under_way or left <= 0
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain; the second closes the sockets, and Ctrl-C waits for nobody."""
        if self._ends is None:
            self._ends = time.monotonic() + self._desk.settings.drain_seconds
        else:
            self.should_exit = True
            super().handle_exit(sig, frame)
        self._desk.is_draining = True
        self._captured_signals.clear()  # the process ends by itself, with its own exit code


class _Side(uvicorn.Server):
    """A second server in the same loop; the first one has the signals."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def run(settings: Settings, announce: Callable[[str], None] = lambda address: None) -> None:
    """Serves until SIGTERM or SIGINT; what is under way then is answered first.

    Args:
        settings: of the server.
        announce: is told the address once the socket is open, models loaded or not.

    Raises:
        AnmokError: a model that cannot be loaded at the start, a licence, an address that cannot be had.
    """
    logs.configure(form=settings.logs)
    server = build(settings)
    try:
        with _frames_bounded(), contextlib.ExitStack() as stack:
            main = stack.enter_context(listening(settings.host, settings.port))
            control = (
                stack.enter_context(listening("127.0.0.1", settings.control_port)) if settings.control_port else None
            )
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            address = f"http://{host}:{main.getsockname()[1]}"
            if settings.page is not None:
                _add_page(server, address)
            announce(address)
            with asyncio.Runner(loop_factory=_loop()) as runner:
                runner.run(serve(server, main, control))
    finally:
        server.close(seconds=_CLOSING_SECONDS)
        server.tracing.close()


@contextlib.contextmanager
def _frames_bounded() -> Iterator[None]:
    """A limit on the frames of a clip, where the environment sets none; processes of models take it over."""
    if "ANMOK_MAX_FRAMES" in os.environ:
        yield
        return
    os.environ["ANMOK_MAX_FRAMES"] = str(_MAX_FRAMES)
    try:
        yield
    finally:
        del os.environ["ANMOK_MAX_FRAMES"]


def _add_page(server: Server, address: str) -> None:
    try:
        from anmok.server.pages import add_page  # all of gradio
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("anmok"):
            raise
        raise MissingDependency(f"the page needs the package {error.name}: pip install 'anmok[ui]'") from None
    add_page(server, address)


async def serve(
    server: Server, listener: socket.socket, control: socket.socket | None = None, stop: threading.Event | None = None
) -> None:
    """Serves on bound sockets until a signal, or until ``stop`` is set.

    Raises:
        AnmokError: a model that cannot be loaded at the start.
    """
    main = _Main(_config(server.desk.settings, server.app), server.desk)
    if stop is not None:
        main.stop = stop
    loading = asyncio.create_task(_load_all(server.desk, main))
    await server.desk.upstreams.start()
    try:
        await _both(server, main, listener, control)
    finally:
        await server.desk.upstreams.close()
    if not loading.done():
        loading.cancel()
    elif (error := loading.exception()) is not None:
        raise error


async def _both(server: Server, main: _Main, listener: socket.socket, control: socket.socket | None) -> None:
    """The server, and beside it the control routes where they are wanted."""
    if control is None:
        await main.serve([listener])
        return
    app = control_app(
        server.desk, server.render, lambda: main.handle_exit(signal.SIGTERM, None), server.engines.workers
    )
    side = _Side(_config(server.desk.settings, app))
    async with asyncio.TaskGroup() as group:
        group.create_task(side.serve([control]))
        await main.serve([listener])
        side.should_exit = True


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one.

    Raises:
        AnmokError: the address is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol said, asyncio sends what is ready at once instead of waiting for more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # from here on the address is told, and must answer
    except OSError as error:
        listener.close()
        raise AnmokError(f"{host}:{port} cannot be had ({error.strerror}); --port chooses another one") from None
    return listener


async def _load_all(desk: Desk, main: uvicorn.Server) -> None:
    """Brings the models before the server says that it is ready. One that does not come ends the server: half of
    what was asked for is nothing that anybody should find out by chance."""
    eager = [one for one in desk.settings.models if one.is_pinned or not desk.settings.is_lazy]
    try:
        for one in eager:
            future = desk.engine.pin(one.name) if one.is_pinned else desk.engine.load(one.name)
            await asyncio.wrap_future(future)
            log.info("loaded", extra={"facts": {"model": one.name}})
    except AnmokError:
        desk.is_draining = main.should_exit = True
        raise
    desk.is_ready = True
    log.info("ready", extra={"facts": {"models": len(desk.models)}})


def _config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        http=Connection,
        ws="none",
        proxy_headers=False,
        lifespan="off",
        h11_max_incomplete_event_size=64 * 2**10,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
