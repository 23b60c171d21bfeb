"""Sounds for tests: tones, as arrays and as files."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def tone(hertz: float, seconds: float = 1.0, rate: int = 16_000, loud: float = 0.5) -> NDArray[np.float32]:
    """(N,)"""
    times = np.arange(round(seconds * rate)) / rate
    return (loud * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def wav(samples: NDArray[np.float32], rate: int = 16_000) -> bytes:
    """(N,) or (N, channels), in 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def recorded(path: Path, samples: NDArray[np.float32], rate: int = 48_000, codec: str = "aac") -> Path:
    """A file of sound alone, (N,)."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        _write(container, stream, samples, rate)
    return path


def filmed(path: Path, images: list[NDArray[np.uint8]], samples: NDArray[np.float32], rate: int = 48_000) -> Path:
    """A clip of ten pictures a second with a sound track, (N,)."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for image in images:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        _write(container, audio, samples, rate)
    return path


def _write(container: object, stream: object, samples: NDArray[np.float32], rate: int) -> None:
    import av

    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    for one in (frame, None):
        container.mux(stream.encode(one))  # type: ignore[attr-defined]
