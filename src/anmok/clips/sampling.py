"""A few frames of a clip, spread over its time, without decoding more of it than that takes.

Where two times lie far apart, the file is entered anew before the second one. What that costs depends on how far its
key frames are apart, and so the distance from which it is done is learned on the way.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from anmok.clips.decoding import EPSILON, Moment, moments
from anmok.clips.opening import ClipFile
from anmok.clips.painting import Painter
from anmok.clips.pictures import PICTURE_RATE, PictureSource, in_order, is_video, named, picture_moments
from anmok.clips.probing import probe
from anmok.clips.stills import ClipSource, Still, max_frames
from anmok.errors import BadMedia, BadRequest
from anmok.media import Source

MOST_SECONDS: Final = 4 * 3600.0
MOST_DECODED: Final = 36_000  # frames: twenty minutes of a clip that has to be decoded from end to end
_SLACK: Final = 1.1e-3  # seconds; Matroska rounds times to milliseconds, and a frame may come late by half of one
_JUMP: Final = 8.0  # seconds; encoders set a key frame every 250 frames where they are not told otherwise


class Sample(Iterator[Still]):
    """Frames as they are read. ``count`` is how many were looked for; fewer come where some of them do not decode, or
    one is still on the screen at the next time."""

    def __init__(self, count: int, stills: Generator[Still, None, None]) -> None:
        self.count, self._stills = count, stills

    def __next__(self) -> Still:
        return next(self._stills)


def sampled(
    source: ClipSource,
    most: int,
    *,
    fps: float | None = None,
    usual: float | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Sample:
    """Frames of a clip in order of time, at most so many. No frame comes twice, and each says its own time.

    Args:
        source: as for ``frames``, but no iterator, which could not be looked at before.
        most: how many at the most. Where there would be more, they are taken from the middles of that many equal
            parts of the time between ``start`` and ``end``.
        fps: of a video how many a second; of pictures their own rate, and each of them is shown.
        usual: for a video where ``fps`` is None; None for ``most`` of them.
        start, end: seconds since the first frame; ``end`` itself is left out.

    Raises:
        BadRequest: the clip is over before ``start``, longer than ``MOST_SECONDS`` from there on, or an iterator.
        BadMedia: no clip that can be opened, not one of the frames decodes, or more than ``MOST_DECODED``
            (``ANMOK_MAX_FRAMES``) would have to be decoded.
        MissingDependency: PyAV is not installed.
    """
    if not (math.isfinite(start) and start >= 0 and (end is None or end > start)):
        raise BadRequest(f"clip: start {start} and end {end} span no time")
    if is_video(source):
        times = _times(source, most, fps or usual, start, end)
        return Sample(len(times), _of_video(ClipFile(source), times))
    return _of_pictures(source, most, fps or PICTURE_RATE, start, end)  # type: ignore[arg-type]  # no TypeIs in 3.11


def _times(source: ClipSource, most: int, rate: float | None, start: float, end: float | None) -> Sequence[float]:
    """When somebody looks at the screen."""
    seconds = probe(source).seconds
    until = seconds if end is None else min(end, seconds)
    span = until - start
    if span <= 0 and start > 0:
        raise BadRequest(f"clip: it is over after {seconds:g} s, so nothing is left from {start:g} s on")
    if span > MOST_SECONDS:
        raise BadRequest(
            f"clip: {span / 3600:.1f} hours; {MOST_SECONDS / 3600:g} are the most in a conversation: give start and end"
        )
    if rate is not None and (count := max(1, math.ceil(span * rate - EPSILON))) <= most:
        return [start + k / rate for k in range(count)]
    return [start + (k + 0.5) * span / most for k in range(most)]


def _of_video(file: ClipFile, times: Sequence[float]) -> Generator[Still, None, None]:
    painter, reason, count, last = Painter(), "", 0, -math.inf
    with contextlib.closing(_Screen(file)) as screen:
        for seconds in times:
            moment = screen.at(seconds)
            if moment is None or moment.frame is None or moment.seconds <= last:
                continue
            last = moment.seconds
            try:
                image = painter.picture(moment.frame)
            except BadMedia as error:
                reason = str(error)
                continue
            yield Still(count, moment.seconds, image)
            count += 1
        reason = reason or screen.reason
    if not count:
        raise BadMedia(f"{file.name}: not one of the frames looked for can be decoded ({reason or 'there is none'})")


class _Screen:
    """What is to be seen at a time: the last frame at or before it that decodes. Times come in order."""

    def __init__(self, file: ClipFile) -> None:
        self._file = file
        self._limit = min(MOST_DECODED, max_frames() or MOST_DECODED)
        self._moments: Generator[Moment, None, None] = moments(file, 0.0)
        self._held: Moment | None = None
        self._next: Moment | None = None
        self._at = 0.0  # seconds up to which frames were taken
        self._decoded = 0
        self._is_over = False
        self._jump = _JUMP
        self.reason = ""  # of the first frame that does not decode

    def at(self, seconds: float) -> Moment | None:
        """The frame, or None where there is none from the last key frame on."""
        if seconds > self._at + self._jump and not self._is_over:
            self._enter(seconds)
        while not self._is_over and (self._next is None or self._next.seconds <= seconds + _SLACK):
            self._take()
        return self._held

    def close(self) -> None:
        self._moments.close()

    def _enter(self, seconds: float) -> None:
        """Reads on from the last key frame before that time."""
        self._moments.close()
        self._moments = moments(self._file, seconds)
        self._held = self._next = None
        before = self._at
        self._take()
        landed = self._at if self._next is None else self._next.seconds
        if landed <= before:  # where we were already: key frames lie further apart than it was thought
            self._jump = max(self._jump, 2 * (seconds - landed))

    def _take(self) -> None:
        if self._next is not None and self._next.frame is not None:
            self._held = self._next
        if self._next is not None:
            self._at = self._next.seconds
            self.reason = self.reason or self._next.reason
        self._next = next(self._moments, None)
        self._is_over = self._next is None
        self._decoded += 1
        if self._decoded > self._limit:
            raise BadMedia(
                f"{self._file.name}: over {self._limit:,} frames would have to be decoded; give start and end, or save "
                "it with more key frames"
            )


def _of_pictures(source: PictureSource, most: int, rate: float, start: float, end: float | None) -> Sample:
    """Only those that are shown are opened."""
    if not isinstance(source, str | Path | Sequence | np.ndarray):
        raise BadRequest("clip: pictures from an iterator can be read only once; give a list or a folder")
    pictures: Sequence[Source] = list(in_order(source))
    first = math.ceil((start - EPSILON) * rate)
    last = len(pictures) if end is None else min(len(pictures), math.ceil((end - EPSILON) * rate))
    count = last - first
    if pictures and count <= 0:
        raise BadRequest(f"clip: it is over after {len(pictures) / rate:g} s, so nothing is left from {start:g} s on")
    numbers = [first + (2 * k + 1) * count // (2 * most) for k in range(most)] if count > most else range(first, last)
    return Sample(len(numbers), _opened([pictures[number] for number in numbers], numbers, rate, named(source)))


def _opened(pictures: Sequence[Source], numbers: Sequence[int], rate: float, name: str) -> Generator[Still, None, None]:
    reason, shown = "it is empty", 0
    found = picture_moments(pictures, 1.0, 0.0)
    for number, (_, image) in zip(numbers, found, strict=True):
        if isinstance(image, BadMedia):
            reason = str(image)
            continue
        yield Still(shown, number / rate, image)
        shown += 1
    if not shown:
        raise BadMedia(f"{name}: not one of its pictures can be shown ({reason})")
