"""The form that begins a session, the desk, and the files that it ends in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.events import api

from anmok.files import cannot_write
from anmok.labelling import BoxSession, BoxStanding
from anmok.ui.choosing import FolderList
from anmok.ui.climbing.ascending import models as climbable
from anmok.ui.failing import Reasons
from anmok.ui.handing import Labelled, hands_of
from anmok.ui.labelling import files
from anmok.ui.labelling.desk import desk_field
from anmok.ui.labelling.rooms import BOXES, LABELS, Room, Rooms, Wanted, rooms_of
from anmok.ui.labelling.routes import facts
from anmok.ui.look import NOTHING, in_sight, paragraph
from anmok.ui.page import Page
from anmok.ui.picking import Picker, doing
from anmok.ui.sources import WHOLE
from anmok.ui.texts import Spoken

_BEGUN: Final = 5  # sessions of a folder that are told of
_FORMS: Final = [("COCO", "coco"), ("YOLO", "yolo"), ("Pascal VOC", "voc")]
_TASKS: Final = {LABELS: "embed", BOXES: "detect"}  # what a model has to do, to be of use
_MODEL_LABELS: Final = {LABELS: "label.model", BOXES: "label.finder"}
_CLIMB: Final = "climb"  # the id of the tab to which the labels go
_NOBODY: Final = {LABELS: "label.no_model", BOXES: "label.no_finder"}


@dataclass(frozen=True, slots=True)
class _Form:
    """What is labelled, in the order in which events get it."""

    box: Any
    folder: Any
    zipped: Any
    kind: Any
    labels: Any
    model: Any
    finder: Any
    begun: Any
    go: Any
    why: Any  # no session was opened

    @property
    def asked(self) -> list[Any]:
        return [self.folder, self.zipped, self.kind, self.labels, self.model, self.finder]


@dataclass(frozen=True, slots=True)
class _End:
    """The files of a session, and the command that goes on with them."""

    box: Any
    form: Any
    go: Any
    said: Any
    table: Any
    archive: Any
    command: Any
    climb: Any

    @property
    def all(self) -> list[Any]:
        return [self.said, self.table, self.archive, self.command]


def tab(page: Page) -> None:
    """One tab."""
    root = page.host.root
    folders = FolderList(page, "" if root is None else root.resolve().name)
    with gr.Tab(page.words("label.title"), id="label", elem_id="label-tab") as shown_tab:
        said = gr.HTML(paragraph(page.words("label.begin")))
        form = _form(page, folders)
        desk = desk_field(page.words)
        end = _end(page)
        folders.keep_fresh(form.folder, shown_tab)
        _Events(page, rooms_of(page.host), form, desk, end).wire(said, shown_tab.parent)


def _form(page: Page, folders: FolderList) -> _Form:
    words = page.words
    kinds = [(words(f"label.kind_{kind}"), kind) for kind in (LABELS, BOXES)]
    first = None if page.host.root is None else WHOLE
    with gr.Column() as box:
        with gr.Row():
            folder = folders.field(words("label.folder"), "label-folder", first)
            zipped = gr.File(
                label=words("label.zip"), file_types=[".zip"], height=120, min_width=280, elem_id="label-zip"
            )
        with gr.Row():
            kind = gr.Radio(kinds, value=LABELS, label=words("label.kind"), min_width=280, elem_id="label-kind")
            labels = gr.Textbox(
                words("label.classes_example"),
                label=words("label.classes"),
                info=words("label.classes_hint"),
                max_lines=1,
                min_width=280,
                elem_id="label-classes",
            )
            model, finder = (_model_field(page, one) for one in (LABELS, BOXES))
        begun = gr.HTML(visible=False)
        go = gr.Button(words("label.start"), variant="primary", elem_id="label-go")
        why = gr.HTML(elem_id="label-why")
    return _Form(box, folder, zipped, kind, labels, model, finder, begun, go, why)


def _end(page: Page) -> _End:
    words = page.words
    with gr.Accordion(words("label.end.title"), open=False, visible=False, elem_id="label-end") as box:
        climb = gr.Button(
            words("label.end.climb", words("climb.title")), variant="primary", visible=False, elem_id="label-climb"
        )
        form = gr.Radio(_FORMS, value="coco", label=words("label.end.form"), visible=False, elem_id="label-form")
        go = gr.Button(_export_words(page, LABELS), elem_id="label-export")
        said = gr.HTML(elem_id="label-exported")
        with gr.Row():
            table = gr.DownloadButton(words("label.end.table"), visible=False, size="sm")
            archive = gr.DownloadButton(words("label.end.archive"), visible=False, size="sm")
        command = gr.Textbox(
            label=words("label.end.command"), lines=2, interactive=False, visible=False, buttons=["copy"]
        )
    return _End(box, form, go, said, table, archive, command, climb)


def _export_words(page: Page, kind: str) -> str:
    return page.words("label.end.boxes_export") if kind == BOXES else page.words("label.end.export")


def _model_field(page: Page, kind: str) -> Any:
    """Who learns along, or who proposes boxes; the last choice is nobody."""
    choices = [*((name, name) for name in page.host.doing(_TASKS[kind])), (page.words(_NOBODY[kind]), "")]
    field = gr.Dropdown(
        choices,
        value=choices[0][1],
        label=page.words(_MODEL_LABELS[kind]),
        filterable=False,
        visible=kind == LABELS,
        min_width=280,
        elem_id=f"label-model-{kind}",
    )
    return page.pickers.add(Picker(field, doing(_TASKS[kind]), page.words(_NOBODY[kind])))


class _Events:
    """What happens when somebody does something before or after labelling."""

    def __init__(self, page: Page, rooms: Rooms, form: _Form, desk: Any, end: _End) -> None:
        self._page = page
        self._rooms = rooms
        self._form = form
        self._desk = desk
        self._end = end

    def wire(self, said: Any, tabs: Any) -> None:
        page, form, end = self._page, self._form, self._end
        frame = [said, form.box, end.box, end.go, end.form, end.climb, *end.all]
        starts = [form.go.click, form.labels.submit]
        unopened, unread, unsaved = Reasons(), Reasons(), Reasons()
        gr.on(starts, None, None, [form.why], js=NOTHING)
        opened = gr.on(
            starts,
            page.guarded(self._opener(), unopened),
            form.asked,
            [self._desk, *frame],
            api_name="label_open",
            show_progress="minimal",
            show_progress_on=[form.go],
        )
        # On a phone the button stands at the lower edge of what is seen.
        unopened.show(opened, page.words, [form.why], lambda why: [why]).then(None, js=in_sight("label-why"))
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        self._desk.input(page.guarded(self.arrive), [self._desk], frame, **private)
        chosen = [form.folder, form.kind]
        changes = [one.change for one in chosen]
        looked = gr.on(changes, page.guarded(self.look, unread), chosen, [form.labels, form.begun], **private)
        unread.show(looked, page.words, [form.begun], lambda why: [gr.update(value=why, visible=True)])
        form.kind.change(self.models, [form.kind], [form.model, form.finder], **private)
        asked = [self._desk, end.form]
        export, hand_over = page.guarded(self.export, unsaved), page.guarded(self.hand_over, unsaved)
        exported = end.go.click(export, asked, end.all, api_name="label_export", show_progress="minimal")
        handed = end.climb.click(hand_over, [self._desk], [tabs], **private)
        for event in (exported, handed):
            unsaved.show(event, page.words, end.all, lambda why: [why, *_no_files()])
        api(page.guarded(self.stands), api_name="label_standing")

    def _opener(self) -> Callable[..., list[Any]]:
        def opened(
            folder: str | None,
            zipped: str | None,
            kind: str,
            labels: str,
            model: str,
            finder: str,
            request: gr.Request,
        ) -> list[Any]:
            used = finder if kind == BOXES else model
            if used:
                self._page.usable(request, used)
            if zipped:
                name = self._rooms.places.take(Path(zipped)).name
            elif folder:
                name = folder
            else:
                raise Spoken(self._page.words("label.no_source"))
            room = self._rooms.open(Wanted(name, kind, _labels_of(labels), used))
            return [facts(room), *self._frame(room)]

        return opened

    def arrive(self, value: object) -> list[Any]:
        """The desk has opened a session by itself, or left one."""
        return self._frame(None if value is None else self._room(value))

    def look(self, folder: str | None, kind: str, request: gr.Request) -> list[Any]:
        """What was begun in a folder that is chosen."""
        begun = self._rooms.places.find(folder).begun(kind) if folder else []
        if not begun:
            return [gr.skip(), _visible(False)]
        told = "; ".join(", ".join(labels) for labels in begun[:_BEGUN])
        return [", ".join(begun[0]), gr.update(value=paragraph(self._page.words("label.begun", told)), visible=True)]

    def models(self, kind: str) -> list[Any]:
        return [_visible(kind == LABELS), _visible(kind == BOXES)]

    def export(self, value: object, form: str, request: gr.Request) -> list[Any]:
        room = self._room(value)
        place = self._page.sessions.place(request.session_hash or "")
        if isinstance(room.session, BoxSession):
            return self._boxes(room.session, form, place)
        exported = room.session.export()
        table, archive = place / "labels.csv", place / "labels.zip"
        with cannot_write(place):
            shutil.copyfile(exported.labels, table)
            if room.place.is_upload:
                files.pack(exported.labels.parent, archive, "labels")
        words = self._page.words
        lines = [words("label.end.exported", exported.taught, exported.tested)]
        if exported.one_sided:
            lines.append(words("label.end.one_sided", ", ".join(exported.one_sided)))
        where = Path(room.place.called).parts[0]
        lines.append(words("label.end.command_zip") if room.place.is_upload else words("label.end.command_hint", where))
        return [
            "".join(paragraph(line) for line in lines),
            _offered(table),
            _offered(archive if room.place.is_upload else None),
            gr.update(value=files.command(room), visible=True),
        ]

    def hand_over(self, value: object, request: gr.Request) -> Any:
        """The labels as they are now go to the tab that climbs on them, and the visitor with them."""
        room, visitor = self._room(value), request.session_hash or ""
        if isinstance(room.session, BoxSession):
            raise Spoken(self._page.words("label.end.no_session"))
        table = self._page.sessions.place(visitor) / "labels.csv"
        exported = room.session.export()
        with cannot_write(table):
            shutil.copyfile(exported.labels, table)
        hands_of(self._page.sessions).give(visitor, Labelled(room.place.name, table))
        return gr.update(selected=_CLIMB)

    def _boxes(self, session: BoxSession, form: str, place: Path) -> list[Any]:
        done = session.export(place / form, form)
        archive = place / "boxes.zip"
        with cannot_write(place):
            files.pack(place / form, archive, "")
        told = paragraph(self._page.words("label.end.boxes_exported", done))
        return [told, _offered(None), _offered(archive), gr.update(value="", visible=False)]

    def stands(self, room: str) -> dict[str, Any]:
        """How a session stands, for programs: ``done`` of ``images``; ``value`` between ``low`` and ``high``, the
        head's accuracy or the precision of proposals, on ``measured`` images or boxes; None where it is not known."""
        standing = self._room({"room": room}).standing()
        if isinstance(standing, BoxStanding):
            done, estimate = sum(standing.done.values()), standing.precision
        else:
            done, estimate = sum(standing.teach.values()) + sum(standing.measure.values()), standing.head.estimate
        told: dict[str, Any] = {"done": done, "images": standing.images}
        if estimate is None:
            return told | {"value": None, "low": None, "high": None, "measured": 0}
        low, high = estimate.interval.low, estimate.interval.high
        return told | {"value": estimate.value, "low": low, "high": high, "measured": estimate.n}

    def _frame(self, room: Room | None) -> list[Any]:
        """Form and end around an open session, or around none."""
        words = self._page.words
        blank = ["", *_no_files()]
        if room is None:
            no_end = [_visible(False), gr.skip(), gr.skip(), gr.skip()]
            return [paragraph(words("label.begin")), _visible(True), *no_end, *blank]
        is_boxes = room.wanted.kind == BOXES
        said = paragraph(words("label.opened", room.standing().images, ", ".join(room.session.labels)))
        go = gr.update(value=_export_words(self._page, room.wanted.kind))
        climb = _visible(not is_boxes and bool(climbable(self._page.host)))
        return [said, _visible(False), _visible(True), go, _visible(is_boxes), climb, *blank]

    def _room(self, value: object) -> Room:
        room_id = value.get("room") if isinstance(value, dict) else None
        room = self._rooms.find(room_id) if isinstance(room_id, str) else None
        if room is None:
            raise Spoken(self._page.words("label.end.no_session"))
        return room


def _visible(is_so: bool) -> Any:
    return gr.update(visible=is_so)


def _offered(file: Path | None) -> Any:
    """A button that has something to give, or stays away."""
    return gr.update(value=None if file is None else str(file), visible=file is not None)


def _no_files() -> list[Any]:
    """Below what is said of them, for table, archive and command."""
    return [_offered(None), _offered(None), gr.update(value="", visible=False)]


def _labels_of(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
