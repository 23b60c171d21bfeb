"""Which images are labelled for 1, 2, 4 ... shots: shared by all rungs, the larger hold the smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import group_numbers


def support_draws(
    labels: ArrayLike,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    draws: int = 10,
    *,
    seed: int,
    groups: ArrayLike | None = None,
) -> dict[int, NDArray[np.intp]]:
    """Shots -> (draws, images) image numbers, ``shots`` of each class, the classes in sorted order.

    labels: (n,) of the pool alone: the numbers index it. Within a draw the images for 4 shots hold those for
    2. With ``groups`` (n,) a class takes one image of each group before it takes a second one, for neighbours
    teach little. A class with fewer images than shots gives all it has: `short_classes` names them. Raises
    `BadData` for labels without images, `BadRequest` for shots or draws below 1.
    """
    if draws < 1 or not shots or min(shots) < 1:
        raise BadRequest(f"shots {tuple(shots)}, {draws} draws: both must be at least 1")
    members = _members(labels)
    group = group_numbers(groups, sum(map(len, members.values())))
    streams = np.random.default_rng(seed).spawn(draws)
    orders = [[_spread_out(images, group, rng) for images in members.values()] for rng in streams]
    return {n: np.stack([np.concatenate([order[:n] for order in draw]) for draw in orders]) for n in shots}


def short_classes(labels: ArrayLike, shots: int) -> dict[str, int]:
    """Classes with fewer images than ``shots``, and how many they have. Raises `BadData` without images."""
    return {str(name): len(images) for name, images in _members(labels).items() if len(images) < shots}


def _members(labels: ArrayLike) -> dict[object, NDArray[np.intp]]:
    """Class -> its image numbers, classes in sorted order."""
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise BadData(f"labels have shape {array.shape}: want one class per image, and at least one image")
    names, code = np.unique(array, return_inverse=True)  # (C,), (n,)
    order = np.argsort(code, kind="stable")  # (n,)
    return dict(zip(names.tolist(), np.split(order, np.cumsum(np.bincount(code))[:-1]), strict=True))


def _spread_out(images: NDArray[np.intp], group: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """(m,) images of one class in random order, but no group's second image before every group's first."""
    shuffled = rng.permutation(images)  # (m,)
    own = group[shuffled]  # (m,)
    by_group = np.argsort(own, kind="stable")  # (m,)
    starts = np.flatnonzero(np.diff(own[by_group], prepend=-1))  # (g,) where each group begins
    turn = np.empty(images.size, dtype=np.intp)
    turn[by_group] = np.arange(images.size) - np.repeat(starts, np.diff(starts, append=images.size))  # (m,)
    return shuffled[np.argsort(turn, kind="stable")]
