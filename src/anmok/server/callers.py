"""Who asks: API keys, of which only digests are kept, with their own limits."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anmok.errors import Busy, Unauthorized
from anmok.server.settings import Key

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request. ``models`` empty means all; ``priority`` is the highest that may be asked for."""

    name: str = ""
    models: frozenset[str] = frozenset()
    priority: int = 10

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models


class Callers:
    """The keys of a server. Without any, everyone is let in: such a server listens on this machine alone."""

    def __init__(self, keys: Sequence[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = tuple((bytes.fromhex(key.sha256), key) for key in keys)
        self._buckets = {key.name: Bucket(key.requests_per_minute, clock) for key in keys if key.requests_per_minute}
        self._nobody = Caller()

    @property
    def are_known(self) -> bool:
        """Whether a key is needed."""
        return bool(self._keys)

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Whoever the headers say, by ``Authorization: Bearer`` or ``x-api-key``.

        Raises:
            Unauthorized: no key, or one that is not known.
            Busy: the key has used up its requests for now.
        """
        if not self._keys:
            return self._nobody
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        found = self._key(secret.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b""))
        bucket = self._buckets.get(found.name)
        if bucket is not None:
            bucket.take()
        return _caller(found)

    def visitor(self, secret: str) -> Caller:
        """Whoever that key belongs to; looking at the page uses up none of its requests.

        Raises:
            Unauthorized: it is not known.
        """
        return _caller(self._key(secret.encode()))

    def _key(self, secret: bytes) -> Key:
        digest = hashlib.sha256(secret).digest()
        found = None
        for known, key in self._keys:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(known, digest):
                found = key
        if found is None or not secret:
            raise Unauthorized("this server needs an API key: Authorization: Bearer <key>")
        return found


def _caller(key: Key) -> Caller:
    return Caller(key.name, frozenset(key.models), key.priority)


class Bucket:
    """So many requests a minute, all of them at once if need be."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._size = per_minute
        self._left = float(per_minute)
        self._clock = clock
        self._seen = clock()
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            now = self._clock()
            self._left = min(self._size, self._left + (now - self._seen) * self._size / _MINUTE)
            self._seen = now
            if self._left < 1:
                after = (1 - self._left) * _MINUTE / self._size
                raise Busy(f"this key's {self._size} requests a minute are used up; try again in {after:.1f} s", after)
            self._left -= 1
