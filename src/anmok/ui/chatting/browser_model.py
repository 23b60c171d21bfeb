"""Gemini Nano inside of Chrome: a part of the tab ``Chat`` that is there where the browser has it, and asks no server.

What the page does is in ``browser_model.js``, over the Prompt API (``LanguageModel``) of Chrome 148 and later. The
question is that of the tab's own field, and so are the photos: those lie on this server already, as for any model, and
go from here to the browser alone.

Source: Web Machine Learning Community Group, "Prompt API" (webmachinelearning.github.io/prompt-api, 2026).
"""

from __future__ import annotations

import html
from importlib import resources
from typing import Any

import gradio as gr

from anmok.ui.chatting import showing
from anmok.ui.texts import Words


def browser_model(words: Words) -> Any:
    """The part of the form; not to be seen until the browser says that it has a model."""

    def said(key: str) -> str:
        return html.escape(words(f"nano.{key}"))

    template = (
        f'<section class="nano" aria-label="{said("name")}" hidden><p class="name">{said("name")}</p>'
        f'<p class="hint">{said("hint")}</p><p class="hint" data-for="download" hidden>{said("download")}</p>'
        f'<div class="row"><button type="button" data-act="ask">{said("ask")}</button>'
        f'<button type="button" data-act="stop" hidden>{said("stop")}</button>'
        f'<button type="button" data-act="clear" hidden>{said("clear")}</button></div>'
        '<p class="told" role="status"></p>'
        f'<div class="anmok-talk" role="log" aria-label="{said("talk")}" tabindex="0" hidden>'
        '<div class="turns"></div></div></section>'
    )
    return gr.HTML(
        value=None,
        html_template=template,
        css_template=showing.style() + _text("browser_model.css"),
        js_on_load=_text("browser_model.js"),
        apply_default_css=False,
        elem_id="chat-nano",
        texts=words.below("nano"),
    )


def _text(name: str) -> str:
    return (resources.files("anmok.ui.chatting") / name).read_text(encoding="utf-8")
