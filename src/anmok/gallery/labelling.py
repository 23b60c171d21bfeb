"""A folder labelled by a model, with the sample that says how far the labels can be trusted."""

from __future__ import annotations

import csv
import io
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from anmok import draw, media
from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import Estimate, accuracy
from anmok.files import write_beside, write_text
from anmok.gallery.annotated import annotated
from anmok.load import Model
from anmok.metrics.annotations import Annotations, write_coco, write_voc, write_yolo
from anmok.results import Detections, Failure, Masks
from anmok.tasks import Ask, Detect, Segment

Form = Literal["coco", "yolo", "voc"]
FORMS: tuple[str, ...] = get_args(Form)
SAMPLE = 50  # pictures
TABLE = "audit.csv"
_COLUMNS = ("image", "number", "label", "score", "box", "correct")
_YES, _NO = ("y", "yes", "1", "예", "o"), ("n", "no", "0", "아니오", "x")
_SHEET = 48  # pictures on one contact sheet


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
    drawn and numbered, and a table with a row per find and an empty column ``correct``.

    Raises:
        BadRequest: an unknown form.
        BadMedia: not one picture could be read.
        CannotWrite: the disk refuses.
    """
    if form not in FORMS:
        raise BadRequest(f"--to {form}: want {', '.join(FORMS)}")
    placed: list[tuple[str, Detections | Masks]] = []
    failures: list[Failure] = []
    whole_paths = [path.absolute() for path in paths]
    root = _common_folder(whole_paths)
    question: Ask[Any, Any] = ask
    answers = model.map(whole_paths, question)
    for done, (path, answer) in enumerate(zip(whole_paths, answers, strict=True), start=1):
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            placed.append((path.relative_to(root).as_posix(), answer))
        if progress is not None:
            progress(done, len(paths))
    if not placed:
        raise failures[0].error
    whole = annotated(placed)
    _write(whole, output, form)
    _audit(placed, root, output / "audit")
    empty = sum(not len(result) for _, result in placed)
    return Labelled(len(placed), len(whole), empty, tuple(failures))


def precision(table: Path) -> Estimate:
    """How many of the finds are right, with an interval: finds in one picture count as a group.

    It says nothing of what the model did not find.

    Raises:
        BadData: a column is missing, or a row is not answered.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{table}: cannot be read ({error})") from None
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


def _write(whole: Annotations, output: Path, form: str) -> None:
    if form == "coco":
        write_coco(whole, output / "annotations.json")
    elif form == "yolo":
        write_yolo(whole, output)
    else:
        write_voc(whole, output)


def _audit(placed: Sequence[tuple[str, Detections | Masks]], root: Path, folder: Path) -> None:
    found = [(name, result) for name, result in placed if len(result)]
    rng = np.random.default_rng(0)
    chosen = sorted(rng.choice(len(found), min(SAMPLE, len(found)), replace=False)) if found else []
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    thumbs = []
    for index in chosen:
        name, result = found[index]
        drawn = draw.plot(result, media.read(root / name))
        path = folder / (name.replace("/", "__") + ".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_beside(path) as beside:
            drawn.save(beside, "JPEG", quality=90)
        thumbs.append((name, drawn))
        rows = zip(result.names, result.scores.tolist(), result.xyxy.round(1).tolist(), strict=True)
        for number, (label, score, box) in enumerate(rows):
            table.writerow([name, number, label, f"{score:.3f}", " ".join(f"{side:g}" for side in box), ""])
    write_text(folder / TABLE, text.getvalue())
    for start in range(0, len(thumbs), _SHEET):
        with write_beside(folder / f"sheet-{start // _SHEET + 1}.jpg") as beside:
            draw.contact_sheet(thumbs[start : start + _SHEET]).save(beside, "JPEG", quality=88)
