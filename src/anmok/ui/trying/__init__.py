"""The tab ``Try``: every task that a served model has, on a picture or a clip of the visitor's own."""

from __future__ import annotations

from typing import Final

import gradio as gr

from anmok.ui.look import paragraph
from anmok.ui.page import Page
from anmok.ui.sessions import uploads
from anmok.ui.trying import embedding, examples, segmenting, stills, tracking

# In the order in which a newcomer meets them.
_TASKS: Final = (
    *("classify", "detect", "point", "segment", "track", "depth", "inspect"),
    *("pose", "gaze", "parse", "normals", "matte", "embed"),
)


def tab(page: Page) -> None:
    """A tab, with one in it per task that a served model has."""
    words = page.words
    tasks = [task for task in _TASKS if page.host.doing(task)]
    with gr.Tab(words("try.title"), id="try"):
        if not tasks:
            gr.HTML(paragraph(words("page.nothing")))
            return
        folder = uploads() / "examples"
        drawn = examples.pictures(folder)
        with gr.Tabs(elem_id="try-tasks"):
            for task in tasks:
                match task:
                    case "segment":
                        segmenting.tab(page, drawn)
                    case "track":
                        tracking.tab(page, examples.clip(folder))
                    case "embed":
                        embedding.tab(page, drawn)
                    case _:
                        stills.tab(page, task, drawn)
