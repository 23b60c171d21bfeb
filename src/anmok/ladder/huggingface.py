"""Data sets of the ``datasets`` library: by their name on the hub, or saved on disk."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from anmok.errors import BadData, MissingDependency, WeightsUnavailable
from anmok.files import write_beside
from anmok.ladder.dataset import Dataset, checked
from anmok.weights import cache_dir

_MARKERS = ("dataset_info.json", "dataset_dict.json", "state.json")


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return any((folder / marker).is_file() for marker in _MARKERS)


def read(name: str) -> Dataset:
    """The images and class labels of ``owner/name`` or of a folder that ``save_to_disk`` wrote; a split called test
    becomes the test set. Rows without a label (-1 or none, as in the test split of a competition) are left out
    with a warning.

    Raises:
        MissingDependency: the package ``datasets`` is not installed.
        WeightsUnavailable: the hub cannot be reached or has no such data set.
        BadData: there is no column of images or of class labels, or not one row has a label.
    """
    splits = _splits(name)
    first = next(iter(splits.values()))
    image, label = _column(first, "Image", name), _column(first, "ClassLabel", name)
    classes = tuple(first.features[label].names)
    kept = {split: _labelled(rows, label) for split, rows in splits.items()}
    unlabelled = sum(map(len, splits.values())) - sum(map(len, kept.values()))
    # All splits count: a new test split beside an old train split must not be read from the old files.
    version = hashlib.sha256("".join(rows._fingerprint for rows in kept.values()).encode()).hexdigest()[:16]
    root = cache_dir() / "datasets" / f"{name.strip('/').replace('/', '--')}-{version}"
    paths: list[Path] = []
    labels: list[int] = []
    is_test: list[bool] = []
    for split, rows in kept.items():
        paths += _written(rows, image, root / split)
        labels += list(rows[label])
        is_test += [split == "test"] * len(rows)
    if not labels:
        raise BadData(f"hf:{name}: not one row has a label; give a folder of the images and --classes cat,dog")
    has_test = any(is_test) and not all(is_test)
    return checked(
        Dataset(
            title=name,
            root=root,
            paths=tuple(paths),
            classes=classes,
            labels=np.asarray(labels, np.int64),
            is_test=np.asarray(is_test) if has_test else None,
            licence=first.info.license or "",
            warnings=(f"images without a label left out: {unlabelled:,}",) if unlabelled else (),
        )
    )


def _splits(name: str) -> dict[str, Any]:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ModuleNotFoundError:
        raise MissingDependency("hf: data sets need a package: pip install 'anmok[datasets]'") from None
    try:
        loaded = datasets.load_from_disk(name) if is_saved(Path(name)) else datasets.load_dataset(name)
    except (OSError, ValueError, DatasetsError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsUnavailable(
            f"hf:{name} cannot be loaded ({first_line}); "
            "on a machine without the hub, use a folder that save_to_disk wrote"
        ) from None
    if isinstance(loaded, datasets.Dataset):
        return {"train": loaded}
    splits = {str(split): rows for split, rows in loaded.items()}
    return {split: rows for split, rows in splits.items() if split in ("train", "test")} or splits


def _column(rows: Any, kind: str, name: str) -> str:
    for column, feature in rows.features.items():
        if type(feature).__name__ == kind:
            return str(column)
    raise BadData(f"hf:{name}: no column of type {kind} among {', '.join(rows.features)}")


def _labelled(rows: Any, label: str) -> Any:
    """The rows that have a label; the very same where all do."""
    has_label = [value is not None and value >= 0 for value in rows[label]]
    return rows if all(has_label) else rows.select(np.flatnonzero(has_label))


def _written(rows: Any, image: str, folder: Path) -> list[Path]:
    """The encoded bytes as they are in the data set, one file each, written once."""
    import datasets

    if not folder.is_dir():
        raw = rows.cast_column(image, datasets.Image(decode=False))
        with write_beside(folder, is_folder=True) as beside:
            for index, row in enumerate(raw):
                data = row[image]["bytes"] or Path(row[image]["path"]).read_bytes()
                (beside / f"{index:07d}{_suffix(data)}").write_bytes(data)
    return sorted(folder.iterdir())


def _suffix(data: bytes) -> str:
    from PIL import Image as pillow

    with pillow.open(io.BytesIO(data)) as picture:
        return f".{(picture.format or 'png').lower()}"
