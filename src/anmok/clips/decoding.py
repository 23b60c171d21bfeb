"""From packets to frames in order of time, with a place kept for each frame that does not decode.

Each packet promises a frame at its own timestamp, and frames come out in order of time. A promise that the
stream has gone past is a damaged frame, so frames are numbered right even where the decoder says nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anmok.clips.opening import ClipFile, Opened, Threads, reason_of

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

EPSILON = 1e-6  # seconds; times are compared as floats, and no clip has a frame each microsecond
_FIRST_STEP, _STEP_FACTOR = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of the stream, or the place of one that cannot be decoded (``frame`` is None)."""

    seconds: float
    ends: float
    frame: VideoFrame | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Walk:
    """One way through the file: where to start reading, and what is already known of it."""

    wanted: float  # the first frame must not be later than this
    seek: float
    step: float = _FIRST_STEP
    after: float = -math.inf  # frames up to here have been handed on
    threads: Threads = "AUTO"


def moments(file: ClipFile, start: float) -> Generator[Moment, None, None]:
    """Every frame of the clip in order of time, beginning at or before ``start`` (seconds).

    Several threads decode, as libav does by itself. Where damage near the end makes PyAV lose what those threads
    still hold, the rest is read once more by a single one.
    """
    walk: _Walk | None = _Walk(wanted=start, seek=start)
    while walk is not None:
        with file.opened(walk.threads) as opened:
            walk = yield from _Reader(opened, walk).read()


