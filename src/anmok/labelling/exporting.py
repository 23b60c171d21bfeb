"""A labelled folder as the ladder reads it, with the measuring images as the test set that they are."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anmok.errors import BadData, BadRequest
from anmok.files import write_beside, write_text
from anmok.labelling.photos import Photos
from anmok.labelling.streams import Streams

ALL, TEACH, TEST = "labels.csv", "teach.csv", "test"
_COLUMNS = ("image", "label", "stream")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. ``anmok ladder PHOTOS --labels teach --test test`` climbs on the teaching images and tests on
    the measuring ones, as they were drawn; ``labels`` holds all, with a column that says which is which. ``one_sided``
    are labels that only one of the streams has: the ladder wants more images of them first."""

    labels: Path
    teach: Path
    test: Path
    taught: int
    tested: int
    one_sided: tuple[str, ...]


def written(photos: Photos, streams: Streams, labels: Mapping[int, str], folder: Path) -> Exported:
    """Writes ``labels.csv``, ``teach.csv`` and ``test/<label>/`` with links to the images, or copies where the disk
    has no links.

    Args:
        labels: of the images that have one, by number.
        folder: where all goes; an earlier export there is replaced.

    Raises:
        BadData: nothing is labelled yet.
        BadRequest: the folder has a ``test`` that no export has written.
        CannotWrite: the disk refuses.
    """
    if not labels:
        raise BadData("nothing is labelled yet: there is nothing to export")
    if (folder / TEST).exists() and not (folder / TEACH).is_file():
        raise BadRequest(f"{folder / TEST}: is there already and may be yours; give another folder")
    rows = [(photos.names[i], labels[i], streams.of[i]) for i in sorted(labels)]
    teach = [row for row in rows if row[2] == "teach"]
    write_text(folder / ALL, _table(rows))
    write_text(folder / TEACH, _table(teach))
    with write_beside(folder / TEST, is_folder=True) as beside:
        for i in sorted(labels):
            if streams.of[i] == "measure":
                _stand_in(photos, i, beside / labels[i])
    sides = ({row[1] for row in teach}, {row[1] for row in rows if row[2] == "measure"})
    return Exported(
        labels=folder / ALL,
        teach=folder / TEACH,
        test=folder / TEST,
        taught=len(teach),
        tested=len(rows) - len(teach),
        one_sided=tuple(sorted(sides[0] ^ sides[1])),
    )


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(rows)
    return text.getvalue()


def _stand_in(photos: Photos, number: int, folder: Path) -> None:
    """One flat folder per label: the id keeps two images of one name apart."""
    picture = photos.path(number)
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{picture.stem[:80]}-{photos.ids[number]}{picture.suffix}"
    with contextlib.suppress(OSError, NotImplementedError):  # a disk without links
        place.symlink_to(picture)
        return
    shutil.copyfile(picture, place)
