"""Predictions in rows and columns: CSV, TSV, Parquet, JSON records. Headers by any of their usual names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anmok.errors import BadData
from anmok.evidence.metadata import SPLIT_FOLDERS
from anmok.evidence.predictions import WANTED, Predictions, clean, clean_name, digest, label_of, listed

HEADERS = {
    "image": (
        "image",
        "filename",
        "file_name",
        "file",
        "path",
        "filepath",
        "image_path",
        "image_name",
        "img",
        "image_id",
    ),
    "label": (
        "label",
        "target",
        "true",
        "gt",
        "ground_truth",
        "truth",
        "y_true",
        "actual",
        "class",
        "true_label",
    ),
    "pred": (
        "pred",
        "prediction",
        "predicted",
        "y_pred",
        "pred_label",
        "predicted_label",
        "predicted_class",
        "top1",
    ),
    "score": ("score", "confidence", "conf", "prob", "probability"),
    "split": ("split", "subset", "partition", "set", "fold", "cv_fold"),
    "group": ("group", "session", "patient", "subject", "video", "module", "part", "batch", "lot", "site"),
}
_DELIMITERS = ",;\t|"
_BYTE_ORDERS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_FOLD = re.compile(r"(?:fold)?[-_ ]?(\d+)(?:\.0)?", re.IGNORECASE)

Columns = Mapping[str, Sequence[object]]


def from_csv(path: Path, classes: Sequence[str] | None) -> Predictions:
    """CSV, TSV or any other delimiter of ``, ; tab |``, UTF-8 with or without a byte order mark."""
    return from_columns(read_csv(path), classes, path, "table")


def from_parquet(path: Path, classes: Sequence[str] | None) -> Predictions:
    """A Parquet file with the same columns."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{path}: no Parquet file that can be read ({str(error).splitlines()[0]})") from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return from_columns(columns, classes, path, "parquet")


def read_csv(path: Path) -> dict[str, list[object]]:
    """Column by header, as text. Raises `BadData` for other encodings, ragged rows and empty files."""
    rows = [row for row in _rows(path) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise BadData(f"{path}: no rows below the header; {WANTED}")
    header = [clean(cell) for cell in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise BadData(f"{path}: row {number} has {len(row)} cells, the header {len(header)}: quote the delimiter")
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}


def from_columns(columns: Columns, classes: Sequence[str] | None, path: Path, layout: str) -> Predictions:
    """Columns by any usual header to `Predictions`; a column per class with its scores counts as the
    prediction.

    Raises `BadData` that names the columns found and those wanted.
    """
    names = _found(columns)
    image = names.get("image")
    if image is None:
        raise BadData(f"{path}: no image column among {listed(list(columns), 8)}; {WANTED}")
    if "pred" in names:
        predicted = [label_of(value, classes) for value in columns[names["pred"]]]
        score = _numbers(columns, names.get("score"), path)
    else:
        predicted, score = _widest(columns, set(names.values()), path)
    labels = [label_of(value, classes) for value in columns[names["label"]]] if "label" in names else None
    split = _splits(columns[names["split"]], path) if "split" in names else None
    return Predictions(
        tuple(clean_name(value) for value in columns[image]),
        tuple(predicted),
        None if labels is None else tuple(labels),
        score,
        split,
        tuple(clean(value) for value in columns[names["group"]]) if "group" in names else None,
        None,
        layout,
        digest([path]),
    )


def one_hot(path: Path) -> dict[str, str]:
    """Roboflow's ``_classes.csv``: file name -> class, from one 0/1 column per class.

    Raises `BadData` where an image has several classes (that export is multi-label).
    """
    columns = read_csv(path)
    image = _found(columns).get("image")
    if image is None or len(columns) < 3:
        raise BadData(f"{path}: want a filename column and a 0/1 column per class, found {listed(list(columns), 8)}")
    classes = [name for name in columns if name != image]
    marks = np.array([[clean(cell) for cell in columns[name]] for name in classes]).T  # (n, C)
    if not np.isin(marks, ("0", "1")).all():
        raise BadData(f"{path}: the class columns must hold 0 or 1")
    is_marked = marks == "1"  # (n, C)
    several = np.flatnonzero(is_marked.sum(axis=1) > 1)
    files = [clean_name(value) for value in columns[image]]
    if several.size:
        raise BadData(f"{path}: {several.size} images have several classes ({files[several[0]]}): audit one class each")
    return {name: classes[int(row.argmax())] for name, row in zip(files, is_marked, strict=True) if row.any()}


def _rows(path: Path) -> list[list[str]]:
    raw = path.read_bytes()
    try:
        text = raw.decode(_BYTE_ORDERS.get(raw[:2], "utf-8-sig"))
    except UnicodeDecodeError:
        raise BadData(f"{path}: not UTF-8; save it again as `CSV UTF-8`") from None
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise BadData(f"{path}: no table that can be read ({error})") from None


def _found(columns: Columns) -> dict[str, str]:
    """Our name of a column -> the header it has here; the earlier synonym wins."""
    known = {re.sub(r"[\s-]+", "_", header.casefold()): header for header in reversed(list(columns))}
    found: dict[str, str] = {}
    for ours, theirs in HEADERS.items():
        header = next((known[name] for name in theirs if name in known), None)
        if header is not None:
            found[ours] = header
    return found


def _widest(columns: Columns, taken: set[str], path: Path) -> tuple[list[str], np.ndarray]:
    """The class with the highest score, where there is a column of scores per class."""
    classes = [name for name in columns if name not in taken]
    if len(classes) < 2:
        raise BadData(f"{path}: no column with the prediction among {listed(list(columns), 8)}; {WANTED}")
    try:
        scores = np.array([[float(clean(cell)) for cell in columns[name]] for name in classes]).T  # (n, C)
    except ValueError:
        raise BadData(f"{path}: no column with the prediction among {listed(list(columns), 8)}; {WANTED}") from None
    best = scores.argmax(axis=1)  # (n,)
    return [classes[i] for i in best], scores.max(axis=1)


def _numbers(columns: Columns, header: str | None, path: Path) -> np.ndarray | None:
    if header is None:
        return None
    try:
        return np.array([float(clean(cell) or "nan") for cell in columns[header]])
    except ValueError:
        raise BadData(f"{path}: the column {header} must hold numbers") from None


def _splits(cells: Sequence[object], path: Path) -> tuple[str, ...]:
    """train, val, test; or the number of a fold."""
    words = [clean(cell).casefold() for cell in cells]
    folds = [_FOLD.fullmatch(word) for word in words]
    if all(fold is not None for fold in folds):
        return tuple(fold.group(1) for fold in folds if fold is not None)
    unknown = sorted({word for word in words if word not in SPLIT_FOLDERS})
    if unknown:
        raise BadData(f"{path}: split must be train, val or test, or the number of a fold, not {listed(unknown)!r}")
    return tuple(SPLIT_FOLDERS[word] for word in words)
