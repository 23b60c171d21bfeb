"""A memory of good patches, and two published ways to judge a picture by it.

``nearest``: unit patches, the nearest one, 1 - cosine; a picture is as strange as the mean of its strangest 1 % of
patches. Source: Damm et al., "AnomalyDINO: Boosting Patch-Based Few-Shot Anomaly Detection with DINOv2" (WACV 2025,
arXiv:2405.14529).

``coreset``: a tenth of the patches that covers the rest, Euclidean distance to the nearest one; a picture is as
strange as its strangest patch, weighted down where the memory around that patch's neighbour is thin. Source: Roth et
al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR 2022, arXiv:2106.08265).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.inspecting.foreground import Foreground
from anmok.inspecting.neighbours import coreset, nearest
from anmok.pairing import unit

Array = NDArray[np.float32]
Method = Literal["nearest", "coreset"]

METHODS: tuple[Method, ...] = ("nearest", "coreset")
LARGEST = 100_000  # rows: 0.7 s a picture of 1,024 patches of 168 numbers on one core
CORESET_SHARE = 0.1
TOP_SHARE = 0.01
NEIGHBOURS = 9  # of the nearest memory row, for the weight of PatchCore's score


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """``score``: how strange the picture is. ``distances`` float32 (h, w): how strange each of its patches is."""

    score: float
    distances: Array


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """``rows`` float32 (M, D): patches of good pictures, of length 1 with ``nearest``. ``seen``: patches that they were
    chosen from. With ``foreground`` the ground of a picture is not judged."""

    method: Method
    rows: Array
    seen: int
    foreground: Foreground | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadRequest(f"method {self.method!r}: want nearest or coreset")
        if self.rows.ndim != 2 or len(self.rows) == 0:
            raise BadData(f"a memory of shape {self.rows.shape} holds no patches: give good pictures")

    def judge(self, patches: Array) -> Judged:
        """The patches of one picture, float32 (h, w, D).

        Raises:
            BadRequest: patches of another width than the memory's.
        """
        rows = as_rows(patches, self.method)  # (h w, D)
        found, places = nearest(rows, self.rows)  # (h w, 1)
        exact = found[:, 0] / 2 if self.method == "nearest" else np.sqrt(found[:, 0])
        away: Array = np.array(exact, np.float32)  # (h w,)
        if self.foreground is not None:
            away[~self.foreground.mask(patches).ravel()] = 0.0
        score = top_mean(away) if self.method == "nearest" else self._weighted(rows, away, places[:, 0])
        return Judged(float(score), away.reshape(len(patches), -1))

    def _weighted(self, rows: Array, away: Array, places: NDArray[np.int64]) -> float:
        """PatchCore's image score, its equation 7: the largest distance, times 1 - the softmax share of the nearest
        memory row among that row's own neighbours, by their distances from the strangest patch."""
        worst = int(away.argmax())
        count = min(NEIGHBOURS, len(self.rows))
        _, around = nearest(self.rows[places[worst]][None], self.rows, count)  # (1, b)
        from_patch = np.sqrt(((self.rows[around[0]] - rows[worst]) ** 2).sum(1, dtype=np.float64))  # (b,)
        own = float(np.exp(float(away[worst]) - from_patch.max()))
        share = own / float(np.exp(from_patch - from_patch.max()).sum())
        # Alone in its memory a row has no neighbours to be compared with, and the weight would be 0 for everything.
        return float(away[worst]) * (1.0 - share if count > 1 else 1.0)


def remember(
    pictures: Sequence[Array],
    method: Method = "nearest",
    *,
    seed: int,
    share: float = CORESET_SHARE,
    largest: int = LARGEST,
    ground: Foreground | None = None,
) -> Memory:
    """A memory from the patches (h, w, D) of good pictures.

    ``nearest`` keeps all patches, up to ``largest``; of more, that many at random. ``coreset`` keeps the greedy
    ``share`` of at most ``largest``. With ``ground``, patches of the ground are left out.

    Raises:
        BadData: no pictures.
        BadRequest: a share outside (0, 1].
    """
    if not pictures:
        raise BadData("a memory needs at least one good picture")
    if not 0 < share <= 1:
        raise BadRequest(f"coreset share {share}: want above 0 and at most 1, such as 0.1")
    kept = [one if ground is None else one[ground.mask(one)] for one in pictures]
    rows = np.concatenate([as_rows(one, method) for one in kept])  # (n, D)
    seen = len(rows)
    if seen > largest:
        rows = rows[np.sort(np.random.default_rng(seed).permutation(seen)[:largest])]  # (largest, D)
    if method == "coreset":
        rows = rows[coreset(rows, max(1, round(share * len(rows))), seed=seed)]  # (M, D)
    # As they are kept on disk, so that a memory judges alike before and after it was written.
    return Memory(method, np.ascontiguousarray(rows).astype(np.float16).astype(np.float32), seen, ground)


def as_rows(patches: Array, method: Method) -> Array:
    """(..., D) to (n, D), of length 1 where cosines are compared."""
    rows = patches.reshape(-1, patches.shape[-1]).astype(np.float32)  # (n, D)
    return unit(rows) if method == "nearest" else rows


def top_mean(values: NDArray[np.floating], share: float = TOP_SHARE) -> float:
    """The mean of the largest ``share`` of the values (n,), of one at least."""
    count = max(1, int(values.size * share))
    return float(np.partition(values.ravel(), values.size - count)[values.size - count :].mean(dtype=np.float64))
