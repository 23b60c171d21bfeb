"""A clip followed into a file of lines, which a killed run goes on from, and drawn into a clip afterwards.

The first line says what was asked; each further line is one frame (``Tracked.to_dict``); the last says that the end
was reached. A run that finds lines of the same question takes the last frame's masks as cues and goes on there: what
the model remembered of earlier frames is gone, and a line says so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anmok import clips, draw
from anmok.errors import BadData, BadMedia, BadRequest
from anmok.files import cannot_write, write_beside, write_text
from anmok.inputs import Clip, Cue
from anmok.load import Model
from anmok.results import Tracked
from anmok.tasks import Track

VERSION = 1
_FOLDER_RATE = 25.0  # frames a second, of numbered pictures
_HALF_ROUNDING = 5e-7  # seconds
Progress = Callable[[int], None]  # frames done


@dataclass(frozen=True, slots=True)
class Followed:
    """What a run came to."""

    frames: int
    objects: tuple[int, ...]
    broken: tuple[int, ...]
    resumed_at: int | None  # a frame


def follow(
    model: Model, clip: Clip, ask: Track, lines: Path, *, is_fresh: bool = False, progress: Progress | None = None
) -> Followed:
    """Follows a clip frame by frame into ``lines``.

    Args:
        model: one that tracks.
        clip: a video file or a folder of pictures.
        ask: the question.
        lines: a .jsonl file; an unfinished one of the same question is gone on with.
        is_fresh: begin anew whatever is there.
        progress: told the number of frames that are done.

    Raises:
        BadRequest: ``lines`` holds another question.
        BadMedia: the clip cannot be read.
        CannotWrite: the disk refuses.
    """
    head = _head(model, clip, ask)
    done = [] if is_fresh else _standing(lines, head, ask.labels or ())
    resumed = done[-1].frame if done else None
    broken: list[int] = []
    seen = dict.fromkeys(number for piece in done for number in piece.ids.tolist())
    count = len(done)
    if not done:
        write_text(lines, json.dumps(head, ensure_ascii=False) + "\n")
    with cannot_write(lines), lines.open("a", encoding="utf-8") as file:
        if resumed is not None:
            print(json.dumps({"resumed_at": resumed}), file=file, flush=True)
        for piece in _pieces(model, clip, ask, done, broken):
            print(piece.to_json(), file=file, flush=True)
            seen.update(dict.fromkeys(piece.ids.tolist()))
            count += 1
            if progress is not None:
                progress(count)
        print(json.dumps({"done": True, "frames": count, "broken": broken}), file=file, flush=True)
    return Followed(count, tuple(seen), tuple(broken), resumed)


def render(lines: Path, clip: Clip, output: Path, *, progress: Progress | None = None) -> int:
    """Draws what ``lines`` say into a clip, and gives the number of its frames. A frame without a line is left out.

    Raises:
        BadData: the lines are damaged.
        BadMedia: the clip cannot be read.
        CannotWrite: nothing half-written is left.
    """
    records = _records(lines)
    pieces = {piece.frame: piece for piece in read(lines, tuple(records[0].get("labels") or ()))}
    if not pieces:
        raise BadMedia(f"{lines}: no frames to draw")
    size = next(iter(pieces.values())).masks.size_hw
    count = 0
    with write_beside(output) as beside, clips.Writer(beside, size, clip.fps or _rate(clip)) as writer:
        for still in _stills(clip):
            piece = pieces.pop(still.index, None)
            if piece is None:
                continue
            writer.write(np.asarray(draw.plot(piece, still.image)))
            count += 1
            if progress is not None:
                progress(count)
    return count


def read(lines: Path, labels: tuple[str, ...] = ()) -> Iterator[Tracked]:
    """The frames of a file that ``follow`` wrote."""
    for record in _records(lines):
        if "frame" in record:
            yield Tracked.from_dict(record, labels)


def _stills(clip: Clip) -> Iterator[clips.Still]:
    return clips.frames(clip.source, fps=clip.fps, start=clip.start, end=clip.end)


def _pieces(model: Model, clip: Clip, ask: Track, done: list[Tracked], broken: list[int]) -> Iterator[Tracked]:
    """What is still to be done, numbered as in the whole clip."""
    if not done:
        yield from model.stream(clip, ask, on_broken=lambda frame, _: broken.append(frame))
        return
    last = done[-1]
    pairs = zip(last.ids.tolist(), last.masks.rles, strict=True)
    cues = [Cue(0, number, mask=rle) for number, rle in pairs if rle.counts]
    cues += [dataclasses.replace(cue, frame=cue.frame - last.frame) for cue in clip.cues if cue.frame > last.frame]
    # By time, since a broken frame has a number too; to the nearest frame, since the line rounds its time.
    start = last.seconds - _HALF_ROUNDING if clip.fps is None else clip.start + last.frame / clip.fps
    rest = dataclasses.replace(clip, start=max(0.0, start), cues=tuple(cues))
    for piece in model.stream(rest, ask, on_broken=lambda frame, _: broken.append(frame + last.frame)):
        if piece.frame > 0:
            yield dataclasses.replace(piece, frame=piece.frame + last.frame)


def _standing(lines: Path, head: dict[str, Any], labels: tuple[str, ...]) -> list[Tracked]:
    """The frames of an unfinished run of the same question; none where there is nothing to go on with.

    Raises:
        BadRequest: they are of another question.
    """
    if not lines.exists():
        return []
    try:
        records = _records(lines)
    except BadData:
        return []
    if records[0] != head:
        raise BadRequest(f"{lines} holds the track of another clip, model or question; choose another name or --fresh")
    if any(record.get("done") for record in records):
        return []
    done = [Tracked.from_dict(record, labels) for record in records if "frame" in record]
    # Nothing in sight to go on with: begin anew.
    return done if done and any(rle.counts for rle in done[-1].masks.rles) else []


def _records(lines: Path) -> list[dict[str, Any]]:
    """Every whole line; the last one of a killed run may be cut off, and what follows it is not trusted."""
    records: list[dict[str, Any]] = []
    try:
        text = lines.read_text(encoding="utf-8")
    except OSError as error:
        raise BadData(f"{lines}: cannot be read ({error.strerror})") from None
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    if not records or records[0].get("anmok") != "track":
        raise BadData(f"{lines}: not a file that `anmok track` wrote")
    return records


def _head(model: Model, clip: Clip, ask: Track) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    question = {"threshold": ask.threshold, "every": ask.every, "match": ask.match, "phrases": ask.phrases}
    head = {
        "anmok": "track",
        "version": VERSION,
        "clip": _identity(clip),
        "model": model.maker,
        "labels": ask.labels,
        "ask": question,
        "span": [clip.fps, clip.start, clip.end],
        "cues": [repr(cue) for cue in clip.cues],
    }
    plain: dict[str, Any] = json.loads(json.dumps(head))  # tuples become lists, as in the file
    return plain


def _identity(clip: Clip) -> str:
    """Name and size: enough to tell clips apart without reading an hour of video."""
    if not isinstance(clip.source, str | Path):
        raise BadRequest("follow: the clip must be a file or a folder of pictures")
    path = Path(clip.source)
    size = path.stat().st_size if path.is_file() else len(list(path.iterdir())) if path.is_dir() else 0
    return f"{path.name} {size}"


def _rate(clip: Clip) -> float:
    path = Path(str(clip.source))
    return clips.probe(path).fps if path.is_file() else _FOLDER_RATE
