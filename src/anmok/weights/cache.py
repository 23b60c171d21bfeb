"""The cache folder, and the record of what lies in it: a file that changed is read and compared again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from anmok.errors import BadWeights, CannotWrite
from anmok.files import TEMPORARY, remove, write_text

log = logging.getLogger("anmok")

Progress: TypeAlias = Callable[[str, int, int], None]  # what, bytes done, bytes in all (0: not known)

RECORD = "provenance.json"
REMEDY = "set ANMOK_CACHE to a folder with space that you may write to"
_STALE_AFTER = 3 * 24 * 3600  # seconds; no download of ours takes three days


def cache_dir() -> Path:
    """``ANMOK_CACHE``, or else the user's cache folder of this system. It may not be there yet."""
    chosen = os.environ.get("ANMOK_CACHE", "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs  # 50 ms, which `import anmok` need not pay

    return Path(platformdirs.user_cache_dir("anmok", appauthor=False))


@dataclass(frozen=True, slots=True)
class Entry:
    """What one file was when its content was last looked at."""

    size: int  # bytes
    sha256: str
    modified_ns: int  # as the disk tells it


def sha256_of(path: Path) -> str:
    """The digest of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(path: Path) -> Entry:
    """Read the whole file and note what it is."""
    status = path.stat()
    return Entry(status.st_size, sha256_of(path), status.st_mtime_ns)


def recheck(path: Path, entry: Entry) -> Entry:
    """The entry again, with the file's present time. Content is read only where the time differs.

    Raises:
        BadWeights: the file is gone or is another one than was recorded.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise BadWeights(f"{path} is gone ({error.strerror})") from error
    if status.st_size != entry.size:
        raise BadWeights(f"{path} has {status.st_size} bytes, not the recorded {entry.size}")
    if status.st_mtime_ns == entry.modified_ns:
        return entry
    found = measure(path)
    if found.sha256 != entry.sha256:
        raise BadWeights(f"{path} has sha256 {found.sha256}, not the recorded {entry.sha256}")
    return found


def recheck_all(root: Path, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Every file of a record, by its path below ``root``.

    Raises:
        BadWeights: the first that is gone or changed.
    """
    return {name: recheck(root / name, entry) for name, entry in entries.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """Which files were fetched from where; a JSON file of ours."""

    origin: str
    revision: str
    entries: Mapping[str, Entry]


def read_record(file: Path) -> Record | None:
    """The record in ``file``, or None where there is no such file.

    Raises:
        BadWeights: the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        entries = {name: Entry(**entry) for name, entry in content["entries"].items()}
        return Record(str(content["origin"]), str(content["revision"]), entries)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{file} is damaged ({error}); delete it and pull again") from error


def write_record(file: Path, record: Record) -> None:
    """Write the record, whole or not at all.

    Raises:
        CannotWrite: a full or read-only disk.
    """
    write_text(file, json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", remedy=REMEDY)


def refresh_record(file: Path, old: Record, entries: Mapping[str, Entry]) -> None:
    """Note the new times of files that were read again and found the same, so that it is done once."""
    if entries != old.entries:
        # A cache that was copied to a read-only disk works as well: it is then read again each time.
        with contextlib.suppress(CannotWrite):
            write_record(file, Record(old.origin, old.revision, entries))


def verified(shelf: Path) -> Record | None:
    """The record of a folder whose files are as recorded; None where there is none or a file changed."""
    try:
        record = read_record(shelf / RECORD)
        if record is None:
            return None
        entries = recheck_all(shelf, record.entries)
    except BadWeights as error:
        log.warning("the cache is damaged and will be mended: %s", error)
        return None
    refresh_record(shelf / RECORD, record, entries)
    return record


def sweep(folder: Path) -> None:
    """Remove what killed processes left in ``folder``: temporary names older than three days."""
    for path in folder.glob(f".*{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # another process may be sweeping too
            if time.time() - path.stat().st_mtime > _STALE_AFTER:
                remove(path)
