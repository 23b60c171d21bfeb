"""Sound out of a file: the samples that a model hears, in one form.

One policy, the same in Python, CLI and server:

====================  =====================================================================
several channels      their mean; more than eight are refused
rate                  to the one that is asked for, by libswresample
several streams       the one that libavformat calls best; of a video its sound track
damaged packets       left out, as a player does; a file without a sound one is refused
longer than allowed   refused while it is decoded; nothing is cut off unsaid
silence alone         refused: there is nothing to be heard in it
playlists, addresses  refused: libav is handed an open file, never a name
====================  =====================================================================
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.clips.opening import ClipFile, reason_of
from anmok.errors import BadMedia, BadRequest, MissingDependency

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Samples: TypeAlias = NDArray[np.float32]
SoundSource: TypeAlias = Path | str | bytes | tuple[NDArray[Any], int] | BinaryIO

SOUND_SUFFIXES: Final = frozenset({".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff"})
_KINDS: Final = ("wav", "mp3", "flac", "ogg", "m4a", "aac", "aiff", "and the sound of mp4, mov, mkv, webm, avi, ts")
_DEMUXERS: Final = "wav,mp3,flac,ogg,aac,aiff,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
_RATES: Final = (1_000, 384_000)  # values a second that a file may have
_CHANNELS: Final = 8
_SLACK: Final = 0.25  # seconds that encoders add to round their blocks up
_BEFORE: Final = 0.5  # seconds that are decoded before the start, in which codecs find their feet
_SILENT: Final = 1 / 2**15  # half a step of 16 bits, at most, to either side
_FULL: Final = {"i2": 2**15, "i4": 2**31}  # integers by their dtype
_LOUDEST: Final = 8.0  # of floats: far over 1, which a mix of several may pass, and far below steps of 16 bits


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a model hears: ``rate`` values a second, ``most`` seconds at a time."""

    rate: int
    most: float


def heard(source: SoundSource, wanted: Wanted, *, start: float = 0.0, end: float | None = None) -> Samples:
    """The samples of a sound, float32 (N,) between -1 and 1 (an array as it is), N being ``rate`` times the seconds.

    Args:
        source: a file as a path (a ``str`` is a path, never an address), its bytes, a seekable binary file, or samples
            with their rate: (N,) or (N, channels), floats between -1 and 1, int16 or int32.
        wanted: at which rate, and how much at the most.
        start, end: seconds since the beginning; ``end`` itself is left out.

    Raises:
        BadRequest: ``start`` and ``end`` span no time, or the sound is over before; it is longer than ``wanted.most``;
            what is no file, or an array that is no sound.
        BadMedia: no sound that can be opened, of a rate or with channels that no sound has, or nothing but silence.
        MissingDependency: PyAV is not installed, and the source is a file or of another rate.
    """
    if not (0 <= start < math.inf and (end is None or start < end < math.inf)):
        raise BadRequest(f"sound: start {start} and end {end} span no time")
    if isinstance(source, tuple):
        name, pieces, at = "sound", _of_array(*source, wanted.rate), 0.0
    else:
        if not (isinstance(source, Path | str | bytes) or hasattr(source, "seekable")):
            raise BadRequest(f"sound: want a file, its bytes, or samples with their rate, not {type(source).__name__}")
        file = _SoundFile(source)
        name = file.name
        pieces, at = file.pieces(wanted.rate, max(0.0, start - _BEFORE))
    samples = _cut(pieces, name, wanted, (start - at, None if end is None else end - at))
    if not samples.size:
        lack = f"it is over before {start:g} s, so nothing is left to hear" if start else "too short to be heard"
        raise BadRequest(f"{name}: {lack}")
    if not np.isfinite(samples).all():
        raise BadMedia(f"{name}: some of its values are no numbers")
    if float(np.abs(samples).max()) <= _SILENT:
        raise BadMedia(f"{name}: nothing but silence in it")
    return samples


def _cut(pieces: Iterator[Samples], name: str, wanted: Wanted, span: tuple[float, float | None]) -> Samples:
    """What lies between two times of the pieces, which are taken no further than that needs."""
    first = round(span[0] * wanted.rate)
    last = None if span[1] is None else round(span[1] * wanted.rate)
    most = first + round((wanted.most + _SLACK) * wanted.rate)
    found: list[Samples] = []
    count = 0
    with contextlib.closing(pieces):  # type: ignore[type-var]  # a generator, and with it the file
        for piece in pieces:
            if (skipped := max(0, first - count)) < len(piece):
                found.append(piece[skipped:])
            count += len(piece)
            if count > most or (last is not None and count >= last):
                break
    if (count if last is None else min(last, count)) > most:
        raise BadRequest(f"{name}: over {wanted.most:g} s of sound, which are the most at once: give start and end")
    whole = np.concatenate(found) if found else np.zeros(0, np.float32)  # (N,)
    return whole[: min(round(wanted.most * wanted.rate), (most if last is None else last) - first)]


