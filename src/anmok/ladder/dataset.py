"""The user's images and labels, from a folder, a table or a data set. Paths only: nothing is decoded here."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import BadData, BadRequest

MAX_CLASSES = 1000  # beyond, a table of classes and few-shot draws stop making sense
_IMAGE_HEADERS = ("image", "filename", "file", "path", "file_name")
_LABEL_HEADERS = ("label", "class", "target", "category")
_GROUP_HEADERS = ("group", "session", "part", "patient", "batch")
_SPLIT_HEADERS = ("stream", "split", "subset")
_TEST_WORDS = ("measure", "test")
_REPORT = "report.json"  # in a folder that a climb wrote: where the photos are the current folder, it lies among them


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """``labels`` int64 (n,) index into ``classes``; ``None`` where there are none. ``groups`` int64 (n,): images
    that belong together (one part, one patient), as the user says. ``is_test`` bool (n,): the user's own test set.
    ``spare``: images of the same folder without a label, to learn from and never to test on."""

    title: str
    root: Path
    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    is_test: NDArray[np.bool_] | None = None
    licence: str = ""
    warnings: tuple[str, ...] = ()
    spare: tuple[Path, ...] = ()

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
        BadData: the folder is missing or has no images, one class only, or too many; or the table cannot be used.
        BadRequest: labels are told in two ways at once, or a test folder is given where nothing is labelled.
    """
    if labels is not None and classes:
        raise BadRequest("give --labels or --classes, not both: --classes is for images without labels")
    if classes and test is not None:
        raise BadRequest("--test needs labels to learn from; with --classes there are none: drop one of the two")
    if not source.is_dir():
        what = "not a folder" if source.exists() else "no such folder"
        raise BadData(f"{source}: {what}; give one with a sub-folder of images per class")
    if labels is not None:
        found = _from_table(source, labels)
    elif classes:
        found = _unlabelled(source, classes)
    else:
        found = _from_folders(source)
    if test is not None and found.is_test is not None:
        raise BadRequest(f"{labels} says itself which images are for the test: drop --test, or that column")
    if test is not None:
        found = _with_test(found, read(test))
    return checked(found)


def _title(source: Path) -> str:
    return source.resolve().name or str(source)  # "." and "/" have no name of their own


def _class_folders(source: Path) -> list[Path]:
    try:
        folders = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise BadData(f"{source}: cannot be opened ({error.strerror}); are you allowed to read it?") from None
    return [folder for folder in folders if not (folder / _REPORT).is_file()]


def _from_folders(source: Path) -> Dataset:
    folders = _class_folders(source)
    if not folders:
        if next(media.find(source), None) is None:
            raise BadData(f"{source}: no images in it; give a folder with a sub-folder of images per class")
        raise BadData(
            f"{source}: no sub-folder per class; add --labels labels.csv, or --classes cat,dog for a zero-shot look"
        )
    files = {folder: list(media.find(folder)) for folder in folders}
    empty = [_nfc(folder.name) for folder, found in files.items() if not found]
    files = {folder: found for folder, found in files.items() if found}
    if not files:
        raise BadData(f"{source}: its sub-folders hold no images that anmok reads (JPEG, PNG, WEBP ...)")
    warnings = (f"empty class left out: {', '.join(empty)}",) if empty else ()
    paths = tuple(path for found in files.values() for path in found)
    labels = np.repeat(np.arange(len(files)), [len(found) for found in files.values()])
    names = tuple(_nfc(folder.name) for folder in files)
    return Dataset(_title(source), source, paths, names, labels.astype(np.int64), warnings=warnings)


def _unlabelled(source: Path, classes: Sequence[str]) -> Dataset:
    folders = [folder.name for folder in _class_folders(source)]
    if {_nfc(name) for name in folders} >= {_nfc(name) for name in classes}:
        raise BadRequest(f"{source} has a sub-folder per class, which is a label: drop --classes to use them")
    paths = tuple(media.find(source))
    if not paths:
        raise BadData(f"{source}: no images in it that anmok reads (JPEG, PNG, WEBP ...)")
    return Dataset(_title(source), source, paths, tuple(_nfc(name.strip()) for name in classes))


def _from_table(source: Path, table: Path) -> Dataset:
    rows = read_table(table)
    files = {_nfc(path.relative_to(source).as_posix()): path for path in media.find(source)}
    places = _placed([row.image for row in rows], files, table)
    # A line that stands there twice is one image; an image with two labels is told from its bytes, as in folders.
    known: dict[tuple[Path, str], Row] = {}
    for place, row in zip(places, rows, strict=True):
        if place is not None:
            known.setdefault((place, row.label), row)
    absent = [row.image for place, row in zip(places, rows, strict=True) if place is None]
    if not known:
        raise BadData(
            f"{table}: none of its {len(rows):,} images is in {source} (the first is {rows[0].image!r}); "
            "names must be relative to that folder"
        )
    warnings = []
    if absent:
        warnings.append(f"labels of absent files left out: {len(absent):,}, such as {absent[0]}")
    labelled = {path for path, _ in known}
    spare = tuple(path for path in files.values() if path not in labelled)
    if spare:
        warnings.append(f"images without a label left out: {len(spare):,}")
    classes, labels = np.unique([label for _, label in known], return_inverse=True)
    is_test = np.asarray([row.is_test for row in known.values()])
    return Dataset(
        _title(source),
        source,
        tuple(path for path, _ in known),
        tuple(str(name) for name in classes),
        labels.astype(np.int64),
        _numbered([row.group for row in known.values()]),
        is_test if 0 < is_test.sum() < len(is_test) else None,
        warnings=tuple(warnings),
        spare=spare,
    )


