"""Nearest rows of a large table, in pieces that fit the caches, and a small table that covers a large one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.pairing import product

Array = NDArray[np.float32]

_CHUNK = 4096  # rows of the memory in one product: with 1,024 queries 16 MB
_QUERIES = 1024
PROJECTED = 32  # dimensions in which a coreset is looked for; distances keep their order well enough


def distances(queries: Array, rows: Array) -> Array:
    """Squared Euclidean distances (Q, M) of ``queries`` (Q, D) from ``rows`` (M, D), float32, never negative.

    Raises:
        BadRequest: tables of two widths.
    """
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1]:
        raise BadRequest(f"patches: queries {queries.shape} and memory {rows.shape}; want the same number of columns")
    found = product(queries, rows.T)  # (Q, M)
    found *= -2.0
    found += (rows**2).sum(1)
    found += (queries**2).sum(1)[:, None]
    return np.maximum(found, 0.0, out=found)


def nearest(queries: Array, rows: Array, count: int = 1) -> tuple[Array, NDArray[np.int64]]:
    """Squared distances (Q, k) to the ``count`` nearest rows, ascending, and which rows (Q, k) they are.

    Every row is compared. The memory is walked through in pieces, and of each piece only the nearest stay. Products
    find them, whose rounding would show where a distance is near 0; the distances of those found are taken afresh.

    Raises:
        BadRequest: fewer rows than neighbours, or tables of two widths.
    """
    if not 1 <= count <= len(rows):
        raise BadRequest(f"{count} neighbours among {len(rows)} rows: want at least one, and as many rows")
    parts = [_nearest(queries[i : i + _QUERIES], rows, count) for i in range(0, len(queries), _QUERIES)]
    if not parts:
        return np.zeros((0, count), np.float32), np.zeros((0, count), np.int64)
    return np.concatenate([found for found, _ in parts]), np.concatenate([places for _, places in parts])


def _nearest(queries: Array, rows: Array, count: int) -> tuple[Array, NDArray[np.int64]]:
    # Nearest is where q.r - |r|^2 / 2 is largest, and one more column brings that into the product.
    asked = np.concatenate([queries, np.ones((len(queries), 1), np.float32)], 1)  # (Q, D + 1)
    best = np.full((len(queries), count), -np.inf, np.float32)  # (Q, k)
    places = np.zeros((len(queries), count), np.int64)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]  # (c, D)
        halves = -0.5 * (part**2).sum(1, keepdims=True)
        found = product(asked, np.concatenate([part, halves], 1).T)  # (Q, c)
        kept = min(count, found.shape[1])
        if count == 1:
            here = found.argmax(1)[:, None]  # (Q, 1)
        else:
            here = np.argpartition(found, found.shape[1] - kept, axis=1)[:, -kept:]  # (Q, k)
        both = np.concatenate([best, np.take_along_axis(found, here, 1)], 1)  # (Q, k + k')
        named = np.concatenate([places, here + start], 1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :count]
        best, places = np.take_along_axis(both, order, 1), np.take_along_axis(named, order, 1)
    exact = np.stack([((queries - rows[column]) ** 2).sum(1) for column in places.T], 1)  # (Q, k)
    order = np.argsort(exact, axis=1, kind="stable")
    return np.take_along_axis(exact, order, 1), np.take_along_axis(places, order, 1)


def coreset(rows: Array, count: int, *, seed: int, projected: int = PROJECTED) -> NDArray[np.int64]:
    """``count`` places in ``rows`` (M, D) such that every row lies near one of them: the greedy k-centre choice.

    Each step takes the row that is farthest from all that were taken, beginning with a random one. Rows wider than
    ``projected`` are compared after a random projection (Johnson and Lindenstrauss), as PatchCore does; 0 leaves them
    as they are. Ascending order.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018);
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (CVPR 2022).

    Raises:
        BadRequest: a count that is not between 1 and M.
    """
    if not 1 <= count <= len(rows):
        raise BadRequest(f"a coreset of {count} among {len(rows)} rows: want at least one, and as many rows")
    rng = np.random.default_rng(seed)
    if projected and rows.shape[1] > projected:
        mixing = rng.standard_normal((rows.shape[1], projected)).astype(np.float32) / np.sqrt(projected)
        rows = product(rows, mixing.astype(np.float32))  # (M, p)
    rows = np.ascontiguousarray(rows - rows.mean(0), np.float32)
    lengths = (rows**2).sum(1)  # (M,)
    taken = np.empty(count, np.int64)
    taken[0] = rng.integers(len(rows))
    farthest = np.full(len(rows), np.inf, np.float32)
    for step in range(1, count):
        last = rows[taken[step - 1]]
        away = lengths - 2.0 * (rows @ last) + last @ last  # (M,)
        np.minimum(farthest, away, out=farthest)
        farthest[taken[step - 1]] = -1.0  # rounding must not take a row twice
        taken[step] = farthest.argmax()
    return np.sort(taken)
