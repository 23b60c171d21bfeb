"""Zips that are kept while people work on them: unpacked once, and found again by what was in them.

Each has a folder in the cache: ``photos``, what was made of them beside it, and ``in-use``, a file that holds their
size, that whoever needs the photos has a lock on, and whose time says when somebody last did. Photos that nobody has
asked for in a month go, and the longest unused where all together are too many; labels stay, and find their photos
again when the zip comes again. What is in use, by this process or another, never goes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anmok import media
from anmok.errors import BadRequest, CannotWrite
from anmok.files import cannot_write, write_beside
from anmok.ui.unpacking import Allowance, remove, unpack
from anmok.weights.cache import cache_dir, sha256_of, sweep

if sys.platform != "win32":
    import fcntl

PHOTOS: Final = "photos"  # the pictures of a kept zip, in its folder; what is made of them lies beside
_KEPT: Final = "zip:"
_DIGEST: Final = 32  # hexadecimal digits: nobody guesses the name of another's upload
_SPARE: Final = 512 * 2**20  # bytes that stay free on the disk, for everybody's strokes
_IN_USE: Final = "in-use"
_GONE: Final = "gone-"  # photos on their way out


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of all kept zips: the bytes of their photos, and the seconds for which nobody has asked for one."""

    all_bytes: int = 10 * 2**30
    seconds: float = 30 * 24 * 3600.0


class Lease:
    """A lock on a zip's photos, given back when nobody has this object any more.

    Raises:
        OSError: the disk refuses.
    """

    def __init__(self, mark: Path) -> None:
        self._file = os.open(mark, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_SH)
        os.utime(mark)

    def note(self, size: int) -> None:
        """The bytes of the photos."""
        os.ftruncate(self._file, 0)
        os.write(self._file, str(size).encode())

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # where the disk has refused it there is none
            os.close(self._file)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A zip that is here, and stays for as long as this object lives."""

    name: str
    folder: Path
    lease: Lease

    @property
    def photos(self) -> Path:
        return self.folder / PHOTOS


def is_kept(name: str) -> bool:
    """Whether that is the name of a zip, and not of a folder of the server's."""
    return name.startswith(_KEPT)


def keep(archive: Path, allowance: Allowance, bounds: Bounds | None = None) -> Kept:
    """Unpacks a zip of pictures. The same zip again is the same place. Others make room for it.

    Raises:
        BadData: no zip, damaged, encrypted, or without pictures.
        TooMuch: more than is let in.
        CannotWrite: the disk refuses, or has no room for it.
    """
    digest = sha256_of(archive)[:_DIGEST]
    folder = _all() / digest
    with cannot_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        found = Kept(f"{_KEPT}{digest}", folder, Lease(folder / _IN_USE))
    if not found.photos.is_dir():
        tidy(bounds)
        if shutil.disk_usage(folder).free < allowance.all_bytes + _SPARE:
            raise CannotWrite(f"{folder}: the disk has no room for another upload; free some space")
        with write_beside(found.photos, is_folder=True, keeps_first=True) as beside:
            unpack(archive, beside, media.SUFFIXES, allowance)
        with cannot_write(folder):
            found.lease.note(_counted(found.photos))
        tidy(bounds)
    return found


def kept(name: str) -> Kept:
    """The zip that has that name.

    Raises:
        BadRequest: it is not here, or not any more.
    """
    digest = name.removeprefix(_KEPT)
    folder = _all() / digest
    is_digest = len(digest) == _DIGEST and not set(digest) - set("0123456789abcdef")
    with contextlib.suppress(OSError):  # it goes at this moment, or cannot be written to any more
        if is_digest and (folder / PHOTOS).is_dir():
            found = Kept(name, folder, Lease(folder / _IN_USE))
            if found.photos.is_dir():
                return found
    raise BadRequest("that zip is not here any more; send it again")


def tidy(bounds: Bounds | None = None) -> None:
    """Takes away the photos of zips that nobody has used for long. Of the others, the last used first, as many stay as
    fit together."""
    bounds = bounds or Bounds()
    left = 0
    for used, folder in sorted(_times(), reverse=True):
        size = _size(folder)
        is_over = time.time() - used > bounds.seconds or left + size > bounds.all_bytes
        left += 0 if is_over and _is_taken_away(folder) else size


def _times() -> Iterator[tuple[float, Path]]:
    """When each zip with photos was last used; what was on its way in or out when a process ended is taken away."""
    for folder in _all().glob("*"):
        sweep(folder)
        for gone in folder.glob(f"{_GONE}*"):
            remove(gone)
        with contextlib.suppress(OSError):
            if (folder / PHOTOS).is_dir():
                mark = folder / _IN_USE
                yield (mark if mark.is_file() else folder).stat().st_mtime, folder


def _is_taken_away(folder: Path) -> bool:
    """Removes the photos where nobody holds them. They get another name first: who asks for them from then on finds
    none, and need not wait for thousands of files."""
    if sys.platform == "win32":  # there are no such locks
        return False
    gone = folder / f"{_GONE}{secrets.token_hex(4)}"
    try:
        with (folder / _IN_USE).open("ab") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / PHOTOS).rename(gone)
    except OSError:
        return False
    remove(gone)
    return True


def _size(folder: Path) -> int:
    """Of a zip's photos, in bytes."""
    with contextlib.suppress(OSError, ValueError):  # kept by an older version
        return int((folder / _IN_USE).read_bytes())
    return _counted(folder / PHOTOS)


def _counted(folder: Path) -> int:
    found = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                found += (Path(parent) / name).lstat().st_size
    return found


def _all() -> Path:
    return cache_dir() / "labelling"
