"""Writing a clip, one picture at a time."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from anmok.errors import BadRequest, MissingDependency
from anmok.media import Image

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
SUFFIXES = tuple(_FORMATS)
CODECS = {"vp9": "libvpx-vp9", "mpeg4": "mpeg4", "h264": "libx264"}  # our word -> libavcodec's encoder
_OPTIONS = {
    # About libx264's "veryfast" in error, a quarter slower and larger; "b": quality decides, not a bit rate.
    "vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0", "row-mt": "1"},
    "mpeg4": {"qmin": "2", "qmax": "5"},
    "h264": {"preset": "veryfast", "crf": "20"},
}
_HOLDS = {".mov": ("mpeg4", "h264"), ".webm": ("vp9",)}  # the other containers hold all
_GPL = "h264"
_MAX_FPS = 1000
_MAX_CLOCK = 65_535  # ticks a second; MPEG-4 part 2 has 16 bits for them
_BT709 = 1  # AVCOL_SPC_BT709, AVCOL_PRI_BT709 and AVCOL_TRC_BT709 alike
_LIMITED = 1  # AVCOL_RANGE_MPEG


class Writer:
    """A video file that pictures are written to. Use it in a ``with`` block::

        with files.write_beside(path) as beside, Writer(beside, (480, 640), fps=30) as clip:
            clip.write(image)

    It writes straight to ``path``; the caller has it arranged, as above, that nothing half-written is ever seen
    under the name that counts. What is stored is BT.709, 8 bits, 4:2:0, which has whole pairs of pixels only: where
    height or width is odd, the last row or column is stored twice (``stored_hw``), and coordinates stay as they are.

    Args:
        path: its suffix decides the container: .mp4, .m4v, .mov, .mkv or .webm.
        size_hw: height and width of every picture.
        fps: frames a second.
        codec: "vp9", "mpeg4" or "h264"; None takes the first that the container holds and this build of PyAV
            writes, but never "h264". VP9 (libvpx, BSD) plays in browsers; MPEG-4 part 2 (libavcodec's own, LGPL)
            does not, and is what .mov gets; H.264 plays everywhere, but the wheels of PyAV write it by libx264,
            which is under the GPL: it is for those who ask for it.

    Raises:
        BadRequest: a suffix, size, rate or codec that cannot be written; a picture of another size; no picture.
        MissingDependency: PyAV is not installed.
        OSError: the disk refuses, as ``write_beside`` expects it.
    """

    def __init__(self, path: Path | str, size_hw: tuple[int, int], fps: float, *, codec: str | None = None) -> None:
        self.path = Path(path)
        self.size_hw = size_hw
        height, width = size_hw
        if height < 1 or width < 1:
            raise BadRequest(f"{self.path}: a clip of {width} x {height} pixels cannot be written")
        if not 0 < fps <= _MAX_FPS:
            raise BadRequest(f"{self.path}: fps {fps} must lie above 0 and not over {_MAX_FPS}")
        if self.path.suffix.lower() not in _FORMATS:
            raise BadRequest(f"{self.path}: clips are written as {', '.join(_FORMATS)}")
        self.stored_hw = (height + height % 2, width + width % 2)
        self.codec = _codec(codec, self.path.suffix.lower())
        self.frames = 0
        self._rate = Fraction(fps).limit_denominator(1001)  # 29.97003 is 30000 / 1001
        self._clock = self._rate.numerator * max(1, _MAX_CLOCK // self._rate.numerator)
        self._last_tick = -1
        self._stack = contextlib.ExitStack()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def __enter__(self) -> Writer:
        import av
        from av.video.stream import VideoStream

        file = self._stack.enter_context(self.path.open("w+b"))  # opened here: libav would read addresses into names
        self._container = av.open(file, "w", format=_FORMATS[self.path.suffix.lower()])
        stream = self._container.add_stream(CODECS[self.codec], rate=self._rate, options=dict(_OPTIONS[self.codec]))
        if not isinstance(stream, VideoStream):  # cannot be: both encoders are of video
            raise BadRequest(f"{self.path}: {self.codec} is no codec for video")
        stream.height, stream.width = self.stored_hw
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, self._clock)
        stream.color_range, stream.colorspace = _LIMITED, _BT709
        stream.color_primaries = stream.color_trc = _BT709
        self._stream = stream
        return self

    def write(self, image: Image, *, seconds: float | None = None) -> None:
        """Append one picture, uint8 (H, W, 3), RGB.

        ``seconds`` is its time, later than that of the picture before, for clips whose rate varies; None is one
        frame after it.
        """
        import av

        if self._container is None or self._stream is None:
            raise BadRequest(f"{self.path}: a Writer is used in a with block")
        if image.dtype != np.uint8 or image.shape != (*self.size_hw, 3):
            raise BadRequest(f"{self.path}: picture of {image.dtype} {image.shape}, want uint8 {(*self.size_hw, 3)}")
        pad = [(0, stored - given) for stored, given in zip(self.stored_hw, self.size_hw, strict=True)]
        whole = np.pad(image, [*pad, (0, 0)], mode="edge") if self.stored_hw != self.size_hw else image
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(whole), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.time_base, frame.pts = Fraction(1, self._clock), self._tick(seconds)
        self._mux(self._stream.encode(frame))
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        container, stream = self._container, self._stream
        self._container = self._stream = None
        with self._stack:
            if container is None or stream is None:
                return
            if kind is not None:
                with contextlib.suppress(OSError, ValueError):  # the first error counts; the file is lost anyway
                    container.close()
                return
            if self.frames:
                container.mux(stream.encode(None))
            container.close()
            if not self.frames:
                raise BadRequest(f"{self.path}: no picture was written to this clip")

    def _mux(self, packets: list[Packet[Any]]) -> None:
        if self._container is not None:
            self._container.mux(packets)

    def _tick(self, seconds: float | None) -> int:
        if seconds is None:
            step = round(self._clock / self._rate)
            tick = self._last_tick + step if self.frames else 0
        elif math.isfinite(seconds) and seconds >= 0:
            tick = round(seconds * self._clock)
        else:
            raise BadRequest(f"{self.path}: a picture at {seconds} s has no place in a clip")
        if tick <= self._last_tick:
            raise BadRequest(f"{self.path}: a picture at {seconds} s does not come after the one before")
        self._last_tick = tick
        return tick


def _codec(wanted: str | None, suffix: str) -> str:
    try:
        import av  # noqa: F401
        from av.codec import Codec
        from av.codec.codec import UnknownCodecError
    except ImportError:
        raise MissingDependency("video needs a package: pip install 'anmok[video]'") from None
    held = _HOLDS.get(suffix, tuple(CODECS))
    if wanted is not None and wanted not in CODECS:
        raise BadRequest(f"{wanted} is no codec that anmok writes; there are {', '.join(CODECS)}")
    if wanted is not None and wanted not in held:
        raise BadRequest(f"{wanted} does not go into a {suffix} file; take .mp4, or {' or '.join(held)}")
    for name in [wanted] if wanted is not None else [name for name in held if name != _GPL]:
        with contextlib.suppress(UnknownCodecError):
            Codec(CODECS[name], "w")
            return name
    raise BadRequest(f"this build of PyAV cannot write {wanted or 'video'}; choose another codec")
