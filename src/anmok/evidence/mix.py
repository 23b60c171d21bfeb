"""How the images of a test stand for those that will come: some kinds are rarer there, and some cost more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """Images in strata (their true classes), each stratum with its share of what will come.

    stratum: (n,) int, 0..K-1. share: (K,) of each stratum, sum 1; a stratum without images has none. reach:
    (K,) in [0, 1], how far apart two answers to an image of the stratum can lie. Make it with `mix_of`.
    """

    stratum: NDArray[np.intp]
    share: Array
    reach: Array

    @property
    def size(self) -> Array:
        """(K,) images of each stratum."""
        return np.bincount(self.stratum, minlength=self.share.size).astype(np.float64)

    @property
    def weight(self) -> Array:
        """(n,) how many images each one stands for, mean 1."""
        per_image = self.share * self.stratum.size / np.maximum(self.size, 1)  # (K,)
        return np.asarray(per_image[self.stratum])

    @property
    def amplitude(self) -> Array:
        """(n,) how far one image can move the mean, times n."""
        return self.weight * self.reach[self.stratum]

    def linear(self, table: Array) -> Array:
        """(S, n) whose plain means are the weighted means of ``table`` (S, n), and whose variance is theirs.

        Each value becomes its weighted distance from the mean of its stratum: how large a stratum happens to
        be in the test plays no part (Taylor linearisation of a post-stratified mean).
        """
        size = np.maximum(self.size, 1)  # (K,)
        means = np.stack([np.bincount(self.stratum, row, size.size) for row in table]) / size  # (S, K)
        moved = self.weight * (table - means[:, self.stratum])  # (S, n)
        return np.asarray(moved + (means @ self.share)[:, None])

    def leverage(self, group: NDArray[np.intp]) -> Array:
        """(G,) how much of the means it helps to make lies in each group; the whole of it is 1."""
        amplitude, size = self.amplitude, self.size
        pair = group * size.size + self.stratum  # (n,)
        names, code, count = np.unique(pair, return_inverse=True, return_counts=True)  # (P,), (n,), (P,)
        held = np.bincount(code, amplitude) * count / size[names % size.size]  # (P,)
        total = np.bincount(group, amplitude)  # (G,)
        found = np.bincount(names // size.size, held) / np.maximum(total, 1e-300)  # (G,)
        return np.asarray(np.minimum(found, 1 - 1e-9))


def mix_of(truth: ArrayLike, prevalence: ArrayLike | None, reach: ArrayLike) -> Mix:
    """`Mix` of images with the true classes ``truth`` (n,), int, 0..K-1.

    prevalence: (K,) share of each class where the model will work, in any unit; None takes the mix of the
    test as it is. reach: (K,), any unit; the largest becomes 1. Raises `BadData` for a class that will come
    and has no test image, `BadRequest` for a prevalence that is none.
    """
    stratum, span = np.asarray(truth), np.asarray(reach, dtype=np.float64)
    classes = span.size
    if stratum.ndim != 1 or stratum.size == 0 or stratum.dtype.kind not in "iu":
        raise BadData(f"truth has shape {stratum.shape}, type {stratum.dtype}: want one class number per image")
    if stratum.min() < 0 or stratum.max() >= classes:
        raise BadData(f"class numbers from {stratum.min()} to {stratum.max()}: want 0 to {classes - 1}")
    size = np.bincount(stratum, minlength=classes)  # (K,)
    share = shares(size if prevalence is None else prevalence, classes)
    missing = np.flatnonzero((share > 0) & (size == 0))
    if missing.size:
        raise BadData(f"no test image of class {missing[0]}, which will come: label some, or give it prevalence 0")
    return Mix(stratum.astype(np.intp), share, span / max(float(span.max()), 1e-300))


def shares(prevalence: ArrayLike, classes: int) -> Array:
    """(K,) with sum 1 of a prevalence in any unit. Raises `BadRequest`."""
    given = np.asarray(prevalence, dtype=np.float64)
    if given.shape != (classes,) or not np.isfinite(given).all() or given.min() < 0 or given.sum() <= 0:
        raise BadRequest(f"a prevalence of shape {given.shape}: want {classes} numbers from 0 up, not all 0")
    return np.asarray(given / given.sum())
