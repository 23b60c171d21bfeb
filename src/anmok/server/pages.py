"""The page inside a server: what it is told, and how the door knows its visitors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anmok.server.app import Server
from anmok.server.callers import Callers
from anmok.server.desk import Desk
from anmok.server.taking import take
from anmok.server.visitors import Visitors
from anmok.ui import Host, mount


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
        models={name: one.card for name, one in desk.models.items()},
        intake=desk.intake,
        root=None if page.folder is None else Path(page.folder),
        targets={name: one.target for name, one in desk.models.items()},
        address=address,
        needs_key=bool(desk.settings.keys),
        prefix=page.prefix,
        may_use=may_use,
        enter=visitors.enter if desk.settings.keys else None,
        serve=lambda scope, name, folder: _take(desk, scope, name, folder),
    )
