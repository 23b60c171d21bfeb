"""What was seen in the images, in memory and beside the strokes, so that opening again does not look again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, CannotWrite
from anmok.labelling.looking import Look

Array = NDArray[np.float32]
Row = tuple[str, str, str, Look]  # name, stamp, digest, look

_TABLES = (
    "CREATE TABLE IF NOT EXISTS looks (image TEXT PRIMARY KEY, stamp TEXT, digest TEXT, features BLOB, words BLOB)",
    "CREATE TABLE IF NOT EXISTS probe (features BLOB)",
)
_SAME = 1e-3  # two devices round differently; two models differ by far more


class Seen:
    """Of each image its features (n, F), word scores (n, K) and the digest of its bytes; NaN where not yet seen.

    20,000 images of 768 features are 61 MB. Filled by one thread and read by others: a row is whole before
    ``is_seen`` says so.
    """

    def __init__(self, count: int) -> None:
        self.features: Array = np.zeros((count, 0), np.float32)
        self.words: Array = np.zeros((count, 0), np.float32)
        self.digests: list[str] = [""] * count
        self.is_seen = np.zeros(count, np.bool_)

    def put(self, number: int, digest: str, look: Look) -> None:
        """One more."""
        if not self.features.shape[1]:
            self.features = np.full((len(self.digests), len(look.features)), np.nan, np.float32)
            self.words = np.full((len(self.digests), 0 if look.words is None else len(look.words)), np.nan, np.float32)
        self.features[number] = look.features
        if look.words is not None and self.words.shape[1]:
            self.words[number] = look.words
        self.digests[number] = digest
        self.is_seen[number] = True


class Remembered:
    """The file of looks. A file that another model wrote is emptied: its answer to a probe picture tells.

    Raises:
        CannotWrite: the folder cannot be written.
        BadData: the file is damaged.
    """

    def __init__(self, path: Path, probe: Array) -> None:
        self._path = path
        with self._open() as database:
            for table in _TABLES:
                database.execute(table)
            row = database.execute("SELECT features FROM probe").fetchone()
            if row is None or not _is_same(np.frombuffer(row[0], np.float32), probe):
                database.execute("DELETE FROM looks")
                database.execute("DELETE FROM probe")
                database.execute("INSERT INTO probe VALUES (?)", (probe.tobytes(),))

    def rows(self) -> Iterator[Row]:
        """All that is in the file."""
        with self._open() as database:
            for name, stamp, digest, features, words in database.execute("SELECT * FROM looks"):
                scores = None if words is None else np.frombuffer(words, np.float32)
                yield name, stamp, digest, Look(np.frombuffer(features, np.float32), scores)

    def add(self, rows: Sequence[Row]) -> None:
        """More of them; a kill costs no more than one call."""
        values = [
            (name, stamp, digest, look.features.tobytes(), None if look.words is None else look.words.tobytes())
            for name, stamp, digest, look in rows
        ]
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?)", values)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=60)) as database, database:
                yield database
        except (OSError, sqlite3.OperationalError) as error:
            raise CannotWrite(f"{self._path}: cannot be written ({error}); free space or give another store") from None
        except sqlite3.DatabaseError as error:
            raise BadData(f"{self._path}: damaged ({error}); delete it, and the images are looked at again") from None


def probe_picture() -> NDArray[np.uint8]:
    """A picture (64, 64, 3) that is always the same and has something of everything in it."""
    y, x = np.mgrid[0:64, 0:64]
    return np.stack([x * 4, y * 4, (x // 8 + y // 8) % 2 * 255], -1).astype(np.uint8)


def _is_same(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    return float(np.linalg.norm(one - other)) <= _SAME * max(float(np.linalg.norm(other)), 1e-12)
