"""The frames of a clip, one after the other."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from anmok.clips.decoding import EPSILON, Moment, moments
from anmok.clips.opening import ClipFile
from anmok.clips.painting import Painter
from anmok.clips.pictures import PICTURE_RATE, PictureSource, VideoFile, is_video, named, picture_moments
from anmok.errors import BadMedia, BadRequest
from anmok.media import Image

ClipSource: TypeAlias = VideoFile | PictureSource
OnBroken: TypeAlias = Callable[[int, BadMedia], None]  # index of the frame, reason

MAX_FPS = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """One frame of a clip.

    ``index`` counts the frames that were asked for, from 0, and goes on over those that were left out as damaged.
    ``seconds`` is the time since the first frame of the clip. ``image``: uint8 (H, W, 3), RGB, upright, not
    writeable, of one size in the whole clip.
    """

    index: int
    seconds: float
    image: Image


def frames(
    source: ClipSource,
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    on_broken: OnBroken | None = None,
) -> Generator[Still, None, None]:
    """The frames of a clip in order of time. Closing the generator closes the clip.

    Args:
        source: a video file as a path (a ``str`` is a path, never an address), bytes or a seekable binary file; a
            folder of numbered pictures; uint8 (T, H, W, 3); or pictures in a sequence or an iterator.
        fps: None gives every frame at its own time. A number gives times ``start + k / fps``, each with the last
            frame at or before it, whether the clip's own rate is constant or not. Of pictures all are given, and
            it is their rate: 25 where it is None.
        start, end: seconds since the first frame; ``end`` itself is left out. A clip that is over before ``start``
            gives no frames.
        on_broken: told of each frame between ``start`` and ``end`` that cannot be decoded, and why. The frame is
            left out and its index stays unused, with or without somebody to tell; at a given ``fps`` the frame
            before it stands in, as it would on a screen.

    Raises:
        BadRequest: ``fps``, ``start`` or ``end`` make no sense, or the source is nothing of the kind.
        BadMedia: while reading. The source is no clip that can be opened, there is not one frame in it that
            decodes, or there are more than ``ANMOK_MAX_FRAMES``.
        MissingDependency: while reading. PyAV is not installed.
    """
    _check_times(fps, start, end)
    limit = max_frames()
    if is_video(source):
        return _video(source, fps, _Span(start, end), on_broken, limit)
    return _pictures(source, fps, _Span(start, end), on_broken, limit)  # type: ignore[arg-type]  # no TypeIs in 3.11


def max_frames() -> int | None:
    """The limit on the number of frames, from ``ANMOK_MAX_FRAMES``; none where it is not set."""
    text = os.environ.get("ANMOK_MAX_FRAMES", "")
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise BadMedia(f"ANMOK_MAX_FRAMES is {text!r}: it must be a whole number of frames above 0")
    return int(text)


@dataclass(frozen=True, slots=True)
class _Span:
    start: float
    end: float | None

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.end is None

    def is_before(self, seconds: float) -> bool:
        return seconds < self.start - EPSILON

    def is_after(self, seconds: float) -> bool:
        return self.end is not None and seconds >= self.end - EPSILON


class _Tally:
    """Numbers the frames of one reading, tells of the broken ones and holds the limit."""

    def __init__(self, name: str, on_broken: OnBroken | None, limit: int | None) -> None:
        self.name, self._on_broken, self._limit = name, on_broken, limit
        self.index = 0
        self._is_empty, self._first_reason = True, ""

    def check(self, count: int) -> None:
        if self._limit is not None and count > self._limit:
            raise BadMedia(
                f"{self.name}: more than {self._limit:,} frames; give start, end or fps, or raise ANMOK_MAX_FRAMES"
            )

    def still(self, seconds: float, image: Image) -> Still:
        self.check(self.index + 1)
        self._is_empty = False
        still = Still(self.index, seconds, image)
        self.index += 1
        return still

    def saw_a_frame(self) -> None:
        """A frame that decodes outside of what was asked for: the clip itself is sound."""
        self._is_empty = False

    def broken(self, seconds: float, reason: str) -> None:
        """The caller moves the index on, where the frame had one of its own."""
        self._first_reason = self._first_reason or reason
        if self._on_broken is not None:
            self._on_broken(self.index, BadMedia(f"{self.name}: frame {self.index} ({seconds:.3f} s): {reason}"))

    def close(self) -> None:
        if self._is_empty:
            raise BadMedia(f"{self.name}: not one frame in it can be decoded ({self._first_reason or 'it is empty'})")


def _check_times(fps: float | None, start: float, end: float | None) -> None:
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise BadRequest(f"fps {fps} must lie above 0 and not over {MAX_FPS:.0f}")
    if not (math.isfinite(start) and start >= 0):
        raise BadRequest(f"start {start} must be a number of seconds, 0 or more")
    if end is not None and not end > start:
        raise BadRequest(f"start {start} and end {end} span no time")


def _video(
    source: VideoFile, fps: float | None, span: _Span, on_broken: OnBroken | None, limit: int | None
) -> Generator[Still, None, None]:
    file = ClipFile(source)
    tally = _Tally(file.name, on_broken, limit)
    if limit is not None and fps is None and span.is_whole:
        with file.opened() as opened:
            tally.check(opened.stream.frames)  # 0 where the header does not say
    with contextlib.closing(moments(file, span.start)) as found:  # closed with us, not whenever memory is tidied
        yield from _as_they_are(found, span, tally) if fps is None else _by_time(found, fps, span, tally)
    tally.close()


def _as_they_are(found: Iterator[Moment], span: _Span, tally: _Tally) -> Iterator[Still]:
    painter = Painter()
    for moment in found:
        if span.is_after(moment.seconds):
            break
        if span.is_before(moment.seconds):
            if moment.frame is not None:
                tally.saw_a_frame()
            continue
        image = _painted(painter, moment, tally)
        if image is None:
            tally.index += 1
        else:
            yield tally.still(moment.seconds, image)


def _by_time(found: Iterator[Moment], fps: float, span: _Span, tally: _Tally) -> Iterator[Still]:
    """Each frame answers the times from its own up to that of the next; only those that answer any are painted."""
    painter, held, ends = Painter(), None, 0.0
    for moment in found:
        ends = moment.seconds
        if span.is_after(moment.seconds):
            break
        if moment.frame is not None:
            yield from _answers(held, moment.seconds, fps, span, painter, tally)
            tally.saw_a_frame()
            held = moment
        elif not span.is_before(moment.seconds):
            tally.broken(moment.seconds, moment.reason)
        ends = moment.ends
    yield from _answers(held, ends, fps, span, painter, tally)


def _answers(
    held: Moment | None, until: float, fps: float, span: _Span, painter: Painter, tally: _Tally
) -> Iterator[Still]:
    """The times that are left before ``until``, with the frame that is on the screen; none yet: no answer."""
    image: Image | None = None
    is_broken = held is None
    while (seconds := span.start + tally.index / fps) < until - EPSILON and not span.is_after(seconds):
        if image is None and held is not None and not is_broken:
            image = _painted(painter, held, tally)
            is_broken = image is None
        if image is None:
            tally.index += 1
        else:
            yield tally.still(seconds, image)


def _painted(painter: Painter, moment: Moment, tally: _Tally) -> Image | None:
    """The picture of the moment, or None where there is none, which has then been told of."""
    reason = moment.reason
    if moment.frame is not None:
        try:
            return painter.picture(moment.frame)
        except BadMedia as error:
            reason = str(error)
    tally.broken(moment.seconds, reason)
    return None


def _pictures(
    source: PictureSource, fps: float | None, span: _Span, on_broken: OnBroken | None, limit: int | None
) -> Generator[Still, None, None]:
    tally = _Tally(named(source), on_broken, limit)
    for seconds, image in picture_moments(source, fps or PICTURE_RATE, span.start - EPSILON):
        if span.is_after(seconds):
            break
        if isinstance(image, BadMedia):
            tally.broken(seconds, str(image))
            tally.index += 1
        else:
            yield tally.still(seconds, image)
    if span.is_whole:  # of a part it is not known what lies before
        tally.close()
