"""Where pictures come from: a folder that this server was started with, or a zip that the visitor sent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from anmok import media
from anmok.errors import BadData, BadRequest
from anmok.files import cannot_write
from anmok.ui.host import Host
from anmok.ui.keeping import PHOTOS, Kept, is_kept, kept
from anmok.ui.sessions import uploads
from anmok.ui.unpacking import Allowance, remove, unpack

WHOLE: Final = "."  # the folder itself
_MOST: Final = 500  # folders in a list
_DEEP: Final = 3
_ENTRIES: Final = 100_000
_TABLES: Final = frozenset({".csv"})  # Roboflow's labels lie beside the pictures


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that may be read. ``called`` is its name for people and for commands: never a path of this machine.
    A kept zip stays for as long as its source is held."""

    folder: Path
    called: str
    held: Kept | None = field(default=None, compare=False)


class Folders:
    """The folders below one; nothing outside it can be named, and no link in it may lead out.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def names(self) -> list[str]:
        """The folders three levels down, relative, sorted; first the whole."""
        return [WHOLE, *islice(self._below(self._root, 1), _MOST)]

    def source(self, name: str) -> Source:
        """The folder of that name.

        Raises:
            BadRequest: there is none.
            BadData: a link in it leads to somewhere else.
        """
        wanted = Path(name)
        if not name or "\0" in name or wanted.is_absolute() or ".." in wanted.parts:
            raise BadRequest("there is no such folder here")
        folder = self._root / wanted
        if not self._is_inside(folder) or not folder.is_dir():
            raise BadRequest("there is no such folder here")
        self._check_links(folder)
        called = self._root.name if name == WHOLE else f"{self._root.name}/{wanted.as_posix()}"
        return Source(folder, called)

    def _below(self, folder: Path, depth: int) -> Iterator[str]:
        with contextlib.suppress(OSError):  # one that may not be read is not offered
            for path in sorted(folder.iterdir()):
                if path.name.startswith(".") or not path.is_dir() or not self._is_inside(path):
                    continue
                yield path.relative_to(self._root).as_posix()
                if depth < _DEEP and not path.is_symlink():
                    yield from self._below(path, depth + 1)

    def _check_links(self, folder: Path) -> None:
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = Path(parent) / name
                if path.is_symlink() and not self._is_inside(path):
                    shown = path.relative_to(folder).as_posix()
                    raise BadData(f"{shown}: a link that leads out of the folder; take it out, or copy the file")

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root)


def allowance_of(host: Host) -> Allowance:
    """What one zip may bring, from what one request may: pictures hardly shrink, so twice its size is plenty."""
    most = max(host.intake.image_bytes, host.intake.clip_bytes)
    return Allowance(_ENTRIES, host.intake.image_bytes, 2 * most)


@contextlib.contextmanager
def opened(host: Host, name: str | None, zipped: str | None) -> Iterator[Source]:
    """The zip where there is one, unpacked for as long as the block takes; else the folder.

    Raises:
        BadRequest: neither is given, or no such folder.
        BadData, TooMuch, CannotWrite: as ``unpack``.
    """
    if not zipped:
        yield folder_of(host, name)
        return
    beside = fresh("opened")
    try:
        yield unpacked(host, Path(zipped), beside)
    finally:
        remove(beside)


def folder_of(host: Host, name: str | None) -> Source:
    """A folder of this server's, or a zip that it keeps.

    Raises:
        BadRequest: there is none, or not of that name.
    """
    if name and is_kept(name):
        found = kept(name)
        return Source(found.photos, PHOTOS, found)
    if host.root is None or not name:
        raise BadRequest("no pictures: drop a zip of them, or choose a folder")
    return Folders(host.root).source(name)


def unpacked(host: Host, file: Path, into: Path, more: Collection[str] = _TABLES) -> Source:
    """A zip of pictures, with the tables beside them."""
    inside = into / file.stem  # what the folder is called is what the data set is called
    return Source(unpack(file, inside, media.SUFFIXES | frozenset(more), allowance_of(host)), file.stem)


def fresh(kind: str) -> Path:
    """An empty folder of nobody's; whoever asks for it removes it."""
    parent = uploads() / kind
    with cannot_write(parent):
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=parent))
