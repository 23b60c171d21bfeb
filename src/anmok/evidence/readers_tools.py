"""Predictions as other tools write them: Ultralytics, COCO results, the Trainer of Hugging Face."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData
from anmok.evidence.predictions import WANTED, Predictions, clean, clean_name, digest, label_of, listed
from anmok.evidence.readers_table import from_columns

_COCO = {"images", "categories"}
_STATED = ("predict_accuracy", "test_accuracy", "eval_accuracy", "accuracy")


def from_label_files(folder: Path, classes: Sequence[str] | None) -> Predictions:
    """What ``yolo classify predict save_txt=True`` writes: ``labels/<image>.txt``, a line ``0.93 class name``
    each.

    Names have no suffix. A second run appends to the same files: the highest confidence counts.
    """
    files = sorted(folder.glob("*.txt"))
    best = [_best_line(path) for path in files]
    return Predictions(
        tuple(clean(path.stem) for path in files),
        tuple(label_of(name, classes) for _, name in best),
        None,
        np.array([confidence for confidence, _ in best]),
        None,
        None,
        None,
        "ultralytics",
        digest(files),
    )


def from_json(path: Path, classes: Sequence[str] | None) -> Predictions:
    """COCO results, a saved ``PredictionOutput``, or records. Raises `BadData` for any other JSON."""
    content = read_json(path)
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        if "category_id" in content[0]:
            return _coco(content, _annotations_beside(path), classes, path)
        return from_columns(_transposed(content), classes, path, "records")
    if isinstance(content, dict):
        results = content.get("results", content.get("predictions"))
        if content.keys() >= _COCO and isinstance(results, list):
            return _coco(results, content, classes, path)
        if "predictions" in content and "label_ids" in content:
            return _trainer(content, classes, path)
        if content and all(isinstance(value, list) for value in content.values()):
            return from_columns(content, classes, path, "records")
    raise BadData(f"{path}: JSON of an unknown layout; {WANTED}")


def from_npz(path: Path, classes: Sequence[str] | None) -> Predictions:
    """``np.savez(path, predictions=output.predictions, label_ids=output.label_ids)`` of a
    ``Trainer.predict``.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile):
        raise BadData(f"{path}: no .npz of plain arrays; save it with np.savez, never with pickle") from None
    if "predictions" not in content:
        raise BadData(f"{path}: arrays {listed(sorted(content))}; want predictions (n, C) or (n,), and label_ids (n,)")
    return _trainer(content, classes, path)


def from_predict_results(path: Path, classes: Sequence[str] | None) -> Predictions:
    """``predict_results.txt`` of the Trainer's example scripts: ``index<tab>prediction``, in the data
    set's order.
    """
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    if not rows or any(len(row) != 2 or row[0] != str(i) for i, row in enumerate(rows)):
        raise BadData(f"{path}: want the lines 0, 1, 2 ... `index<tab>prediction` below the header")
    return Predictions(
        tuple(row[0] for row in rows),
        tuple(label_of(row[1], classes) for row in rows),
        None,
        None,
        None,
        None,
        None,
        "trainer",
        digest([path]),
        is_ordinal=True,
    )


