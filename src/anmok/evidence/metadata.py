"""What is known of an image without looking at it: its name, its place in the listing, its file, its camera.

None of it may tell the label. Where it does, a split at random is worth nothing: neighbours in the series lie
on both sides of it (`controls`), and the images have to be grouped (`leaks`).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from anmok.errors import BadData
from anmok.media import Facts

Kind = Literal["sequence", "measure", "category", "naming"]

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "holdout"), "test"),
}
_ROBOFLOW = re.compile(r"[._](?P<suffix>jpe?g|png|bmp|webp)\.rf\.[0-9a-z]{6,}$", re.IGNORECASE)
_STAMP = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.:]?(\d\d)[-_.:]?(\d\d)[-_.T ]?(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?!\d)")
_MOST_MISSING = 0.5  # a column that is empty for more images than this says nothing of the set
_STRETCHES = 5  # per class, so that each of five folds can have one
_APART = -1.0  # where missing values lie, off the ranks 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One thing that could give the label away.

    ``values`` (n, d) float64: ranks between 0 and 1 (-1 where missing) for a ``sequence`` or a ``measure``,
    codes (n, 1) for a ``category`` or a ``naming``. Groups cure a sequence and a category; a naming is no
    matter of groups, and a measure may belong to the thing that is seen.
    """

    name: str  # number, first_number, order, time, folder, camera, bytes, dimensions, wording, label_in_name
    kind: Kind
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """``columns`` that vary, and the parts that `leaks` builds groups from; all (n,)."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    folder: NDArray[np.intp]  # code of the folder, split and label folders left out
    origin: NDArray[np.intp]  # images augmented from one original share a number (Roboflow's `.rf.` names)
    taken: NDArray[np.float64]  # seconds; NaN where unknown
    bytes: NDArray[np.float64]  # NaN where unknown
    pixels: NDArray[np.float64]  # width x height; NaN where unknown

    def column(self, name: str) -> Column | None:
        """The column of that name, if it varies."""
        return next((column for column in self.columns if column.name == name), None)

    def keep(self, index: NDArray[np.intp]) -> Metadata:
        """Those images alone, with the columns as they are."""
        return Metadata(
            tuple(self.names[i] for i in index),
            tuple(Column(column.name, column.kind, column.values[index]) for column in self.columns),
            self.folder[index],
            self.origin[index],
            self.taken[index],
            self.bytes[index],
            self.pixels[index],
        )


def collect(names: Sequence[str], labels: Sequence[str], facts: Sequence[Facts] | None = None) -> Metadata:
    """Metadata of n images in the order in which they are listed.

    names: paths with ``/``, absolute or relative. labels: the class of each, "" where unknown. facts: what
    `media.facts` says of each file; None where the files are not at hand. Raises `BadData` where lengths
    differ.
    """
    n = len(names)
    if len(labels) != n or (facts is not None and len(facts) != n):
        raise BadData(f"{n} names, {len(labels)} labels, {len(facts or ())} facts: give one of each per image")
    stems = [stem(name) for name in names]
    folder = [_folder(name, label) for name, label in zip(names, labels, strict=True)]
    is_sorted = len(set(folder)) == len(set(labels)) == len(set(zip(folder, labels, strict=True)))
    taken = np.array([_taken(s, facts[i] if facts else None) for i, s in enumerate(stems)], dtype=np.float64)
    known = [(f.bytes, f.width, f.height) for f in facts] if facts else [(np.nan,) * 3] * n
    size, width, height = np.array(known, dtype=np.float64).reshape(n, 3).T  # (n,) each
    numbers = [re.findall(r"\d+", s) for s in stems]
    columns = (
        _ranked("number", "sequence", _parsed(numbers, -1)),
        _ranked("first_number", "sequence", _parsed(numbers, 0)),
        _ranked("order", "sequence", _order(stems, labels)),
        _ranked("time", "sequence", taken),
        # A folder per class, whatever it is called, is how the labels were given and no sign of how images were made.
        None if is_sorted else _coded("folder", "category", folder),
        _coded("camera", "category", [f.camera for f in facts] if facts else [""] * n),
        _ranked("bytes", "measure", size),
        _ranked("dimensions", "measure", width, height),
        _coded("label_in_name", "naming", _spelt(stems, labels)),
        _coded("wording", "naming", [re.sub(r"\d+", "#", s).casefold() for s in stems]),
    )
    origin = [
        f"{part}/{source}" if (source := original(name)) else name for part, name in zip(folder, names, strict=True)
    ]
    codes = [np.unique(np.asarray(part, dtype=str), return_inverse=True)[1] for part in (folder, origin)]
    return Metadata(tuple(names), _distinct(columns), codes[0], codes[1], taken, size, width * height)


def stem(name: str) -> str:
    """The file name without folder, suffix and Roboflow's hash: ``a/b_jpg.rf.0f3c92.jpg`` is ``b``."""
    return _ROBOFLOW.sub("", PurePosixPath(name.replace("\\", "/")).stem)


