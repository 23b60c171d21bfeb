"""``track``: what was pointed at in one frame, or what labels name, followed through a clip and played."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import gradio as gr
import numpy as np
from PIL import Image as pillow

from anmok import clips, draw
from anmok.errors import BadMedia
from anmok.files import cannot_write
from anmok.inputs import Clip, Cue
from anmok.results import Tracked
from anmok.tasks import Track
from anmok.ui.failing import Reasons
from anmok.ui.look import paragraph
from anmok.ui.page import Page
from anmok.ui.texts import Spoken
from anmok.ui.trying.answering import act, copied, offered
from anmok.ui.trying.commands import Thing
from anmok.ui.trying.fields import clip_field, examples_field, labels_of, model_field, taken
from anmok.ui.trying.pointing import Marks, pointing_field

MOST_FRAMES: Final = 300  # of one clip on the page: ten seconds; Python and the command line have no such bound


def tab(page: Page, example: Path | None) -> None:
    """The tab."""
    words = page.words
    with gr.Tab(words("try.tasks.track"), id="track", elem_id="task-track"), gr.Row():
        with gr.Column(scale=5, min_width=300):
            clip = clip_field(page, words("try.clip"))
            if example is not None:
                examples_field(page, [clip], {"crossing": [example]})
            labels = gr.Textbox("", label=words("try.labels_or_point"), info=words("try.track_hint"))
            models = model_field(page, "track", has_other=False)
            go = gr.Button(words("try.follow"), variant="primary", elem_id="go-track")
        with gr.Column(scale=7, min_width=300):
            begin = paragraph(words("try.begin_clip", MOST_FRAMES))
            line = gr.HTML(begin, elem_id="said-track", elem_classes="anmok-live")
            marks = pointing_field(words, "track")
            video = gr.Video(
                label=words("try.answer"),
                height=400,
                interactive=False,
                autoplay=True,
                loop=True,
                visible=False,
                buttons=[],
            )
            buttons = taken(page, has_coco=False, picture="WebM")
    unread, unanswered = Reasons(), Reasons()
    seen, answer = [line, marks, video], [line, video, *buttons.files, *buttons.codes]
    no_video = gr.update(value=None, visible=False)
    looked = clip.change(page.guarded(_shown(page), unread), [clip], seen, api_visibility="private")
    unread.show(looked, words, seen, lambda why: [why, None, no_video])
    followed = gr.on(
        [go.click, labels.submit],
        page.guarded(_event(page), unanswered),
        [clip, marks, models.model, labels],
        answer,
        api_name="try_track",
        trigger_mode="once",
        show_progress="full",
        show_progress_on=[video],
    )
    rest = [no_video, offered(""), offered(""), *[""] * 3]
    unanswered.show(followed, words, answer, lambda why: [why, *rest])


def _shown(page: Page) -> Callable[..., list[Any]]:
    def shown(request: gr.Request, path: str | None) -> list[Any]:
        """The first frame, to be pointed at."""
        if not path:
            text = page.words("try.begin_clip", MOST_FRAMES)
            return [paragraph(text), None, gr.update(value=None, visible=False)]
        with contextlib.closing(clips.frames(Path(path))) as stills:
            still = next(stills, None)
        if still is None:
            raise BadMedia(f"{Path(path).name}: no frame in it that can be decoded")
        file = page.sessions.place(request.session_hash or "") / "first.png"
        pillow.fromarray(still.image).save(file, "PNG", compress_level=1)
        height, width = still.image.shape[:2]
        fresh = Marks.fresh(file, (width, height)).value()
        return [paragraph(page.words("try.point.begin_clip")), fresh, gr.update(visible=False)]

    return shown


def cues_of(marks: Marks) -> tuple[Cue, ...]:
    """Points are object 1 of the first frame, each box is another object."""
    found = [Cue(0, 1, marks.points)] if marks.points else []
    return tuple(found + [Cue(0, len(found) + place, (), box) for place, box in enumerate(marks.boxes, start=1)])


@dataclass(frozen=True, slots=True)
class _Followed:
    frames: int
    objects: int
    video: str
    lines: str


def _event(page: Page) -> Callable[..., list[Any]]:
    def answer(
        request: gr.Request,
        path: str | None,
        value: Any,
        model: str,
        labels: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # how gradio is told to hand one over
    ) -> list[Any]:
        if not path:
            text = paragraph(page.words("try.no_clip"))
            return [text, gr.update(visible=False), offered(""), offered(""), *[""] * 3]
        marks, ask = Marks.of(value), Track(labels_of(labels))
        cues = cues_of(marks) if ask.labels is None else ()
        if ask.labels is None and not cues:
            raise Spoken(page.words("try.point.nothing"))
        file = Path(path)
        pieces = page.host.engine.stream(page.usable(request, model), Clip(file.read_bytes(), cues=cues), ask)
        with contextlib.closing(pieces):
            done = _followed(page, request.session_hash or "", file, pieces, progress)
        codes = copied(page, act(page, model, ask, (Thing(file.name, cues=cues),)))
        text = paragraph(page.words("try.said.followed", done.objects, done.frames))
        return [text, gr.update(value=done.video, visible=True), offered(done.lines), offered(done.video), *codes]

    return answer


def _followed(page: Page, visitor: str, file: Path, pieces: Iterator[Tracked], progress: Any) -> _Followed:
    """Draws and writes frame by frame; one frame is in memory."""
    folder = page.sessions.place(visitor)
    lines, video = folder / f"{file.stem}.jsonl", folder / f"{file.stem}-tracked.webm"
    facts = clips.probe(file)
    expected = min(MOST_FRAMES, max(1, round(facts.seconds * facts.fps)))
    seen: set[int] = set()
    count = 0
    with cannot_write(folder), lines.open("w", encoding="utf-8") as told, contextlib.ExitStack() as stack:
        stills = stack.enter_context(contextlib.closing(clips.frames(file)))
        writer: clips.Writer | None = None
        for piece in islice(pieces, MOST_FRAMES):
            still = next((one for one in stills if one.index == piece.frame), None)
            if still is None:
                break
            if writer is None:
                writer = stack.enter_context(clips.Writer(video, still.image.shape[:2], facts.fps))
            writer.write(np.asarray(draw.plot(piece, still.image)))
            told.write(json.dumps(piece.to_dict(), ensure_ascii=False) + "\n")
            seen.update(piece.ids.tolist())
            count += 1
            progress((count, expected), unit=page.words("try.frames"))
    if not count:
        raise BadMedia(f"{file.name}: no frame in it that can be decoded")
    return _Followed(count, len(seen), str(video), str(lines))
