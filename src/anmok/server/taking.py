"""Models that a server takes on while it runs: winners of a climb, copied to where they stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import platformdirs

from anmok.errors import BadRequest, Forbidden
from anmok.files import write_beside
from anmok.load import Adapter
from anmok.server.callers import Caller
from anmok.server.desk import Desk
from anmok.server.settings import Served


def take(desk: Desk, caller: Caller | None, name: str, folder: Path) -> Path:
    """Serves a copy of an adapter's folder under that name from now on, and returns where it lies. A restart serves it
    by that path.

    Raises:
        Forbidden: a key that may not use all models.
        BadRequest: the name is taken.
        BadData: no adapter's folder.
        CannotWrite: the disk is full or read-only.
    """
    if caller is not None and caller.models:
        raise Forbidden("this key may use some models only, and so serve no other")
    Adapter.read(folder)
    target = Path(platformdirs.user_data_dir("anmok")) / "served" / name
    if name in desk.models or target.exists():
        raise BadRequest(f"{name} is taken; choose another name")
    served = Served(str(target), name)
    with write_beside(target, is_folder=True) as beside:
        shutil.copytree(folder, beside, dirs_exist_ok=True)
    try:
        desk.engine.add(name, str(target))
    except BadRequest:  # a card's name
        shutil.rmtree(target)
        raise
    desk.models[name] = served
    return target
