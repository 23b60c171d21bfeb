"""``embed``: how alike two pictures are, or a picture and a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from anmok.errors import BadRequest
from anmok.files import cannot_write
from anmok.inputs import Item, Text
from anmok.tasks import Embed
from anmok.ui.failing import Reasons
from anmok.ui.look import paragraph
from anmok.ui.page import Page
from anmok.ui.trying.answering import act, asked, copied, cosine, offered, read
from anmok.ui.trying.commands import Thing
from anmok.ui.trying.fields import examples_field, folder_field, model_field, picture_field, taken
from anmok.ui.trying.stills import Examples


def tab(page: Page, examples: Examples) -> None:
    """The tab."""
    words = page.words
    with gr.Tab(words("try.tasks.embed"), id="embed", elem_id="task-embed"):
        with gr.Row():
            with gr.Column(min_width=300):
                first = picture_field(page, words("try.first"))
                folder_field(page, first)
            with gr.Column(min_width=300):
                second = picture_field(page, words("try.second"))
                text = gr.Textbox("", label=words("try.or_text"), info=words("try.text_hint"))
        pairs = {"two": [examples["shapes"], examples["person"]], "others": [examples["room"], examples["cell"]]}
        examples_field(page, [first, second], pairs)
        models = model_field(page, "embed", has_other=False)
        go = gr.Button(words("try.compare"), variant="primary", elem_id="go-embed")
        begin = paragraph(words("try.begin_two"))
        line = gr.HTML(begin, elem_id="said-embed", elem_classes="anmok-live")
        buttons = taken(page, has_coco=False, picture="")
    reasons = Reasons()
    compared = gr.on(
        [go.click, text.submit, first.change, second.change, models.model.change],
        page.guarded(_event(page), reasons),
        [first, second, text, models.model],
        [line, *buttons.files, *buttons.codes],
        api_name="try_embed",
        trigger_mode="always_last",
        show_progress="minimal",
    )
    answer = [line, *buttons.files, *buttons.codes]
    reasons.show(compared, words, answer, lambda why: [why, offered(""), *[""] * 3])


def _event(page: Page) -> Callable[..., list[Any]]:
    def answer(request: gr.Request, first: str | None, second: str | None, text: str, model: str) -> list[Any]:
        words = page.words
        if not first or not (second or text.strip()):
            return [paragraph(words("try.begin_two")), offered(""), *[""] * 3]
        if len(text) > 2000:
            raise BadRequest("text: over 2,000 letters")
        name, data = read(first)
        items: list[Item] = [data]
        things = [Thing(name)]
        if text.strip():
            items.append(Text(text.strip()))
            things.append(Thing(text=text.strip()))
        else:
            other, more = read(second or "")
            items.append(more)
            things.append(Thing(other))
        ask = Embed()
        one, two = asked(page, page.usable(request, model), items, ask)
        alike = cosine(one, two)
        file = _written(page, request.session_hash or "", name, {"cosine": alike, "first": one.to_dict()})
        bar = f'<meter min="-1" max="1" value="{alike:.4f}" aria-label="{words("try.alike")}"></meter>'
        return [
            paragraph(words("try.said.alike", alike)) + bar,
            offered(file),
            *copied(page, act(page, model, ask, tuple(things))),
        ]

    return answer


def _written(page: Page, visitor: str, name: str, content: dict[str, Any]) -> str:
    folder = page.sessions.place(visitor)
    path = folder / f"{Path(name).stem}-vectors.json"
    with cannot_write(folder):
        path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)
