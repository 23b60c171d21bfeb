"""What the tabs of ``Try`` have in common: the picture, the model, the answer's files and the commands to copy."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from anmok.catalogue import Card
from anmok.errors import BadRequest
from anmok.ui.copying import code_tab
from anmok.ui.folder import Folder
from anmok.ui.listing import Choices, FreshList
from anmok.ui.page import Page
from anmok.ui.picking import Picker, doing
from anmok.ui.senses import taken_in
from anmok.ui.texts import Words
from anmok.ui.trying.answering import Files, offered


def picture_field(page: Page, label: str, height: int = 300) -> Any:
    """A picture of the visitor's: its file, as it was sent. ``media`` decodes it, and refuses what is none."""
    picture: Any = gr.Image(
        label=label,
        alt_text=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=height,
        buttons=["fullscreen"],
    )
    picture.preprocess = _file  # gradio's own would decode it, whatever its size
    return picture


def clip_field(page: Page, label: str) -> Any:
    """A clip of the visitor's: its file, as it was sent."""
    clip: Any = gr.Video(
        label=label, sources=["upload"], height=300, include_audio=False, buttons=[], elem_id="clip-track"
    )
    clip.preprocess = _file
    return clip


def _file(payload: Any) -> str | None:
    if payload is None:
        return None
    if isinstance(payload, str):
        return payload
    payload = getattr(payload, "video", payload)
    return str(payload.path)


def examples_field(page: Page, targets: Sequence[Any], examples: Mapping[str, Sequence[Path]]) -> None:
    """A button per example, with its picture on it; what it holds goes into the targets."""
    words = page.words
    with gr.Row(elem_classes="anmok-examples"):
        gr.HTML(f"<p>{words('try.examples')}</p>")
        for name, paths in examples.items():
            icon = paths[0] if paths[0].suffix == ".png" else None
            button = gr.Button(words(f"try.example.{name}"), icon=icon, size="sm", min_width=80)
            values = [str(path) for path in paths]
            button.click(
                lambda values=values: values if len(values) > 1 else values[0],
                None,
                list(targets),
                api_visibility="private",
                show_progress="hidden",
            )


def folder_field(page: Page, picture: Any) -> None:
    """A list of the pictures in the server's folder; the one that is chosen becomes the picture."""
    if page.host.root is None:
        return
    folder = Folder(page.host.root)

    def listed(chosen: str | None = None) -> Choices:
        """As people type them: a Mac writes the syllables of Korean names in parts."""
        return [(unicodedata.normalize("NFC", name), name) for name in folder.names()]

    names: Any = gr.Dropdown(listed(), value=None, label=page.words("try.folder"), filterable=True)
    FreshList(names, listed).renew(names.focus)

    def chosen(name: str | None, request: gr.Request) -> str | None:
        if not name:
            return None
        place = page.sessions.place(request.session_hash or "")
        copy = place / folder.path(name).name
        copy.write_bytes(folder.read(name))
        return str(copy)

    names.change(page.guarded(chosen), [names], [picture], api_visibility="private", show_progress="hidden")


@dataclass(frozen=True, slots=True)
class Models:
    """Which model is asked, and which other one beside it: "" for none; None where the task has no such field."""

    model: Any
    other: Any


def model_field(page: Page, task: str, *, has_other: bool = True) -> Models:
    """The choice of a model, with what is to be known of it."""
    words, names = page.words, page.host.doing(task)
    field = gr.Dropdown(choices=list(names), value=names[0], label=words("try.model"), filterable=False)
    model = page.pickers.add(Picker(field, doing(task)))
    # What a model takes in a conversation stands over the form of `Chat`.
    said = "" if task == "chat" else task
    facts = gr.HTML(facts_of(words, page.host.models[names[0]], said))
    model.change(
        lambda name: facts_of(words, page.host.models[name], said) if name in page.host.models else "",
        [model],
        [facts],
        api_visibility="private",
        show_progress="hidden",
    )
    if not has_other:
        return Models(model, None)
    choices = [(words("try.nobody"), ""), *((name, name) for name in names)]
    beside = gr.Dropdown(choices, value="", label=words("try.other"), filterable=False, visible=len(names) > 1)
    return Models(model, page.pickers.add(Picker(beside, doing(task), words("try.nobody"), is_first=True, least=2)))


def facts_of(words: Words, card: Card, task: str = "") -> str:
    """What a model takes in that task, its licence, memory and languages, and what was checked of it, as HTML."""
    memory = f"{card.memory_bytes / 1e6:,.0f} MB" if card.params else words("try.facts.unknown")
    grades = [words(f"try.grades.{grade}") for grade in str(card.verified).split() if words.has(f"try.grades.{grade}")]
    rows = {
        **({"takes": taken_in(words, card, task)} if task else {}),
        "licence": card.licence.name,
        "memory": memory,
        "languages": words.tongues(card.languages) or words("try.facts.none"),
        "verified": ", ".join(grades) or words("try.grades.nothing"),
    }
    told = "".join(
        f"<div><dt>{words(f'try.facts.{key}')}</dt><dd>{html.escape(value)}</dd></div>" for key, value in rows.items()
    )
    return f'<dl class="anmok-facts">{told}</dl>'


def labels_of(text: str) -> tuple[str, ...] | None:
    """Labels with commas between them; None where there is none."""
    found = tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
    return found or None


def wanted_labels(text: str) -> tuple[str, ...]:
    """The same, where there has to be one.

    Raises:
        BadRequest: there is none.
    """
    found = labels_of(text)
    if found is None:
        raise BadRequest("labels: give at least one, with commas between them: cat,dog")
    return found


@dataclass(frozen=True, slots=True)
class Taken:
    """The buttons that give an answer's files, and the boxes with the commands."""

    files: list[Any]
    codes: list[Any]
    has_coco: bool

    def values(self, files: Files | None) -> list[Any]:
        """Of the buttons."""
        if files is None:
            return [offered("") for _ in self.files]
        paths = [files.json, files.png, *([files.coco] if self.has_coco else [])]
        return [offered(path) for path in paths]


def taken(page: Page, *, has_coco: bool, picture: str = "PNG") -> Taken:
    """Downloads and commands, below an answer."""
    words = page.words
    with gr.Row():
        names = ["JSON", *([picture] if picture else []), *(["COCO"] if has_coco else [])]
        files = [gr.DownloadButton(words("try.download", name), visible=False, size="sm") for name in names]
    with gr.Accordion(words("try.copy"), open=False), gr.Tabs():
        languages: tuple[tuple[str, Literal["python", "shell"]], ...] = (
            ("Python", "python"),
            ("curl", "shell"),
            (words("try.command_line"), "shell"),
        )
        codes = [code_tab(name, language) for name, language in languages]
    return Taken(files, codes, has_coco)