def original(name: str) -> str:
    """The file that an augmented copy was made from, where the name tells (Roboflow's do); else ""."""
    inner = PurePosixPath(name.replace("\\", "/")).stem
    return _ROBOFLOW.sub(r".\g<suffix>", inner) if _ROBOFLOW.search(inner) else ""


def is_sorted_by(labels: NDArray[np.intp], values: NDArray[np.float64]) -> bool:
    """Do the images, ordered by ``values`` (n,), come class by class, in fewer than five stretches per class?

    Such an order is the label: sorted by hand or by a program, it says nothing of what was made together, and there
    is no holding out stretches of which each class has so few.
    """
    ordered = labels[np.argsort(values, kind="stable")]  # (n,)
    stretches = 1 + int(np.count_nonzero(np.diff(ordered)))
    return stretches < _STRETCHES * np.unique(labels).size and stretches < labels.size / 2


def _folder(name: str, label: str) -> str:
    """The folders that say more than the split and the class."""
    parts = PurePosixPath(name.replace("\\", "/")).parts[:-1]
    kept = (part for part in parts if part != label and part.casefold() not in SPLIT_FOLDERS)
    return "/".join(kept)


def _taken(stem_: str, facts: Facts | None) -> float:
    """Seconds since 1970 by EXIF, else by a date and time in the name; NaN."""
    match = _STAMP.search(facts.taken if facts and facts.taken else stem_)
    if match is None:
        return float("nan")
    year, month, day, hour, minute, second = map(int, match.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        return float("nan")
    return float(calendar.timegm((year, month, day, hour, minute, second)))


def _parsed(numbers: Sequence[Sequence[str]], which: int) -> NDArray[np.float64]:
    return np.array([float(found[which]) if found else np.nan for found in numbers], dtype=np.float64)


def _order(stems: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """Place in the listing; where that goes class by class, which says nothing, the place by file name."""
    code = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]  # (n,)
    listed = np.arange(len(stems), dtype=np.float64)
    if not is_sorted_by(code, listed):
        return listed
    ranks = np.empty(len(stems))
    natural = [tuple((part.isdigit(), part.zfill(20)) for part in re.split(r"(\d+)", s)) for s in stems]
    ranks[sorted(range(len(stems)), key=natural.__getitem__)] = listed
    return np.full(len(stems), np.nan) if is_sorted_by(code, ranks) else ranks


def _spelt(stems: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The longest class name that each file name holds as words of its own, or ""."""
    classes = sorted({label for label in labels if re.search(r"[^\W\d_]", label)}, key=len, reverse=True)
    words = [(label, f" {_words(label)} ") for label in classes]
    return [next((label for label, text in words if text in f" {_words(s)} "), "") for s in stems]


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W\d_]+", text.casefold()))


def _ranked(name: str, kind: Kind, *values: NDArray[np.float64]) -> Column | None:
    if any(np.isnan(part).mean() > _MOST_MISSING for part in values if part.size):
        return None
    ranks = [stats.rankdata(part, nan_policy="omit") for part in values]
    scaled = np.stack([(rank - 1) / max(np.nanmax(rank) - 1, 1) for rank in ranks], axis=1)  # (n, d)
    column = Column(name, kind, np.where(np.isnan(scaled), _APART, scaled))
    return column if np.unique(column.values, axis=0).shape[0] > 1 else None


def _coded(name: str, kind: Kind, words: Sequence[str]) -> Column | None:
    levels, code = np.unique(np.asarray(words, dtype=str), return_inverse=True)  # (L,), (n,)
    # A level for nearly every image is a name, not a category: nothing can be learnt from it.
    if not 1 < levels.size <= max(len(words) // 2, 2):
        return None
    return Column(name, kind, code[:, None].astype(np.float64))  # (n, 1)


def _distinct(columns: Sequence[Column | None]) -> tuple[Column, ...]:
    """Without the columns that are missing, constant, or say the same as an earlier one."""
    kept: list[Column] = []
    for column in columns:
        if column is not None and not any(
            column.kind == other.kind and np.array_equal(column.values, other.values) for other in kept
        ):
            kept.append(column)
    return tuple(kept)
