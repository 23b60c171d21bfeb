"""The report of a climb: a page to read, the same figures as JSON, and every answer as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anmok.files import write_beside
from anmok.ladder.outcome import Outcome
from anmok.ladder.report.figures import Lang
from anmok.ladder.report.page import render_page
from anmok.ladder.report.sentences import answers, verdict
from anmok.ladder.report.terminal import render

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Lang", "answers", "render", "render_page", "report_json", "verdict", "write_report"]


def write_report(
    outcome: Outcome,
    thumbnails: Mapping[int, bytes],
    folder: Path,
    *,
    lang: Lang = "en",
    predictions: pyarrow.Table | None = None,
) -> None:
    """Write ``index.html``, ``report.json`` and, where given, ``predictions.parquet`` into ``folder``.

    The folder is made where it is missing; other files in it stay. ``index.html`` comes last, so that a page
    is never newer than the figures beside it. ``thumbnails``: JPEG, PNG or WEBP bytes by index into
    ``outcome.data.names``; an image without one is shown by its name alone.

    Raises:
        BadMedia: a thumbnail is in another format.
        CannotWrite: the disk is full or read-only. No file is half-written.
    """
    page = render_page(outcome, thumbnails, lang, has_predictions=predictions is not None)
    if predictions is not None:
        from pyarrow import parquet

        with write_beside(folder / "predictions.parquet") as beside:
            parquet.write_table(predictions, beside)
    # A file name that is not UTF-8 reaches us as lone surrogates: JSON can hold them as \udc.., HTML cannot.
    with write_beside(folder / "report.json") as beside:
        beside.write_bytes(report_json(outcome).encode("utf-8", errors="backslashreplace"))
    with write_beside(folder / "index.html") as beside:
        beside.write_bytes(page.encode("utf-8", errors="replace"))


def report_json(outcome: Outcome) -> str:
    """``outcome.to_dict()`` as JSON. A figure that is not a number has no JSON form: it becomes ``null``."""
    return json.dumps(_finite(outcome.to_dict()), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
