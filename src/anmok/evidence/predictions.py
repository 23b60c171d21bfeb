"""What another tool predicted, as one plain value, whatever file it came from."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData

WANTED = "want columns image, label, pred and, if known, score, split, group (CSV, TSV, Parquet, JSON records)"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """n rows, in the order of the file. Names are NFC, with ``/``.

    ``predicted``: "" where the model gave no answer. ``labels``: "" where unknown; None where the file has
    none. ``score``: (n,) float64, NaN where missing. ``split``: train, val or test, or the number of the fold
    that the row was held out in. ``group``: "" where a row has none. ``claimed``: an accuracy that the file
    itself states. ``layout``: what the file was read as. ``is_ordinal``: the names are row numbers 0..n-1,
    not files.
    """

    names: tuple[str, ...]
    predicted: tuple[str, ...]
    labels: tuple[str, ...] | None
    score: NDArray[np.float64] | None
    split: tuple[str, ...] | None
    group: tuple[str, ...] | None
    claimed: float | None
    layout: str
    sha256: str
    is_ordinal: bool = False

    def __post_init__(self) -> None:
        n = len(self.names)
        parts = (self.predicted, self.labels, self.score, self.split, self.group)
        if any(part is not None and len(part) != n for part in parts):
            raise BadData(f"predictions: {n} names, but another column is longer or shorter")
        if n == 0:
            raise BadData(f"predictions: no rows; {WANTED}")
        twice = repeated(self.names)
        if twice:
            raise BadData(f"predictions: {len(twice)} images stand there twice ({listed(twice)}): keep one row of each")


def clean(text: object) -> str:
    """A cell as text: NFC (a Mac writes Hangul file names decomposed), trimmed; "" for None and NaN."""
    if text is None or (isinstance(text, float) and np.isnan(text)):
        return ""
    return unicodedata.normalize("NFC", str(text)).strip()


def clean_name(text: object) -> str:
    """A file name: NFC, forward slashes, no leading ``./``."""
    return clean(text).replace("\\", "/").removeprefix("./")


def label_of(value: object, classes: Sequence[str] | None) -> str:
    """A class by its name, or by its number in ``classes``. Raises `BadData` for a number that has no
    class.
    """
    text = clean(value)
    number = text.removesuffix(".0")
    if not classes or text in classes or not number.isdecimal():
        return text
    if int(number) >= len(classes):
        raise BadData(f"class number {number}, but only {len(classes)} classes were named ({listed(classes)})")
    return classes[int(number)]


def repeated(names: Iterable[str]) -> list[str]:
    """Those that occur more than once, in order."""
    return [name for name, count in Counter(names).items() if count > 1]


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c ...``: the first few, for a message."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def digest(paths: Iterable[Path]) -> str:
    """sha256 over the bytes of the files, in order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()
