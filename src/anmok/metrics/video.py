"""Objects followed through a clip: J, F and J&F as DAVIS 2017 defines them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.metrics.annotations.value import Mask, bool_mask
from anmok.metrics.regions import BOUND, boundary_f, region_iou

Floats = NDArray[np.float64]
_QUARTERS = 4
_ENOUGH = 0.5  # recall is the share of frames above it
_END = object()


@dataclass(frozen=True, slots=True)
class OverTime:
    """A measure over the frames: its mean, the share of frames above 0.5, and how much it falls from the first
    quarter to the last."""

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, eq=False, slots=True)
class TrackScores:
    """One object: ``j`` (region) and ``f`` (contour) over time, and per counted frame, float64 (T - 2,)."""

    j: OverTime
    f: OverTime
    j_frames: Floats
    f_frames: Floats

    @property
    def jf(self) -> float:
        """J&F, the mean of the two means."""
        return (self.j.mean + self.f.mean) / 2

    def to_dict(self) -> dict[str, Any]:
        frames = {"j_frames": self.j_frames.tolist(), "f_frames": self.f_frames.tolist()}
        return {"jf": self.jf, "j": asdict(self.j), "f": asdict(self.f)} | frames


@dataclass(frozen=True, eq=False, slots=True)
class DavisScores:
    """All objects of all clips, each with the same weight."""

    j: OverTime
    f: OverTime
    per_object: Mapping[str, TrackScores]

    @property
    def jf(self) -> float:
        """J&F, the mean of the two means."""
        return (self.j.mean + self.f.mean) / 2

    def to_dict(self) -> dict[str, Any]:
        objects = {name: one.to_dict() for name, one in self.per_object.items()}
        return {"jf": self.jf, "j": asdict(self.j), "f": asdict(self.f), "per_object": objects}


def track_scores(truth: Iterable[Mask], found: Iterable[Mask | None], bound: float = BOUND) -> TrackScores:
    """J and F of one object in one clip. The frames are read one by one, so that a clip need not fit in memory.

    The first frame, where the object was shown to the tracker, and the last do not count.

    Args:
        truth: the true mask of every frame, bool (H, W) or runs.
        found: the found one, ``None`` where there is none. Of a ``Tracks`` result:
            ``masks = dict(tracks.of(1))`` and ``[masks.get(frame) for frame in range(count)]``.
        bound: as for ``boundary_f``.

    Raises:
        BadRequest: fewer than three frames, or not as many of one as of the other.

    Source: Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation" (2017);
    davisvideochallenge/davis2017-evaluation. There the quarters of a clip of more than 256 frames come out of
    numbers that wrap at 256; here they do not.
    """
    rows = []
    for true, ours in _inner(truth, found):
        masks = bool_mask(true), np.zeros_like(bool_mask(true)) if ours is None else bool_mask(ours)
        rows.append((region_iou(*masks), boundary_f(*masks, bound=bound)))
    j, f = np.array(rows, np.float64).T  # (T - 2,) each
    return TrackScores(over_time(j), over_time(f), j, f)


def davis_scores(objects: Mapping[str, TrackScores]) -> DavisScores:
    """The numbers that papers report: means over the objects.

    Raises:
        BadRequest: no object.
    """
    if not objects:
        raise BadRequest("tracks: no object to take the mean of")
    return DavisScores(
        _averaged([one.j for one in objects.values()]), _averaged([one.f for one in objects.values()]), dict(objects)
    )


def over_time(frames: Floats) -> OverTime:
    """Mean, recall and decay of values (T,)."""
    edges = np.round(np.linspace(1, len(frames), _QUARTERS + 1) + 1e-10).astype(np.int64) - 1
    first, last = frames[: edges[1] + 1], frames[edges[3] :]
    return OverTime(float(frames.mean()), float((frames > _ENOUGH).mean()), float(first.mean() - last.mean()))


def _inner(truth: Iterable[Mask], found: Iterable[Mask | None]) -> Iterator[tuple[Mask, Mask | None]]:
    """Pairs without the first and the last: a pair is given away once a later one is there."""
    held: tuple[Any, Any] = (None, None)
    count = 0
    for count, pair in enumerate(zip_longest(truth, found, fillvalue=_END), 1):
        if pair[0] is _END or pair[1] is _END:
            name = "found" if pair[1] is _END else "true"
            raise BadRequest(f"tracks: the {name} masks end after {count - 1} frames")
        if count > 2:
            yield held
        held = pair
    if count < 3:
        raise BadRequest(f"tracks: {count} frames; the first and the last do not count, so that three are needed")


def _averaged(parts: list[OverTime]) -> OverTime:
    return OverTime(*np.mean([[one.mean, one.recall, one.decay] for one in parts], axis=0).tolist())
