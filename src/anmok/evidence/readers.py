"""Reading what another tool predicted. The layout is recognised by the path and by what stands in the file.

=====================  ==================================================================================
table                  CSV, TSV, Parquet, JSON records with the columns image, label, pred and, where
                       known, score, split, group
scores per class       the same with a column per class instead of pred
Ultralytics            ``labels/*.txt`` of ``yolo classify predict save_txt=True``; ``predictions.json``
COCO results           rows image_id, category_id, score; the annotations in the same file or beside it
Hugging Face Trainer   ``predict_results.txt``; a ``PredictionOutput`` as ``.npz`` or ``.json``, never pickled
=====================  ==================================================================================

Exports of labels (Roboflow, class folders) hold no predictions: they are the image folder of an audit, and
``read_folder`` takes labels and split from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anmok import media
from anmok.errors import BadData
from anmok.evidence.metadata import SPLIT_FOLDERS
from anmok.evidence.predictions import WANTED, Predictions, clean, clean_name, listed
from anmok.evidence.readers_table import from_csv, from_parquet, one_hot
from anmok.evidence.readers_tools import from_json, from_label_files, from_npz, from_predict_results

ROBOFLOW_LABELS = "_classes.csv"
_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy"})
_BY_SUFFIX: dict[str, Callable[[Path, Sequence[str] | None], Predictions]] = {
    ".csv": from_csv,
    ".tsv": from_csv,
    ".txt": from_csv,
    ".parquet": from_parquet,
    ".json": from_json,
    ".npz": from_npz,
}


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """The images below a folder. ``labels`` and ``split``: "" where the folder does not tell."""

    root: Path
    names: tuple[str, ...]  # below the root, NFC, with "/"
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    split: tuple[str, ...]  # train, val, test or ""


def read_predictions(path: Path, classes: Sequence[str] | None = None) -> Predictions:
    """The predictions at ``path``, a file or the folder that a tool wrote.

    classes: names of the classes, for files that hold class numbers. Raises `BadData` with what is wanted.
    """
    if not path.exists():
        raise BadData(f"{path}: no such file; {WANTED}")
    try:
        return _from_folder(path, classes) if path.is_dir() else _from_file(path, classes)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror}); are you allowed to?") from None


def read_folder(root: Path) -> Folder:
    """Images with what the folders say of them: ``train|valid|test`` first, then a folder per class;
    Roboflow's ``_classes.csv`` beside the images goes before. Raises `BadData` where there is no image.
    """
    if not root.is_dir():
        raise BadData(f"{root}: no such folder; give the folder of the images first, the predictions second")
    paths = tuple(media.find(root))
    if not paths:
        raise BadData(f"{root}: no images there that anmok reads (JPEG, PNG, WEBP ...)")
    parts = [path.relative_to(root).parts for path in paths]
    split = [SPLIT_FOLDERS.get(part[0].casefold(), "") if len(part) > 1 else "" for part in parts]
    tables = {folder: one_hot(folder / ROBOFLOW_LABELS) for folder in _with_table(paths)}
    labels = [
        tables[path.parent].get(clean_name(path.name), "")
        if path.parent in tables
        else _class_folder(part, is_split != "")
        for path, part, is_split in zip(paths, parts, split, strict=True)
    ]
    names = tuple(clean_name("/".join(part)) for part in parts)
    return Folder(root, names, paths, tuple(labels), tuple(split))


def _from_file(path: Path, classes: Sequence[str] | None) -> Predictions:
    if path.name == "predict_results.txt":
        return from_predict_results(path, classes)
    if path.name == ROBOFLOW_LABELS:
        raise BadData(f"{path}: labels without predictions; give its folder as the images, and a predictions file")
    if path.suffix.lower() in _PICKLES:
        raise BadData(f"{path}: may hold pickled code and is not opened; save a .csv, or an .npz by np.savez")
    reader = _BY_SUFFIX.get(path.suffix.lower())
    if reader is None:
        raise BadData(f"{path}: unknown kind of file; {WANTED}")
    return reader(path, classes)


def _from_folder(path: Path, classes: Sequence[str] | None) -> Predictions:
    """The file among those a tool writes into its output folder."""
    for name in ("predictions.json", "predictions.csv", "predictions.parquet", "predict_results.txt"):
        if (path / name).is_file():
            return read_predictions(path / name, classes)
    for folder in (path / "labels", path):
        if any(folder.glob("*.txt")):
            return from_label_files(folder, classes)
    if any(path.glob("confusion_matrix*.png")):
        raise BadData(
            f"{path}: `yolo classify val` keeps no answer per image; run `yolo classify predict "
            "save_txt=True` on the same images and give its folder"
        )
    if any(path.rglob(ROBOFLOW_LABELS)) or next(media.find(path), None) is not None:
        raise BadData(f"{path}: images and labels, no predictions; give it as the images, and a predictions file")
    held = sorted(entry.name for entry in path.iterdir())
    raise BadData(f"{path}: no predictions among {listed(held) or 'its files (it is empty)'}; {WANTED}")


def _with_table(paths: Sequence[Path]) -> list[Path]:
    return [folder for folder in dict.fromkeys(path.parent for path in paths) if (folder / ROBOFLOW_LABELS).is_file()]


def _class_folder(parts: Sequence[str], has_split: bool) -> str:
    below = parts[1:] if has_split else parts
    return clean(below[0]) if len(below) > 1 else ""
