"""The page inside a server: an address per language, and nothing of gradio's that the page does not need."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import gradio as gr
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anmok.ui import labelling
from anmok.ui.entrance import entered
from anmok.ui.host import Host
from anmok.ui.look import CSS, theme
from anmok.ui.sessions import Sessions, uploads
from anmok.ui.tabs import build
from anmok.ui.texts import LANGUAGES

COOKIE: Final = "anmok-language"
_YEAR: Final = 365 * 24 * 3600
# What the browser itself keeps to, whatever a script of gradio's asks for: no address but this server's.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
# An eye. In the page itself, as a browser asks for `/favicon.ico` elsewhere.
_ICON: Final = (
    b'<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 32 32%22'
    b"%3E%3Cpath d=%22M2 16q14-18 28 0q-14 18-28 0%22 fill=%22%231d4ed8%22/%3E%3Ccircle cx=%2216%22 cy=%2216%22 "
    b'r=%225%22 fill=%22white%22/%3E%3C/svg%3E">'
)
# Of gradio's addresses, those that the page and `gradio_client` use. Not among them: those that fetch an address for
# the caller, record, watch or share.
_EXACT: Final = frozenset(
    f"/gradio_api/{name}"
    for name in ("info", "queue/join", "queue/data", "upload", "upload_progress", "reset", "cancel", "app_id")
) | {"/", "/config", "/config/", "/theme.css", "/gradio_api/theme.css", "/manifest.json", "/favicon.ico"}
_BELOW: Final = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/gradio_api/call/", "/gradio_api/run/")
_FILE: Final = "/gradio_api/file="
_ASKING: Final = ("/gradio_api/queue/join", "/gradio_api/call/", "/gradio_api/run/")
_MOST: Final = 16 * 2**20  # bytes of an event; files go by `upload`


def mount(app: FastAPI, host: Host, path: str = "/ui") -> None:
    """Adds the page to a server: ``{path}/en/``, ``{path}/ko/``, and ``{path}/``, which chooses one of them;
    where keys are demanded ``{path}/login`` as well.

    Args:
        app: gets the routes. Where something in front of it has read the body of a request (``scope["state"]
            ["body"]``), that is what the page reads.
        host: the server.
        path: "/" puts the languages at the root.
    """
    base = path.rstrip("/")
    folder = uploads()
    sessions = Sessions(folder)

    def add() -> None:
        for language in LANGUAGES:
            blocks = build(host, language, sessions)
            inner = _gradio(blocks, host, f"{base}/{language}")
            app.mount(f"{base}/{language}", _Framed(inner, blocks, language, folder, host.prefix))

    _in_loop(add)
    app.include_router(labelling.routes(host), prefix=base)
    for place in {base or "/", f"{base}/"}:
        app.add_route(place, _greet, include_in_schema=False)
    if host.enter is not None:

        async def entrance(request: Request) -> Response:
            return await entered(request, host, language_of(request))

        app.add_route(f"{base}/login", entrance, methods=["GET", "POST"], include_in_schema=False)


def language_of(request: Request) -> str:
    """As the address says, or the cookie, or the browser; English where none says anything that there is."""
    for said in (request.query_params.get("lang"), request.cookies.get(COOKIE)):
        if said in LANGUAGES:
            return str(said)
    ranked = sorted(_accepted(request.headers.get("accept-language", "")), key=lambda one: -one[1])
    return next((tag for tag, _ in ranked if tag in LANGUAGES), LANGUAGES[0])


def _accepted(header: str) -> Iterator[tuple[str, float]]:
    """Pairs of a language and how much it is wanted, in order."""
    for part in header[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        with contextlib.suppress(ValueError):
            yield tag.partition("-")[0].lower(), float(weight) if weight else 1.0


async def _greet(request: Request) -> Response:
    """To the page in the visitor's language. The way there is relative, so that it holds behind any prefix."""
    chosen = language_of(request)
    # `/ui` and `/ui/` are different places to start from.
    last = request.url.path.rpartition("/")[2]
    answer = RedirectResponse(f"{last}/{chosen}/" if last else f"{chosen}/", 307)
    answer.headers["vary"] = "accept-language, cookie"
    if request.query_params.get("lang") in LANGUAGES:
        answer.set_cookie(COOKIE, chosen, max_age=_YEAR, samesite="lax", httponly=True)
    return answer


def _in_loop(make: Callable[[], None]) -> None:
    """Calls it with a loop running: gradio makes one for each of its locks where there is none, and closes none."""

    async def made() -> None:
        make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(made())
    else:
        make()


def _gradio(blocks: gr.Blocks, host: Host, path: str) -> ASGIApp:
    shell = FastAPI()
    gr.mount_gradio_app(
        shell,
        blocks,
        path,
        footer_links=[],
        run_history=False,
        root_path=f"{host.prefix}{path}" if host.prefix else None,
        allowed_paths=[],
        show_error=False,
        max_file_size=max(host.intake.image_bytes, host.intake.clip_bytes, host.intake.sound_bytes),
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
    )
    blocks.has_launched = True  # without it, gradio does not check that an event's files were uploaded
    inner: ASGIApp = next(route.app for route in shell.routes if getattr(route, "path", "") == path)  # type: ignore[attr-defined]
    return inner


