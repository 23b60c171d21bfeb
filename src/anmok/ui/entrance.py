"""The way in where a server demands keys: a form that turns a key into a cookie. The door of the server knows it."""

from __future__ import annotations

import html
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from anmok.errors import AnmokError, Unauthorized
from anmok.ui.host import Host
from anmok.ui.texts import Words

COOKIE: Final = "anmok-entered"
_LONGEST: Final = 4096  # bytes of the form
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,'Apple SD Gothic Neo','Malgun Gothic',sans-serif;max-width:24rem;margin:15vh auto;"
    "padding:0 1rem}:root{color-scheme:light dark}label,input,button{display:block;width:100%;box-sizing:border-box;"
    "font:inherit;margin:.4rem 0}input,button{padding:.6rem;border-radius:.3rem;border:1px solid #64748b}"
    "button{background:#1d4ed8;color:#fff;border-color:#1d4ed8;cursor:pointer}:focus-visible{outline:3px solid #60a5fa;"
    "outline-offset:2px}[role=alert]{color:#b91c1c}@media(prefers-color-scheme:dark){[role=alert]{color:#fca5a5}}"
)
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
}


async def entered(request: Request, host: Host, language: str) -> Response:
    """The form, or what became of it. Right keys lead on to the page, whose address is one step up."""
    words = Words(language)
    if request.method != "POST":
        return _form(words, "")
    assert host.enter is not None
    state = request.scope.get("state", {})
    body = state["body"] if isinstance(state.get("body"), bytes) else await request.body()
    given = parse_qs(body[:_LONGEST].decode("latin-1")).get("key", [""])[0].strip()
    try:
        if not given:
            raise Unauthorized("no key")
        token = host.enter(given)
    except AnmokError as error:
        text = words("page.entrance.wrong") if isinstance(error, Unauthorized) else words.error(error)
        return _form(words, text, error.status)
    answer = RedirectResponse("./", 303)
    is_secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=is_secure)
    return answer


def _form(words: Words, trouble: str, status: int = 200) -> HTMLResponse:
    told = f'<p role="alert">{html.escape(trouble)}</p>' if trouble else ""
    content = (
        f'<!doctype html><html lang="{words.language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{words("page.title")}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{words('page.entrance.title')}</h1>{told}"
        f'<form method="post"><label for="key">{words("page.entrance.key")}</label>'
        f'<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>'
        f"<button>{words('page.entrance.enter')}</button></form></main></body></html>"
    )
    return HTMLResponse(content, status, headers=_HEADERS)
