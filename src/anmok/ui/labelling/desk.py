"""The desk: a picture, its keys, and how it stands. Gradio has no keys, so this is HTML of ours."""

from __future__ import annotations

import html
from importlib import resources
from typing import Any, Final

import gradio as gr

from anmok.ui.labelling.rooms import BOXES, LABELS
from anmok.ui.texts import Words

# Of each kind: name, what it is to the script, the keys, and the key that is shown.
_KEYS: Final = {
    LABELS: (
        ("unsure", "answer", "U", "U"),
        ("skip", "answer", "SPACE", "space"),
        ("undo", "act", "BACKSPACE", "backspace"),
    ),
    BOXES: (
        ("accept", "act", "ENTER NUMPADENTER", "enter"),
        ("reject", "act", "X", "X"),
        ("following", "act", "N", "N"),
        ("add", "act", "A", "A"),
        ("finish", "act", "SPACE", "space"),
        ("undo", "act", "BACKSPACE", "backspace"),
    ),
}
_SPOKEN: Final = (
    *("by", "picture", "measure", "measure_hint", "measure_boxes", "teach", "teach_hint", "teach_random"),
    "teach_boxes",
    *(
        "guess",
        "saved",
        "waiting",
        "lost",
        "back",
        "full",
        "locked",
        "refused",
        "loading",
        "proposing",
        "broken",
        "done",
    ),
    *("answers", "names", "box", "scored", "state_proposed", "state_accepted", "state_rejected"),
    *("state_moved", "state_added"),
)


def desk_field(words: Words) -> Any:
    """The desk. Its value is what ``routes.facts`` gives; ``input`` tells that the desk opened or left a session."""

    def said(key: str) -> str:
        return html.escape(words(f"label.desk.{key}"))

    def keys(kind: str) -> str:
        buttons = "".join(
            f'<button type="button" class="{name}" data-keys="{pressed}" data-{deed}="{name}">'
            f"<kbd>{shown if len(shown) == 1 else said(shown)}</kbd>{said(name)}</button>"
            for name, deed, pressed, shown in _KEYS[kind]
        )
        return f'<div class="others" data-for="{kind}">{buttons}</div>'

    template = (
        '<div class="desk" hidden><p class="lost" role="alert" hidden></p>'
        f'<form class="who" hidden><label>{said("who")}<input name="who" maxlength="64" autocomplete="nickname" '
        f'required></label><button type="submit">{said("who_go")}</button><p>{said("who_hint")}</p></form>'
        '<div class="work" hidden><p class="note" role="status" hidden></p>'
        f'<div class="bar"><span class="by"></span><button type="button" data-act="rename">{said("rename")}</button>'
        f'<button type="button" data-act="leave">{said("leave")}</button><span class="push"></span>'
        '<span class="saved told"></span></div>'
        '<p class="mark"><b hidden></b><span></span></p>'
        f'<div class="stage picture" tabindex="0" role="group" aria-label="{said("label")}"></div>'
        f'<div class="answers" role="group" aria-label="{said("answers")}"></div>{keys(LABELS)}'
        f'{keys(BOXES)}<ol class="boxlist" data-for="{BOXES}" aria-label="{said("boxes")}"></ol>'
        f'<p class="guess" data-for="{LABELS}"></p><p class="keys" data-for="{LABELS}">{said("keys")}</p>'
        f'<p class="keys" data-for="{BOXES}">{said("keys_boxes")}</p></div><div class="standing"></div></div>'
    )
    return gr.HTML(
        value=None,
        html_template=template,
        css_template=_text("desk.css"),
        js_on_load="".join(_text(f"{name}.js") for name in ("desk", "sending", "boxes", "begin")),
        apply_default_css=False,
        elem_id="label-desk",
        texts={key: words(f"label.desk.{key}") for key in _SPOKEN},
        language=words.language,
    )


def _text(name: str) -> str:
    return (resources.files("anmok.ui.labelling") / name).read_text(encoding="utf-8")
