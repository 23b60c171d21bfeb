"""Which images belong together: duplicates, runs of neighbours, user's groups; and what straddles a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from anmok.errors import BadData, BadRequest

Pair = tuple[int, int, float, int]  # i < j, cosine, bits in which the two hashes differ
_BLOCK = 2_000_000  # cosines held at once: 8 MB, and 100 MB more where all of them are near
_MOST_PAIRS = 200_000  # kept; a still video of 10,000 frames has 50 million
_SMALLEST_CAP = 2


@dataclass(frozen=True, slots=True, eq=False)
class DuplicateGroups:
    """Which images are near-copies of each other.

    group: (n,) int, 0..G-1 by first appearance, a number of its own for every image without a duplicate.
    pairs: the pairs of duplicates, nearest first, also those whose images lie in different groups; at most
    200,000 of the ``n_found`` that were found.
    """

    group: NDArray[np.intp]
    pairs: tuple[Pair, ...]
    n_found: int


def duplicate_groups(
    features: NDArray[np.float32],
    dhash: NDArray[np.uint64],
    *,
    sha: Sequence[str] | None = None,
    cosine: float = 0.97,
    hash_distance: int = 6,
    largest_share: float = 0.05,
) -> DuplicateGroups:
    """Groups of images of which every two are duplicates: complete linkage, a chain of likenesses is none.

    features: (n, d) float32 unit rows. dhash: (n,) uint64 difference hashes. sha: digests of the files'
    bytes, or None. Two images are duplicates when their bytes are the same, or when their cosine is at least
    ``cosine`` and their hashes differ in at most ``hash_distance`` bits. No group holds more than
    ``largest_share`` of the images (two are always allowed): beyond that likeness says that the pictures are
    all of one kind, not that they are copies. Only files with the same bytes stay together whatever their
    number. Where more than 200,000 pairs are near, the groups rest on the nearest of them. Raises `BadData`,
    `BadRequest` for a threshold out of range.
    """
    if not (0 < cosine <= 1 and 0 <= hash_distance <= 64 and 0 < largest_share <= 1):
        raise BadRequest(f"cosine {cosine}, hash distance {hash_distance}, largest share {largest_share}: out of range")
    unit = _unit_rows(features)
    n = len(unit)
    bits = np.asarray(dhash)
    if bits.shape != (n,) or bits.dtype != np.uint64:
        raise BadData(f"dhash has shape {bits.shape} and type {bits.dtype}: want ({n},) uint64, one per image")
    if sha is not None and len(sha) != n:
        raise BadData(f"{len(sha)} digests for {n} images: give one per image")
    first = _first_of(n, sha)  # (n,)
    keep = np.flatnonzero(first == np.arange(n))  # (m,) one image of each distinct file
    near, n_found = _near_pairs(unit[keep], bits[keep], cosine, hash_distance)
    near[:, :2] = keep[near[:, :2].astype(np.intp)]  # (P, 4)
    cap = max(int(largest_share * n), _SMALLEST_CAP)
    cluster = _complete_linkage(near, np.bincount(first, minlength=n), cap)  # (n,) named by a member
    copies = np.flatnonzero(first != np.arange(n))
    same = ((int(first[i]), int(i), 1.0, 0) for i in copies)
    pairs = (*same, *((int(i), int(j), float(c), int(d)) for i, j, c, d in near))
    return DuplicateGroups(_by_appearance(cluster[first]), pairs, n_found + copies.size)


def run_groups(numbers: ArrayLike | Sequence[str], length: int) -> NDArray[np.intp]:
    """(n,) run of each image when the images, put in order, are cut into runs of about ``length``.

    numbers: (n,) ints (frame, row, cell number) or file names, ordered as people count: img9 before img10.
    Runs differ in size by one at most, but images of one number or name are never parted. Raises
    `BadRequest`, `BadData`.
    """
    if length < 1:
        raise BadRequest(f"a run of {length} images: the length must be at least 1")
    array = np.asarray(numbers)
    if array.ndim != 1:
        raise BadData(f"numbers have shape {array.shape}: want one number or name per image")
    keys = array.tolist()
    order = sorted(range(len(keys)), key=lambda i: _natural(keys[i]))
    n_runs = max(round(len(keys) / length), 1)
    group = np.empty(len(keys), dtype=np.intp)
    for rank, i in enumerate(order):
        tied = rank > 0 and keys[order[rank - 1]] == keys[i]
        group[i] = group[order[rank - 1]] if tied else rank * n_runs // len(keys)
    return np.unique(group, return_inverse=True)[1]


def merge_groups(a: ArrayLike, b: ArrayLike) -> NDArray[np.intp]:
    """(n,) the finest groups in which whatever ``a`` (n,) or ``b`` (n,) holds together stays together."""
    left, right = np.asarray(a), np.asarray(b)
    if left.ndim != 1 or left.shape != right.shape:
        raise BadData(f"groups of shapes {left.shape} and {right.shape}: want two (n,) arrays over the same images")
    names_a, code_a = np.unique(left, return_inverse=True)  # (A,), (n,)
    names_b, code_b = np.unique(right, return_inverse=True)  # (B,), (n,)
    nodes = names_a.size + names_b.size
    links = sparse.coo_matrix((np.ones(left.size), (code_a, code_b + names_a.size)), shape=(nodes, nodes))
    part = sparse.csgraph.connected_components(links, directed=False)[1]  # (A + B,)
    return _by_appearance(part[code_a])


def straddling(group: ArrayLike, split: ArrayLike) -> NDArray[np.generic]:
    """Ids of the groups with images on more than one side; ``split`` (n,) names the side of each image."""
    ids, sides = np.asarray(group), np.asarray(split)
    if ids.ndim != 1 or ids.shape != sides.shape:
        raise BadData(f"groups of shape {ids.shape}, split of shape {sides.shape}: want two (n,) arrays")
    names, code = np.unique(ids, return_inverse=True)  # (G,), (n,)
    _, side = np.unique(sides, return_inverse=True)  # (n,)
    pairs = np.unique(np.stack([code, side]), axis=1)  # (2, P) every group with every side it touches
    return names[np.bincount(pairs[0], minlength=names.size) > 1]


def _unit_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = np.ascontiguousarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise BadData(f"features have shape {rows.shape}: want (n, d), one row per image")
    if len(rows) and not np.allclose(np.einsum("nd,nd->n", rows, rows), 1, atol=1e-2):
        raise BadData("features are not unit rows: divide each row by its length (a zero row has none)")
    return rows


def _first_of(n: int, sha: Sequence[str] | None) -> NDArray[np.intp]:
    """(n,) the first image with the same bytes."""
    if sha is None:
        return np.arange(n)
    first: dict[str, int] = {}
    return np.array([first.setdefault(digest, i) for i, digest in enumerate(sha)], dtype=np.intp)


def _near_pairs(
    unit: NDArray[np.float32], bits: NDArray[np.uint64], cosine: float, hash_distance: int
) -> tuple[NDArray[np.float64], int]:
    """(P, 4) rows i, j, cosine, distance, nearest first; and how many there were before any were dropped."""
    kept: NDArray[np.float64] = np.empty((0, 4))
    n_found, weakest = 0, -np.inf
    step = max(_BLOCK // max(len(unit), 1), 1)
    for start in range(0, len(unit), step):
        block = np.triu(unit[start : start + step] @ unit[start:].T, k=1)  # (b, n - start)
        i, j = np.nonzero(block >= cosine)  # (p,), (p,)
        likeness, apart = block[i, j], np.bitwise_count(bits[start + i] ^ bits[start + j])  # (p,), (p,)
        n_found += int(np.count_nonzero(apart <= hash_distance))
        close = (apart <= hash_distance) & (likeness > weakest)  # (p,)
        found = np.stack([start + i[close], start + j[close], likeness[close], apart[close]], axis=1)  # (p, 4)
        kept = np.concatenate([kept, found.astype(np.float64)])  # (P, 4)
        kept = kept[np.lexsort((kept[:, 3], -kept[:, 2]))][:_MOST_PAIRS]  # (P, 4)
        weakest = float(kept[-1, 2]) if len(kept) == _MOST_PAIRS else weakest
    return kept, n_found


def _complete_linkage(pairs: NDArray[np.float64], weight: NDArray[np.intp], cap: int) -> NDArray[np.intp]:
    """(n,) cluster of each image, named by one of its members.

    ``weight``: (n,) an image and its copies. Two clusters merge at the moment when the last pair between them
    has come by, nearest pairs first.
    """
    members = {i: [i] for i in range(len(weight))}
    cluster, heavy = np.arange(len(weight)), weight.copy()
    links: list[dict[int, int]] = [{} for _ in range(len(weight))]  # to which cluster, how many pairs so far
    for i, j in pairs[:, :2].astype(np.intp).tolist():
        a, b = int(cluster[i]), int(cluster[j])
        links[a][b] = links[b][a] = links[a].get(b, 0) + 1
        if links[a][b] < len(members[a]) * len(members[b]) or heavy[a] + heavy[b] > cap:
            continue
        if len(links[a]) < len(links[b]):
            a, b = b, a
        heavy[a] += heavy[b]
        cluster[members[b]] = a
        members[a] += members.pop(b)
        for other, count in links[b].items():
            if other != a:
                links[a][other] = links[a].get(other, 0) + count
                links[other][a] = links[a][other]
            links[other].pop(b, None)
    return cluster


def _natural(key: int | float | str) -> tuple[tuple[int, float, str], ...]:
    """Sort key under which numbers inside names count as numbers."""
    if not isinstance(key, str):
        return ((0, key, ""),)
    parts = re.split(r"([0-9]+)", key)  # text and numbers in turn
    return tuple((0, int(part), "") if k % 2 else (1, 0, part) for k, part in enumerate(parts))


def _by_appearance(ids: NDArray[np.generic]) -> NDArray[np.intp]:
    """(n,) numbers 0..G-1 in the order in which the groups first appear."""
    _, first, code = np.unique(ids, return_index=True, return_inverse=True)  # (G,), (n,)
    rank = np.empty(first.size, dtype=np.intp)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[code]
