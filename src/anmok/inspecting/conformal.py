"""How strange may a good picture be? A limit from good pictures alone, and what it can promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest


@dataclass(frozen=True, slots=True)
class Limit:
    """A picture is called strange where its score is above ``threshold``.

    ``overkill``: the share of good pictures that may be called strange, as asked. ``smallest``: 1 / (n + 1), the
    smallest share that ``normals`` good pictures can speak for. Where less was asked, ``is_reachable`` is false and
    the threshold is the largest score of a good picture, which promises ``smallest`` and no better.
    """

    threshold: float
    overkill: float
    normals: int
    smallest: float
    is_reachable: bool


def limit(normals: ArrayLike, overkill: float = 0.05) -> Limit:
    """The limit from the scores (n,) of good pictures that the memory did not hold when it judged them.

    A good picture to come, exchangeable with these, passes it with a chance of at most ``overkill``: the
    ceil((n + 1) (1 - overkill))-th smallest score, of split conformal prediction. Scores by leaving one out are not
    independent of each other, so the promise then holds nearly and not strictly.

    Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Laxhammar and Falkman,
    "Conformal anomaly detection" (2011).

    Raises:
        BadData: no scores, or one that is not finite.
        BadRequest: an overkill outside (0, 1).
    """
    scores = _scores(normals)
    if not 0 < overkill < 1:
        raise BadRequest(f"overkill {overkill}: want a share between 0 and 1, such as 0.05")
    n = scores.size
    rank = math.ceil((n + 1) * (1 - overkill) - 1e-9)
    smallest = 1 / (n + 1)
    return Limit(float(np.sort(scores)[min(rank, n) - 1]), overkill, n, smallest, rank <= n)


def p_values(scores: ArrayLike, normals: ArrayLike) -> NDArray[np.float64]:
    """For each score (m,) the share (1 + good pictures at least as strange) / (n + 1): small is strange, never 0.

    Raises:
        BadData: no good pictures.
    """
    known = np.sort(_scores(normals))  # (n,)
    above = known.size - np.searchsorted(known, np.asarray(scores, np.float64), side="left")  # (m,)
    return np.asarray((1 + above) / (known.size + 1))


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise BadData(f"scores of good pictures: want (n,) finite numbers, at least one; got shape {scores.shape}")
    return scores
