"""The report of the anomaly ladder: a page, the same figures as JSON, and the scores of every picture as a table."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image as pillow
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anmok import media
from anmok.draw.maps import heat
from anmok.files import write_beside
from anmok.ladder.inspecting.climb import Inspected
from anmok.ladder.inspecting.outcome import InspectOutcome
from anmok.ladder.inspecting.words import auroc, auroc_span, facts, sentences, standing, tested, texts
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.page import data_uri, environment
from anmok.ladder.report.phrases import texts as shared_texts
from anmok.ladder.settling import MOST
from anmok.load.inspector import spread

if TYPE_CHECKING:
    import pyarrow as pa

_SIDE, _QUALITY = 240, 82
_WIDTH = 80


def write_inspection(found: Inspected, folder: Path, lang: Lang = "en") -> None:
    """Write ``index.html``, ``report.json``, where something was tested ``scores.parquet``, and the memory as ``best``.

    Raises:
        CannotWrite: the disk is full or read-only. No file is half-written.
    """
    page = render_inspection(found.outcome, heat_maps(found), lang)
    if found.graded is not None:
        from pyarrow import parquet

        with write_beside(folder / "scores.parquet") as beside:
            parquet.write_table(scores(found), beside)
    found.best.write(folder / "best")
    # A file name that is not UTF-8 reaches us as lone surrogates: JSON can hold them as \udc.., HTML cannot.
    with write_beside(folder / "report.json") as beside:
        beside.write_bytes(inspection_json(found.outcome).encode("utf-8", errors="backslashreplace"))
    with write_beside(folder / "index.html") as beside:
        beside.write_bytes(page.encode("utf-8", errors="replace"))


def inspection_json(outcome: InspectOutcome) -> str:
    """``outcome.to_dict()`` as JSON. A figure that is not a number becomes ``null``."""
    return json.dumps(_finite(outcome.to_dict()), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def render_inspection(outcome: InspectOutcome, pictures: Mapping[int, bytes], lang: Lang = "en") -> str:
    """The whole report as one HTML document. ``pictures``: JPEG bytes by index into ``outcome.data.names``."""
    marked = [step for step in outcome.steps if step.pixels is not None]
    optional = {"ladder": outcome.steps, "kinds": outcome.kinds, "pixels": marked, "pictures": outcome.shown}
    made = environment(lang).overlay()
    made.filters = {**made.filters, "auroc": auroc, "auroc_span": auroc_span}
    context = {
        "lang": lang,
        "t": shared_texts(lang),
        "g": texts(lang),
        "outcome": outcome,
        "sections": ["verdict", *(key for key, content in optional.items() if content), "honesty"],
        "style": Markup(files("anmok.ladder.report").joinpath("style.css").read_text(encoding="utf-8")),
        "facts": facts(outcome, lang),
        "tested": tested(outcome, lang),
        "sentences": sentences(outcome, lang),
        "standing": standing(outcome),
        "chosen": "" if outcome.advice is None else outcome.advice.key,
        "comparisons": {one.key: one for one in outcome.comparisons},
        "margin": f"{outcome.margin:g}",
        "most": MOST,
        "refitted": Figures(lang).count(outcome.data.counts[outcome.data.classes.index(outcome.good)]),
        "marked": marked,
        "thumbnail": {index: data_uri(index, picture) for index, picture in pictures.items()},
    }
    return made.get_template("inspect.html.j2").render(context)


def heat_maps(found: Inspected) -> dict[int, bytes]:
    """JPEG bytes of the pictures worth a look: as they are on the left, under their map on the right. One scale."""
    if found.graded is None or found.scene is None or not found.graded.maps:
        return {}
    place = {int(index): i for i, index in enumerate(found.scene.test)}
    wanted = [one.index for one in found.outcome.shown]
    paths = found.scene.dataset.paths
    images = {index: _small(media.read(paths[index])) for index in wanted}
    maps = {
        index: spread(found.graded.maps[place[index]], found.outcome.size, image.shape[:2])
        for index, image in images.items()
    }
    highest = max((float(one.max()) for one in maps.values()), default=1.0)  # as they are shown: smoothing lowers peaks
    pictures = {}
    for index, values in maps.items():
        image = images[index]
        both = np.concatenate([image, np.asarray(heat(image, values, highest))], 1)  # (h, 2 w, 3)
        stream = io.BytesIO()
        pillow.fromarray(both).save(stream, "JPEG", quality=_QUALITY)
        pictures[index] = stream.getvalue()
    return pictures


def scores(found: Inspected) -> pa.Table:
    """One row per test picture: image, kind, group, and the score by the rung whose memory was written."""
    import pyarrow as pa

    assert found.scene is not None
    assert found.graded is not None
    scene, names = found.scene, np.asarray(found.scene.dataset.names, object)
    kinds = np.asarray(scene.dataset.classes, object)
    called = found.graded.is_called
    return pa.table(
        {
            "image": [str(name).encode("utf-8", errors="backslashreplace").decode() for name in names[scene.test]],
            "kind": kinds[scene.labels[scene.test]].tolist(),
            "group": scene.grouping.groups[scene.test].astype(np.int32),
            "score": found.graded.scores[0],
            "is_strange": pa.array([None] * len(scene.test) if called is None else called.tolist(), pa.bool_()),
        }
    )


def render(outcome: InspectOutcome, console: Console, lang: Lang = "en") -> None:
    """The verdict and the rungs in a terminal of 80 columns."""
    width = min(console.width, _WIDTH)
    said = sentences(outcome, lang)
    console.print(Text(said[0], "bold"), width=width)
    for sentence in said[1:]:
        console.print(Text(sentence), width=width)
    if outcome.steps:
        console.print(_table(outcome, lang), width=width)
        console.print(Text(tested(outcome, lang), "dim"), width=width)


def _table(outcome: InspectOutcome, lang: Lang) -> Table:
    words, rungs, figures = texts(lang)["ladder"], texts(lang)["rungs"], Figures(lang)
    table = Table(title=words["title"], box=SIMPLE_HEAD, pad_edge=False, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column(words["rung"], overflow="fold", ratio=1)
    for name in ("auroc", "overkill", "miss", "milliseconds"):
        table.add_column(words[name], justify="right", no_wrap=True)
    for step in outcome.steps:
        is_chosen = outcome.advice is not None and step.key == outcome.advice.key
        rates = step.rates
        table.add_row(
            f"{'*' if is_chosen else ' '}{step.key} {rungs[step.key]}",
            f"{auroc(step.auroc.value)} {auroc_span(step.auroc.interval)}",
            "–" if rates is None else figures.percent(rates.overkill.value, 0),
            "–" if rates is None else figures.percent(rates.miss.value, 0),
            figures.milliseconds(step.ms_per_image),
            style="bold" if is_chosen else "",
        )
    return table


def _small(image: media.Image) -> media.Image:
    picture = pillow.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
