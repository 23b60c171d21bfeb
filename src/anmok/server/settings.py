"""What a server is told: flags or a ``serve.toml``, checked before a socket is opened."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from anmok.catalogue import Card
from anmok.engine import Limits
from anmok.errors import AnmokError, BadData, BadRequest, UnknownModel
from anmok.load import card_of
from anmok.wire import Intake
from anmok.wire.fields import known, nearest, read, value_as

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMG]i?B)?", re.IGNORECASE)
_NAME = re.compile(r"[\w][\w.:-]{0,100}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.]+\]")  # as in an address, without its port
_ORIGIN = re.compile(r"https?://[\w.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:.]+\](:\d{1,5})?|[a-z-]+-extension://\w+")
_TABLES = ("model", "key", "limits", "intake", "page")


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server. ``target`` is a card's name or the folder of an adapter or a memory, ``name`` what callers
    say.

    ``share`` of the queue is the most that its requests may take up; ``priority`` and ``deadline`` (seconds) hold
    where a request says nothing. With workers as processes, models of one ``group`` share a process.
    """

    target: str
    name: str
    is_pinned: bool = False
    priority: int = 0
    share: float = 1.0
    deadline: float | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadData(f"model {self.name[:40]!r}: a served name has letters, digits, '.', ':', '_' and '-'")
        if not -10 <= self.priority <= 10 or not 0 < self.share <= 1:
            raise BadData(f"model {self.name}: want priority in -10..10 and share above 0, up to 1")
        if self.deadline is not None and not self.deadline > 0:
            raise BadData(f"model {self.name}: the deadline must be above 0 seconds")

    @property
    def card(self) -> Card:
        """Of the model, with the tasks that it has by its adapter or memory."""
        return card_of(self.target)

    @classmethod
    def of(cls, target: str) -> Served:
        """A card under its own name, a folder under the folder's; ``name=target`` gives another."""
        name, is_named, rest = target.partition("=")
        if is_named:
            return cls(rest, name)
        folder = Path(target).expanduser()
        is_adapter = (folder / "anmok.toml").is_file()
        if "/" in target and not is_adapter:
            raise BadData(f"{target}: holds no anmok.toml, so it is no adapter and no memory")
        return cls(target, folder.resolve().name if is_adapter else target)


