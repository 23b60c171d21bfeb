"""A zip of somebody's pictures, unpacked: counted while it is written, and nothing in it can name a place outside."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from anmok.errors import BadData, TooMuch
from anmok.files import cannot_write

_CHUNK: Final = 2**18
_UTF8: Final = 0x800  # the flag of an entry whose name is UTF-8
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a zip may bring: ``entries`` in all, ``file_bytes`` each and ``all_bytes`` together, when unpacked."""

    entries: int
    file_bytes: int
    all_bytes: int


def unpack(file: Path, into: Path, suffixes: Collection[str], allowance: Allowance) -> Path:
    """Writes the files with one of the ``suffixes`` below ``into``, which is made, and leaves out all others.

    Returns:
        The folder in which they begin: where the zip holds one folder and nothing beside it, that one.

    Raises:
        BadData: no zip, damaged, encrypted, holds none of these files, or names a place outside of itself.
        TooMuch: more than there is room for.
        CannotWrite: the disk refuses.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = list(_wanted(archive, suffixes, allowance))
            if not entries:
                raise BadData(
                    f"{file.name}: holds none of the files wanted here ({', '.join(sorted(suffixes)[:6])} ...)"
                )
            left = allowance.all_bytes
            for entry, name in entries:
                target = into / name
                with cannot_write(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source:
                    left -= _copied(source, target, min(left, allowance.file_bytes), file.name)
    except _DAMAGE as error:
        raise BadData(f"{file.name}: cannot be unpacked ({error}); make a plain zip without a password") from None
    return _beginning(into)


def _wanted(
    archive: zipfile.ZipFile, suffixes: Collection[str], allowance: Allowance
) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    entries = archive.infolist()
    if len(entries) > allowance.entries:
        raise TooMuch(f"the zip holds {len(entries):,} files; {allowance.entries:,} are let in")
    seen: set[PurePosixPath] = set()
    for entry in entries:
        name = PurePosixPath(_name(entry).replace("\\", "/"))
        if entry.is_dir() or name.suffix.lower() not in suffixes:
            continue
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0] or "\0" in str(name):
            raise BadData(f"the zip names a place outside of itself ({str(name)[:60]!r}): pack the folder again")
        if name in seen:
            raise BadData(f"the zip holds {str(name)[:60]!r} twice: pack the folder again")
        seen.add(name)
        if not any(part.startswith((".", "__MACOSX")) for part in name.parts):
            yield entry, name


def _name(entry: zipfile.ZipInfo) -> str:
    """Old programs write names without saying in what: Macs as UTF-8, a Korean Windows as CP949."""
    if entry.flag_bits & _UTF8:
        return entry.filename
    for encoding in ("utf-8", "cp949"):
        try:
            return entry.filename.encode("cp437").decode(encoding)
        except UnicodeError:
            continue
    return entry.filename


def _copied(source: IO[bytes], target: Path, most: int, called: str) -> int:
    """Bytes that were written: what an entry says of its size is not believed."""
    size = 0
    with cannot_write(target), target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise TooMuch(f"{called}: {target.name[:60]} and what came before it are more than is let in at once")
            file.write(chunk)
    return size


def _beginning(folder: Path) -> Path:
    """Whoever packs ``photos`` gets ``photos/red/1.png``; what counts are the folders in it."""
    while True:
        inside = list(folder.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]


def remove(folder: Path) -> None:
    """The folder with all that was unpacked into it."""
    shutil.rmtree(folder, ignore_errors=True)
