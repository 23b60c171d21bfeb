"""Sound as a picture of 128 mel bands over time, as Kaldi makes it. Pure numpy.

Source: Kaldi's ``compute-fbank-feats`` (D. Povey et al., "The Kaldi Speech Recognition Toolkit", ASRU 2011) with the
settings of BEATs: windows of 25 ms every 10 ms, 0.97 of each value taken off the next, Povey's window, the logarithm of
the power. Without dither, so that the same sound gives the same picture.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 16_000  # values a second
BANDS: Final = 128
WINDOW, STEP, PADDED = 400, 160, 512  # values
_LOWEST: Final = 20.0  # Hz
_EMPHASIS: Final = 0.97
_POVEY: Final = 0.85  # the power of Hann's window
_FLOOR: Final = float(np.finfo(np.float32).eps)


def windows(length: int) -> int:
    """How many windows lie wholly in a sound of so many values."""
    return max(0, 1 + (length - WINDOW) // STEP)


def filterbank(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sound float32 (N,) of 16,000 values a second, in the range of int16, to float32 (windows, 128)."""
    starts = STEP * np.arange(windows(len(sound)))
    cut = sound[starts[:, None] + np.arange(WINDOW)].astype(np.float32)  # (T, 400)
    cut = cut - cut.mean(1, keepdims=True)
    before = np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)  # (T, 400); the first value stands before itself
    shaped = (cut - np.float32(_EMPHASIS) * before) * _window()
    power = np.abs(np.fft.rfft(shaped, PADDED, axis=1)[:, :-1]) ** 2  # (T, 256); the highest frequency is in no band
    energies = power.astype(np.float32) @ _bands().T  # (T, 128)
    return np.asarray(np.log(np.maximum(energies, np.float32(_FLOOR))), np.float32)


@functools.cache
def _window() -> NDArray[np.float32]:
    return (np.hanning(WINDOW) ** _POVEY).astype(np.float32)  # (400,)


@functools.cache
def _bands() -> NDArray[np.float32]:
    return triangles(BANDS, _LOWEST, RATE / 2, PADDED // 2)  # (128, 256)


def triangles(bands: int, lowest: float, highest: float, count: int) -> NDArray[np.float32]:
    """Bands between two frequencies (Hz) as triangles of equal width on the mel scale, over so many frequencies of the
    transform: (bands, count)."""
    edges = np.linspace(_mel(lowest), _mel(highest), bands + 2)  # (bands + 2,)
    places = _mel(RATE / PADDED * np.arange(count))  # (count,)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]  # (bands, 1) each
    rising, falling = (places - left) / (middle - left), (right - places) / (right - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)  # (bands, count)


def _mel(hertz: float | NDArray[np.floating]) -> NDArray[np.float64]:
    return 1127.0 * np.log(1.0 + np.asarray(hertz, np.float64) / 700.0)
