"""A folder that YOLO's trainers take as it is: labels, and the pictures where they look for them.

A trainer finds the labels of ``.../images/a.jpg`` in ``.../labels/a.txt``: it exchanges the last folder of that name
in the path. So the pictures have to stand below ``images/`` too, as links where the disk has them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path, PurePosixPath

from anmok.files import cannot_write, write_beside, write_text
from anmok.metrics.annotations import Annotations, write_yolo

PICTURES = "images"


def training_set(annotations: Annotations, root: Path, folder: Path) -> None:
    """``labels/``, ``images/`` (links to the pictures, copies where there are no links) and ``data.yaml``.

    Args:
        annotations: without scores; its files are named from ``root``.
        root: where the pictures are.
        folder: where all goes.

    Raises:
        BadData: two pictures of one name, but for their suffix.
        CannotWrite: the disk refuses.
    """
    names = tuple(_safe(file) for file in annotations.files)
    write_yolo(dataclasses.replace(annotations, files=names), folder)
    for file, name in zip(annotations.files, names, strict=True):
        _stand_in(root / file, folder / PICTURES / name)
    write_text(folder / "data.yaml", _settings(folder, annotations.classes))


def _settings(folder: Path, classes: tuple[str, ...]) -> str:
    names = "".join(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(classes))
    path = json.dumps(str(folder.absolute()), ensure_ascii=False)
    return (
        "# Labels by a model. Check audit/ first, and hold pictures out for val: these are the same.\n"
        f"path: {path}\ntrain: {PICTURES}\nval: {PICTURES}\nnames:\n{names}"
    )


def _safe(file: str) -> str:
    """The name without a folder that a trainer would take for ours."""
    parts = PurePosixPath(file).parts
    return PurePosixPath(*(f"{part}_" if part == PICTURES else part for part in parts[:-1]), parts[-1]).as_posix()


def _stand_in(picture: Path, place: Path) -> None:
    with cannot_write(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
    if place.exists():  # copied before
        return
    with contextlib.suppress(OSError, NotImplementedError):  # a disk without links
        place.symlink_to(picture)
        return
    with write_beside(place) as beside:
        shutil.copyfile(picture, beside)
