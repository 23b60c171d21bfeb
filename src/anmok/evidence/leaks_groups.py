"""Groups that could explain a leak, built without looking at a label: runs, jumps, sessions, folders,
cameras.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from anmok.evidence.groups import run_groups
from anmok.evidence.metadata import Metadata

RUN_LENGTHS = (8, 16, 32, 64, 128, 256, 512)
SESSION_GAPS = ((600, "10 minutes", "10분"), (3_600, "an hour", "1시간"), (21_600, "6 hours", "6시간"))
PENALTIES = (2.0, 3.0, 4.0, 6.0)  # of a change point, in log(n) noise variances: fine to coarse
_SHORTEST_PIECE = 8
_MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to group the images. ``alignments``: the same rule with other starts, to judge the rule and not
    luck.

    Candidates of one ``family`` come from fine to coarse.
    """

    family: str  # originals, sessions, jumps, runs, folders, cameras
    name: str
    group: NDArray[np.intp]  # (n,)
    description_en: str
    description_ko: str
    alignments: tuple[NDArray[np.intp], ...]


def candidates(metadata: Metadata, series: NDArray[np.float64] | None) -> Iterator[Candidate]:
    """Every grouping that the metadata allow. series: (n,) the column by which neighbours are neighbours,
    or None.
    """
    if np.unique(metadata.origin).size < metadata.origin.size:
        yield _fixed(
            "originals",
            metadata.origin,
            "pictures augmented from one original (by their names)",
            "원본 하나에서 증강된 사진끼리(파일 이름 기준)",
        )
    if np.isfinite(metadata.taken).mean() > 0.5:
        for seconds, english, korean in SESSION_GAPS:
            yield _fixed(
                "sessions",
                sessions(metadata.taken, seconds),
                f"sessions: a new one after a pause of {english}",
                f"촬영 묶음: {korean} 넘게 쉬면 새 묶음",
                f"sessions, {english} apart",
            )
    if series is not None:
        yield from _along(metadata, series)
    for name, english, korean in (("folder", "folders", "폴더"), ("camera", "cameras", "카메라")):
        column = metadata.column(name)
        if column is not None:
            group = np.unique(column.values[:, 0], return_inverse=True)[1]
            yield _fixed(english, group, f"{english} of the files", f"파일의 {korean}")


def sessions(taken: NDArray[np.float64], gap: float) -> NDArray[np.intp]:
    """(n,) session of each image: a new one where ``gap`` seconds pass. Images without a time: one each."""
    order = np.argsort(taken, kind="stable")  # NaN last
    step = np.diff(taken[order], prepend=-np.inf)  # (n,)
    starts = ~(step <= gap)  # NaN starts a session of its own
    group = np.empty(taken.size, dtype=np.intp)
    group[order] = np.cumsum(starts) - 1
    return group


def jumps(metadata: Metadata, series: NDArray[np.float64], penalty: float) -> NDArray[np.intp] | None:
    """(n,) pieces of the series within which file size and picture size keep their level; None where neither
    varies.

    Binary segmentation on the mean (Vostrikova 1981, "Detecting disorder in multidimensional random
    processes"), with the noise taken from differences of neighbours. ``penalty``: what a change point must
    explain, in log(n) noise variances.
    """
    order = _ordered(metadata, series)  # (n,)
    signals = [np.log(values[order]) for values in (metadata.bytes, metadata.pixels) if np.isfinite(values).all()]
    scaled = [signal / scale for signal in signals if (scale := _noise(signal)) > 0]
    if not scaled:
        return None
    signal = np.stack(scaled)  # (d, n)
    folder = metadata.folder[order]  # (n,)
    cuts = {*_segments(signal, penalty * np.log(signal.shape[1])), *np.flatnonzero(np.diff(folder)) + 1}
    group = np.empty(series.size, dtype=np.intp)
    group[order] = np.searchsorted(np.array(sorted(cuts), dtype=np.intp), np.arange(series.size), side="right")
    return group


def _along(metadata: Metadata, series: NDArray[np.float64]) -> Iterator[Candidate]:
    for penalty in PENALTIES:
        group = jumps(metadata, series, penalty)
        if group is not None:
            yield _fixed(
                "jumps",
                group,
                "stretches of the series between jumps of the file size",
                "연속된 파일에서 용량이 뚝 바뀌는 지점 사이의 구간",
                "jumps of the file size",
            )
    order = _ordered(metadata, series)  # (n,)
    rank = np.empty(order.size, dtype=np.intp)
    rank[order] = np.arange(order.size)
    for length in RUN_LENGTHS:
        if length <= order.size // 2:
            yield Candidate(
                "runs",
                f"runs of {length}",
                _within(metadata.folder, run_groups(rank, length)),
                f"runs of {length} consecutive files",
                f"연속된 파일 {length}장씩",
                tuple(_within(metadata.folder, (rank + length * q // 4) // length) for q in range(4)),
            )


def _ordered(metadata: Metadata, series: NDArray[np.float64]) -> NDArray[np.intp]:
    """(n,) the images in the order of the series, folder by folder: numbers often start anew in each."""
    return np.lexsort((np.arange(series.size), series, metadata.folder))


def _within(folder: NDArray[np.intp], group: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.unique(np.stack([folder, group]), axis=1, return_inverse=True)[1].reshape(-1)  # (n,)


def _fixed(family: str, group: NDArray[np.intp], english: str, korean: str, name: str = "") -> Candidate:
    return Candidate(family, name or family, group, english, korean, (group,))


def _noise(signal: NDArray[np.float64]) -> float:
    """Standard deviation of the noise around a level that jumps seldom."""
    steps = np.diff(signal)  # (n - 1,)
    return _MAD_TO_SD * float(stats.median_abs_deviation(steps)) / math.sqrt(2) if steps.size else 0.0


def _segments(signal: NDArray[np.float64], penalty: float) -> list[int]:
    """Where pieces start: cut at the greatest gain while it is above ``penalty``. signal: (d, n), noise
    variance 1.
    """
    total = np.concatenate([np.zeros((len(signal), 1)), np.cumsum(signal, axis=1)], axis=1)  # (d, n + 1)
    cuts: list[int] = []
    pending = [(0, signal.shape[1])]
    while pending:
        low, high = pending.pop()
        if high - low < 2 * _SHORTEST_PIECE:
            continue
        middle = np.arange(low + _SHORTEST_PIECE, high - _SHORTEST_PIECE + 1)
        gains = _gains(total, low, middle, high)  # (m,)
        best = int(gains.argmax())
        if gains[best] > penalty:
            cuts.append(int(middle[best]))
            pending += [(low, int(middle[best])), (int(middle[best]), high)]
    return cuts


def _gains(total: NDArray[np.float64], low: int, middle: NDArray[np.intp], high: int) -> NDArray[np.float64]:
    """(m,) by how much two levels fit the piece better than one, for every cut in the middle."""
    left, right = middle - low, high - middle  # (m,)
    before = (total[:, middle] - total[:, [low]]) / left  # (d, m)
    after = (total[:, [high]] - total[:, middle]) / right  # (d, m)
    weight = left * right / (left + right)  # (m,)
    return np.asarray((weight * (before - after) ** 2).sum(axis=0))  # (m,)
