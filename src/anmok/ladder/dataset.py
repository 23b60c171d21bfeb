"""The user's images and labels, from a folder, a table or a data set. Paths only: nothing is decoded here."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import BadData

MAX_CLASSES = 1000  # beyond, a table of classes and few-shot draws stop making sense
_IMAGE_HEADERS = ("image", "filename", "file", "path", "file_name")
_LABEL_HEADERS = ("label", "class", "target", "category")
_GROUP_HEADERS = ("group", "session", "part", "patient", "batch")


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """``labels`` int64 (n,) index into ``classes``; ``None`` where there are none. ``groups`` int64 (n,): images
    that belong together (one part, one patient), as the user says. ``is_test`` bool (n,): the user's own test set."""

    title: str
    root: Path
    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    is_test: NDArray[np.bool_] | None = None
    licence: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Paths below the root, with forward slashes on every system."""
        return tuple(
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
            for path in self.paths
        )

    def keep(self, indices: NDArray[np.int64], warnings: Iterable[str] = ()) -> Dataset:
        """Those images alone; classes that lose all of theirs are dropped with a warning."""
        kept = replace(
            self,
            paths=tuple(self.paths[i] for i in indices),
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            is_test=None if self.is_test is None else self.is_test[indices],
            warnings=(*self.warnings, *warnings),
        )
        return kept if kept.labels is None else _without_empty(kept)


def read(source: Path, *, labels: Path | None = None, classes: Sequence[str] = (), test: Path | None = None) -> Dataset:
    """``photos/<class>/*.jpg``; or any folder with a table of labels; or an unlabelled folder with ``classes``.

    Raises:
        BadData: the folder is missing or has no images, one class only, or too many.
    """
    if not source.is_dir():
        raise BadData(f"{source}: no such folder; give one with a sub-folder of images per class")
    if labels is not None:
        found = _from_table(source, labels)
    elif classes and not _class_folders(source):
        found = _unlabelled(source, classes)
    else:
        found = _from_folders(source)
    if test is not None:
        found = _with_test(found, read(test))
    return checked(found)


def _class_folders(source: Path) -> list[Path]:
    return [p for p in sorted(source.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _from_folders(source: Path) -> Dataset:
    folders = _class_folders(source)
    if not folders:
        has_images = next(media.find(source), None) is not None
        hint = "add --classes cat,dog for a zero-shot look" if has_images else "there are no images in it"
        raise BadData(f"{source}: no sub-folder per class; {hint}, or --labels labels.csv")
    files = {folder: list(media.find(folder)) for folder in folders}
    empty = [_nfc(folder.name) for folder, found in files.items() if not found]
    files = {folder: found for folder, found in files.items() if found}
    if not files:
        raise BadData(f"{source}: its sub-folders hold no images that anmok reads (JPEG, PNG, WEBP ...)")
    warnings = (f"empty class left out: {', '.join(empty)}",) if empty else ()
    paths = tuple(path for found in files.values() for path in found)
    labels = np.repeat(np.arange(len(files)), [len(found) for found in files.values()])
    names = tuple(_nfc(folder.name) for folder in files)
    return Dataset(source.name, source, paths, names, labels.astype(np.int64), warnings=warnings)


def _unlabelled(source: Path, classes: Sequence[str]) -> Dataset:
    paths = tuple(media.find(source))
    if not paths:
        raise BadData(f"{source}: no images in it that anmok reads (JPEG, PNG, WEBP ...)")
    return Dataset(source.name, source, paths, tuple(_nfc(name.strip()) for name in classes))


def _from_table(source: Path, table: Path) -> Dataset:
    rows = read_table(table)
    by_name = {path.relative_to(source).as_posix(): path for path in media.find(source)}
    by_stem = {path.name: path for path in by_name.values()}
    found: list[tuple[Path, str, str]] = []
    absent: list[str] = []
    for name, label, group in rows:
        path = by_name.get(name) or by_stem.get(Path(name).name)
        if path is None:
            absent.append(name)
        else:
            found.append((path, label, group))
    if not found:
        raise BadData(
            f"{table}: none of its {len(rows)} images is in {source} (the first is {rows[0][0]!r}); "
            "names must be relative to that folder"
        )
    warnings = []
    if absent:
        warnings.append(f"{len(absent)} labels are for absent files, such as {absent[0]}: left out")
    if len(found) < len(by_name):
        warnings.append(f"{len(by_name) - len({p for p, _, _ in found})} images have no label: left out")
    classes = tuple(sorted({label for _, label, _ in found}))
    labels = np.asarray([classes.index(label) for _, label, _ in found], np.int64)
    groups = np.unique([group for _, _, group in found], return_inverse=True)[1].astype(np.int64)
    has_groups = any(group for _, _, group in found)
    return Dataset(
        source.name,
        source,
        tuple(path for path, _, _ in found),
        classes,
        labels,
        groups if has_groups else None,
        warnings=tuple(warnings),
    )


def read_table(table: Path) -> list[tuple[str, str, str]]:
    """Rows (image, label, group) of a CSV or TSV file; the group is empty where there is no such column."""
    if not table.is_file():
        raise BadData(f"{table}: no such file; it needs the columns image,label and may have group")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadData(f"{table}: not UTF-8; save it as UTF-8 CSV") from None
    first = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    image, label = _column(header, _IMAGE_HEADERS), _column(header, _LABEL_HEADERS)
    if image is None or label is None:
        raise BadData(f"{table}: the first line must name the columns image,label[,group]; it says {first[:60]!r}")
    group = _column(header, _GROUP_HEADERS)
    table_rows = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(row):
            continue
        if len(row) < len(header) or not row[label].strip():
            raise BadData(f"{table}: line {number} has no label")
        cells = (
            row[image].strip(),
            _nfc(row[label].strip()),
            row[group].strip() if group is not None else "",
        )
        table_rows.append(cells)
    if not table_rows:
        raise BadData(f"{table}: no rows below the header")
    return table_rows


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _with_test(train: Dataset, test: Dataset) -> Dataset:
    """One data set of both; a class that only one side has is an error that names it."""
    assert train.labels is not None
    assert test.labels is not None
    odd = set(train.classes) ^ set(test.classes)
    if odd:
        raise BadData(f"--test: classes that only one of the folders has: {', '.join(sorted(odd)[:5])}")
    order = np.asarray([train.classes.index(name) for name in test.classes])
    return replace(
        train,
        paths=train.paths + test.paths,
        labels=np.concatenate([train.labels, order[test.labels]]),
        groups=None,
        is_test=np.repeat([False, True], [len(train.paths), len(test.paths)]),
        warnings=train.warnings + test.warnings,
    )


def checked(found: Dataset) -> Dataset:
    if len(found.classes) > MAX_CLASSES:
        raise BadData(
            f"{found.title}: {len(found.classes):,} classes; the ladder compares at most {MAX_CLASSES:,}: "
            "give a folder with fewer, or group them"
        )
    if len(found.classes) < 2:
        only = f" ({found.classes[0]})" if found.classes else ""
        raise BadData(f"{found.title}: only one class{only}; a comparison needs at least two")
    return found


def _without_empty(dataset: Dataset) -> Dataset:
    assert dataset.labels is not None
    present = np.unique(dataset.labels)
    if len(present) == len(dataset.classes):
        return dataset
    gone = [name for i, name in enumerate(dataset.classes) if i not in present]
    renumber = np.full(len(dataset.classes), -1, np.int64)
    renumber[present] = np.arange(len(present))
    return replace(
        dataset,
        classes=tuple(dataset.classes[i] for i in present),
        labels=renumber[dataset.labels],
        warnings=(*dataset.warnings, f"classes without a usable image left out: {', '.join(gone)}"),
    )


def _nfc(text: str) -> str:
    """macOS hands out decomposed Hangul in file names; labels are composed everywhere in anmok."""
    return unicodedata.normalize("NFC", text)
