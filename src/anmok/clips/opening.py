"""Opening a clip such that libav sees one open file of an allowed format, and nothing else of this machine."""

from __future__ import annotations

import contextlib
import io
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from anmok.clips.tables import check_tables
from anmok.errors import BadMedia, MissingDependency
from anmok.media import describe, max_pixels

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

CONTAINERS = ("mp4", "mov", "mkv", "webm", "avi", "gif", "mpeg", "ts", "ogg")
# What their files are called. A GIF is not among them: `media` reads it as a picture, its first one.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".3gp", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".ogv"}
)
# The containers in libavformat's words. Not there: hls, dash, concat, sdp, image2 and all else that names other files.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,ogg"
_NO_PROTOCOL = "none"  # for what a demultiplexer opens without asking `io_open`, as that of concat lists does
_DEFAULT_RATE = Fraction(25)  # where a stream says nothing at all about its rate
_MICROSECONDS = 1_000_000

Threads = Literal["AUTO", "SLICE"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A container with the one stream that is read."""

    name: str
    container: InputContainer
    stream: VideoStream

    @property
    def tick(self) -> Fraction:
        """Seconds per unit of the stream's timestamps."""
        return self.stream.time_base or Fraction(1, _MICROSECONDS)

    @property
    def rate(self) -> Fraction | None:
        """Frames a second as the header says it, or None."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate, self.stream.base_rate):
            if rate is not None and rate > 0:
                return rate
        return None

    @property
    def frame_seconds(self) -> float:
        """How long a frame lasts where it does not say so itself."""
        return float(1 / (self.rate or _DEFAULT_RATE))

    def seconds(self, timestamp: int) -> float:
        """A timestamp of the stream as seconds since its first frame."""
        return float((timestamp - (self.stream.start_time or 0)) * self.tick)

    def timestamp(self, seconds: float) -> int:
        return int(Fraction(seconds) / self.tick) + (self.stream.start_time or 0)

    def hides(self, packet: Packet[VideoStream]) -> bool:
        """Is this the kind of packet that carries no frame to be shown? VP8 alone has them (RFC 6386, 9.1)."""
        return self.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


class ClipFile:
    """A path, bytes or a seekable binary file, that can be opened from its start as often as needed.

    Raises:
        BadMedia: there is no such file, it is empty, or it cannot be read or sought in.
        MissingDependency: PyAV is not installed.
    """

    _what = "clip"
    _kinds: tuple[str, ...] = CONTAINERS
    _demuxers = _DEMUXERS

    def __init__(self, source: Path | str | bytes | BinaryIO) -> None:
        try:
            import av  # noqa: F401
        except ImportError:
            what = "video" if self._what == "clip" else self._what
            raise MissingDependency(f"{what} needs a package: pip install 'anmok[video]'") from None
        self._source = source
        self.name = f"{self._what} of {len(source)} bytes" if isinstance(source, bytes) else describe(source)
        if isinstance(source, bytes) and not source:
            raise BadMedia(f"{self.name}: the file is empty")
        self._origin = 0
        if not isinstance(source, str | Path | bytes):
            if not source.seekable():
                raise BadMedia(f"{self.name}: a stream that cannot be sought in; hand over a file or its bytes")
            self._origin = source.tell()

    @contextlib.contextmanager
    def opened(self, threads: Threads = "AUTO") -> Iterator[Opened]:
        """The clip with its header read and checked. ``SLICE`` decodes one packet at a time.

        Raises:
            BadMedia: no clip of an allowed format, no video stream in it, or frames over the pixel limit.
        """
        with contextlib.ExitStack() as stack:
            file = self._file(stack)
            container = stack.enter_context(self._container(file))
            stream = self._stream(container)
            self._check_size(stream.codec_context.width, stream.codec_context.height)
            stream.thread_type = threads
            stream.codec_context.options = {"max_pixels": str(_decoder_limit())}
            yield Opened(self.name, container, stream)

    def _file(self, stack: contextlib.ExitStack) -> BinaryIO:
        source = self._source
        if isinstance(source, bytes):
            return io.BytesIO(source)
        if not isinstance(source, str | Path):
            source.seek(self._origin)  # and stays open: it is the caller's
            return source
        path = Path(source)
        try:
            facts = path.stat()
            if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for without end
                raise BadMedia(f"{self.name}: not a file")
            if facts.st_size == 0:
                raise BadMedia(f"{self.name}: the file is empty")
            return stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            raise BadMedia(f"{self.name}: no such file; a {self._what} is a local path, never an address") from None
        except OSError as error:
            raise BadMedia(f"{self.name}: cannot be read ({error.strerror})") from None
        except ValueError as error:  # a NUL in the name
            raise BadMedia(f"{self.name!r}: cannot be read ({error})") from None

    def _container(self, file: BinaryIO) -> InputContainer:
        import av
        from av.error import ArgumentError, FFmpegError

        try:
            check_tables(file, self.name)
            return av.open(
                _Nameless(file),
                "r",
                options={"max_pixels": str(_decoder_limit())},  # the header is found by decoding, in some formats
                container_options={"format_whitelist": self._demuxers, "protocol_whitelist": _NO_PROTOCOL},
                metadata_errors="replace",
                io_open=_refuse_other_files,
            )
        except (FFmpegError, OSError) as error:
            kinds = ", ".join(self._kinds)
            reason = "some other format" if isinstance(error, ArgumentError) else reason_of(error)
            raise BadMedia(
                f"{self.name}: not a {self._what} that anmok reads ({kinds}), or cut short: {reason}"
            ) from None

    def _stream(self, container: InputContainer) -> VideoStream:
        from av.stream import Disposition
        from av.video.stream import VideoStream

        moving = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
        if not moving:
            raise BadMedia(f"{self.name}: no video stream in it")
        best = container.streams.best("video")
        stream = best if isinstance(best, VideoStream) and best in moving else moving[0]
        if stream.codec_context is None:
            raise BadMedia(f"{self.name}: its video is in a codec that PyAV cannot decode")
        return stream

    def _check_size(self, width: int, height: int) -> None:
        limit = max_pixels()
        if width * height > limit:
            raise BadMedia(
                f"{self.name}: {width} x {height} is over the limit of {limit:,} pixels; "
                "make it smaller or raise ANMOK_MAX_PIXELS"
            )
        if width <= 0 or height <= 0:
            raise BadMedia(f"{self.name}: the clip has no pixels ({width} x {height})")


class _Nameless:
    """A file without its name: libavformat would guess the format from it."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _refuse_other_files(url: str, flags: int, options: object) -> BinaryIO:
    raise PermissionError(f"the file asks for another one, {url}")


def _decoder_limit() -> int:
    """What a decoder may allocate. Twice the limit on pictures, since it pads them to whole macroblocks."""
    return min(2 * max_pixels() + 65_536, 2**31 - 1)


def reason_of(error: Exception) -> str:
    """What libav says, on one line and without the name that it makes up."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
