"""How unlike the known images is one: five scores, all higher for the stranger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from anmok.errors import BadData, BadRequest

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
LogitKind = Literal["mcm", "energy", "max_logit"]
# (rows of the known images (k,), rows to be judged (m,)) -> (m,): fits on the first alone
Scorer = Callable[[Rows, Rows], Array]

NEIGHBOURS = 10
_BLOCK = 4_000_000  # distances held at once: 32 MB


def knn_distance(known: ArrayLike, rows: ArrayLike, k: int = NEIGHBOURS) -> Array:
    """(m,) distance of unit ``rows`` (m, F) to the ``k``-th nearest of ``known`` (n, F); the last where n < k.

    Sun et al. (2022), "Out-of-distribution detection with deep nearest neighbors". ``rows`` must not be among
    ``known``. Raises `BadData`, `BadRequest`.
    """
    if k < 1:
        raise BadRequest(f"{k} neighbours: want at least 1")
    base, asked = _unit(_table(known, "known")), _unit(_table(rows, "rows"))
    _same_width(base, asked)
    place, step = min(k, len(base)) - 1, max(_BLOCK // len(base), 1)
    found = np.empty(len(asked))
    for start in range(0, len(asked), step):
        cosine = asked[start : start + step] @ base.T  # (b, n)
        nearest = -np.partition(-cosine, place, axis=1)[:, place]  # (b,)
        found[start : start + step] = np.sqrt(np.maximum(2 - 2 * nearest, 0))
    return found


def from_logits(logits: ArrayLike, kind: LogitKind, temperature: float = 1.0) -> Array:
    """(m,) from (m, K) logits, for "mcm" cosines.

    "mcm": 1 - largest chance of softmax(cosines / temperature), Ming et al. (2022), "Delving into out-of-distribution
    detection with vision-language representations". "energy": -temperature * logsumexp, Liu et al. (2020),
    "Energy-based out-of-distribution detection". "max_logit": its negative, Hendrycks et al. (2022), "Scaling
    out-of-distribution detection for real-world settings". Raises `BadData`, `BadRequest`.
    """
    rows = _table(logits, "logits")
    if not temperature > 0:
        raise BadRequest(f"a temperature of {temperature}: want a number above 0")
    if kind == "mcm":
        return np.asarray(1 - special.softmax(rows / temperature, axis=1).max(axis=1))
    if kind == "energy":
        return -temperature * np.asarray(special.logsumexp(rows / temperature, axis=1))
    if kind == "max_logit":
        return np.asarray(-rows.max(axis=1))
    raise BadRequest(f"score {kind!r}: want mcm, energy or max_logit")


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """Distance to the nearest class mean, in units of the spread within classes, shrunk to a sphere.

    means: (C, F). axes: (r, F) directions in which the known images vary; excess: (r,) what their inverse variance is
    beyond that of all other directions, ``outside``. shrinkage: share of the sphere.
    """

    means: Array
    axes: Array
    excess: Array
    outside: float
    shrinkage: float

    @classmethod
    def fitted(cls, features: ArrayLike, labels: ArrayLike) -> Mahalanobis:
        """Of known images (n, F) with ``labels`` (n,).

        Lee et al. (2018), "A simple unified framework for detecting out-of-distribution samples"; the covariance is
        shrunk by Ledoit & Wolf (2004), "A well-conditioned estimator for large-dimensional covariance matrices". Raises
        `BadData` where no class has two images that differ.
        """
        rows, truth = _table(features, "features"), np.asarray(labels)
        if truth.shape != rows.shape[:1]:
            raise BadData(f"labels of shape {truth.shape} for {len(rows)} images: want one each")
        code = np.unique(truth, return_inverse=True)[1]  # (n,)
        count = np.bincount(code)  # (C,)
        means = np.zeros((count.size, rows.shape[1]))
        np.add.at(means, code, rows)
        means /= count[:, None]
        rest = rows - means[code]  # (n, F)
        sphere = float((rest**2).sum() / rest.size)
        if sphere <= 1e-20:
            raise BadData("no class has two images that differ: a spread within classes cannot be known")
        share = _shrinkage(rest, sphere)
        _, spread, axes = np.linalg.svd(rest, full_matrices=False)  # (r,), (r, F)
        outside = 1 / max(share * sphere, 1e-6 * sphere)
        inside = 1 / np.maximum((1 - share) * spread**2 / len(rows) + share * sphere, 1e-6 * sphere)  # (r,)
        return cls(means, axes, inside - outside, outside, share)

    def distance(self, rows: ArrayLike) -> Array:
        """(m,) squared distance of ``rows`` (m, F) to the nearest mean. Raises `BadData`."""
        asked = _table(rows, "rows")
        _same_width(self.means, asked)
        turned, centres = asked @ self.axes.T, self.means @ self.axes.T  # (m, r), (C, r)
        found = np.full(len(asked), np.inf)
        for mean, centre in zip(self.means, centres, strict=True):
            away = ((asked - mean) ** 2).sum(axis=1) * self.outside  # (m,)
            found = np.minimum(found, away + (turned - centre) ** 2 @ self.excess)
        return np.asarray(np.maximum(found, 0))


def knn_scorer(features: ArrayLike, k: int = NEIGHBOURS) -> Scorer:
    """`knn_distance` within ``features`` (n, F)."""
    rows = _table(features, "features")
    return lambda known, asked: knn_distance(rows[known], rows[asked], k)


def mahalanobis_scorer(features: ArrayLike, labels: ArrayLike) -> Scorer:
    """`Mahalanobis` within ``features`` (n, F), ``labels`` (n,)."""
    rows, truth = _table(features, "features"), np.asarray(labels)
    return lambda known, asked: Mahalanobis.fitted(rows[known], truth[known]).distance(rows[asked])


def logit_scorer(logits: ArrayLike, labels: ArrayLike, kind: LogitKind, temperature: float = 1.0) -> Scorer:
    """`from_logits` (n, K), with the columns of those classes alone that are known.

    Exact where each column stands for itself, as with class names. A trained head must be refitted without the class:
    write a scorer that does. The logits must be out of fold.
    """
    rows, truth = _table(logits, "logits"), np.asarray(labels)
    return lambda known, asked: from_logits(rows[np.ix_(asked, np.unique(truth[known]))], kind, temperature)


def _shrinkage(rest: Array, sphere: float) -> float:
    """Ledoit and Wolf's share, from the Gram matrix where there are fewer images than features."""
    n, width = rest.shape
    squares = (rest**2).sum(axis=1)  # (n,)
    product = rest @ rest.T if n < width else rest.T @ rest
    of_covariance = float((product**2).sum()) / n**2  # |S|^2
    distance = of_covariance - width * sphere**2
    noise = (float(squares @ squares) / n - of_covariance) / n
    return min(max(noise / distance, 0.0), 1.0) if distance > 1e-300 else 1.0


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _table(rows: ArrayLike, name: str) -> Array:
    found = np.asarray(rows, dtype=np.float64)
    if found.ndim != 2 or found.size == 0 or not np.isfinite(found).all():
        raise BadData(f"{name} of shape {found.shape}: want (n, F) finite numbers, n > 0")
    return found


def _same_width(known: Array, asked: Array) -> None:
    if known.shape[1] != asked.shape[1]:
        raise BadData(
            f"known images have {known.shape[1]} features, the others {asked.shape[1]}: want the same model's"
        )
