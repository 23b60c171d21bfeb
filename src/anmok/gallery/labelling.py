"""A folder labelled by a model, with the sample that says how far the labels can be trusted."""

from __future__ import annotations

import csv
import io
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from PIL import Image as pillow

from anmok import draw, media
from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import Estimate, accuracy
from anmok.files import write_beside, write_text
from anmok.gallery.yolo import training_set
from anmok.load import Model
from anmok.metrics.annotations import from_results, write_coco, write_voc
from anmok.results import Detections, Failure, Masks
from anmok.tasks import Ask, Detect, Segment

Form = Literal["coco", "yolo", "voc"]
FORMS: tuple[str, ...] = get_args(Form)
SAMPLE = 50  # pictures
TABLE = "audit.csv"
_COLUMNS = ("image", "number", "label", "score", "box", "correct")
_YES, _NO = ("y", "yes", "1", "예", "o"), ("n", "no", "0", "아니오", "x")
_SHEET, _THUMBNAIL = 48, 320  # pictures on one contact sheet; pixels


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was written: pictures, things in them, pictures without any, and what could not be read."""

    pictures: int
    things: int
    empty: int
    failures: tuple[Failure, ...]


def label_folder(
    model: Model,
    paths: Sequence[Path],
    ask: Detect | Segment,
    output: Path,
    form: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Labels for every picture in ``output``, and below ``output/audit`` a random sample to check by eye.

    The sample is 50 pictures, drawn by a fixed seed from those in which something was found, each with its finds
    drawn and numbered, and a table with a row per find and an empty column ``correct``. What has no area is no label
    and left out.

    Raises:
        BadRequest: an unknown form; masks for a form of boxes; two pictures whose labels would be one file; or a
            sample in ``output`` that somebody has answered.
        BadMedia: not one picture could be read.
        CannotWrite: the disk refuses.
    """
    _check(paths, ask, output, form)
    placed: list[tuple[str, Detections | Masks]] = []
    failures: list[Failure] = []
    whole_paths = [path.absolute() for path in paths]
    root = _common_folder(whole_paths)
    answers = model.map(whole_paths, cast("Ask[Any, Any]", ask))  # no checker finds one R for both
    for done, (path, answer) in enumerate(zip(whole_paths, answers, strict=True), start=1):
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            placed.append((path.relative_to(root).as_posix(), _with_area(answer)))
        if progress is not None:
            progress(done, len(paths))
    if not placed:
        raise failures[0].error
    _write(placed, root, output, form)
    _audit(placed, root, output / "audit")
    counts = [len(result) for _, result in placed]
    return Labelled(len(placed), sum(counts), counts.count(0), tuple(failures))


def precision(table: Path) -> Estimate:
    """How many of the finds are right, with an interval: finds in one picture count as a group.

    It says nothing of what the model did not find.

    Raises:
        BadData: a column is missing, or a row is not answered.
    """
    rows = _rows(table)
    if not rows or not {"image", "correct"} <= set(rows[0]):
        raise BadData(f"{table}: want the columns image and correct, as `anmok label` wrote them")
    answers: list[bool] = []
    for line, row in enumerate(rows, start=2):
        said = (row["correct"] or "").strip().lower()
        if said not in (*_YES, *_NO):
            raise BadData(f"{table}, line {line}: correct is {said!r}; answer y or n (or leave the picture's rows out)")
        answers.append(said in _YES)
    return accuracy(np.asarray(answers, np.float64), [row["image"] for row in rows])


def _common_folder(paths: Sequence[Path]) -> Path:
    """The folder that names in the labels are relative to."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def _check(paths: Sequence[Path], ask: Detect | Segment, output: Path, form: str) -> None:
    """What would fail after all the work."""
    if form not in FORMS:
        raise BadRequest(f"--to {form}: want {', '.join(FORMS)}")
    if isinstance(ask, Segment) and form != "coco":
        raise BadRequest(f"--to {form} has no place for masks: take --to coco, or leave --masks out")
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.absolute().with_suffix(""), path)
        if other != path and form != "coco":
            raise BadRequest(f"{other} and {path} would share one file of labels: rename one, or take --to coco")
    table = output / "audit" / TABLE
    if table.exists() and any((row.get("correct") or "").strip() for row in _rows(table)):
        raise BadRequest(f"{table} has answers in it, which would be lost; give another folder")


def _with_area(result: Detections | Masks) -> Detections | Masks:
    if isinstance(result, Masks):
        return result[[index for index, rle in enumerate(result.rles) if rle.counts]]
    return result[np.flatnonzero((result.xyxy[:, 2:] > result.xyxy[:, :2]).all(axis=1))]


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{table}: cannot be read ({error})") from None


def _write(placed: Sequence[tuple[str, Detections | Masks]], root: Path, output: Path, form: str) -> None:
    files, results = [file for file, _ in placed], [result for _, result in placed]
    # COCO's JSON has room for scores; in the others they would be read as something else, or not at all.
    whole = from_results(files, results, has_scores=form == "coco")
    if form == "coco":
        write_coco(whole, output / "annotations.json")
    elif form == "yolo":
        training_set(whole, root, output)
    else:
        write_voc(whole, output)


def _audit(placed: Sequence[tuple[str, Detections | Masks]], root: Path, folder: Path) -> None:
    found = [(name, result) for name, result in placed if len(result)]
    rng = np.random.default_rng(0)
    chosen = sorted(rng.choice(len(found), min(SAMPLE, len(found)), replace=False)) if found else []
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    thumbs: list[tuple[str, pillow.Image]] = []
    for index in chosen:
        name, result = found[index]
        drawn = draw.numbered(result, media.read(root / name))
        with write_beside(folder / (name.replace("/", "__") + ".jpg")) as beside:
            drawn.save(beside, "JPEG", quality=90)
        drawn.thumbnail((_THUMBNAIL, _THUMBNAIL))
        thumbs.append((name, drawn))
        rows = zip(result.names, result.scores.tolist(), result.xyxy.round(1).tolist(), strict=True)
        for number, (label, score, box) in enumerate(rows):
            table.writerow([name, number, label, f"{score:.3f}", " ".join(f"{side:g}" for side in box), ""])
    write_text(folder / TABLE, text.getvalue())
    for start in range(0, len(thumbs), _SHEET):
        with write_beside(folder / f"sheet-{start // _SHEET + 1}.jpg") as beside:
            draw.contact_sheet(thumbs[start : start + _SHEET]).save(beside, "JPEG", quality=88)
