"""Copies of one picture, found without a model: the same bytes, or thumbnails that agree in what is their
own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg

from anmok import media
from anmok.errors import BadMedia
from anmok.evidence.groups import DuplicateGroups, duplicate_groups
from anmok.geometry import difference_hash

SIDE = 32  # of a grey thumbnail
COSINE = 0.97  # of what two thumbnails have beyond what all pictures of the set share
HASH_DISTANCE = 8  # of 64 bits
_FLATTEST = 2.0  # grey levels of standard deviation below which a picture shows nothing to compare
_COMMON = 8  # directions that count as shared by the set, where it is large enough to know them
_IMAGES_PER_DIRECTION = 50
_SAMPLE = 2_000
_LEAST_OWN = 0.05  # of a thumbnail's length; below, it is nothing but what all share


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """``facts`` per image; ``dhash`` uint64 (n,); ``thumbs`` uint8 (n, 32, 32). ``unreadable``: index and
    reason.
    """

    facts: tuple[media.Facts | None, ...]
    dhash: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    unreadable: tuple[tuple[int, str], ...]


def look(paths: Sequence[Path], report: Callable[[int, int], None] | None = None) -> Looks:
    """Decode every image once. ``report(done, total)`` follows. Files that cannot be read are named, not
    raised.
    """
    n = len(paths)
    facts: list[media.Facts | None] = [None] * n
    dhash, thumbs = np.zeros(n, dtype=np.uint64), np.zeros((n, SIDE, SIDE), dtype=np.uint8)
    unreadable = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for i, seen in enumerate(pool.map(_seen, paths)):
            if isinstance(seen, BadMedia):
                unreadable.append((i, str(seen)))
            else:
                facts[i], dhash[i], thumbs[i] = seen
            if report is not None:
                report(i + 1, n)
    return Looks(tuple(facts), dhash, thumbs, tuple(unreadable))


def find_copies(looks: Looks) -> DuplicateGroups:
    """Groups of copies among n readable images, by complete linkage. Two images are copies when their bytes
    are the same, or when their hashes differ in at most 8 bits and their thumbnails correlate at 0.97 or
    more, after what all pictures of the set have in common is taken away: parts under one camera look alike
    and are no copies.

    Finds re-encoded, resized, brightened and contrasted copies; not crops, rotations or mirror images.
    """
    sha = [fact.sha256 if fact is not None else f"unreadable {i}" for i, fact in enumerate(looks.facts)]
    return duplicate_groups(own_parts(looks.thumbs), looks.dhash, sha=sha, cosine=COSINE, hash_distance=HASH_DISTANCE)


def own_parts(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 1024) unit rows: grey thumbnails (n, 32, 32) without level, contrast and the set's common
    structure.

    Common are the mean and up to 8 principal directions, one per 50 images. A picture of which nothing is
    left gets a direction at random: it is like no other.
    """
    n = len(thumbs)
    grey = thumbs.reshape(n, -1).astype(np.float32)  # (n, 1024)
    centred = grey - grey.mean(axis=1, keepdims=True)  # (n, 1024)
    is_flat = centred.std(axis=1) < _FLATTEST  # (n,)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)  # (n, 1024)
    rank = min(_COMMON, n // _IMAGES_PER_DIRECTION)
    if rank:
        unit = unit - unit[~is_flat].mean(axis=0) if (~is_flat).any() else unit  # (n, 1024)
        sample = np.random.default_rng(0).permutation(n)[:_SAMPLE]
        size = unit.shape[1]
        scatter = unit[sample].T @ unit[sample]  # (1024, 1024)
        directions = linalg.eigh(scatter, subset_by_index=(size - rank, size - 1))[1]  # (1024, rank)
        unit = unit - (unit @ directions) @ directions.T  # (n, 1024)
    length = np.linalg.norm(unit, axis=1)  # (n,)
    lost = np.flatnonzero(is_flat | (length < _LEAST_OWN))
    unit[lost] = np.random.default_rng(1).standard_normal((lost.size, unit.shape[1]))
    own: NDArray[np.float32] = unit / np.linalg.norm(unit, axis=1, keepdims=True)  # (n, 1024)
    return own.astype(np.float32)


def _seen(path: Path) -> tuple[media.Facts, int, NDArray[np.uint8]] | BadMedia:
    try:
        picture, facts = media.decode_with_facts(path.read_bytes(), str(path))
    except BadMedia as error:
        return error
    except OSError as error:
        return BadMedia(f"{path}: cannot be read ({error.strerror})")
    grey = Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return facts, difference_hash(picture), np.asarray(grey)
