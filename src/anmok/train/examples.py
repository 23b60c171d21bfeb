"""What a net is trained on: pictures decoded anew at every look and moved a little, or what a frozen beginning of the
net makes of them, kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anmok import geometry, media
from anmok.errors import BadRequest
from anmok.nets.trunk import Trunk

Picture = NDArray[np.uint8]
Prepare = Callable[[Picture], geometry.View]
Rows = NDArray[np.int64]
Report = Callable[[int, int], None]

_DECODERS = 2
_AT_ONCE = 4  # pictures through the frozen part: more would not stay in the processor's cache
_MOST = 3 << 30  # bytes of activations kept
_KEPT_PICTURES = 1 << 30  # bytes of decoded pictures kept


class Inputs(Protocol):
    """Rows of a set of pictures as a net takes them. ``step``: of the training run; none where nothing is learned
    from them, and every picture is as it is."""

    def __len__(self) -> int: ...

    def at(self, rows: Rows, step: int | None) -> Tensor: ...


class Pictures:
    """Decoded and prepared at every look. In training, a random part of the picture (an ``area`` of half to all of
    it) and mirrored half of the time; which part depends on seed, step and picture alone."""

    def __init__(self, paths: Sequence[Path], prepare: Prepare, seed: int = 0, *, is_cropped: bool = True) -> None:
        self._paths = tuple(paths)
        self._prepare = prepare
        self._seed = seed
        self._is_cropped = is_cropped
        self._decoded: dict[int, Picture] = {}
        self._room = _KEPT_PICTURES

    def __len__(self) -> int:
        return len(self._paths)

    def at(self, rows: Rows, step: int | None) -> Tensor:
        """(b, 3, H, W) float32.

        Raises:
            BadMedia: a picture cannot be read.
        """

        def one(row: int) -> NDArray[np.float32]:
            image = self._picture(row)
            if step is not None:
                image = moved(image, np.random.default_rng([self._seed, step, row]), is_cropped=self._is_cropped)
            return np.asarray(self._prepare(image).pixels, np.float32)

        with ThreadPoolExecutor(_DECODERS) as pool:
            return torch.from_numpy(np.stack(list(pool.map(one, rows.tolist()))))  # (b, 3, H, W)

    def _picture(self, row: int) -> Picture:
        found = self._decoded.get(row)
        if found is None:
            found = media.read(self._paths[row])
            if found.nbytes <= self._room:
                self._room -= found.nbytes
                self._decoded[row] = found
        return found


def moved(image: Picture, rng: np.random.Generator, *, is_cropped: bool = True) -> Picture:
    """A part of uint8 (H, W, 3), by chance, and mirrored by chance."""
    height, width = image.shape[:2]
    if is_cropped:
        side = float(np.sqrt(rng.uniform(0.5, 1.0)))
        h, w = max(1, round(height * side)), max(1, round(width * side))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        image = image[top : top + h, left : left + w]  # (h, w, 3)
    if rng.random() < 0.5:
        image = geometry.flip(image)
    return np.ascontiguousarray(image)


class Activations:
    """What goes into stage ``boundary`` of a trunk, of every picture and its mirror image, computed once.

    Raises:
        BadRequest: they would take more than 3 GiB.
    """

    def __init__(
        self,
        trunk: Trunk,
        boundary: int,
        paths: Sequence[Path],
        prepare: Prepare,
        seed: int = 0,
        report: Report | None = None,
    ) -> None:
        self._seed = seed
        views = []
        for is_flipped in (False, True):
            views.append(_computed(trunk, boundary, paths, _flipping(prepare, is_flipped), report))
        self._views = torch.stack(views)  # (2, n, ...)

    def __len__(self) -> int:
        return int(self._views.shape[1])

    def at(self, rows: Rows, step: int | None) -> Tensor:
        """(b, ...)."""
        if step is None:
            return self._views[0, rows]
        sides = [int(np.random.default_rng([self._seed, step, row]).random() < 0.5) for row in rows.tolist()]
        return self._views[sides, rows]


def _flipping(prepare: Prepare, is_flipped: bool) -> Prepare:
    return (lambda image: prepare(geometry.flip(image))) if is_flipped else prepare


def _computed(trunk: Trunk, boundary: int, paths: Sequence[Path], prepare: Prepare, report: Report | None) -> Tensor:
    """(n, ...) of one view."""
    pictures, beginning = Pictures(paths, prepare), trunk.beginning(boundary)
    whole: Tensor | None = None
    for start in range(0, len(paths), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(paths)))
        with torch.inference_mode():
            part = beginning(pictures.at(rows, None))  # (b, ...)
        if whole is None:
            nbytes = 2 * len(paths) * part[0].numel() * 4
            if nbytes > _MOST:
                raise BadRequest(
                    f"{len(paths):,} pictures before stage {boundary} take {nbytes / 1e9:.1f} GB; "
                    "train fewer blocks, or on fewer pictures"
                )
            whole = torch.empty((len(paths), *part.shape[1:]))
        whole[rows] = part.float()
        if report is not None:
            report(len(rows) + start, len(paths))
    assert whole is not None
    return whole
