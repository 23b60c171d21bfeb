"""``segment``: what points and boxes mean, what labels name, or everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from anmok import media
from anmok.geometry import Rle
from anmok.inputs import Item, Prompted
from anmok.results import Masks
from anmok.tasks import Segment
from anmok.ui.failing import Reasons
from anmok.ui.look import paragraph
from anmok.ui.page import Page
from anmok.ui.trying.answering import act, asked, copied, read, said, table, written
from anmok.ui.trying.commands import Thing
from anmok.ui.trying.fields import Taken, examples_field, folder_field, labels_of, model_field, picture_field, taken
from anmok.ui.trying.pointing import Marks, pointing_field
from anmok.ui.trying.stills import Examples, threshold_field


def tab(page: Page, examples: Examples) -> None:
    """The tab."""
    words = page.words
    with gr.Tab(words("try.tasks.segment"), id="segment", elem_id="task-segment"), gr.Row():
        with gr.Column(scale=5, min_width=300):
            picture = picture_field(page, words("try.picture"))
            folder_field(page, picture)
            examples_field(page, [picture], {name: [examples[name]] for name in ("shapes", "person", "cell")})
            labels = gr.Textbox("", label=words("try.labels_or_point"), info=words("try.segment_hint"))
            threshold = threshold_field(words)
            models = model_field(page, "segment")
            go = gr.Button(words("try.go"), variant="primary", elem_id="go-segment")
        with gr.Column(scale=7, min_width=300):
            begin = paragraph(words("try.begin"))
            line = gr.HTML(begin, elem_id="said-segment", elem_classes="anmok-live")
            marks = pointing_field(words, "segment")
            other = gr.ImageSlider(
                label=words("try.answer"), type="filepath", format="png", visible=False, buttons=["fullscreen"]
            )
            rows = gr.HTML()
            buttons = taken(page, has_coco=True)
    unread, unanswered = Reasons(), Reasons()
    looked = picture.change(page.guarded(_shown(page), unread), [picture], [line, marks], api_visibility="private")
    unread.show(looked, words, [line, marks], lambda why: [why, None])
    inputs = [picture, marks, models.model, labels, *threshold, models.other]
    changes = [one.change for one in (models.model, models.other, *threshold)]
    asked_for = gr.on(
        [go.click, marks.input, labels.submit, *changes],
        page.guarded(_event(page, buttons), unanswered),
        inputs,
        [line, marks, other, rows, *buttons.files, *buttons.codes],
        api_name="try_segment",
        trigger_mode="always_last",
        show_progress="hidden",
    )
    rest = [gr.update(visible=False), "", *buttons.values(None), *[""] * 3]
    answer = [line, other, rows, *buttons.files, *buttons.codes]
    unanswered.show(asked_for, words, answer, lambda why: [why, *rest])


def _shown(page: Page) -> Callable[..., list[Any]]:
    def shown(request: gr.Request, path: str | None) -> list[Any]:
        if not path:
            return [paragraph(page.words("try.begin")), None]
        height, width = media.read(Path(path)).shape[:2]
        fresh = Marks.fresh(Path(path), (width, height))
        return [paragraph(page.words("try.point.begin")), fresh.value()]

    return shown


def _event(page: Page, buttons: Taken) -> Callable[..., list[Any]]:
    def answer(request: gr.Request, *given: Any) -> list[Any]:
        path, value, model, labels, is_own, threshold, other = given
        if not path:
            text = paragraph(page.words("try.no_picture"))
            return [text, None, gr.update(visible=False), "", *buttons.values(None), *[""] * 3]
        name, data = read(path)
        marks, ask = Marks.of(value), Segment(labels_of(labels), threshold=None if is_own else threshold)
        names = [page.usable(request, one) for one in dict.fromkeys((model, other)) if one]
        results = [segmented(page, one, data, marks, ask) for one in names]
        visitor = request.session_hash or ""
        files = [written(page, visitor, name, data, result) for result in results]
        things = tuple(Thing(name, points, boxes) for points, boxes in marks.prompts()) if ask.labels is None else ()
        codes = copied(page, act(page, names[0], ask, things or (Thing(name),)))
        if not marks.source:
            height, width = results[0].size_hw
            marks = Marks.fresh(Path(path), (width, height))
        is_pair = len(files) > 1
        pair = (files[0].png, files[1].png) if is_pair else None
        looked = [marks.showing(Path(files[0].png)).value(), gr.update(value=pair, visible=is_pair)]
        told = said(page.words, results[0])
        return [told, *looked, table(page.words, results[0]), *buttons.values(files[0]), *codes]

    return answer


def segmented(page: Page, name: str, data: bytes, marks: Marks, ask: Segment) -> Masks:
    """The masks of all that was pointed at, one after the other; labels go before points."""
    if marks.is_empty or ask.labels is not None:
        return asked(page, name, [data], ask)[0]
    items: list[Item] = [Prompted(data, points, boxes) for points, boxes in marks.prompts()]
    found = asked(page, name, items, ask)
    rles: tuple[Rle, ...] = sum((one.rles for one in found), ())
    scores = np.concatenate([one.scores for one in found])  # (N,)
    ids = np.full(len(rles), -1, np.int64)  # (N,)
    return Masks(rles, scores, ids, (), found[0].size_hw)
