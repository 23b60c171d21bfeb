"""The page inside a server: what it is told, and how the door knows its visitors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from anmok.server.app import Server
from anmok.server.callers import Callers
from anmok.server.desk import Desk
from anmok.server.settings import Served
from anmok.server.taking import take
from anmok.server.visitors import Visitors
from anmok.ui import Host, mount

V = TypeVar("V")


class _Live(Mapping[str, V], Generic[V]):
    """Something of each model that a server has at this moment, by its name: some are taken on while it runs. Read
    once for each, since an adapter's card lies on the disk."""

    def __init__(self, models: Mapping[str, Served], read: Callable[[Served], V]) -> None:
        self._models = models
        self._read = read
        self._known: dict[str, tuple[Served, V]] = {}

    def __getitem__(self, name: str) -> V:
        served = self._models[name]
        if name not in self._known or self._known[name][0] is not served:
            self._known[name] = (served, self._read(served))
        return self._known[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._models))  # another thread may take one on meanwhile

    def __len__(self) -> int:
        return len(self._models)


def add_page(server: Server, address: str) -> None:
    """Mounts the page of the settings, once the server knows its own address.

    Raises:
        BadData: the folder that it may read is none.
    """
    page = server.desk.settings.page
    assert page is not None
    base = page.path.rstrip("/")
    visitors = Visitors(base, Callers(server.desk.settings.keys))
    server.door.visitors = visitors
    mount(server.api, host_of(server, visitors, f"{address}{page.prefix}"), page.path)


def _take(desk: Desk, scope: Any, name: str, folder: Path) -> None:
    take(desk, scope.get("state", {}).get("caller"), name, folder)


def host_of(server: Server, visitors: Visitors, address: str) -> Host:
    """What the page is told of a server."""
    desk = server.desk
    page = desk.settings.page
    assert page is not None

    def may_use(scope: Any, model: str) -> bool:
        caller = scope.get("state", {}).get("caller")
        return caller is None or bool(caller.may_use(model))

    return Host(
        engine=desk.engine,
        models=_Live(desk.models, lambda one: one.card),
        intake=desk.intake,
        root=None if page.folder is None else Path(page.folder),
        targets=_Live(desk.models, lambda one: one.target),
        address=address,
        needs_key=bool(desk.settings.keys),
        prefix=page.prefix,
        may_use=may_use,
        enter=visitors.enter if desk.settings.keys else None,
        serve=lambda scope, name, folder: _take(desk, scope, name, folder),
    )
