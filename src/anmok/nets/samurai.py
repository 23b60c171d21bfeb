"""SAMURAI: SAM 2 with a sense of motion. A filter guesses where the object will be; the guess helps to choose among
the masks, and frames on which the object was not found are not looked at again.

Source: C.-Y. Yang et al., "SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking with Motion-Aware
Memory" (arXiv:2411.11922), as coded in github.com/yangchris11/samurai; the filter is that of N. Wojke et al.,
"Simple Online and Realtime Tracking with a Deep Association Metric" (ICIP 2017, arXiv:1703.07402). The authors' code
follows one object from frame 0 and must be built anew for each video; here each object has a filter of its own, its
frames are counted from its first cue, and a cue starts the filter afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anmok.errors import BadRequest

Array = NDArray[np.float64]

POSITION, VELOCITY = 1 / 20, 1 / 160  # standard deviations, as shares of the object's height
ASPECT_START, ASPECT_STEP, ASPECT_SEEN = 1e-2, 1e-2, 1e-1  # standard deviations of width / height
ASPECT_VELOCITY = 1e-5
FLAT = 1e-6  # pixels: a height below it would leave no uncertainty to divide by

_MOTION = np.eye(8) + np.eye(8, k=4)  # a place moves on by its velocity
_SEEN = np.eye(4, 8)  # places are measured, velocities are not


@dataclass(frozen=True, eq=False, slots=True)
class Motion:
    """What is believed of a box: ``mean`` (8,) is x, y of its centre, width / height, height (pixels), then the
    change of each per frame; ``covariance`` (8, 8)."""

    mean: Array
    covariance: Array

    @property
    def xyxy(self) -> Array:
        """The box (4,) in pixels."""
        x, y, aspect, height = self.mean[:4]
        width = aspect * height
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def started(xyxy: Array) -> Motion:
    """A box (4,) seen for the first time: at rest, for all we know."""
    measured = _measured(xyxy)
    deviations = _deviations(measured[3], 2 * POSITION, ASPECT_START, 10 * VELOCITY)
    return Motion(np.concatenate([measured, np.zeros(4)]), np.diag(deviations**2))


def predicted(motion: Motion) -> Motion:
    """One frame later."""
    noise = _deviations(motion.mean[3], POSITION, ASPECT_STEP, VELOCITY) ** 2
    return Motion(_MOTION @ motion.mean, _MOTION @ motion.covariance @ _MOTION.T + np.diag(noise))


def updated(motion: Motion, xyxy: Array) -> Motion:
    """A prediction, corrected by the box (4,) that was found."""
    noise = _deviations(motion.mean[3], POSITION, ASPECT_SEEN, VELOCITY)[:4] ** 2
    expected = _SEEN @ motion.covariance @ _SEEN.T + np.diag(noise)  # (4, 4)
    gain = np.linalg.solve(expected, _SEEN @ motion.covariance).T  # (8, 4)
    surprise = _measured(xyxy) - motion.mean[:4]
    return Motion(motion.mean + gain @ surprise, motion.covariance - gain @ expected @ gain.T)


def boxes(masks: Tensor) -> Array:
    """Logits (M, S, S) to xyxy (M, 4): the first and the last pixel above 0 each way; zeros for an empty mask."""
    found = masks > 0
    columns, rows = found.any(1).cpu().numpy(), found.any(2).cpu().numpy()  # (M, S) each
    edges = np.stack([_first(columns), _first(rows), _last(columns), _last(rows)], axis=1)  # (M, 4)
    edges[~columns.any(1)] = 0
    return edges


def overlaps(xyxy: Array, others: Array) -> Array:
    """IoU of a box (4,) with each of (M, 4). A box of zeros stands for an empty mask and overlaps nothing."""
    low, high = np.maximum(xyxy[:2], others[:, :2]), np.minimum(xyxy[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(1)  # (M,)
    union = (xyxy[2:] - xyxy[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    is_there = np.logical_and(others.any(1), union != 0)
    return np.where(is_there, shared / np.where(is_there, union, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds of the published configurations.

    ``alpha`` is the weight of the filter against the predicted IoU: 0.15 with the large net, 0.25 with the others.
    ``stable_frames`` in a row with an IoU above ``stable_iou`` earn the filter a say. An object with a score above
    ``visible`` is in sight; a frame is remembered when its IoU, score and overlap with the guess exceed
    ``memory_iou``, ``memory_score`` and ``memory_overlap``; ``memories`` such frames are looked for.
    """

    alpha: float = 0.15
    stable_frames: int = 15
    stable_iou: float = 0.3
    visible: float = -1.0
    memory_iou: float = 0.5
    memory_score: float = 0.0
    memory_overlap: float = 0.0
    memories: int = 15

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise BadRequest(f"alpha {self.alpha}: the weight of the filter must lie between 0 and 1")
        if self.stable_frames < 1 or self.memories < 1:
            raise BadRequest("stable_frames and memories: want 1 or more")


