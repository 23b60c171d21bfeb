"""Which labelled pictures are shown before a question: those that look most like what it is about.

Source: Liu et al., "What Makes Good In-Context Examples for GPT-3?" (DeeLIO 2022, arXiv:2101.06804), which takes the
nearest, and puts the nearest last. Here each class has its nearest before any has two: models lean to the answer that
they were shown most often (Zhao et al., "Calibrate Before Use", ICML 2021, arXiv:2102.09690).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


def nearest(features: Array, labels: Labels, asked: Array, count: int) -> Labels:
    """Rows of ``features`` (n, F) with ``labels`` (n,), at most ``count``, the one nearest to ``asked`` (F,) last.

    Pooled features are all positive, so they are compared by their angle after the mean is taken away. Where there are
    more classes than ``count``, those of the nearest pictures are shown. Among equals the first rows.
    """
    mean = features.mean(0)
    rows, query = features - mean, asked - mean
    size = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    order = np.argsort(-(rows @ query) / np.maximum(size, 1e-12), kind="stable")  # (n,)
    seen: dict[int, int] = {}
    turn = []  # how many of its class are nearer
    for row in order.tolist():
        label = int(labels[row])
        turn.append(seen.get(label, 0))
        seen[label] = turn[-1] + 1
    first = np.sort(np.argsort(np.minimum(turn, 1), kind="stable")[:count])  # places in the order
    return order[first][::-1].astype(np.int64)
