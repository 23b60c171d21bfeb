"""From a folder to an index: each photo is embedded once, and found in the cache ever after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok import features, media
from anmok.errors import BadData, BadMedia, TooMuch
from anmok.features import Cache
from anmok.index.embedding import Embedder, checked, embedder_of
from anmok.index.searching import Index
from anmok.load import Model
from anmok.pairing import unit
from anmok.results import Failure

Progress: TypeAlias = Callable[[int, int], None]
Array = NDArray[np.float32]

MOST: Final = 50_000  # photos: 50,000 x 768 are 154 MB, and all of them compared take some 15 ms
_CHUNK: Final = 64  # photos between two commits: what a kill can cost
_READERS: Final = 2


@dataclass(slots=True)
class _Found:
    """What is known so far: the sha256 of each photo and the vector of each sha256."""

    digests: dict[Path, str] = field(default_factory=dict)
    vectors: dict[str, Array] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    computed: int = 0


def build(photos: Path | Sequence[Path], model: Model | Embedder, *, progress: Progress | None = None) -> Index:
    """Embeds every photo that the cache does not have, and keeps it there.

    Args:
        photos: a folder, with all below it, or files.
        model: one that embeds pictures.
        progress: is told how many of how many are done. What it raises ends the work; what is done is kept.

    Raises:
        BadData: no photos there.
        TooMuch: more than 50,000.
        BadMedia: not one of them can be read.
        Unsupported: the model does not embed pictures.
        CannotWrite: the cache folder cannot be written.
    """
    embedder = embedder_of(model)
    paths = _listed(photos)
    maker = embedder.maker
    found = _Found()
    with features.opened() as cache:
        for start in range(0, len(paths), _CHUNK):
            _add(found, cache, paths[start : start + _CHUNK], embedder, maker)
            if progress is not None:
                progress(min(start + _CHUNK, len(paths)), len(paths))
    good = tuple(path for path in paths if found.digests.get(path) in found.vectors)
    if not good:
        raise found.failures[0].error
    rows = unit(np.stack([found.vectors[found.digests[path]] for path in good]))  # (n, D)
    return Index(good, rows, maker, tuple(found.failures), found.computed)


def _listed(photos: Path | Sequence[Path]) -> Sequence[Path]:
    if isinstance(photos, Path):
        if not photos.is_dir():
            raise BadData(f"{photos}: no such folder; name the one with the photos")
        paths: Sequence[Path] = list(media.find(photos))
    else:
        paths = list(dict.fromkeys(photos))
    if not paths:
        raise BadData(
            f"{photos if isinstance(photos, Path) else 'no files'}: no photos that anmok reads (JPEG, PNG ...)"
        )
    if len(paths) > MOST:
        raise TooMuch(f"{len(paths):,} photos; search compares up to {MOST:,}: name a folder below this one")
    return paths


def _add(found: _Found, cache: Cache, paths: Sequence[Path], embedder: Embedder, maker: str) -> None:
    """One chunk: by the files' stamps, by their content, and by the model, whichever knows first."""
    absolute = {path.absolute(): path for path in paths}
    digests = {absolute[place]: digest for place, digest in cache.files(absolute).items()}
    vectors = cache.vectors(digests.values(), maker, "image")
    # Stamps are taken first: a file that changes while it is read is then read again the next time.
    stamps = {path: features.stamp_of(path) for path in paths}
    contents = _contents([path for path in paths if digests.get(path) not in vectors], found)
    digests |= {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    vectors |= cache.vectors((digests[path] for path in contents), maker, "image")
    fresh = {digests[path]: path for path in contents if digests[path] not in vectors}
    computed, broken = _computed({digest: (path, contents[path]) for digest, path in fresh.items()}, embedder)
    files = {path.absolute(): (stamps[path], digests[path]) for path in contents if digests[path] not in broken}
    cache.add(computed, maker, "image", files=files)
    found.failures += [
        Failure(str(path), BadMedia(_said(path, broken[digests[path]]))) for path in contents if digests[path] in broken
    ]
    found.computed += len(computed)
    found.vectors |= vectors | computed
    found.digests |= digests


def _contents(paths: Sequence[Path], found: _Found) -> dict[Path, bytes]:
    def content(path: Path) -> bytes | Failure:
        try:
            return path.read_bytes()
        except OSError as error:
            return Failure(str(path), BadMedia(f"{path.name}: cannot be read ({error.strerror})"))

    with ThreadPoolExecutor(_READERS) as pool:
        read = dict(zip(paths, pool.map(content, paths), strict=True))
    found.failures += [one for one in read.values() if isinstance(one, Failure)]
    return {path: one for path, one in read.items() if not isinstance(one, Failure)}


def _computed(fresh: dict[str, tuple[Path, bytes]], embedder: Embedder) -> tuple[dict[str, Array], dict[str, BadMedia]]:
    """Vectors by their sha256, and what is wrong with the others."""
    if not fresh:
        return {}, {}
    answers = checked(embedder.embed([data for _, data in fresh.values()]))
    said = dict(zip(fresh, answers, strict=True))
    broken = {one: BadMedia(str(answer.error)) for one, answer in said.items() if isinstance(answer, Failure)}
    return {one: answer.vector for one, answer in said.items() if not isinstance(answer, Failure)}, broken


def _said(path: Path, error: BadMedia) -> str:
    """Bytes have no name: the file's own goes before what is wrong."""
    return f"{path.name}: {str(error).partition(': ')[2] or error}"
