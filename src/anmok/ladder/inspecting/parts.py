"""Folders of parts: good ones and, where there are any, defects by their kind, with masks of the flaws or without."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import media
from anmok.errors import BadData, BadRequest
from anmok.ladder.dataset import Dataset, read

GOOD = "good"
TRUTH = "ground_truth"  # MVTec's folder of masks
_MASKS = ("{stem}_mask.png", "{stem}.png", "{stem}_mask.bmp", "{stem}.bmp")
_BRIGHT = 127  # of 255: what counts as a flaw in a mask; those of MVTec are 0 and 255

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """``dataset`` has the kinds of defects as its classes, and ``good`` among them. ``masks``: of each picture the file
    that shows its flaw, where there is one."""

    dataset: Dataset
    good: str
    masks: tuple[Path | None, ...]

    @property
    def is_defect(self) -> Bools:
        """bool (n,)."""
        assert self.dataset.labels is not None
        return np.asarray(self.dataset.labels != self.dataset.classes.index(self.good))

    @property
    def has_defects(self) -> bool:
        return len(self.dataset.classes) > 1

    def masks_of(self, dataset: Dataset) -> tuple[Path | None, ...]:
        """Those of the pictures of ``dataset``, which holds some of these."""
        by_path = dict(zip(self.dataset.paths, self.masks, strict=True))
        return tuple(by_path[path] for path in dataset.paths)


def read_parts(source: Path, good: str = GOOD, *, table: Path | None = None, is_paired: bool = False) -> Parts:
    """``parts/good/*.jpg`` beside a folder for each kind of defect, or none; or MVTec's layout: ``train/good``,
    ``test/good``, ``test/<kind>`` and, where flaws are marked, ``ground_truth/<kind>/<name>_mask.png``. Masks are
    looked for in ``ground_truth`` of the first layout too. Or any folder with a ``table`` image,label[,group][,split]
    whose labels are ``good`` and the kinds.

    With ``is_paired`` a defective picture and a good one show the same piece, before and after, and form a group. A
    memory that holds a piece's good picture would find its defective one less strange than a good piece that it never
    saw. The table's column ``group`` names the piece, or else the file name does: ``good/007.png`` and
    ``scratch/007.jpg``; where no two are alike, up to their last underscore (``007_temp.jpg`` and ``007_test.jpg``).

    Raises:
        BadData: no folder of good pictures, nothing in it that can be read as a picture, a table that cannot be used,
            or ``is_paired`` and not one pair.
        BadRequest: ``good`` is a path and not a name.
    """
    if not good or "/" in good or "\\" in good:
        raise BadRequest(f"--good {good!r}: want the name of a folder below {source}, such as good")
    if not source.is_dir():
        raise BadData(f"{source}: no such folder; give one that holds {good}/ and, if you have some, defects by kind")
    dataset = _from_folders(source, good) if table is None else read(source, labels=table)
    if good not in dataset.classes:
        where = f"{source}: no pictures in {good}/" if table is None else f"{table}: no picture is labelled {good}"
        raise BadData(f"{where}; say what the good ones are called by --good NAME")
    assert dataset.labels is not None
    kinds = [dataset.classes[label] for label in dataset.labels]
    if is_paired and dataset.groups is None:
        pieces = _pieces([path.stem for path in dataset.paths], [kind == good for kind in kinds], source)
        dataset = replace(dataset, groups=pieces)
    masks = (
        None if kind == good else _mask(source / TRUTH / kind, path)
        for path, kind in zip(dataset.paths, kinds, strict=True)
    )
    return Parts(dataset, good, tuple(masks))


def _from_folders(source: Path, good: str) -> Dataset:
    train, test = source / "train" / good, source / "test"
    if train.is_dir():
        rows = [(path, good, False) for path in media.find(train)]
        rows += [(path, kind.name, True) for kind in _folders(test) for path in media.find(kind)]
    else:
        rows = [(path, kind.name, False) for kind in _folders(source) for path in media.find(kind)]
    classes = sorted({kind for _, kind, _ in rows}, key=lambda kind: (kind != good, kind))
    is_test = np.asarray([row[2] for row in rows])
    dataset = Dataset(
        source.resolve().name or str(source),
        source,
        tuple(path for path, _, _ in rows),
        tuple(classes),
        np.asarray([classes.index(kind) for _, kind, _ in rows], np.int64),
        is_test=is_test if is_test.any() else None,
    )
    if dataset.is_test is not None and not any(is_a_test and kind == good for _, kind, is_a_test in rows):
        return replace(dataset, is_test=None, warnings=(f"test/ holds no {good}/: all pictures are split anew",))
    return dataset


def _pieces(stems: list[str], is_good: list[bool], source: Path) -> NDArray[np.int64]:
    """(n,) which piece each picture shows, by its file's name."""
    for names in (stems, [stem.rpartition("_")[0] or stem for stem in stems]):
        good = {name for name, here in zip(names, is_good, strict=True) if here}
        if good & {name for name, here in zip(names, is_good, strict=True) if not here}:
            return np.unique(names, return_inverse=True)[1].astype(np.int64)
    raise BadData(
        f"{source}: --pairs, and no defect has the file name of a good picture; name both alike, or give "
        "--labels TABLE with the columns image,label,group"
    )


def read_mask(path: Path, size_hw: tuple[int, int]) -> Bools:
    """Which of (h, w) cells of the picture hold a flawed pixel, bool.

    Raises:
        BadMedia: the file is no picture.
    """
    bright = media.read(path).max(2) > _BRIGHT  # (H, W)
    shown = pillow.fromarray(bright.astype(np.uint8) * 255)
    return np.asarray(shown.resize((size_hw[1], size_hw[0]), pillow.Resampling.BOX)) > 0  # a thin flaw is not lost


def _folders(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    found = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return [path for path in found if path.name != TRUTH and not (path / "report.json").exists()]


def _mask(folder: Path, picture: Path) -> Path | None:
    names = (folder / name.format(stem=picture.stem) for name in _MASKS)
    return next((path for path in names if path.is_file()), None)