def _placed(names: Sequence[str], files: Mapping[str, Path], table: Path) -> list[Path | None]:
    """The file of each name. Where the table was written for other folders, the last part of a path decides, if
    exactly one name and one file that no line names in full end so."""
    exact = files.keys() & set(names)
    spare: dict[str, list[str]] = {}
    for file in files.keys() - exact:
        spare.setdefault(_last(file), []).append(file)
    strangers = Counter(_last(name) for name in set(names) - exact)
    places: list[Path | None] = []
    for name in names:
        ends = [name] if name in exact else spare.get(_last(name), [])
        if name not in exact and ends and len(ends) * strangers[_last(name)] > 1:
            raise BadData(f"{table}: {name} may be {min(ends)} or another file; write its path below the folder")
        places.append(files[ends[0]] if ends else None)
    return places


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _numbered(groups: Sequence[str]) -> NDArray[np.int64] | None:
    """(n,) numbers; an image without a group is one of its own, and None stands for no groups at all."""
    if not any(groups):
        return None
    own = [group or f"\0{index}" for index, group in enumerate(groups)]
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


class Row(NamedTuple):
    """One line of a table of labels. ``is_test``: its column ``split`` (or ``stream``) says test (or measure)."""

    image: str
    label: str
    group: str = ""
    is_test: bool = False


def read_table(table: Path) -> list[Row]:
    """Rows of a CSV or TSV file; group and split may be missing.

    Raises:
        BadData: the file is missing, no UTF-8 table, lacks a column, or a line lacks its image or label.
    """
    text = read_text(table, "the columns image,label and, if known, group")
    delimiter = max((",", ";", "\t"), key=text.partition("\n")[0].count)
    rows = _cells(text, delimiter, table)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    image, label = _column(header, _IMAGE_HEADERS), _column(header, _LABEL_HEADERS)
    if image is None or label is None:
        said = f"it says {','.join(rows[0])[:60]!r}" if rows else "it is empty"
        raise BadData(f"{table}: the first line must name the columns image,label[,group]; {said}")
    group, split = _column(header, _GROUP_HEADERS), _column(header, _SPLIT_HEADERS)
    table_rows = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(header) or not row[label].strip() or not row[image].strip():
            raise BadData(f"{table}: line {number} lacks its image or label; fill it in or delete the line")
        name = _nfc(row[image].strip()).replace("\\", "/").removeprefix("./")
        together = row[group].strip() if group is not None else ""
        is_test = split is not None and row[split].strip().lower() in _TEST_WORDS
        table_rows.append(Row(name, _nfc(row[label].strip()), together, is_test))
    if not table_rows:
        raise BadData(f"{table}: no rows below the header; write one per image: photo.jpg,cat")
    return table_rows


def read_sentences(table: Path, classes: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The sentences of each class out of a CSV file (label, sentence) with or without a header.

    Raises:
        BadData: the file is missing, no UTF-8 table, has a line of another form, or names an unknown class.
    """
    rows = _cells(read_text(table, "the columns label,sentence"), ",", table)
    sentences: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        is_header = number == 1 and [cell.strip().lower() for cell in row] == ["label", "sentence"]
        if is_header or not any(cell.strip() for cell in row):
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise BadData(f"{table}: line {number} is not label,sentence; put a sentence with commas in quotes")
        sentences.setdefault(_nfc(row[0].strip()), []).append(row[1].strip())
    unknown = sorted(set(sentences) - set(classes))
    if unknown:
        raise BadData(f"{table}: no such class: {', '.join(unknown[:5])}; there are {', '.join(classes[:5])}")
    if not sentences:
        raise BadData(f"{table}: no sentences in it; write one per line: cat,a small animal with whiskers")
    return tuple((label, tuple(lines)) for label, lines in sentences.items())


def read_text(table: Path, wanted: str) -> str:
    """The content of a UTF-8 file, with or without a byte order mark.

    Raises:
        BadData: the file is missing, cannot be read, or is in another encoding.
    """
    if not table.is_file():
        raise BadData(f"{table}: no such file; want a CSV file with {wanted}")
    try:
        return table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadData(f"{table}: not UTF-8; save it as CSV UTF-8") from None
    except OSError as error:
        raise BadData(f"{table}: cannot be read ({error.strerror}); are you allowed to?") from None


def _cells(text: str, delimiter: str, table: Path) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise BadData(f"{table}: not a table that can be read ({error}); save it as CSV UTF-8") from None


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _with_test(train: Dataset, test: Dataset) -> Dataset:
    """One data set of both; a class that only one side has is an error that names it. The training images keep
    their groups; a test image is one of its own."""
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
        groups=None if train.groups is None else _continued(train.groups, len(test.paths)),
        is_test=np.repeat([False, True], [len(train.paths), len(test.paths)]),
        warnings=train.warnings + test.warnings,
    )


def _continued(groups: NDArray[np.int64], more: int) -> NDArray[np.int64]:
    return np.concatenate([groups, groups.max() + 1 + np.arange(more)])  # (n + more,)


def checked(found: Dataset) -> Dataset:
    """The same, where its classes can be compared.

    Raises:
        BadData: one class only, or more than `MAX_CLASSES`.
    """
    if len(found.classes) > MAX_CLASSES:
        raise BadData(
            f"{found.title}: {len(found.classes):,} classes; the ladder compares at most {MAX_CLASSES:,}: "
            "leave some out, or put kindred classes together"
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
