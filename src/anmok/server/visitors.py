"""People on the page: where the server demands keys, one that was shown once is a cookie from then on."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final

from anmok.server.callers import Bucket, Caller, Callers
from anmok.ui.entrance import COOKIE
from anmok.ui.texts import LANGUAGES

_BELOW: Final = ("/label/", *(f"/{language}/" for language in LANGUAGES))
_SECONDS: Final = 12 * 3600.0
_MOST: Final = 1000  # visitors; whoever came first goes first
_TRIES: Final = 30  # keys a minute, of all visitors together


class Visitors:
    """Tokens in memory alone: after a restart everybody shows a key again.

    Args:
        base: the page's path: ``/ui``, or nothing where it stands at the root.
        callers: who know the keys.
        clock: seconds that only grow.
    """

    def __init__(self, base: str, callers: Callers, clock: Callable[[], float] = time.monotonic) -> None:
        self._base = base
        self._callers = callers
        self._clock = clock
        self._tokens: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._tries = Bucket(_TRIES, clock)

    @property
    def login(self) -> str:
        """Where a key is shown."""
        return f"{self._base}/login"

    def covers(self, path: str) -> bool:
        """Whether an address belongs to the page."""
        rest = path.removeprefix(self._base)
        if self._base and rest == path:
            return False
        return rest in ("", "/", "/login") or rest.startswith(_BELOW)

    def enter(self, key: str) -> str:
        """The cookie for whoever shows that key.

        Raises:
            Unauthorized: it is not known.
            Busy: too many were tried.
        """
        self._tries.take()
        caller = self._callers.visitor(key)
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (self._clock() + _SECONDS, caller)
        while len(self._tokens) > _MOST:
            self._tokens.popitem(last=False)
        return token

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        """Whoever the cookie says; None where there is none, or one that has run out."""
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
        except CookieError:
            return None
        ends, caller = self._tokens.get(cookie.value if cookie is not None else "", (0.0, None))
        return caller if self._clock() < ends else None
