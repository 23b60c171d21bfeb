"""Predictions and images put together: one row per image, tested or seen, with its label, answer, side and
group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData
from anmok.evidence.predictions import Predictions, clean, clean_name, listed
from anmok.evidence.readers import Folder, read_folder
from anmok.evidence.readers_table import HEADERS, read_csv

UNKNOWN = -1  # no label, or no answer
_SIDES = ("test", "val")  # what is judged, in order of preference


@dataclass(frozen=True, slots=True)
class Note:
    """Something assumed or left out. ``code`` has its sentence in `audit_text`; ``values`` fill it."""

    code: str
    values: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n images. ``label`` and ``predicted``: (n,) index into ``classes``, -1 where there is none.
    ``side``: (n,) what a model that answered for a row has not been fitted on: "train", "val", "test", or
    the number of a fold. ``is_tested``: (n,) rows that count. ``group``: (n,) the user's, or None.
    ``has_split``: sides are known.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...] | None
    classes: tuple[str, ...]
    label: NDArray[np.intp]
    predicted: NDArray[np.intp]
    side: NDArray[np.str_]
    is_tested: NDArray[np.bool_]
    group: NDArray[np.intp] | None
    has_split: bool
    notes: tuple[Note, ...]

    def keep(self, index: NDArray[np.intp], *notes: Note) -> Rows:
        """Those rows alone."""
        return Rows(
            tuple(self.names[i] for i in index),
            None if self.paths is None else tuple(self.paths[i] for i in index),
            self.classes,
            self.label[index],
            self.predicted[index],
            self.side[index],
            self.is_tested[index],
            None if self.group is None else self.group[index],
            self.has_split,
            (*self.notes, *notes),
        )


@dataclass(slots=True)
class _Table:
    """The rows as text, while they are put together."""

    names: list[str]
    paths: list[Path] | None
    labels: list[str]
    predicted: list[str]
    side: list[str]
    group: list[str] | None
    notes: list[Note]


def gather(images: Path | None, predictions: Predictions, groups: Mapping[str, str] | None) -> Rows:
    """Match predictions to the folder, and fill in what either knows. Raises `BadData` where they do not
    belong together.

    Folder images without a prediction count as training images, unless the predictions list training rows
    themselves.
    """
    n = len(predictions.names)
    blank = [""] * n
    table = _Table(
        list(predictions.names),
        None,
        list(predictions.labels or blank),
        list(predictions.predicted),
        list(predictions.split or blank),
        list(predictions.group) if predictions.group else None,
        [],
    )
    if images is not None:
        folder = read_folder(images)
        _add_folder(table, folder, matched(predictions, folder), predictions)
    if groups is not None:
        table.group = _looked_up(table.names, groups)
    if not any(table.labels):
        raise BadData("no labels: neither the predictions nor the folders tell what is right; add a label column")
    return _coded(table)


def read_groups(path: Path) -> dict[str, str]:
    """A CSV with the columns image and group: name -> group. Raises `BadData`."""
    if not path.is_file():
        raise BadData(f"{path}: no such file; want a CSV with the columns image and group")
    columns = read_csv(path)
    found = {}
    for ours in ("image", "group"):
        header = next((name for name in columns if name.casefold() in HEADERS[ours]), None)
        if header is None:
            raise BadData(f"{path}: no column {ours} among {listed(list(columns), 8)}; want image and group")
        found[ours] = columns[header]
    return {clean_name(a): clean(b) for a, b in zip(found["image"], found["group"], strict=True)}


def matched(predictions: Predictions, folder: Folder) -> list[int]:
    """Index into the folder of each predicted image, by the longest end of its path that fits exactly one
    file.

    Suffixes may be missing (Ultralytics) and leading zeros too (COCO ids); row numbers follow the sorted
    names. Raises `BadData` with counts and three examples each way.
    """
    if predictions.is_ordinal:
        return _by_order(len(predictions.names), folder)
    index: dict[str, list[int]] = {}
    for i, name in enumerate(folder.names):
        for key in {key for end in _ends(name) for key in (end, str(PurePosixPath(end).with_suffix("")))}:
            index.setdefault(key, []).append(i)
    places = [_place(name, index) for name in predictions.names]
    absent = [name for name, place in zip(predictions.names, places, strict=True) if place is None]
    taken = {place for place in places if place is not None}
    if absent:
        spare = [name for i, name in enumerate(folder.names) if i not in taken]
        raise BadData(
            f"{len(absent)} of {len(places)} predicted images are not in {folder.root} ({listed(absent)}); "
            f"{len(spare)} of its {len(folder.names)} images have no prediction ({listed(spare) or 'none'}): "
            "give the folder that was predicted"
        )
    if len(taken) < len(places):
        raise BadData(f"{len(places) - len(taken)} predictions fall on an image that has one: write longer paths")
    return [place for place in places if place is not None]


def _ends(name: str) -> list[str]:
    """``a/b/c.jpg``, ``b/c.jpg``, ``c.jpg``."""
    parts = [part for part in name.split("/") if part]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _place(name: str, index: Mapping[str, list[int]]) -> int | None:
    ends = [*_ends(name), *(f"{int(name):0{width}d}" for width in range(1, 17) if name.isdecimal())]
    for key in ends:
        found = index.get(key, [])
        if len(found) == 1:
            return found[0]
        if found:
            raise BadData(f"{name}: {len(found)} images of the folder end so; write longer paths in the predictions")
    return None


def _by_order(n: int, folder: Folder) -> list[int]:
    tested = [i for i, split in enumerate(folder.split) if split == "test"] or list(range(len(folder.names)))
    if len(tested) != n:
        raise BadData(
            f"the predictions are {n} numbered rows, {folder.root} has {len(tested)} images to be matched "
            "in sorted order: give the folder of exactly the predicted images, or write their names"
        )
    return sorted(tested, key=lambda i: folder.names[i])


def _add_folder(table: _Table, folder: Folder, places: Sequence[int], predictions: Predictions) -> None:
    if predictions.is_ordinal:
        table.notes.append(Note("by_order", (len(places),)))
    differs = [
        folder.names[place]
        for place, label in zip(places, table.labels, strict=True)
        if label and folder.labels[place] and clean(folder.labels[place]) != label
    ]
    are_classes = set(table.labels) & {clean(label) for label in folder.labels}  # images/ alone is no class
    if differs and are_classes and not _are_numbers(table.labels):
        table.notes.append(Note("labels_differ", (len(differs), listed(differs))))
    table.names = [folder.names[place] for place in places]
    table.paths = [folder.paths[place] for place in places]
    table.labels = [own or folder.labels[place] for own, place in zip(table.labels, places, strict=True)]
    table.side = [own or folder.split[place] for own, place in zip(table.side, places, strict=True)]
    _add_spare(table, folder, places)
    # In the folder's order, whatever order the predictions stood in: an output says nothing of the camera.
    place = {name: i for i, name in enumerate(folder.names)}
    order = sorted(range(len(table.names)), key=lambda i: place[table.names[i]])
    for column in (table.names, table.labels, table.predicted, table.side, table.group or []):
        column[:] = [column[i] for i in order if column]
    table.paths = [table.paths[i] for i in order] if table.paths else None


def _add_spare(table: _Table, folder: Folder, places: Sequence[int]) -> None:
    """Images without a prediction: what the model was trained on, unless the predictions name training
    rows.
    """
    taken = set(places)
    spare = [i for i in range(len(folder.names)) if i not in taken]
    if not spare or table.paths is None:
        return
    if "train" in table.side or any(side.isdecimal() for side in table.side):
        table.notes.append(Note("unlisted_dropped", (len(spare),)))
        return
    if not all(folder.split[i] for i in spare):
        table.notes.append(Note("unlisted_train", (len(spare),)))
    table.side = [own or "test" for own in table.side]
    table.names += [folder.names[i] for i in spare]
    table.paths += [folder.paths[i] for i in spare]
    table.labels += [folder.labels[i] for i in spare]
    table.predicted += [""] * len(spare)
    table.side += [folder.split[i] or "train" for i in spare]
    if table.group is not None:
        table.group += [""] * len(spare)


def _looked_up(names: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    ends: dict[str, str] = {}
    for name, group in groups.items():
        for end in _ends(name):
            # An end that two files share belongs to neither, unless they are of one group.
            ends[end] = group if ends.get(end, group) == group else ""
    found = [next((ends[end] for end in _ends(name) if ends.get(end)), "") for name in names]
    missing = [name for name, group in zip(names, found, strict=True) if not group]
    if missing:
        raise BadData(f"groups: {len(missing)} of {len(names)} images have none ({listed(missing)}): list every image")
    return found


def _coded(table: _Table) -> Rows:
    named = sorted({label for label in table.labels if label})
    predicted = _answers(table, named)
    classes = (*named, *sorted({answer for answer in predicted if answer} - set(named)))
    code = {name: i for i, name in enumerate(classes)} | {"": UNKNOWN}
    label = np.array([code[name] for name in table.labels], dtype=np.intp)
    has_split = all(table.side)
    is_tested = _tested(table, label, has_split)
    silent = int(np.count_nonzero(is_tested & np.array([answer == "" for answer in predicted])))
    if silent:
        table.notes.append(Note("no_answer", (silent,)))
    return Rows(
        tuple(table.names),
        None if table.paths is None else tuple(table.paths),
        classes,
        label,
        np.array([code[name] for name in predicted], dtype=np.intp),
        np.array(table.side, dtype=str),
        is_tested,
        _group_codes(table.group),
        has_split,
        tuple(table.notes),
    )


def _answers(table: _Table, named: Sequence[str]) -> list[str]:
    """The predicted class names; class numbers are read as places in the sorted list of classes, and said
    to be.
    """
    given = {answer for answer in table.predicted if answer}
    if given & set(named):
        return table.predicted
    if given and _are_numbers(given) and max(int(float(answer)) for answer in given) < len(named):
        table.notes.append(Note("class_numbers", (", ".join(f"{i} = {name}" for i, name in enumerate(named[:4])),)))
        return [named[int(float(answer))] if answer else "" for answer in table.predicted]
    raise BadData(
        f"no predicted class ({listed(sorted(given)) or 'none'}) is among the labels ({listed(named)}): name "
        " the classes alike, or give --classes in the order of their numbers"
    )


def _are_numbers(values: Sequence[str] | set[str]) -> bool:
    return all(value.removesuffix(".0").isdecimal() for value in values if value)


def _tested(table: _Table, label: NDArray[np.intp], has_split: bool) -> NDArray[np.bool_]:
    side = np.array(table.side, dtype=str)  # (n,)
    is_known: NDArray[np.bool_] = label != UNKNOWN  # (n,)
    if any(table.side) and not has_split:
        raise BadData(f"{table.side.count('')} images have no split, others have: fill in train, val or test for all")
    if not has_split:
        table.notes.append(Note("no_split"))
        return is_known
    if np.char.isdecimal(side).all():
        return is_known
    for name in _SIDES:
        is_tested: NDArray[np.bool_] = (side == name) & is_known  # (n,)
        if is_tested.any():
            if name == "val":
                table.notes.append(Note("validation_only"))
            return is_tested
    raise BadData("only training rows: the accuracy on images that were learnt from says nothing; add test rows")


def _group_codes(groups: Sequence[str] | None) -> NDArray[np.intp] | None:
    """(n,) numbers; an image without a group is one of its own."""
    if groups is None or not any(groups):
        return None
    own = [group or f"\0{i}" for i, group in enumerate(groups)]
    return np.unique(np.array(own), return_inverse=True)[1]
