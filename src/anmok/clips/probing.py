"""What a clip is, from its header, its packets' timestamps and one decoded frame."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anmok.clips.opening import ClipFile, Opened
from anmok.clips.painting import display_matrix, quarter_turns
from anmok.clips.pictures import PICTURE_RATE, PictureSource, VideoFile, in_order, is_video, named
from anmok.errors import BadMedia, BadRequest
from anmok.media import read

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_LOOK = 300  # packets: ten seconds at the usual rate
_REORDERED = 16  # H.264 and HEVC may send a frame this many packets late
_UNEVEN = 0.05  # cameras jitter by a few per cent; a frame left out is 100 per cent
_MICROSECONDS = 1_000_000
_QUARTERS = (90, 270)


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What a clip says of itself.

    ``is_variable_rate`` is judged by the file's own table where it lists every frame (MP4, MOV, AVI), otherwise by
    the first 300 frames: do any two neighbours lie more than 5 % nearer or farther than usual?
    """

    width: int  # pixels, as the frames come out: upright
    height: int
    frames: int | None  # None where only reading the whole clip would tell
    seconds: float  # as the header says, or as counted where the clip was read to its end
    fps: float  # the mean rate; 0 where neither header nor timestamps tell
    is_variable_rate: bool
    codec: str  # as libavcodec calls it; "images" for a clip that is pictures
    rotation: int  # degrees clockwise from stored to upright: 0, 90, 180 or 270


def probe(source: VideoFile | PictureSource, *, fps: float | None = None) -> ClipFacts:
    """The facts of a clip, without decoding more of it than its first frame or reading more than 300 packets.

    A file that does not say how long it is has its packets counted to the end. ``fps`` is the rate of a clip that
    is pictures, 25 where it is None; a video has its own.

    Raises:
        BadMedia: no clip, or no frame near its start can be decoded.
        BadRequest: an iterator, which could not be read again.
        MissingDependency: PyAV is not installed.
    """
    if not is_video(source):
        return _of_pictures(source, fps or PICTURE_RATE)  # type: ignore[arg-type]  # no TypeIs in 3.11
    with ClipFile(source).opened("SLICE") as opened:
        return _Scan(opened).facts()


class _Scan:
    """One pass over the first packets: timestamps of all, and the first frame that decodes."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._frame: VideoFrame | None = None
        self._stamps: list[int] = []
        self._count = 0
        self._is_whole = False
        self._ends = 0  # timestamp at which the last frame seen is over

    def facts(self) -> ClipFacts:
        header_seconds = self._header_seconds()
        self._read(None if header_seconds is None else _LOOK)
        stream = self._opened.stream
        frames: int | None
        if self._is_whole and self._stamps:  # then the packets are the better witness: headers estimate
            frames, seconds = self._count, max(self._opened.seconds(self._ends), 0.0)
        else:
            frames, seconds = stream.frames or None, header_seconds or 0.0
        rate = self._opened.rate
        mean = float(rate) if rate is not None else (frames or 0) / seconds if seconds else 0.0
        if self._frame is None:
            raise BadMedia(f"{self._opened.name}: none of the first {self._count} frames can be decoded")
        matrix = display_matrix(self._frame)
        turn = quarter_turns(matrix)
        size = (self._frame.width, self._frame.height)
        width, height = size[::-1] if turn in _QUARTERS else size
        uneven = self._is_uneven()
        return ClipFacts(width, height, frames, seconds, mean, uneven, stream.codec_context.name, turn)

    def _header_seconds(self) -> float | None:
        stream, container = self._opened.stream, self._opened.container
        if stream.duration is not None and stream.duration > 0:
            return float(stream.duration * self._opened.tick)
        if container.duration is not None and container.duration > 0:
            return container.duration / _MICROSECONDS
        return None

    def _read(self, limit: int | None) -> None:
        from av.error import FFmpegError

        stream = self._opened.stream
        try:
            for packet in self._opened.container.demux(stream):
                if not packet.size or packet.is_discard or self._opened.hides(packet):
                    continue
                self._note(packet)
                if self._frame is None:
                    self._frame = self._decoded(packet)
                if self._count == limit:
                    return
        except (FFmpegError, OSError):
            return  # damage behind what was read so far: `frames` tells of it
        self._is_whole = True
        if self._frame is None:
            self._frame = self._decoded(None)

    def _note(self, packet: Packet[VideoStream]) -> None:
        self._count += 1
        if packet.pts is not None:
            self._stamps.append(packet.pts)
            self._ends = max(self._ends, packet.pts + (packet.duration or 0))

    def _decoded(self, packet: Packet[VideoStream] | None) -> VideoFrame | None:
        from av.error import FFmpegError

        try:
            return next(iter(self._opened.stream.decode(packet)), None)
        except (FFmpegError, MemoryError):
            return None  # the next one, then

    def _is_uneven(self) -> bool:
        entries = self._opened.stream.index_entries
        if len(entries) == self._opened.stream.frames:
            stamps = [entry.timestamp for entry in entries]
        else:
            stamps = self._stamps if self._is_whole else sorted(self._stamps)[:-_REORDERED]
        steps = [later - earlier for earlier, later in pairwise(sorted(set(stamps)))]
        if not steps:
            return False
        usual = statistics.median(steps)
        slack = max(1.0, _UNEVEN * usual)  # one tick: Matroska rounds to milliseconds
        return any(abs(step - usual) > slack for step in steps)


def _of_pictures(source: PictureSource, rate: float) -> ClipFacts:
    if not isinstance(source, str | Path | Sequence | np.ndarray):
        raise BadRequest("pictures from an iterator can be read only once: give a list or a folder to look first")
    pictures = list(in_order(source))
    if not pictures:
        raise BadMedia(f"{named(source)}: no pictures in it")
    height, width, _ = read(pictures[0]).shape
    return ClipFacts(width, height, len(pictures), len(pictures) / rate, rate, False, "images", 0)
