"""A clip followed into a file of lines, which a killed run goes on from, and drawn into a clip afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anmok import clips, draw
from anmok.errors import BadMedia, BadRequest
from anmok.files import write_beside
from anmok.gallery.lines import Log, Standing, head, read, standing
from anmok.inputs import Clip, Cue
from anmok.load import Model
from anmok.results import Tracked
from anmok.tasks import Track

__all__ = ["Followed", "follow", "read", "render"]

_FOLDER_RATE = 25.0  # frames a second, of numbered pictures
_HALF_ROUNDING = 5e-7  # seconds
Progress = Callable[[int], None]  # frames done


@dataclass(frozen=True, slots=True)
class Followed:
    """What a run came to. ``resumed_at`` is the frame whose masks it went on from; ``is_old`` says that the whole
    clip had been followed before. ``labels`` and ``read_as`` are those of the answers."""

    frames: int
    objects: tuple[int, ...]
    broken: tuple[int, ...]
    resumed_at: int | None = None
    is_old: bool = False
    labels: tuple[str, ...] = ()
    read_as: tuple[str, ...] = ()


def follow(
    model: Model, clip: Clip, ask: Track, lines: Path, *, is_fresh: bool = False, progress: Progress | None = None
) -> Followed:
    """Follows a clip frame by frame into ``lines``.

    A killed run of the same question is gone on with: its last frame's masks become cues. What the model remembered
    of earlier frames is gone, an object that was out of sight then comes back under a new number, and a line says so.
    With labels it goes on from a frame in which the clip was searched, so that later searches fall as they would have,
    and a model that takes no masks beside labels begins anew.

    Args:
        model: one that tracks.
        clip: a video file or a folder of pictures.
        ask: the question.
        lines: a .jsonl file.
        is_fresh: begin anew whatever is there.
        progress: told the number of frames that are done.

    Raises:
        BadRequest: ``lines`` holds another question, or is no file of this kind.
        BadMedia: the clip cannot be read, or has no frame in the span that was asked for. Nothing is written.
        CannotWrite: the disk refuses.
    """
    content = head(clip, ask, model.maker)
    before = Standing() if is_fresh else standing(lines, content, ask.every if ask.labels else 1)
    if before.is_done:
        return Followed(before.frames, tuple(before.seen), tuple(before.broken), is_old=True)
    broken = list(before.broken)
    before, pieces = _begun(model, clip, ask, before, broken)
    seen, count = dict.fromkeys(before.seen), before.frames
    labels: tuple[str, ...] = ()
    read_as: tuple[str, ...] = ()
    with Log(lines, content, before) as log:
        for piece in pieces:
            log.frame(piece, broken)
            seen.update(dict.fromkeys(piece.ids.tolist()))
            labels, read_as = piece.masks.labels or labels, piece.masks.read_as or read_as
            count += 1
            if progress is not None:
                progress(count)
        if not count:
            raise BadMedia(f"{clip.source!s}: no frame in it from {clip.start:g} s to {_end(clip)}")
        log.done(count, broken)
    resumed = before.last.frame if before.last is not None else None
    return Followed(count, tuple(seen), tuple(broken), resumed, False, labels, read_as)


def render(lines: Path, clip: Clip, output: Path, *, codec: str | None = None, progress: Progress | None = None) -> int:
    """Draws what ``lines`` say into a clip, each frame at its own time, and gives the number of its frames.

    A frame without a line is left out.

    Raises:
        BadData: the lines are damaged.
        BadMedia: the clip cannot be read, or there is no frame to draw.
        BadRequest: a suffix or codec that is not written.
        CannotWrite: nothing half-written is left.
    """
    pieces = read(lines)
    first = next(pieces, None)
    if first is None:
        raise BadMedia(f"{lines}: no frames to draw")
    stills = clips.frames(clip.source, fps=clip.fps, start=clip.start, end=clip.end)
    count = 0
    with (
        contextlib.closing(stills),
        write_beside(output) as beside,
        clips.Writer(beside, first.masks.size_hw, clip.fps or _rate(clip), codec=codec) as writer,
    ):
        for piece, still in _together(itertools.chain([first], pieces), stills):
            picture = np.asarray(draw.plot(piece, still.image))
            writer.write(picture, seconds=max(0.0, piece.seconds - first.seconds))
            count += 1
            if progress is not None:
                progress(count)
    return count


def _together(pieces: Iterator[Tracked], stills: Iterator[clips.Still]) -> Iterator[tuple[Tracked, clips.Still]]:
    """Pairs of one frame out of two streams in order of frames."""
    piece = next(pieces, None)
    for still in stills:
        while piece is not None and piece.frame < still.index:
            piece = next(pieces, None)
        if piece is None:
            return
        if piece.frame == still.index:
            yield piece, still


def _begun(
    model: Model, clip: Clip, ask: Track, before: Standing, broken: list[int]
) -> tuple[Standing, Iterator[Tracked]]:
    """What is still to be done; all of it where the model takes no masks beside its labels. ``broken`` is added to."""
    pieces = _pieces(model, clip, ask, before, broken)
    if before.last is None or not ask.labels:
        return before, pieces
    try:
        first = [piece for piece in (next(pieces, None),) if piece is not None]
    except BadRequest:
        broken.clear()
        return Standing(), _pieces(model, clip, ask, Standing(), broken)
    return before, itertools.chain(first, pieces)


def _pieces(model: Model, clip: Clip, ask: Track, before: Standing, broken: list[int]) -> Iterator[Tracked]:
    """What is still to be done, numbered as in the whole clip."""
    last = before.last
    if last is None:
        yield from model.stream(clip, ask, on_broken=lambda frame, _: broken.append(frame))
        return
    later = [cue for cue in clip.cues if cue.frame > last.frame]
    shifted = [dataclasses.replace(cue, frame=cue.frame - last.frame) for cue in later]
    names = _Names(last, before.seen, [cue.object_id for cue in later], ask.match)
    # By time, since a broken frame has a number too; to the nearest frame, since the line rounds its time.
    start = last.seconds - _HALF_ROUNDING if clip.fps is None else clip.start + last.frame / clip.fps
    rest = dataclasses.replace(clip, start=max(0.0, start), cues=(*names.cues, *shifted))
    for piece in model.stream(rest, ask, on_broken=lambda frame, _: broken.append(frame + last.frame)):
        if piece.frame == 0:
            names.meet(piece)
        else:
            yield names.of(dataclasses.replace(piece, frame=piece.frame + last.frame))


class _Names:
    """Numbers and classes of a session that began in the middle, made to fit those of the session before it."""

    def __init__(self, last: Tracked, seen: list[int], pointed: list[int], match: float) -> None:
        pairs = zip(last.ids.tolist(), last.masks.rles, last.masks.class_ids.tolist(), strict=True)
        self._taken = {number: (rle, kind) for number, rle, kind in pairs if rle.counts}
        self._used = {*seen, *pointed}
        self._numbers: dict[int, int] = {number: number for number in (*self._taken, *pointed)}
        self._doubles: set[int] = set()
        self._match = match

    @property
    def cues(self) -> list[Cue]:
        """The objects in sight, by their masks."""
        return [Cue(0, number, mask=rle) for number, (rle, _) in self._taken.items()]

    def meet(self, piece: Tracked) -> None:
        """In its first frame a session may find by name what it was just pointed at: that is no newcomer."""
        for number, rle in zip(piece.ids.tolist(), piece.masks.rles, strict=True):
            is_taken = any(rle.iou(one) >= self._match for one, _ in self._taken.values())
            if number not in self._numbers and is_taken:
                self._doubles.add(number)

    def of(self, piece: Tracked) -> Tracked:
        kept = [i for i, number in enumerate(piece.ids.tolist()) if number not in self._doubles]
        ids, masks = piece.ids[kept].tolist(), piece.masks[kept]
        if masks.labels:
            kinds = [
                self._taken[number][1] if number in self._taken else kind
                for number, kind in zip(ids, masks.class_ids.tolist(), strict=True)
            ]
            masks = dataclasses.replace(masks, class_ids=np.asarray(kinds, np.int64))
        numbers = np.asarray([self._number(number) for number in ids], np.int64)
        return dataclasses.replace(piece, ids=numbers, masks=masks)

    def _number(self, number: int) -> int:
        """A newcomer gets the next one: somebody who is out of sight may have had its own."""
        if number not in self._numbers:
            self._numbers[number] = max(self._used, default=0) + 1
            self._used.add(self._numbers[number])
        return self._numbers[number]


def _rate(clip: Clip) -> float:
    path = Path(str(clip.source))
    return (clips.probe(path).fps if path.is_file() else 0.0) or _FOLDER_RATE


def _end(clip: Clip) -> str:
    return "its end" if clip.end is None else f"{clip.end:g} s"