@dataclass(frozen=True, slots=True)
class Key:
    """Who may ask. Only the digest of the key is kept; no ``models`` means all, no ``requests_per_minute`` any number.

    A request may ask for any priority up to ``priority``.
    """

    name: str
    sha256: str
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadData(f"key {self.name[:40]!r}: a key's name has letters, digits, '.', ':', '_' and '-'")
        if not _DIGEST.fullmatch(self.sha256):
            raise BadData(
                f"key {self.name}: sha256 must be 64 hexadecimal digits, 0-9 and a-f: printf %s KEY | sha256sum"
            )
        if not -10 <= self.priority <= 10:
            raise BadData(f"key {self.name}: want priority in -10..10")
        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            raise BadData(f"key {self.name}: requests_per_minute must be at least 1")

    @classmethod
    def of(cls, secret: str, name: str = "default") -> Key:
        secret = secret.strip()  # a variable that was read from a file ends with its line; no header can
        if len(secret) < 16:
            remedy = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            raise BadRequest(f"an API key needs at least 16 characters: {remedy}")
        return cls(name, hashlib.sha256(secret.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The page of a server. ``folder`` is the only one that it may read; ``prefix`` is the path that a proxy puts
    before ours and takes away again."""

    path: str = "/ui"
    folder: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or (self.prefix and not self.prefix.startswith("/")):
            raise BadData("page: path and prefix begin with a slash")
        if self.folder is not None and not Path(self.folder).is_dir():
            raise BadData(f"page: {self.folder}: no such folder")


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole server. Bytes and seconds; see ``Served``, ``Key`` and ``anmok.engine.Limits``.

    ``hosts`` and ``origins`` are let in beside the server's own; ``flight_bytes`` is for the bodies of all requests
    under way; a body must be here within ``body_seconds``; after SIGTERM ``drain_seconds`` are left for answers.
    ``control_port`` 0 means no control routes. A process of ``workers = "process"`` that holds more than
    ``worker_bytes`` is ended and started again; 0 sets no bound.
    """

    models: tuple[Served, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    control_port: int = 0
    keys: tuple[Key, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    memory_bytes: int = 8 * 10**9
    device: str = "auto"
    dtype: str = "float32"
    workers: Literal["thread", "process"] = "thread"
    worker_bytes: int = 0
    engines: tuple[str, ...] = ()
    accept_licences: tuple[str, ...] = ()
    allow_urls: bool = False
    is_lazy: bool = False
    wait_for_load: bool = True
    flight_bytes: int = 10**9
    body_seconds: float = 30.0
    drain_seconds: float = 30.0
    logs: Literal["text", "json"] = "text"
    page: PageSettings | None = None
    limits: Limits = field(default_factory=Limits)
    intake: Intake = field(default_factory=Intake)

    def __post_init__(self) -> None:
        names = [one.name for one in self.models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadData(f"two models are served as {twice!r}; give one another name: other={twice}")
        keys = [key.name for key in self.keys]
        again = next((name for name in keys if keys.count(name) > 1), None)
        if again is not None:
            raise BadData(f"two keys are called {again!r}")
        self._check_numbers()
        if self.control_port and self.control_port == self.port:
            raise BadRequest("the control port must be another one than the port")
        if not self.host:
            raise BadRequest("host is empty: want 127.0.0.1, or 0.0.0.0 with an API key")
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise BadRequest(
                    f"hosts: {host[:60]!r} is no host; want a name or an address, without http:// and port"
                )
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin.rstrip("/")):
                raise BadRequest(f"origins: {origin[:60]!r} is no origin; want https://name or http://name:port, each")

    def _check_numbers(self) -> None:
        for name in ("port", "control_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise BadRequest(f"{name} is {getattr(self, name)}: want 0 to 65535")
        for name in ("memory_bytes", "flight_bytes", "body_seconds"):
            if not getattr(self, name) > 0:
                raise BadRequest(f"{name.removesuffix('_bytes')} is {getattr(self, name):g}: must be above 0")
        for name in ("worker_bytes", "drain_seconds"):
            if not getattr(self, name) >= 0:
                raise BadRequest(
                    f"{name.replace('_bytes', '_memory')} is {getattr(self, name):g}: must not be negative"
                )
        for limit in ("body_bytes", "image_bytes", "clip_bytes", "sound_bytes", "items"):
            if getattr(self.intake, limit) < 1:
                raise BadRequest(f"intake.{limit} is {getattr(self.intake, limit)}: must be at least 1")

    def check_open(self) -> None:
        """Whoever is open to others needs a key, and a key is for models that are here.

        Raises:
            BadRequest: there is none.
            UnknownModel: one is for a model that is not served.
        """
        names = [one.name for one in self.models]
        for key in self.keys if not self.engines else ():  # what other engines serve is known when they answer
            for model in key.models:
                if model not in names:
                    near = nearest(model, names)
                    remedy = f"did you mean {near!r}?" if near else f"it has {', '.join(names) or 'none'}"
                    raise UnknownModel(f"key {key.name}: this server has no model called {model[:60]!r}; {remedy}")
        if not self.is_loopback and not self.keys:
            raise BadRequest(
                f"--host {self.host} is open to others and needs a key: ANMOK_API_KEY, or [[key]] in serve.toml"
            )

    @property
    def is_loopback(self) -> bool:
        return self.host in _LOOPBACK


def size_in_bytes(text: str, what: str) -> int:
    """``12GB``, ``512MiB`` or a plain number.

    Raises:
        BadRequest: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{what} {text!r}: want a size as 12GB, 512MiB or a number of bytes")
    return int(float(match[1]) * _UNITS[(match[2] or "").upper()])


def changed(settings: Settings, flags: Mapping[str, Any], limits: Limits, keys: tuple[Key, ...]) -> Settings:
    """The settings with flags over them, named and checked as the keys of a ``serve.toml``.

    Raises:
        BadRequest: a value that makes no sense, or settings that do not go together.
    """
    values = {_FLAT[key][0]: _FLAT[key][1](key, value) for key, value in flags.items()}
    return replace(settings, limits=limits, keys=keys, **values)


def read_settings(file: Path) -> Settings:
    """The settings in a ``serve.toml``. Paths of folders are relative to the file.

    Raises:
        BadData: it cannot be read, or anything in it is not known; the message names the place.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadData(f"{file}: cannot be read as TOML ({error})") from None
    try:
        return _settings(content, file.parent)
    except AnmokError as error:
        raise BadData(f"{file}: {error}") from None


def _settings(content: dict[str, Any], folder: Path) -> Settings:
    known(content, (*_FLAT, *_TABLES), "settings")
    values = {_FLAT[key][0]: _FLAT[key][1](key, value) for key, value in content.items() if key in _FLAT}
    values["models"] = tuple(_served(row, i, folder) for i, row in enumerate(_rows(content, "model")))
    values["keys"] = tuple(_key(row, i) for i, row in enumerate(_rows(content, "key")))
    for name, kind in (("limits", Limits), ("intake", Intake)):
        if name in content:
            values[name] = _table(kind, content[name], name)
    if "page" in content:
        values["page"] = _page(content["page"], folder)
    return Settings(**values)


def _page(row: object, folder: Path) -> PageSettings:
    if isinstance(row, dict) and str(row.get("folder", "")).startswith(("./", "../")):
        row = {**row, "folder": str(folder / row["folder"])}
    page: PageSettings = read(PageSettings, row, "page")
    return page


def _rows(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = content.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadData(f"{name}: write [[{name}]] above each")
    return rows


def _served(row: dict[str, Any], index: int, folder: Path) -> Served:
    place = f"model[{index}]"
    known(row, ("name", "as", "pinned", "priority", "share", "deadline", "group"), place)
    if not isinstance(row.get("name"), str):
        raise BadData(f"{place}: name is missing: the name of a card, or the folder of an adapter or a memory")
    target = row["name"]
    if target.startswith(("./", "../")):
        target = str(folder / target)
    hints: dict[str, tuple[str, Any]] = {
        "pinned": ("is_pinned", bool),
        "priority": ("priority", int),
        "share": ("share", float),
        "deadline": ("deadline", float | None),
        "group": ("group", str),
    }
    given = {hints[key][0]: value_as(hints[key][1], row[key], f"{place}.{key}") for key in row if key in hints}
    name = value_as(str, row["as"], f"{place}.as") if "as" in row else Served.of(target).name
    return Served(target, name, **given)


def _key(row: dict[str, Any], index: int) -> Key:
    place = f"key[{index}]"
    hints = {"models": tuple[str, ...], "requests_per_minute": int | None, "priority": int, "name": str, "sha256": str}
    known(row, hints, place)
    missing = next((name for name in ("name", "sha256") if name not in row), None)
    if missing is not None:
        raise BadData(f"{place}: {missing} is missing")
    if row.get("models") == []:
        raise BadData(f"{place}.models: is empty; name some, or leave it out for all")
    return Key(**{name: value_as(hints[name], value, f"{place}.{name}") for name, value in row.items()})


def _table(kind: Any, row: object, place: str) -> Any:
    """Limits or Intake: numbers all of them."""
    hints = {one.name: float if "seconds" in one.name or "share" in one.name else int for one in fields(kind)}
    hints.pop("fetch", None)
    if not isinstance(row, dict):
        raise BadData(f"[{place}]: want a table")
    known(row, hints, place)
    return kind(**{name: value_as(hints[name], value, f"{place}.{name}") for name, value in row.items()})


def _as(hint: Any) -> Any:
    return lambda key, value: value_as(hint, value, key)


def _size(key: str, value: object) -> int:
    return size_in_bytes(value, key) if isinstance(value, str) else value_as(int, value, key)


_FLAT: Mapping[str, tuple[str, Any]] = {
    "host": ("host", _as(str)),
    "port": ("port", _as(int)),
    "control_port": ("control_port", _as(int)),
    "hosts": ("hosts", _as(tuple[str, ...])),
    "origins": ("origins", _as(tuple[str, ...])),
    "memory": ("memory_bytes", _size),
    "device": ("device", _as(str)),
    "dtype": ("dtype", _as(Literal["float32", "bfloat16"])),
    "worker_memory": ("worker_bytes", _size),
    "workers": ("workers", _as(Literal["thread", "process"])),
    "engines": ("engines", _as(tuple[str, ...])),
    "accept_licences": ("accept_licences", _as(tuple[str, ...])),
    "allow_urls": ("allow_urls", _as(bool)),
    "lazy": ("is_lazy", _as(bool)),
    "wait_for_load": ("wait_for_load", _as(bool)),
    "flight": ("flight_bytes", _size),
    "body_seconds": ("body_seconds", _as(float)),
    "drain_seconds": ("drain_seconds", _as(float)),
    "logs": ("logs", _as(Literal["text", "json"])),
}
