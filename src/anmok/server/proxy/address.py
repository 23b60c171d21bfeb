"""Where an engine is: ``vllm://host:8000``, ``lmdeploys://host/v1?key_env=LMDEPLOY_KEY&as=chat``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, urlsplit

from anmok.errors import BadRequest

Kind: TypeAlias = Literal["vllm", "lmdeploy", "sglang", "openai"]

_PORTS: Final[Mapping[str, int]] = {"vllm": 8000, "lmdeploy": 23333, "sglang": 30000}  # their defaults
_OPTIONS: Final = ("key_env", "as", "model")
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.:@/+-]{0,199}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Upstream:
    """One engine. ``base`` is the address above ``/chat/completions``; ``health`` is empty where it has no such route.

    With ``alias``, the engine's ``model`` (or its only one) is served under that name and no other. ``key`` is the
    engine's own API key, and appears in no text about the engine.
    """

    kind: Kind
    base: str
    health: str
    alias: str = ""
    model: str = ""
    key: str = field(default="", repr=False)

    @classmethod
    def parse(cls, address: str, environment: Mapping[str, str] | None = None) -> Upstream:
        """An engine from what ``--engine`` is given: ``KIND://HOST[:PORT][/PATH][?key_env=..&as=..&model=..]``.

        KIND is vllm, lmdeploy, sglang or openai; with an ``s`` or ``+https`` after it, the way there is encrypted.
        ``environment`` is where ``key_env`` is looked up, the process's own by default.

        Raises:
            BadRequest: it is no such address, or the variable is not set. The message holds no secret.
        """
        try:
            parts = urlsplit(address.strip())
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise BadRequest("engine: this is no address; want vllm://host:8000") from None
        if not address.isprintable():
            raise BadRequest("engine: a line break or the like in its address")
        kind, is_encrypted = _kind(parts.scheme)
        if "@" in parts.netloc or parts.fragment:
            raise BadRequest("engine: no user, password or fragment in its address; name the key with ?key_env=NAME")
        path = parts.path.rstrip("/") or "/v1"
        if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or ".." in path:
            raise BadRequest(f"engine: want {kind}://host:port with a plain host and path")
        options = _options(parts.query)
        root = f"{'https' if is_encrypted else 'http'}://{f'[{host}]' if ':' in host else host}:"
        root += str(port or _PORTS.get(kind, 443 if is_encrypted else 80))
        health = "" if kind == "openai" else f"{root}{path.removesuffix('/v1')}/health"
        key = _key(options.get("key_env", ""), os.environ if environment is None else environment)
        return cls(kind, root + path, health, options.get("as", ""), options.get("model", ""), key)

    @property
    def place(self) -> str:
        """The address for a log: without path, options or key."""
        return f"{self.kind}://{urlsplit(self.base).netloc}"


def is_name(text: object) -> bool:
    """Whether a model of an engine can be offered by that name: a path of the engine's machine can not."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def _kind(scheme: str) -> tuple[Kind, bool]:
    name = scheme.removesuffix("+https")
    for kind in get_args(Kind):
        if name in (kind, f"{kind}s") or scheme == f"{kind}+http":
            return kind, scheme.endswith("+https") or name == f"{kind}s"
    raise BadRequest("engine: want vllm://, lmdeploy://, sglang:// or openai://; vllms:// and so on over TLS")


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, strict_parsing=True) if query else []
    except ValueError:
        raise BadRequest("engine: want ?key_env=NAME&as=NAME&model=NAME") from None
    options = dict(pairs)
    unknown = next((key for key, _ in pairs if key not in _OPTIONS), None)
    if unknown is not None or len(options) != len(pairs):
        raise BadRequest(f"engine: after the '?', want each of {', '.join(_OPTIONS)} at most once")
    if "as" in options and not is_name(options["as"]):
        raise BadRequest("engine: 'as' has letters, digits and . : @ / + - _, and begins with one of the first two")
    if "model" in options and "as" not in options:
        raise BadRequest("engine: model=NAME says which of its models is served under as=NAME; give both")
    return options


def _key(variable: str, environment: Mapping[str, str]) -> str:
    if not variable:
        return ""
    if not _VARIABLE.fullmatch(variable):
        raise BadRequest("engine: key_env is the name of an environment variable, not the key itself")
    key = environment.get(variable, "").strip()
    if not _KEY.fullmatch(key):
        raise BadRequest(f"engine: the environment variable {variable} holds no key")
    return key
