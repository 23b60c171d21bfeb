"""Good and bad in words: a zero-shot score from a text tower, without a single picture.

After Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation" (CVPR 2023, arXiv:2303.14814):
states of a thing inside sentences, averaged to one vector for normal and one for anomalous. The words are our own and
fewer; the pixel scores of sliding windows are there only for a model whose parts of a picture lie in its text space.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.pairing import unit

Array = NDArray[np.float32]

GOOD = ("{}", "flawless {}", "perfect {}", "unblemished {}", "{} without a flaw", "{} without damage", "intact {}")
BAD = ("damaged {}", "broken {}", "{} with a flaw", "{} with a defect", "{} with damage", "scratched {}", "faulty {}")
SENTENCES = ("a photo of a {}.", "a close-up photo of the {}.", "a photo of the {} for visual inspection.", "a {}.")
_SHARPNESS = 100.0  # CLIP's own factor on cosines; only the order of scores rests on it, and hardly


def prompts(thing: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences for the good and for the bad state of ``thing``: "bottle", "circuit board".

    Raises:
        BadRequest: a blank name.
    """
    if not thing.strip():
        raise BadRequest("the thing needs a name, such as bottle; `object` where you have none")
    states = [[state.replace("{}", thing.strip()) for state in kind] for kind in (GOOD, BAD)]
    good, bad = (tuple(s.replace("{}", state) for state in kind for s in SENTENCES) for kind in states)
    return good, bad


def strangeness(images: Array, texts: Array) -> NDArray[np.float64]:
    """Unit rows of pictures or windows (..., D) against ``texts`` (2, D), good then bad: the chance (...,) of bad."""
    towards = unit(texts).astype(np.float64)
    gap = images.astype(np.float64) @ (towards[1] - towards[0])  # (...,)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * _SHARPNESS * gap)))


def windows(cells: Array, side: int) -> Array:
    """The means of all ``side`` x ``side`` windows of ``cells`` (h, w, F), one cell apart: (h', w', F)."""
    height, width = cells.shape[:2]
    side_y, side_x = min(side, height), min(side, width)
    views = np.lib.stride_tricks.sliding_window_view(cells, (side_y, side_x), axis=(0, 1))  # (h', w', F, y, x)
    return np.asarray(views.mean((-2, -1)), np.float32)


def harmonic(scores: NDArray[np.floating], size_hw: tuple[int, int], side: int) -> Array:
    """Scores (h', w') of windows to a map (h, w): of all windows over a cell the harmonic mean, so that one good
    window suffices to clear it."""
    total, count = np.zeros(size_hw), np.zeros(size_hw)
    side_y, side_x = min(side, size_hw[0]), min(side, size_hw[1])
    for y, x in np.ndindex(*scores.shape):
        total[y : y + side_y, x : x + side_x] += 1.0 / max(float(scores[y, x]), 1e-9)
        count[y : y + side_y, x : x + side_x] += 1
    return np.asarray(count / total, np.float32)
