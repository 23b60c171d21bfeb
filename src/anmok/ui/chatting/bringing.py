"""What a question brings along: photos, videos and a sound, each where the chosen model takes it and nowhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from anmok.catalogue import Card
from anmok.clips import VIDEO_SUFFIXES
from anmok.ui.chatting import showing
from anmok.ui.page import Page
from anmok.ui.senses import Senses
from anmok.ui.texts import Spoken, Words

_LONGEST: Final = 12  # letters of a time
_TONGUES: Final = 3  # languages that are named
_TIME: Final = re.compile(r"(?:[0-9]{1,6}:){0,2}(?:[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+)")
Fields = list[Any]


@dataclass(frozen=True, slots=True)
class Brought:
    """The fields. ``takes`` says in a line what the model takes, ``seen`` shows the photos and videos; ``start`` and
    ``end``, side by side in ``span``, are seconds of sounds and videos."""

    takes: Any
    pictures: Any
    sound: Any
    span: Any
    start: Any
    end: Any
    has_sound: Any
    seen: Any

    def follow(self, page: Page, model: Any) -> None:
        """Shows the fields that the chosen model takes, and hides and empties the others: a file that nobody sees
        would go along with the next question."""

        def chosen(picked: str | None, shown: Sequence[str] | None, heard: str | None) -> Fields:
            name = picked or ""  # whose key may use no model has None picked
            senses = Senses.of(page.host, name)
            left_out = senses.refused(shown or (), heard)
            kept = [path for path in shown or () if senses.takes(path)]
            sound = heard if senses.has_ears else None
            look = _pictures(page.words, senses)
            return [
                _line(page, name, left_out),
                gr.update(**look, value=kept or None) if left_out else gr.update(**look),
                gr.update(visible=True) if senses.has_ears else gr.update(visible=False, value=None),
                gr.update(visible=_has_span(senses)),
                *([gr.skip()] * 2 if _has_span(senses) else [""] * 2),
                gr.update(visible=True) if _has_track(senses) else gr.update(visible=False, value=False),
                showing.brought(kept, sound),
            ]

        hidden: Any = {"api_visibility": "private", "show_progress": "hidden"}
        fields = [self.takes, self.pictures, self.sound, self.span, self.start, self.end, self.has_sound, self.seen]
        model.change(chosen, [model, self.pictures, self.sound], fields, **hidden)
        for field in (self.pictures, self.sound):
            field.change(showing.brought, [self.pictures, self.sound], [self.seen], **hidden)


def fields(page: Page) -> Brought:
    """As they are for the model that is chosen first."""
    words, name = page.words, page.host.doing("chat")[0]
    senses = Senses.of(page.host, name)
    takes = gr.HTML(_line(page, name), elem_id="chat-takes", elem_classes="anmok-live")
    look = _pictures(words, senses)
    pictures: Any = gr.File(file_count="multiple", height=150, elem_id="chat-pictures", **look)
    pictures.preprocess = _files  # gradio's own refuses files in English, and in words of its own
    sound: Any = gr.Audio(
        label=words("chat.sound"),
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,  # cut by the two fields below, which a keyboard reaches
        buttons=[],
        visible=senses.has_ears,
        elem_id="chat-sounds",
    )
    sound.preprocess = _file  # as it was sent: the model's own reader decodes it
    with gr.Row(visible=_has_span(senses)) as span:
        start, end = (
            gr.Textbox(  # gradio's field for numbers shows 0 where it has none, now and then
                "",
                label=words(f"chat.{key}"),
                info=words(f"chat.{key}_hint"),
                max_lines=1,
                max_length=_LONGEST,
                min_width=120,
                elem_id=f"chat-{key}",
            )
            for key in ("start", "end")
        )
    has_sound = gr.Checkbox(False, label=words("chat.has_sound"), visible=_has_track(senses), elem_id="chat-has-sound")
    seen = gr.HTML(css_template=showing.style(), elem_id="chat-seen")
    return Brought(takes, pictures, sound, span, start, end, has_sound, seen)


def _pictures(words: Words, senses: Senses) -> dict[str, Any]:
    """How the field of photos and videos looks."""
    types = ["image", "video", *sorted(VIDEO_SUFFIXES)] if senses.has_clips else ["image"]
    label = words("chat.pictures_videos" if senses.has_clips else "chat.pictures")
    return {"label": label, "file_types": types, "visible": senses.has_eyes}


def _has_span(senses: Senses) -> bool:
    return senses.has_ears or senses.has_clips


def _has_track(senses: Senses) -> bool:
    return senses.has_ears and senses.has_clips


def seconds(words: Words, text: str) -> float | None:
    """Of ``text`` such as ``12.5``, ``1:30`` or ``1:00:02``; None where it says nothing.

    Raises:
        Spoken: it is no time.
    """
    time = text.strip()
    if not time:
        return None
    if _TIME.fullmatch(time) is None:
        raise Spoken(words("chat.no_seconds", time[:_LONGEST]))
    found = 0.0
    for part in time.split(":"):
        found = 60 * found + float(part)
    return found


def _line(page: Page, name: str, left_out: Sequence[str] = ()) -> str:
    """Of a model that there is not it says nothing: not that it reads words alone."""
    told = []
    if name in page.host.models:
        told = [Senses.of(page.host, name).line(page.words, name), other_tongues(page.words, page.host.models[name])]
    told += [page.words("chat.left_out", ", ".join(left_out))] if left_out else []
    return f'<p class="anmok-takes">{html.escape(" ".join(filter(None, told)))}</p>' if told else ""


def other_tongues(words: Words, card: Card) -> str:
    """What a model reads that has not learned the language of the page; nothing of one that has."""
    if not card.languages or words.language in card.languages:
        return ""
    return words("chat.other_tongue", words.tongues(card.languages[:_TONGUES]))


def _files(payload: Any) -> list[str]:
    files = getattr(payload, "root", payload) or ()
    return [str(one.path) for one in (files if isinstance(files, list | tuple) else [files])]


def _file(payload: Any) -> str | None:
    return None if payload is None else str(payload.path)