class _Framed:
    """ASGI around gradio's application: lets through what the page needs, and sets the page's language and policy.

    Gradio is started by the first request, since a server may run without the lifespan protocol.
    """

    def __init__(self, app: ASGIApp, blocks: gr.Blocks, language: str, folder: Path, prefix: str) -> None:
        self._prefix = prefix
        self._folder = folder.resolve()
        self._app: Any = app
        self._blocks: Any = blocks
        self._language = language
        self._lock = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        inner = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if not _is_let_in(inner):
            await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)
            return
        await self._started()
        if self._prefix:  # gradio wants to see what the browser sees
            whole, root = self._prefix + scope["path"], self._prefix + scope["root_path"]
            scope = {**scope, "path": whole, "raw_path": whole.encode(), "root_path": root}
        body = scope.get("state", {}).get("body")
        receive = _replayed(body, receive) if isinstance(body, bytes) else receive
        if scope["method"] == "POST" and inner.startswith(_ASKING):
            content = await _read(receive)
            if content is None or _is_foreign(content, self._folder):
                await JSONResponse({"detail": "Unprocessable"}, 422)(scope, receive, send)
                return
            receive = _replayed(content, receive)
        await self._app(scope, receive, _Dressed(send, self._language, is_page=inner == "/").send)

    async def _started(self) -> None:
        async with self._lock:
            if self._life is None:
                begun = asyncio.Event()
                self._life = asyncio.create_task(self._live(begun))
                self._life.add_done_callback(lambda _: begun.set())
                await begun.wait()

    async def _live(self, begun: asyncio.Event) -> None:
        """Gradio's own tidying, until the loop ends and cancels this."""
        async with self._app.router.lifespan_context(self._app):
            self._blocks.run_startup_events()
            await self._blocks.run_extra_startup_events()
            begun.set()
            await asyncio.Event().wait()


def _is_let_in(inner: str) -> bool:
    if inner.startswith(_FILE):
        return "://" not in inner and not inner.removeprefix(_FILE).lstrip("/").lower().startswith(("http:", "https:"))
    return inner in _EXACT or inner.startswith(_BELOW)


async def _read(receive: Receive) -> bytes | None:
    """The body; None where it is too long or the client leaves."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > _MOST:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


def _is_foreign(content: bytes, folder: Path) -> bool:
    """Whether an event names a file that is not among the uploads: an address, which gradio would fetch, or a path of
    this machine, which it would read. It checks only some of them itself."""
    try:
        return _names_foreign(json.loads(content), folder)
    except (ValueError, RecursionError):
        return True


def _names_foreign(value: object, folder: Path) -> bool:
    if isinstance(value, Mapping):
        path = value.get("path")
        if isinstance(path, str) and ("://" in path or "\0" in path or not _is_below(path, folder)):
            return True
        return any(_names_foreign(one, folder) for one in value.values())
    return isinstance(value, list) and any(_names_foreign(one, folder) for one in value)


def _is_below(path: str, folder: Path) -> bool:
    return Path(path).resolve().is_relative_to(folder)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, and after it whatever else comes."""
    is_told = False

    async def replayed() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


class _Dressed:
    """Adds the headers to every answer, and to the page itself its language."""

    def __init__(self, send: Send, language: str, *, is_page: bool) -> None:
        self._send = send
        self._language = language
        self._is_page = is_page
        self._start: Message = {}
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_HEADERS]}
            if self._is_page and not _is_coded(message):
                self._start = message
                return
        elif self._start:
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            message = {"type": "http.response.body", "body": self._spoken(), "more_body": False}
            headers = [one for one in self._start["headers"] if one[0] != b"content-length"]
            length = (b"content-length", str(len(message["body"])).encode())
            await self._send({**self._start, "headers": [*headers, length]})
        await self._send(message)

    def _spoken(self) -> bytes:
        """Gradio takes its own words from the browser's language; here they follow the page's."""
        name = html.escape(self._language)
        said = (
            f"<script>Object.defineProperty(navigator,'language',{{get:()=>'{name}'}});"
            f"Object.defineProperty(navigator,'languages',{{get:()=>['{name}']}});</script>"
        )
        body = self._body.replace(b'lang="en"', f'lang="{name}"'.encode(), 1)
        body = body.replace(b'<link rel="manifest" href="/manifest.json" />', _ICON, 1)
        body = body.replace(b"</head>", f"<style>{CSS}</style></head>".encode(), 1)
        return body.replace(b"<head>", b"<head>" + said.encode(), 1)


def _is_coded(message: Message) -> bool:
    return any(name.lower() == b"content-encoding" for name, _ in message["headers"])