class _SoundFile(ClipFile):
    _what = "sound"
    _kinds = _KINDS
    _demuxers = _DEMUXERS

    def pieces(self, rate: int, start: float) -> tuple[Iterator[Samples], float]:
        """The sound from somewhere at or before ``start`` on, and the seconds at which that lies.

        Raises:
            BadMedia: no sound in it, or one that is refused.
        """
        for place in (start, 0.0):
            with contextlib.ExitStack() as stack:
                first, frames, at = self._from(stack, place)
                if at <= start:  # and not behind, nor somewhere that nobody knows
                    return self._resampled(stack.pop_all(), first, frames, rate), at
        raise AssertionError("the beginning is nowhere behind")

    def _from(self, stack: contextlib.ExitStack, place: float) -> tuple[AudioFrame | None, Iterator[AudioFrame], float]:
        """The first frame at or near a place, those after it, and its seconds; no number where there is none."""
        container = stack.enter_context(self._container(self._file(stack)))
        stream = self._sounding(container)
        is_sought = place > 0 and _sought(container, stream, place)
        frames = self._frames(container, stream, is_sought=is_sought)
        first = next(frames, None)
        if not is_sought:
            return first, frames, 0.0
        if first is None or first.pts is None or stream.time_base is None:
            return None, frames, math.nan
        return first, frames, float((first.pts - (stream.start_time or 0)) * stream.time_base)

    def _sounding(self, container: InputContainer) -> AudioStream:
        from av.audio.stream import AudioStream

        best = container.streams.best("audio")
        if not isinstance(best, AudioStream):
            raise BadMedia(f"{self.name}: no sound in it")
        context = best.codec_context
        if context is None:
            raise BadMedia(f"{self.name}: its sound is in a codec that PyAV cannot decode")
        if not (_RATES[0] <= context.sample_rate <= _RATES[1] and 1 <= context.channels <= _CHANNELS):
            raise BadMedia(
                f"{self.name}: {context.sample_rate:,} values a second in {context.channels} channels; want up to "
                f"{_RATES[1]:,} in {_CHANNELS}"
            )
        return best

    def _frames(
        self, container: InputContainer, stream: AudioStream, *, is_sought: bool = False
    ) -> Iterator[AudioFrame]:
        from av.error import FFmpegError

        reason, count = "it is empty", 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                decoded = stream.decode(packet) if packet.size or packet.pts is None else []
            except StopIteration:
                break
            except (FFmpegError, MemoryError) as error:
                reason = reason_of(error)
                if isinstance(error, EOFError):
                    break
                continue
            count += len(decoded)
            yield from decoded
        if not (count or is_sought):  # behind the end there is nothing
            raise BadMedia(f"{self.name}: nothing in it can be decoded ({reason})")

    def _resampled(
        self, stack: contextlib.ExitStack, first: AudioFrame | None, frames: Iterator[AudioFrame], rate: int
    ) -> Iterator[Samples]:
        from av.audio.resampler import AudioResampler
        from av.error import FFmpegError

        with stack:
            resampler = AudioResampler(format="fltp", rate=rate)
            frame = first
            while frame is not None:
                frame.pts = None  # the resampler would fill what is missing in between
                try:
                    yield from _mixed(resampler.resample(frame))
                except (ValueError, FFmpegError) as error:
                    raise BadMedia(f"{self.name}: its sound changes midway ({reason_of(error)})") from None
                frame = next(frames, None)
            if first is not None:
                yield from _mixed(resampler.resample(None))


def _sought(container: InputContainer, stream: AudioStream, seconds: float) -> bool:
    from av.error import FFmpegError

    if stream.time_base is None:
        return False
    try:
        container.seek(int(seconds / stream.time_base) + (stream.start_time or 0), stream=stream)
    except (FFmpegError, OverflowError):  # of places that no file has
        return False
    return True


def _mixed(frames: list[AudioFrame]) -> Iterator[Samples]:
    for frame in frames:
        # Codecs of floating point overshoot.
        yield frame.to_ndarray().mean(0, dtype=np.float32).clip(-1, 1)  # (N,)


def _of_array(array: NDArray[Any], rate: int, wanted: int) -> Iterator[Samples]:
    """The samples of an array in one piece, (N,)."""
    if not (isinstance(array, np.ndarray) and array.ndim in (1, 2) and array.size):
        raise BadRequest("sound: want an array (N,) or (N, channels) and its values a second")
    if not isinstance(rate, int | np.integer) or not _RATES[0] <= rate <= _RATES[1]:
        raise BadRequest(f"sound: want {_RATES[0]:,} to {_RATES[1]:,} values a second, not {rate!r}")
    full = _FULL.get(array.dtype.str[1:], 1)
    if full == 1 and array.dtype.kind != "f":
        raise BadRequest(f"sound: array of {array.dtype}; want floats between -1 and 1, int16 or int32")
    mono = array if array.ndim == 1 else _mean(array)  # (N,)
    if full == 1 and float(np.abs(mono).max()) > _LOUDEST:
        raise BadRequest("sound: floats lie between -1 and 1, these far beyond: divide them by what is full scale")
    samples = np.ascontiguousarray(mono / full, np.float32)
    yield samples if rate == wanted else _at_rate(samples, int(rate), wanted)


def _mean(array: NDArray[Any]) -> NDArray[Any]:
    if array.shape[1] > _CHANNELS:
        raise BadRequest(f"sound: {array.shape[1]} channels; want (N, channels) with {_CHANNELS} at the most")
    mean: NDArray[Any] = array.mean(1, dtype=np.float64)  # (N,)
    return mean


def _at_rate(samples: Samples, rate: int, wanted: int) -> Samples:
    """(N,) to (N wanted / rate,)."""
    try:
        from av.audio.frame import AudioFrame
        from av.audio.resampler import AudioResampler
    except ImportError:
        raise MissingDependency("another rate needs a package: pip install 'anmok[video]'") from None
    frame = AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = AudioResampler(format="fltp", rate=wanted)
    pieces = [*_mixed(resampler.resample(frame)), *_mixed(resampler.resample(None))]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)  # (N',)
