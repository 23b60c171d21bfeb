"""One pass over the pictures, kept for good: features, facts and difference hashes, by the picture's own hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok import features, geometry, media
from anmok.errors import BadMedia
from anmok.features import Cache, View
from anmok.load import Model
from anmok.results import Embedding
from anmok.tasks import Embed

Progress = Callable[[int, int], None]

_CHUNK = 64  # pictures between two commits: what a kill can cost
_READERS = 2


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
    facts: media.Facts | None = None  # where there is an image


def look(paths: Sequence[Path], model: Model, *, view: View = "plain", progress: Progress | None = None) -> Looked:
    """Features, facts and hashes of every picture that can be read.

    Raises:
        CannotWrite: the cache folder cannot be written.
    """
    with features.opened() as cache:
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


def _read_chunk(cache: Cache, paths: Sequence[Path], indices: range, maker: str, view: View) -> list[_Picture]:
    """Bytes and hashes of all, pixels of those that the cache does not have."""

    def hashed(index: int) -> tuple[int, bytes, str]:
        try:
            data = paths[index].read_bytes()
        except OSError as error:
            return index, b"", f"{paths[index].name}: cannot be read ({error.strerror})"
        return index, data, ""

    def decoded(entry: tuple[int, bytes, str]) -> _Picture:
        index, data, failure = entry
        sha = hashlib.sha256(data).hexdigest()
        if failure or sha in known:
            return _Picture(index, sha, None, failure)
        try:
            image, facts = media.decode_with_facts(data, paths[index].name)
        except BadMedia as error:
            return _Picture(index, sha, None, str(error))
        return _Picture(index, sha, image, "", facts)

    with ThreadPoolExecutor(_READERS) as pool:
        entries = list(pool.map(hashed, indices))
        hashes = [hashlib.sha256(data).hexdigest() for _, data, _ in entries]
        known = cache.facts(hashes).keys() & cache.vectors(hashes, maker, view).keys()
        return list(pool.map(decoded, entries))


def _compute(cache: Cache, chunk: Sequence[_Picture], model: Model, view: View) -> int:
    fresh = {picture.sha256: picture.image for picture in chunk if picture.image is not None}
    facts = {
        picture.sha256: (picture.facts, geometry.difference_hash(picture.image))
        for picture in chunk
        if picture.image is not None and picture.facts is not None
    }
    images = [geometry.flip(image) if view == "flip" else image for image in fresh.values()]
    answers: list[Embedding] = model.run(images, Embed(space="features"))
    vectors = {sha: answer.vector for sha, answer in zip(fresh, answers, strict=True)}
    cache.add(vectors, model.maker, view, facts=facts)
    return len(vectors)


def _gather(cache: Cache, pictures: Sequence[_Picture], maker: str, view: View, computed: int) -> Looked:
    good = [picture for picture in pictures if not picture.failure]
    hashes = [picture.sha256 for picture in good]
    vectors, facts = cache.vectors(hashes, maker, view), cache.facts(hashes)
    return Looked(
        indices=np.asarray([picture.index for picture in good], np.int64),
        features=np.stack([vectors[sha] for sha in hashes]) if good else np.zeros((0, 0), np.float32),  # (n, F)
        facts=tuple(facts[sha][0] for sha in hashes),
        dhash=np.asarray([facts[sha][1] for sha in hashes], np.uint64),
        failures=tuple((picture.index, picture.failure) for picture in pictures if picture.failure),
        computed=computed,
    )
