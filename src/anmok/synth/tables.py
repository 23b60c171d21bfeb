"""Made pictures on disk: a folder per class, as the ladder reads it, with a table of provenance and COCO's JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

from anmok import files
from anmok.errors import BadData, BadRequest
from anmok.metrics.annotations import Annotations, write_coco
from anmok.results import Masks
from anmok.synth.pictures import Made, Provenance
from anmok.synth.recipes import Pasting, Recipe, check_label

TABLE, BOXES, RECIPE = "synthetic.csv", "annotations.json", "recipe.json"
_COLUMNS = ("image", "label", "source", "recipe", "seed", "licence", "index", "group", "generator", "also", "split")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the table: the picture's path below the table's folder, its class, and where it came from."""

    image: str
    label: str
    provenance: Provenance


def write(made: Iterable[Made], folder: Path, recipe: Recipe | Pasting | None = None) -> tuple[Entry, ...]:
    """``<folder>/<label>/*.png``, ``synthetic.csv``, ``annotations.json`` and, with a recipe, ``recipe.json``.

    The folder appears when all of it is written; pictures are kept without loss, so that masks stay exact. The table
    can be given to the ladder as ``--labels``: its column ``group`` holds the SHA-256 of the real picture, and its
    column ``split`` says ``train`` on every line.

    Raises:
        BadRequest: the folder holds something already.
        CannotWrite: the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRequest(f"{folder} holds something already; name a new folder")
    entries: list[Entry] = []
    finds: list[Masks] = []
    with files.write_beside(folder, is_folder=True) as beside:
        for one in made:
            entry = Entry(f"{one.label}/{_name(one.provenance)}.png", one.label, one.provenance)
            check_label("label", one.label)
            place = beside / entry.image
            place.parent.mkdir(exist_ok=True)
            pillow.fromarray(one.image).save(place, compress_level=1)
            entries.append(entry)
            finds.append(one.masks)
        files.write_text(beside / TABLE, _table(entries))
        write_coco(_annotations(entries, finds), beside / BOXES)
        if recipe is not None:
            document = {"digest": recipe.digest, "recipe": asdict(recipe)}
            files.write_text(beside / RECIPE, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return tuple(entries)


def read_table(path: Path) -> tuple[Entry, ...]:
    """The lines of a ``synthetic.csv``, or of the one in a folder.

    Raises:
        BadData: there is none, or a line of it lacks something.
    """
    table = path / TABLE if path.is_dir() else path
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{table}: cannot be read ({error}); want the table that anmok synth wrote") from None
    return tuple(_entry(row, f"{table}, line {number}") for number, row in enumerate(rows, start=2))


def _entry(row: dict[str, Any], where: str) -> Entry:
    lacking = [name for name in _COLUMNS if row.get(name) is None]
    numbers = [str(row.get(name)) for name in ("seed", "index")]
    if lacking or not row["image"] or not row["label"] or not all(number.isdecimal() for number in numbers):
        raise BadData(f"{where}: lacks {', '.join(lacking) or 'its image, label, seed or index'}; write it anew")
    seed, index = (int(number) for number in numbers)
    also = tuple(row["also"].split())
    told = row["source"], row["group"], row["generator"], row["licence"], also
    return Entry(row["image"], row["label"], Provenance(row["recipe"], seed, index, *told))


def _name(provenance: Provenance) -> str:
    return f"{provenance.recipe[:6]}-{provenance.seed}-{provenance.index:06d}"


def _table(entries: list[Entry]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        its = entry.provenance
        asked = (entry.image, entry.label, its.source, its.recipe, its.seed, its.licence)
        writer.writerow([*asked, its.index, its.group, its.generator, " ".join(its.also), "train"])
    return text.getvalue()


def _annotations(entries: list[Entry], finds: list[Masks]) -> Annotations:
    """A picture without masks stands in it with none."""
    classes = tuple(dict.fromkeys(label for masks in finds for label in masks.labels))
    rows = [
        (image, classes.index(name), rle)
        for image, masks in enumerate(finds)
        for rle, name in zip(masks.rles, masks.names, strict=True)
    ]
    count = len(rows)
    return Annotations(
        files=tuple(entry.image for entry in entries),
        sizes_hw=tuple(masks.size_hw for masks in finds),
        classes=classes,
        xyxy=np.asarray([rle.xyxy for _, _, rle in rows], np.float64).reshape(-1, 4),  # (N, 4)
        image_ids=np.asarray([image for image, _, _ in rows], np.int64),
        class_ids=np.asarray([kind for _, kind, _ in rows], np.int64),
        scores=None,
        is_crowd=np.zeros(count, np.bool_),
        is_difficult=np.zeros(count, np.bool_),
        areas=np.asarray([rle.area for _, _, rle in rows], np.float64),
        masks=tuple(rle.to_coco() for _, _, rle in rows),
    )
