"""What models made of pictures, kept for good by the picture's own hash: one file for all that look at folders.

The cache is one SQLite file: it survives a killed process, serves several at once, and a second look reads it in a
second. Keyed by image hash x maker (card, revision, preprocessing, dtype) x view.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import BadData, CannotWrite
from anmok.weights import cache_dir

Array = NDArray[np.float32]
# Of the features: of the picture as it is, mirrored, without colours. ``image`` is the unit vector in the space that
# is shared with text. All tiles of a picture, one after another, have views of their own: ``tiles:SIZE:OVERLAP``.
View: TypeAlias = Literal["plain", "flip", "grey", "image"]

NAME: Final = "features.sqlite"
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS features (image TEXT, maker TEXT, view TEXT, vector BLOB, "
    "PRIMARY KEY (image, maker, view)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS facts (image TEXT PRIMARY KEY, facts TEXT, dhash TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT, image TEXT) WITHOUT ROWID",
)
_AT_ONCE: Final = 500  # values in a query; older builds of SQLite take 999


class Cache:
    """The open file; see `opened`. For the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def vectors(self, images: Iterable[str], maker: str, view: str) -> dict[str, Array]:
        """The vectors (F,) that are there, by the sha256 of their picture."""
        asked = "SELECT image, vector FROM features WHERE maker = ? AND view = ? AND image IN ({})"
        return {image: np.frombuffer(vector, np.float32) for image, vector in self._rows(asked, images, maker, view)}

    def facts(self, images: Iterable[str]) -> dict[str, tuple[media.Facts, int]]:
        """Facts and difference hashes that are there, by the sha256 of their picture."""
        asked = "SELECT image, facts, dhash FROM facts WHERE image IN ({})"
        return {
            image: (media.Facts(**json.loads(facts)), int(dhash)) for image, facts, dhash in self._rows(asked, images)
        }

    def files(self, paths: Iterable[Path]) -> dict[Path, str]:
        """The sha256 of those files that have not changed since it was computed."""
        stamps = {str(path): (path, stamp) for path in paths if (stamp := stamp_of(path))}
        rows = self._rows("SELECT path, stamp, image FROM files WHERE path IN ({})", stamps)
        return {stamps[path][0]: image for path, stamp, image in rows if stamps[path][1] == stamp}

    def add(
        self,
        vectors: Mapping[str, Array],
        maker: str,
        view: str,
        *,
        facts: Mapping[str, tuple[media.Facts, int]] | None = None,
        files: Mapping[Path, tuple[str, str]] | None = None,
    ) -> None:
        """All in one transaction: a kill costs no more than one call.

        Args:
            vectors: float32 (F,), by the sha256 of their picture; so the facts.
            files: stamp and sha256, by path.
        """
        told = [(image, json.dumps(asdict(one)), str(dhash)) for image, (one, dhash) in (facts or {}).items()]
        places = [(str(path), stamp, image) for path, (stamp, image) in (files or {}).items()]
        rows = [(image, maker, view, np.asarray(one, np.float32).tobytes()) for image, one in vectors.items()]
        with self._connection as connection:
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", told)
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", places)
            connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)

    def _rows(self, query: str, wanted: Iterable[str], *first: str) -> Iterator[tuple[Any, ...]]:
        values = list(dict.fromkeys(wanted))
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            yield from self._connection.execute(query.format(",".join("?" * len(some))), (*first, *some))


@contextmanager
def opened() -> Iterator[Cache]:
    """The file, made where it is not there.

    Raises:
        CannotWrite: the cache folder cannot be written.
        BadData: the file is damaged.
    """
    path = cache_dir() / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for table in _TABLES:
                connection.execute(table)
            yield Cache(connection)
    except (OSError, sqlite3.OperationalError) as error:
        raise CannotWrite(
            f"{path.parent}: the cache cannot be written ({error}); free space there or set ANMOK_CACHE"
        ) from None
    except sqlite3.DatabaseError as error:
        raise BadData(f"{path} is damaged ({error}); delete it, and the features are computed again") from None


def stamp_of(path: Path) -> str:
    """Changes when the file does; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}"
