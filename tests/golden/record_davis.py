"""Records what DAVIS 2017's own evaluation says of drawn masks.

    PYTHONPATH=tests python -m golden.record_davis CHECKOUT

``CHECKOUT`` is a copy of github.com/davisvideochallenge/davis2017-evaluation, of commit ``COMMIT``; it needs OpenCV,
scikit-image, scipy, pillow and tqdm. The masks come from numpy's seeds and whole numbers, so that the test draws them
again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

COMMIT = "ac7c43fca936f9722837b7fbd337d284ba37004b"
FILE = Path(__file__).with_name("davis.npz")


@dataclass(frozen=True)
class Case:
    """A clip of ``frames`` masks (height, width). Each object drifts; what was found is off by up to ``error`` pixels,
    and is missing, or there without cause, in every ``lost``-th frame."""

    height: int
    width: int
    frames: int
    error: int
    lost: int
    seed: int


CASES: Mapping[str, Case] = {
    "small": Case(48, 64, 12, 3, 5, 0),
    "odd": Case(97, 131, 21, 6, 6, 1),
    "wide": Case(20, 400, 9, 12, 4, 2),
    "tall": Case(211, 11, 7, 4, 9, 3),
    "video": Case(480, 854, 6, 14, 9, 4),
    "three frames": Case(60, 60, 3, 2, 9, 5),
    "long": Case(24, 30, 130, 4, 7, 6),
}


def clip(case: Case) -> tuple[Bools, Bools]:
    """True and found masks (T, H, W): two ellipses and a rectangle joined, with a hole."""
    rng = np.random.default_rng(case.seed)
    starts = rng.integers(0, [case.height, case.width], (3, 2))  # (3, 2)
    speeds = rng.integers(-3, 4, (3, 2))
    radii = rng.integers(2, [max(3, case.height // 3), max(3, case.width // 3)], (3, 2))
    off = rng.integers(-case.error, case.error + 1, (case.frames, 3, 2))
    truth = [_mask(case, starts + speeds * t, radii) for t in range(case.frames)]
    found = [_mask(case, starts + speeds * t + off[t], radii) for t in range(case.frames)]
    for t in range(case.lost - 1, case.frames, case.lost):
        (found if t // case.lost % 2 else truth)[t][:] = False
        if t // case.lost % 3 == 2:
            truth[t][:] = found[t][:] = False
    return np.stack(truth), np.stack(found)


def void(case: Case) -> Bools:
    """Pixels (H, W) that do not count: stripes."""
    rows, columns = np.mgrid[: case.height, : case.width]
    return np.asarray((rows + 2 * columns) % 17 < 4)


def _mask(case: Case, centres: NDArray[np.int64], radii: NDArray[np.int64]) -> Bools:
    rows, columns = np.mgrid[: case.height, : case.width]
    parts = []
    for (y, x), (high, wide) in zip(centres.tolist(), radii.tolist(), strict=True):
        parts.append(((rows - y) * wide) ** 2 + ((columns - x) * high) ** 2 < (high * wide) ** 2)
    (y, x), (high, wide) = centres[2].tolist(), radii[2].tolist()
    box = (abs(rows - y) < high) & (abs(columns - x) < wide)
    return np.asarray((parts[0] | box | parts[1]) & ~((rows % 19 == 3) & (columns % 23 < 2)))


def main(checkout: Path) -> None:
    sys.path.insert(0, str(checkout))
    from davis2017 import metrics, utils  # type: ignore[import-not-found]

    values: dict[str, NDArray[np.float64]] = {}
    for name, case in CASES.items():
        truth, found = clip(case)
        inner = truth[1:-1], found[1:-1]
        per_frame = metrics.db_eval_iou(*inner), metrics.db_eval_boundary(*inner)
        values[f"{name}, frames"] = np.stack(per_frame)  # (2, T - 2)
        values[f"{name}, over time"] = np.array([utils.db_statistics(one) for one in per_frame])  # (2, 3)
        stripes = np.stack([void(case)] * len(inner[0]))
        values[f"{name}, void"] = np.stack(
            [metrics.db_eval_iou(*inner, stripes), metrics.db_eval_boundary(*inner, stripes)]
        )
        values[f"{name}, bound 3"] = metrics.db_eval_boundary(*inner, bound_th=3)
    np.savez_compressed(FILE, **values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
