"""One pass over the pictures, kept for good: features, facts and difference hashes, by the picture's own hash.

The cache is one SQLite file: it survives a killed process, serves several at once, and a second climb reads it in
a second. Keyed by image hash x maker (card, revision, preprocessing, dtype) x view.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok import geometry, media
from anmok.errors import BadData, BadMedia, CannotWrite
from anmok.load import Model
from anmok.results import Embedding
from anmok.tasks import Embed
from anmok.weights import cache_dir

View = Literal["plain", "flip", "grey"]
Progress = Callable[[int, int], None]

_CHUNK = 64  # pictures between two commits: what a kill can cost
_READERS = 2
_TABLES = (
    "CREATE TABLE IF NOT EXISTS features (image TEXT, maker TEXT, view TEXT, vector BLOB, "
    "PRIMARY KEY (image, maker, view)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS facts (image TEXT PRIMARY KEY, facts TEXT, dhash TEXT) WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What one pass found. Rows follow the paths that could be read: ``indices`` says which those were."""

    indices: NDArray[np.int64]  # (n,)
    features: NDArray[np.float32]  # (n, F)
    facts: tuple[media.Facts, ...]
    dhash: NDArray[np.uint64]  # (n,)
    failures: tuple[tuple[int, str], ...]  # index, message
    computed: int  # pictures that the cache did not have


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    index: int
    sha256: str
    image: media.Image | None = None  # None: everything is in the cache
    failure: str = ""


def look(paths: Sequence[Path], model: Model, *, view: View = "plain", progress: Progress | None = None) -> Looked:
    """Features, facts and hashes of every picture that can be read.

    Raises:
        CannotWrite: the cache folder cannot be written.
    """
    with _database() as cache:
        pictures: list[_Picture] = []
        computed = 0
        for start in range(0, len(paths), _CHUNK):
            chunk = _read_chunk(cache, paths, range(start, min(start + _CHUNK, len(paths))), model.maker, view)
            computed += _compute(cache, chunk, model, view)
            pictures += [_Picture(p.index, p.sha256, None, p.failure) for p in chunk]
            if progress is not None:
                progress(len(pictures), len(paths))
        return _gather(cache, pictures, model.maker, view, computed)


def grey_features(model: Model) -> NDArray[np.float32]:
    """(F,) of a plain mid-grey picture: what a model says when there is nothing to see."""
    grey = np.full((256, 256, 3), 128, np.uint8)
    return model.run([grey], Embed(space="features"))[0].vector


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    path = cache_dir() / "features.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for table in _TABLES:
                connection.execute(table)
            yield connection
    except (OSError, sqlite3.OperationalError) as error:
        raise CannotWrite(
            f"{path.parent}: the cache cannot be written ({error}); free space there or set ANMOK_CACHE"
        ) from None
    except sqlite3.DatabaseError as error:
        raise BadData(f"{path} is damaged ({error}); delete it, and the features are computed again") from None


def _read_chunk(
    cache: sqlite3.Connection, paths: Sequence[Path], indices: range, maker: str, view: View
) -> list[_Picture]:
    """Bytes and hashes of all, pixels of those that the cache does not have."""

    def hashed(index: int) -> tuple[int, bytes, str]:
        try:
            data = paths[index].read_bytes()
        except OSError as error:
            return index, b"", f"{paths[index].name}: cannot be read ({error.strerror})"
        return index, data, ""

    def decoded(entry: tuple[int, bytes, str]) -> tuple[_Picture, media.Facts | None]:
        index, data, failure = entry
        sha = hashlib.sha256(data).hexdigest()
        if failure or sha in known:
            return _Picture(index, sha, None, failure), None
        try:
            image, facts = media.decode_with_facts(data, paths[index].name)
        except BadMedia as error:
            return _Picture(index, sha, None, str(error)), None
        return _Picture(index, sha, image), facts

    with ThreadPoolExecutor(_READERS) as pool:
        entries = list(pool.map(hashed, indices))
        known = _known(cache, [hashlib.sha256(data).hexdigest() for _, data, _ in entries], maker, view)
        found = list(pool.map(decoded, entries))
    for picture, facts in found:
        if picture.image is not None and facts is not None:
            values = (picture.sha256, json.dumps(asdict(facts)), str(geometry.difference_hash(picture.image)))
            cache.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", values)
    return [picture for picture, _ in found]


def _known(cache: sqlite3.Connection, hashes: Sequence[str], maker: str, view: View) -> set[str]:
    marks = ",".join("?" * len(hashes))
    query = (
        "SELECT features.image FROM features JOIN facts ON facts.image = features.image "
        f"WHERE maker = ? AND view = ? AND features.image IN ({marks})"
    )
    return {row[0] for row in cache.execute(query, (maker, view, *hashes))}


def _compute(cache: sqlite3.Connection, chunk: Sequence[_Picture], model: Model, view: View) -> int:
    fresh = {picture.sha256: picture.image for picture in chunk if picture.image is not None}
    images = [geometry.flip(image) if view == "flip" else image for image in fresh.values()]
    answers: list[Embedding] = model.run(images, Embed(space="features"))
    rows = [(sha, model.maker, view, answer.vector.tobytes()) for sha, answer in zip(fresh, answers, strict=True)]
    with cache:
        cache.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)
    return len(rows)


def _gather(cache: sqlite3.Connection, pictures: Sequence[_Picture], maker: str, view: View, computed: int) -> Looked:
    good = [picture for picture in pictures if not picture.failure]
    rows, facts, hashes = [], [], []
    query = (
        "SELECT vector, facts, dhash FROM features JOIN facts ON facts.image = features.image "
        "WHERE features.image = ? AND maker = ? AND view = ?"
    )
    for picture in good:
        vector, fact, dhash = cache.execute(query, (picture.sha256, maker, view)).fetchone()
        rows.append(np.frombuffer(vector, np.float32))
        facts.append(media.Facts(**json.loads(fact)))
        hashes.append(int(dhash))
    return Looked(
        indices=np.asarray([picture.index for picture in good], np.int64),
        features=np.stack(rows) if rows else np.zeros((0, 0), np.float32),  # (n, F)
        facts=tuple(facts),
        dhash=np.asarray(hashes, np.uint64),
        failures=tuple((picture.index, picture.failure) for picture in pictures if picture.failure),
        computed=computed,
    )
