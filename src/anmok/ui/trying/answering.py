"""Questions through the server's engine, and their answers as files that can be looked at and taken along."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from anmok import clouds, draw, media
from anmok.errors import BadRequest, MissingDependency
from anmok.files import cannot_write
from anmok.inputs import Item
from anmok.metrics.annotations import from_results, write_coco
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Embedding,
    Failure,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    PartMap,
    Points,
    Result,
    Scores,
)
from anmok.tasks import Ask
from anmok.ui.look import paragraph
from anmok.ui.page import Page
from anmok.ui.texts import Words
from anmok.ui.trying.commands import Act, Commands, Thing, commands

R = TypeVar("R", bound=Result)
_MOST_POINTS = 60_000  # of a cloud: what a phone turns smoothly
_ROWS = 20  # of a table


@dataclass(frozen=True, slots=True)
class Files:
    """An answer on disk; empty where there is no such form of it."""

    json: str
    png: str
    coco: str = ""
    cloud: str = ""


def asked(page: Page, name: str, items: Sequence[Item], ask: Ask[R, Any]) -> list[R]:
    """One answer per item, through the queue that all callers share.

    Raises:
        AnmokError: whatever keeps one of them from being given.
    """
    answers: list[R] = []
    for answer in page.host.engine.run(name, items, ask):
        if isinstance(answer, Failure):
            raise answer.error
        answers.append(answer)
    return answers


def act(page: Page, name: str, ask: Ask[Any, Any], things: tuple[Thing, ...]) -> Act:
    """What was done, for the commands that do it again."""
    host = page.host
    target = host.targets.get(name, host.models[name].name)
    return Act(name, target, host.models[name], ask, things, host.address, host.needs_key)


def copied(page: Page, done: Act) -> list[str]:
    """Python, curl and command line, in the order of their boxes."""
    found: Commands = commands(done)
    return [found.python, found.curl, found.shell or f"# {page.words('try.no_command')}\n"]


def written(page: Page, visitor: str, name: str, picture: bytes, result: Result) -> Files:
    """The answer in a fresh folder of this visitor."""
    folder = page.sessions.place(visitor)
    stem = Path(name).stem or "picture"
    with cannot_write(folder):
        told, drawn = folder / f"{stem}.json", folder / f"{stem}-drawn.png"
        told.write_text(json.dumps({"image": name, **result.to_dict()}, ensure_ascii=False, indent=1), encoding="utf-8")
        draw.plot(result, picture).save(drawn, "PNG", compress_level=1)
    coco = cloud = ""
    if isinstance(result, Detections | Masks):
        coco = str(folder / f"{stem}-coco.json")
        write_coco(from_results([name], [result]), Path(coco))
    if isinstance(result, DepthMap):
        cloud = _cloud(result, picture, folder / f"{stem}.glb")
    return Files(str(told), str(drawn), coco, cloud)


def _cloud(result: DepthMap, picture: bytes, path: Path) -> str:
    """The points in space; none of a relative disparity, which has no geometry."""
    if result.kind == "disparity" and result.points is None:
        return ""
    step = max(1, round((result.depth.size / _MOST_POINTS) ** 0.5))
    try:
        clouds.save(clouds.cloud_of(result, media.read(picture), step=step), path)
    except (BadRequest, MissingDependency):
        return ""
    return str(path)


def read(path: str) -> tuple[str, bytes]:
    """Name and bytes of an upload."""
    file = Path(path)
    return file.name, file.read_bytes()


def said(words: Words, result: Result) -> str:
    """An answer in one sentence, as HTML."""
    return paragraph(sentence(words, result))


def sentence(words: Words, result: Result) -> str:
    """An answer in one sentence of the page's language."""
    match result:
        case Scores():
            label = result.label
            return words("try.said.best", label, result.score) if label else words("try.said.none_fits", result.score)
        case Detections() | Points():
            return _counted(words, list(result.names))
        case Masks():
            named = [name or words("try.said.object") for name in result.names]
            return _counted(words, named)
        case Keypoints():
            return words("try.said.people", len(result)) if len(result) else words("try.said.nobody")
        case Gazes():
            seen = int(result.is_inside.sum())
            return words("try.said.gazes", len(result), seen) if len(result) else words("try.said.nobody")
        case DepthMap() if result.kind == "metric":
            return words("try.said.metres", float(result.depth.min()), float(result.depth.max()))
        case DepthMap():
            return words("try.said.relative")
        case PartMap():
            shares = sorted(((name, result.share(name)) for name in result.names), key=lambda one: -one[1])
            return ", ".join(words("try.said.part", *one) for one in shares[:6] if one[1] > 0)
        case Matte():
            return words("try.said.front", float(result.alpha.mean()))
        case AnomalyMap(threshold=None):
            return words("try.said.scored", result.score)
        case AnomalyMap():
            return words("try.said.strange" if result.is_strange else "try.said.good", result.score, result.threshold)
        case _:
            return words("try.said.done")


def _counted(words: Words, names: list[str]) -> str:
    if not names:
        return words("try.said.nothing")
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return words("try.said.found", len(names), ", ".join(f"{name} {count}" for name, count in counts.items()))


def table(words: Words, result: Result) -> str:
    """What was found, row by row, as HTML; empty where an answer has no rows."""
    if not isinstance(result, Detections | Points | Masks) or not len(result):
        return ""
    last, numbers = ("place", result.xy) if isinstance(result, Points) else ("box", result.xyxy)
    head = "".join(f'<th scope="col">{words(f"try.table.{one}")}</th>' for one in ("label", "score", last))
    rows = zip(result.names, result.scores.tolist(), np.asarray(numbers).round().astype(int).tolist(), strict=True)
    body = "".join(
        f"<tr><td>{html.escape(name) or '-'}</td><td>{score:.2f}</td><td>{', '.join(map(str, place))}</td></tr>"
        for name, score, place in list(rows)[:_ROWS]
    )
    more = f"<p>{words('try.table.more', len(result) - _ROWS)}</p>" if len(result) > _ROWS else ""
    return f'<table class="anmok-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}'


def cosine(first: Embedding, second: Embedding) -> float:
    """Between -1 and 1."""
    a, b = first.vector.astype(np.float64), second.vector.astype(np.float64)  # (D,) each
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def offered(path: str) -> Any:
    """A download button that has something to give, or stays away."""
    return gr.update(value=path or None, visible=bool(path))
