"""The report of a first look: the same kind of page as a climb's, and the images to label next."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from anmok.errors import BadData
from anmok.evidence.intervals import Estimate
from anmok.files import write_beside
from anmok.ladder.dataset import read_text
from anmok.ladder.glance import FIRST, Glance, Prospect
from anmok.ladder.report.bars import axis, interval_bar
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.glance_words import (
    LABEL_ME,
    LABEL_MORE,
    answer,
    images,
    listed,
    prospect,
    questions,
    texts,
)
from anmok.ladder.report.josa import with_particle
from anmok.ladder.report.page import data_uri, environment
from anmok.ladder.report.phrases import texts as common_texts

SHOWN_CLASSES, SHOWN_STRIPS, SHOWN_PAIRS = 25, 12, 12
SECTIONS = ("answer", "shares", "images", "labels", "honesty", "reproduce")
_HEADER = ("image", "label")


def write_glance(glance: Glance, thumbnails: Mapping[int, bytes], folder: Path, lang: Lang = "en") -> tuple[Path, ...]:
    """Write ``index.html``, ``report.json``, ``predictions.parquet`` and the images to label into ``folder``.

    A table of images to label in which somebody has begun to write stays as it is. Returns those tables.

    Raises:
        BadMedia: a thumbnail is no picture that a browser shows.
        CannotWrite: the disk is full or read-only. No file is half-written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    page = render_glance(glance, thumbnails, lang)
    rows = glance.predictions
    table = pa.table(
        {
            "image": [_text(row.image) for row in rows],
            "pred": [row.best for row in rows],
            "score": pa.array([row.score for row in rows], pa.float32()),
            "is_abstained": [row.label is None for row in rows],
        }
    )
    with write_beside(folder / "predictions.parquet") as beside:
        parquet.write_table(table, beside)
    tables = {LABEL_ME: glance.sample[:FIRST], LABEL_MORE: glance.sample[FIRST:]}
    kept = tuple(folder / name for name in tables if _is_begun(folder / name))
    for name, sample in tables.items():
        if folder / name not in kept:
            _write_table(folder / name, sample)
    # A file name that is not UTF-8 reaches us as lone surrogates: JSON can hold them as \udc.., HTML cannot.
    with write_beside(folder / "report.json") as beside:
        beside.write_bytes(glance_json(glance).encode("utf-8", errors="backslashreplace"))
    with write_beside(folder / "index.html") as beside:
        beside.write_bytes(page.encode("utf-8", errors="replace"))
    return kept


def glance_json(glance: Glance) -> str:
    """``glance.to_dict()`` as JSON."""
    return json.dumps(glance.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def render_glance(glance: Glance, thumbnails: Mapping[int, bytes], lang: Lang = "en") -> str:
    """The whole report as one HTML document. Raises `BadMedia` for a thumbnail that no browser would show."""
    context = {
        "lang": lang,
        "t": common_texts(lang),
        "g": texts(lang),
        "glance": glance,
        "sections": SECTIONS,
        "style": Markup(files("anmok.ladder.report").joinpath("style.css").read_text(encoding="utf-8")),
        "answer": answer(glance, lang),
        "questions": questions(glance, lang),
        "prospect": prospect(glance),
        "share_rows": glance.shares[:SHOWN_CLASSES],
        "share_rest": glance.shares[SHOWN_CLASSES:],
        "widest": max(glance.shares[0].images, glance.abstained),
        "strips": [row for row in glance.shares if row.images][:SHOWN_STRIPS],
        "pairs": glance.duplicates[:SHOWN_PAIRS],
        "sample_size": min(FIRST, len(glance.sample)),
        "prospects": _prospects(glance.prospects),
        "classes_listed": listed(glance.classes, lang),
        "particle": with_particle(glance.shares[0].name, "이라").removeprefix(glance.shares[0].name),
        "images": lambda count: images(count, lang),
        "whole_percent": lambda share: Figures(lang).percent(share, 0),
        "thumbnail": {index: data_uri(index, picture) for index, picture in thumbnails.items()},
    }
    return environment(lang).get_template("glance.html.j2").render(context)


@dataclass(frozen=True, slots=True)
class _Prospects:
    """A table: a column per size, a row per accuracy, in each cell an interval and its bar, all on one scale."""

    sizes: list[Prospect]  # the first of each column
    rows: list[list[tuple[Prospect, Markup]]]


def _prospects(prospects: Sequence[Prospect]) -> _Prospects:
    estimates = [Estimate(one.accuracy, one.interval, one.tested, float(one.tested)) for one in prospects]
    scale = axis(estimates, [])
    cells = [(one, interval_bar(its, scale, None)) for one, its in zip(prospects, estimates, strict=True)]
    accuracies = dict.fromkeys(one.accuracy for one in prospects)
    rows = [[cell for cell in cells if cell[0].accuracy == accuracy] for accuracy in accuracies]
    return _Prospects([one for one, _ in rows[0]] if rows else [], rows)


def _is_begun(table: Path) -> bool:
    """Whether there is anything in the table that nobody but its user can have written."""
    if not table.exists():
        return False
    try:
        rows = csv.reader(io.StringIO(read_text(table, ",".join(_HEADER)), newline=""))
        return any(cell.strip() for row in rows if tuple(row) != _HEADER for cell in row[1:])
    except (BadData, csv.Error):  # no table of ours any more
        return True


def _write_table(table: Path, sample: Sequence[str]) -> None:
    """With a byte order mark: spreadsheets take a file without one for another encoding and garble Korean names."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([_HEADER, *((name, "") for name in sample)])
    with write_beside(table) as beside:
        beside.write_text(stream.getvalue(), encoding="utf-8-sig", newline="")


def _text(name: str) -> str:
    """A name that UTF-8 cannot hold, with those bytes written out."""
    return name.encode("utf-8", errors="backslashreplace").decode()