class _Reader:
    def __init__(self, opened: Opened, walk: _Walk) -> None:
        self._opened, self._walk = opened, walk
        self._promised: list[int] = []  # a heap of timestamps
        self._tainted: set[int] = set()  # packets that the demultiplexer calls damaged
        self._given_up: set[int] = set()  # timestamps that were told of as damaged
        self._errors = 0  # how often the decoder refused
        self._last = -math.inf  # time of the newest frame seen
        self._newest = -math.inf  # highest timestamp in any packet
        self._decoded_at = -math.inf  # decoding timestamp of the last packet
        self._shift = 0  # added to timestamps, see _joined
        self._reason = ""
        self._is_interlaced = False

    def read(self) -> Generator[Moment, None, _Walk | None]:
        """Yield the moments of this walk; the walk to take next, or None at the end."""
        is_checked = not self._seek()
        for frame in self._frames():
            if frame.pts in self._given_up:  # after damage H.264 comes out of order: too late, its place is gone
                continue
            seconds, ends = self._times(frame)
            if not is_checked and seconds > self._walk.wanted + EPSILON:
                return self._from_earlier()
            is_checked = True
            yield from self._missed(frame)
            self._last = max(self._last, seconds)
            if seconds > self._walk.after + EPSILON:
                yield self._moment(frame, seconds, ends)
        if self._promised and self._walk.threads == "AUTO" and not self._has_bare_fields():
            return self._once_more()
        if not is_checked:
            return self._from_earlier()
        yield from self._missed(None)
        yield from self._cut_off()
        return None

    def _seek(self) -> bool:
        from av.error import FFmpegError

        if self._walk.seek <= 0:
            return False
        try:
            self._opened.container.seek(self._opened.timestamp(self._walk.seek), stream=self._opened.stream)
        except FFmpegError:  # no index: the frames before are decoded and dropped
            return False
        return True

    def _from_earlier(self) -> _Walk:
        """Containers seek by decoding time or by a coarse index: they may land behind the frame that is wanted."""
        seek = max(self._walk.seek - self._walk.step, 0.0)
        return replace(self._walk, seek=seek, step=self._walk.step * _STEP_FACTOR)

    def _once_more(self) -> _Walk:
        last = max(self._last, self._walk.after)
        seek = 0.0 if self._shift else max(last, 0.0)  # strung together, only the way from the start is known
        return replace(self._walk, wanted=max(last, 0.0), seek=seek, after=last, threads="SLICE")

    def _has_bare_fields(self) -> bool:
        """Fields may come in packets of their own: then only a refusal of the decoder is evidence of damage."""
        return self._is_interlaced and self._errors == 0

    def _frames(self) -> Iterator[VideoFrame]:
        from av.error import FFmpegError

        stream = self._opened.stream
        try:
            for packet in self._opened.container.demux(stream):
                if packet.size:  # an empty one says "as before" in Ogg, and would end the decoding
                    self._joined(packet)
                    self._note(packet)
                    yield from self._decode(packet)
        except (FFmpegError, OSError) as error:
            self._fail(error)
        yield from self._decode(None)

    def _joined(self, packet: Packet[VideoStream]) -> None:
        """Where recordings were strung together (MPEG-TS), time starts anew: what follows is moved to the end."""
        if packet.pts is None or packet.dts is None:
            return
        pts, dts = packet.pts + self._shift, packet.dts + self._shift
        if packet.is_keyframe and dts < self._decoded_at and pts <= self._newest:
            usual = round(self._opened.frame_seconds / self._opened.tick)
            more = int(self._newest) + usual - pts
            self._shift, pts, dts = self._shift + more, pts + more, dts + more
        packet.pts, packet.dts = pts, dts
        self._decoded_at = dts

    def _note(self, packet: Packet[VideoStream]) -> None:
        self._newest = max(self._newest, packet.pts or 0, packet.dts or 0)
        if packet.pts is None or packet.is_discard or self._opened.hides(packet):
            return
        heapq.heappush(self._promised, packet.pts)
        if packet.is_corrupt:
            self._tainted.add(packet.pts)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        from av.error import FFmpegError

        try:
            return self._opened.stream.decode(packet)
        except (FFmpegError, MemoryError) as error:
            self._fail(error)
            return []

    def _fail(self, error: Exception) -> None:
        self._errors += 1
        self._reason = reason_of(error)

    def _times(self, frame: VideoFrame) -> tuple[float, float]:
        """Start and end of the frame in seconds. Time never stands still or goes back."""
        usual = self._opened.frame_seconds
        seconds = math.nan if frame.pts is None else self._opened.seconds(frame.pts)
        if math.isnan(seconds) or seconds <= self._last:
            seconds = self._last + usual if math.isfinite(self._last) else 0.0
        lasts = float(frame.duration * self._opened.tick) if frame.duration else usual
        return seconds, seconds + lasts

    def _missed(self, frame: VideoFrame | None) -> Iterator[Moment]:
        """The promises that were not kept before ``frame``; at the end (None) all that are left."""
        until = math.inf if frame is None or frame.pts is None else frame.pts
        if frame is not None:
            self._is_interlaced |= frame.interlaced_frame
            if frame.pts is None:
                return
        while self._promised and self._promised[0] < until:
            stamp = heapq.heappop(self._promised)
            if self._has_bare_fields():
                continue
            seconds = self._opened.seconds(stamp)
            self._given_up.add(stamp)
            self._errors = max(self._errors - 1, 0)
            if seconds > self._walk.after + EPSILON:
                yield Moment(seconds, seconds + self._opened.frame_seconds, None, self._reason)
        while self._promised and self._promised[0] == until:
            heapq.heappop(self._promised)

    def _moment(self, frame: VideoFrame, seconds: float, ends: float) -> Moment:
        if frame.is_corrupt or frame.pts in self._tainted:
            return Moment(seconds, ends, None, "the file or its decoder marks it as damaged")
        return Moment(seconds, ends, frame)

    def _cut_off(self) -> Iterator[Moment]:
        """One moment for all that the file's own table still names behind the last packet."""
        entries = self._opened.stream.index_entries
        more = 0
        for index in range(len(entries) - 1, -1, -1):  # from the end: in a whole file the first look is enough
            if entries[index].timestamp <= self._newest:
                break
            more += 1
        if more:
            seconds = max(self._last, 0.0) + EPSILON
            yield Moment(seconds, seconds, None, f"the file is cut short: {more} more frames belong to it")