def read_json(path: Path) -> Any:
    """The content. Raises `BadData` where it is no UTF-8 JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise BadData(f"{path}: not UTF-8; save it again as UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadData(f"{path}: no JSON ({error.msg} in line {error.lineno})") from None


def _best_line(path: Path) -> tuple[float, str]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        confidence, _, name = line.strip().partition(" ")
        try:
            rows.append((float(confidence), clean(name)))
        except ValueError:
            raise BadData(f"{path}: want lines like `0.93 cat`, found {line.strip()[:40]!r}") from None
        if not name or (name[0].isdigit() and len(name.split()) >= 4):
            raise BadData(
                f"{path}: lines of a detector, not of a classifier; run `yolo classify predict save_txt=True`"
            )
    if not rows:
        raise BadData(f"{path}: empty; the file of a classified image has lines like `0.93 cat`")
    return max(rows, key=lambda row: row[0])


def _annotations_beside(path: Path) -> dict[str, Any]:
    """The one COCO annotation file in the folder of a results file; {} where there is none."""
    found = {}
    for other in sorted(path.parent.glob("*.json")):
        if other != path and isinstance(content := read_json(other), dict) and content.keys() >= _COCO:
            found[other.name] = content
    if len(found) > 1:
        raise BadData(
            f"{path}: several annotation files beside it ({listed(list(found))}): leave the one it belongs to"
        )
    return next(iter(found.values()), {})


def _coco(
    results: Sequence[Mapping[str, Any]], truth: Mapping[str, Any], classes: Sequence[str] | None, path: Path
) -> Predictions:
    """The best-scoring category per image; its one annotated category is the label."""
    categories = {row["id"]: clean(row["name"]) for row in truth.get("categories", ())}
    files = {row["id"]: clean_name(row["file_name"]) for row in truth.get("images", ())}
    best: dict[Any, tuple[float, str]] = {}
    try:
        for row in results:
            files.setdefault(row["image_id"], clean_name(row.get("file_name", row["image_id"])))
            name = categories.get(row["category_id"], label_of(row["category_id"], classes))
            score = float(row.get("score", 1.0))
            if row["image_id"] not in best or score > best[row["image_id"]][0]:
                best[row["image_id"]] = (score, name)
    except (KeyError, TypeError, ValueError):
        raise BadData(f"{path}: COCO results are rows with image_id, category_id and score") from None
    labels = _coco_labels(truth, categories, files, path) if truth.get("annotations") else None
    return Predictions(
        tuple(files.values()),
        tuple(best.get(key, (0.0, ""))[1] for key in files),
        None if labels is None else tuple(labels.get(key, "") for key in files),
        np.array([best.get(key, (np.nan, ""))[0] for key in files]),
        None,
        None,
        None,
        "coco",
        digest([path]),
    )


def _coco_labels(
    truth: Mapping[str, Any], categories: Mapping[Any, str], files: Mapping[Any, str], path: Path
) -> dict[Any, str]:
    found: dict[Any, set[str]] = {}
    for row in truth["annotations"]:
        found.setdefault(row["image_id"], set()).add(categories.get(row["category_id"], clean(row["category_id"])))
    several = [files.get(key, clean(key)) for key, names in found.items() if len(names) > 1]
    if several:
        raise BadData(f"{path}: {len(several)} images carry several categories ({listed(several)}): no classification")
    return {key: next(iter(names)) for key, names in found.items()}


def _transposed(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in keys}


def _trainer(content: Mapping[str, Any], classes: Sequence[str] | None, path: Path) -> Predictions:
    """A ``PredictionOutput``: scores (n, C) or class numbers (n,), label_ids (n,) or None, metrics."""
    try:
        output = np.asarray(content["predictions"], dtype=np.float64)
        given = content.get("label_ids")
        truth = None if given is None else np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadData(f"{path}: predictions must be numbers, (n, C) scores or (n,) classes") from None
    if output.ndim not in (1, 2) or (truth is not None and truth.shape != output.shape[:1]):
        shapes = f"{output.shape} and {None if truth is None else truth.shape}"
        raise BadData(f"{path}: predictions and label_ids of shapes {shapes}: want (n, C) or (n,), and (n,)")
    answer = output.argmax(axis=1) if output.ndim == 2 else output  # (n,)
    metrics = content.get("metrics")
    stated = metrics if isinstance(metrics, dict) else {}
    return Predictions(
        tuple(str(i) for i in range(len(output))),
        tuple(label_of(int(value), classes) for value in answer),
        None if truth is None else tuple(label_of(int(value), classes) for value in truth),
        _softmax_top(output) if output.ndim == 2 else None,
        None,
        None,
        next((float(stated[key]) for key in _STATED if key in stated), None),
        "trainer",
        digest([path]),
        is_ordinal=True,
    )


def _softmax_top(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) the highest probability; rows that are probabilities already stay."""
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        return np.asarray(logits.max(axis=1))  # (n,)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))  # (n, C)
    return np.asarray(1 / shifted.sum(axis=1))  # (n,)