@dataclass(eq=False, slots=True)
class Track:
    """What is kept of one object between frames."""

    start: int  # the frame of its first cue
    motion: Motion | None = None
    stable: int = 0  # frames in a row
    overlap: float | None = None  # of the mask just taken with the guess, where the filter had a say
    good: list[int] = field(default_factory=list)  # frames worth remembering, oldest first


class Samurai:
    """A selector for one ``Stream``: ``Stream(net, selector=Samurai(Rules(alpha=0.25)))``."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = Rules() if rules is None else rules
        self._tracks: dict[int, Track] = {}

    @property
    def visible(self) -> float:
        return self._rules.visible

    def track(self, key: int) -> Track:
        """The state of one object, to look at."""
        return self._tracks[key]

    def choose(self, key: int, masks: Tensor, ious: Tensor) -> int:
        track, rules = self._tracks[key], self._rules
        trusted = ious.float().cpu().numpy()  # (M,)
        if track.motion is None or track.stable == 0:
            best = int(trusted.argmax())
            track.motion, track.stable = started(boxes(masks[best : best + 1])[0]), 1
            return best
        guess = predicted(track.motion)
        if track.stable < rules.stable_frames:
            best = int(trusted.argmax())
            found = boxes(masks[best : best + 1])[0]
            is_stable = trusted[best] > rules.stable_iou
            track.stable = track.stable + 1 if is_stable else 0
        else:
            found_all = boxes(masks)  # (M, 4)
            overlap = overlaps(guess.xyxy, found_all)
            best = int((rules.alpha * overlap + (1 - rules.alpha) * trusted).argmax())
            found, track.overlap = found_all[best], float(overlap[best])
            is_stable = trusted[best] >= rules.stable_iou
            track.stable = track.stable if is_stable else 0
        track.motion = updated(guess, found) if is_stable else guess
        return best

    def note(self, key: int, frame: int, score: float, iou: float) -> None:
        track, rules = self._tracks[key], self._rules
        overlap, track.overlap = track.overlap, None
        track.good = [good for good in track.good if good != frame]  # answered again
        # The authors leave out frames 0 and 1, whatever they show.
        is_late = frame > track.start + 1
        is_placed = overlap is None or overlap > rules.memory_overlap
        if is_late and iou > rules.memory_iou and score > rules.memory_score and is_placed:
            track.good = [*track.good, frame][-rules.memories - 1 :]  # one more: the last may be answered again

    def recall(self, key: int, frame: int, slots: int) -> Sequence[tuple[int, int]]:
        track = self._tracks.get(key)
        good = [] if track is None else [earlier for earlier in track.good if earlier < frame][-self._rules.memories :]
        if frame - 1 not in good:
            good.append(frame - 1)
        return [(slot, good[-slot]) for slot in range(min(slots, len(good)), 0, -1)]

    def restart(self, key: int, frame: int) -> None:
        track = self._tracks.setdefault(key, Track(frame))
        track.motion, track.stable, track.overlap = None, 0, None

    def forget(self, key: int) -> None:
        del self._tracks[key]


def _measured(xyxy: Array) -> Array:
    """A box as the filter reads it: x, y of the centre, width / height, height; a box without height has 1."""
    (width, height), centre = xyxy[2:] - xyxy[:2], (xyxy[:2] + xyxy[2:]) / 2
    height = height if height != 0 else 1.0
    return np.array([*centre, width / height, height])


def _deviations(height: float, position: float, aspect: float, velocity: float) -> Array:
    """Of the eight numbers of a mean, for an object of this height."""
    size = max(abs(height), FLAT)
    place, speed = position * size, velocity * size
    return np.array([place, place, aspect, place, speed, speed, ASPECT_VELOCITY, speed])


def _first(found: NDArray[np.bool_]) -> Array:
    """Of each row (M, S), the place of the first that is true."""
    return np.asarray(found.argmax(1), np.float64)


def _last(found: NDArray[np.bool_]) -> Array:
    return np.asarray(found.shape[1] - 1 - _first(found[:, ::-1]))
