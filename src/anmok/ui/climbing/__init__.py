"""The tab ``Climb``: from a folder of labelled pictures to a verdict, its report, and a model that is served."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.events import api

from anmok.errors import AnmokError, BadRequest
from anmok.ladder import Plan
from anmok.ui.choosing import FolderList
from anmok.ui.climbing import commands, showing
from anmok.ui.climbing.ascending import (
    BEST,
    BUDGETS,
    PHOTOS,
    REPORT,
    Companions,
    Counted,
    counted,
    models,
    talkers,
    work,
)
from anmok.ui.climbing.commands import Wanted
from anmok.ui.climbing.further import Further, Wishes, fields, planned
from anmok.ui.climbing.jobs import Job, Jobs, jobs_of, key_of_folder, key_of_zip
from anmok.ui.copying import code_tab
from anmok.ui.failing import Reasons
from anmok.ui.handing import hands_of
from anmok.ui.keeping import is_kept
from anmok.ui.listing import FreshList, as_it_is
from anmok.ui.look import NOTHING, in_sight
from anmok.ui.page import Page
from anmok.ui.picking import Picker
from anmok.ui.sources import Source, folder_of, fresh, opened, unpacked
from anmok.ui.texts import Spoken
from anmok.ui.unpacking import remove

_USUAL: Final = 7  # fields before the further ones
_SECONDS: Final = 1.0  # between two looks at a climb
_KEPT_AS: Final = "anmok-climb"  # in the browser: the climb that this visitor follows
# On a phone the climb is told of below what is seen.
_SEEN: Final = in_sight("climb-state")
_NOT_IN_NAMES: Final = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The fields of the form, in the order in which events get them."""

    folder: Any
    zipped: Any
    elsewhere: Any  # around the labels; not a value
    labels: Any
    model: Any
    budget: Any
    margin: Any
    seed: Any
    further: Further

    @property
    def all(self) -> list[Any]:
        usual = [self.folder, self.zipped, self.labels, self.model, self.budget, self.margin, self.seed]
        return [*usual, *self.further.all]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What changes while a climb is followed. ``kept`` lies in the browser, and survives a reload. ``why`` is apart:
    the reason for which none began stands there while another one is followed."""

    why: Any
    kept: Any
    following: Any
    state: Any
    report: Any
    files: list[Any]
    serving: Any
    codes: list[Any]
    stop: Any
    timer: Any

    @property
    def all(self) -> list[Any]:
        last = [self.serving, *self.codes, self.stop, self.timer]
        return [self.kept, self.following, self.state, self.report, *self.files, *last]


def tab(page: Page) -> None:
    """One tab; nothing where no served model can be climbed on."""
    names = models(page.host)
    if not names:
        return
    words = page.words
    folders = FolderList(page, words("climb.whole"), upload=words("climb.upload"))
    with gr.Tab(words("climb.title"), id="climb") as shown_tab, page.columns("climb.begin"):
        with gr.Column(scale=4, min_width=300):
            asked, classes = _form(page, folders, names)
            go = gr.Button(words("climb.go"), variant="primary", elem_id="climb-go")
        with gr.Column(scale=8, min_width=300):
            shown, name, serve = _results(page)
        fresh_folders, opened_tab = folders.keep_fresh(asked.folder, shown_tab)
        _Events(page, asked, shown, fresh_folders).wire(opened_tab, classes, go, name, serve)


def _form(page: Page, folders: FolderList, names: tuple[str, ...]) -> tuple[_Asked, Any]:
    words = page.words
    folder = folders.field(words("climb.folder"), "climb-folder")
    zipped = gr.File(label=words("climb.zip"), file_types=[".zip"], height=150, elem_id="climb-zip")
    with gr.Accordion(words("climb.labels_elsewhere"), open=False) as elsewhere:
        labels = gr.File(label=words("climb.labels"), file_types=[".csv", ".tsv"], height=150, elem_id="climb-labels")
    classes = gr.HTML(elem_id="climb-classes")
    field = gr.Dropdown(list(names), value=names[0], label=words("climb.model"), filterable=False)
    model = page.pickers.add(Picker(field, models))
    budgets = [(words(f"climb.budget.{key}"), key) for key in BUDGETS]
    budget = gr.Radio(budgets, value="all", label=words("climb.how_far"))
    with gr.Accordion(words("climb.more"), open=False):
        margin = gr.Number(1.0, label=words("climb.margin"), info=words("climb.margin_hint"), minimum=0.1, maximum=49)
        seed = gr.Number(0, label=words("climb.seed"), info=words("climb.seed_hint"), precision=0, minimum=0)
    return _Asked(folder, zipped, elsewhere, labels, model, budget, margin, seed, fields(page)), classes


def _results(page: Page) -> tuple[_Shown, Any, Any]:
    words = page.words
    kept = gr.BrowserState("", storage_key=_KEPT_AS, secret=_KEPT_AS)
    following: Any = gr.Dropdown(
        [], value=None, label=words("climb.following"), visible=False, elem_id="climb-following"
    )
    following.preprocess = as_it_is
    why = gr.HTML(elem_id="climb-why")
    state = gr.HTML(elem_id="climb-state")
    stop = gr.Button(words("climb.stop"), variant="stop", visible=False, size="sm", elem_id="climb-stop")
    with gr.Row():
        named = ("climb.take.page", "climb.take.json", "climb.take.table", "climb.take.best")
        files = [gr.DownloadButton(words(key), visible=False, size="sm", min_width=120) for key in named]
    with gr.Row(visible=False) as serving:
        name = gr.Textbox("best", label=words("climb.serve_as"), max_lines=1, elem_id="climb-name")
        serve = gr.Button(words("climb.serve"), elem_id="climb-serve")
    with gr.Accordion(words("climb.copy"), open=False), gr.Tabs():
        codes = [
            code_tab(words(key), language) for key, language in (("climb.shell", "shell"), ("climb.python", "python"))
        ]
    report = gr.HTML(elem_id="climb-report")
    return (
        _Shown(why, kept, following, state, report, files, serving, codes, stop, gr.Timer(_SECONDS, active=False)),
        name,
        serve,
    )


class _Events:
    """What happens when somebody does something. Each answers with the values of ``_Shown.all``."""

    def __init__(self, page: Page, asked: _Asked, shown: _Shown, folders: FreshList) -> None:
        self._page = page
        self._folders = folders
        self._hands = hands_of(page.sessions)
        self._asked = asked
        self._shown = shown
        self._jobs: Jobs = jobs_of(page.sessions)
        self._serve = page.host.serve

    def wire(self, opened_tab: Any, classes: Any, go: Any, name: Any, serve: Any) -> None:
        page, asked, shown = self._page, self._asked, self._shown
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        unread, unbegun = Reasons(), Reasons()
        for field in (asked.folder, asked.zipped, asked.labels):
            looked = field.change(
                page.guarded(self.look, unread),
                [asked.folder, asked.zipped, asked.labels],
                [classes],
                api_name="climb_look" if field is asked.folder else None,
                api_visibility="public" if field is asked.folder else "private",
                show_progress="minimal",
            )
            unread.show(looked, page.words, [classes], lambda why: [why])
        gr.on([go.click, shown.following.input], None, None, [shown.why], js=NOTHING)
        begun = go.click(
            page.guarded(self.start, unbegun),
            asked.all,
            shown.all,
            api_name="climb_start",
            show_progress="minimal",
            show_progress_on=[shown.state],  # everywhere else it would leave a mark of the same error
        )
        begun.success(None, js=_SEEN)
        unmarked = [shown.why, shown.state]  # what is told of an event takes gradio's own mark of the error away
        unbegun.show(begun, page.words, unmarked, lambda why: [why, gr.skip()]).then(None, js=in_sight("climb-why"))
        opened_tab.then(page.guarded(self.arrive), [shown.kept], shown.all, **private)
        labelled = [asked.folder, asked.zipped, asked.elsewhere, asked.labels]
        opened_tab.then(self.handed, None, labelled, **private)
        shown.following.input(page.guarded(self.watch), [shown.following], shown.all, **private)
        shown.timer.tick(page.guarded(self.tick), [shown.kept], shown.all, **private)
        shown.stop.click(
            page.guarded(self.stop), [shown.kept], shown.all, api_name="climb_stop", show_progress="hidden"
        )
        api(page.guarded(self.told), api_name="climb_watch")
        serve.click(
            page.guarded(self.serve), [shown.kept, name], [name], api_name="climb_serve", show_progress="minimal"
        )

    def look(self, folder: str | None, zipped: str | None, labels: str | None, request: gr.Request) -> str:
        if not zipped and not folder:
            return ""
        with opened(self._page.host, folder, zipped) as source:
            return showing.classes(self._page.words, self._counted(source, Path(labels) if labels else None))

    def _counted(self, source: Source, labels: Path | None) -> Counted:
        if labels is None and not any(path.is_dir() for path in source.folder.iterdir()):
            raise Spoken(self._page.words("climb.flat", source.called))
        return counted(source, labels)

    def start(self, request: gr.Request, *values: Any) -> list[Any]:
        """values: as ``_Asked.all`` has them."""
        folder, zipped, labels, model, budget, margin, seed = values[:_USUAL]
        wishes = Wishes.of(values[_USUAL:])
        page, host = self._page, self._page.host
        page.usable(request, model)
        if not zipped and not folder:
            raise Spoken(page.words("label.no_source"))
        if model not in models(host) or budget not in BUDGETS:
            raise BadRequest("a climb takes one of the models and one of the budgets that are offered")
        card = host.models[model]
        usual = Plan(card.name, margin=float(margin) / 100, seed=int(seed))
        companions = self._companions(wishes, model, request)
        place = fresh("climbs")
        with contextlib.ExitStack() as stack:
            stack.callback(remove, place)
            source = unpacked(host, Path(zipped), place / PHOTOS) if zipped else folder_of(host, folder)
            table = _kept_beside(labels, place)
            called = "" if table is None else table.name
            classes = self._counted(source, table).classes  # what cannot be climbed on is said at once
            cards = host.models.get(companions.student), host.models.get(companions.vlm)
            plan = planned(page.words, usual, budget, wishes, cards, classes)
            wanted = Wanted(source.called, called, model, card, plan, page.words.language)
            stack.pop_all()
        is_private = zipped or is_kept(str(folder))
        key = key_of_zip() if is_private else key_of_folder(str(folder), table)
        named = f"{source.called} + {called}" if called else source.called
        job = self._jobs.start(key, named, model, place, work(host, source, table, wanted, plan, companions))
        codes = [commands.shell(wanted) or f"# {page.words('climb.no_shell')}", commands.python(wanted)]
        return self._values(job, request, codes)

    def _companions(self, wishes: Wishes, model: str, request: gr.Request) -> Companions:
        """Raises `UnknownModel` for one that the visitor may not use, `BadRequest` for one that cannot do it."""
        if wishes.student == model:
            raise Spoken(self._page.words("climb.own_student"))
        for name, offered in ((wishes.student, models), (wishes.vlm, talkers)):
            if name and self._page.usable(request, name) not in offered(self._page.host):
                raise BadRequest(f"{name} is none of the further models that are offered")
        return Companions(wishes.student, wishes.vlm)

    def arrive(self, kept: str | None, request: gr.Request) -> list[Any]:
        """The tab is opened: the climb that this browser follows, or else one that is under way."""
        seen = self._visible(request)
        job = self._known(kept, request) or next((one for one in seen if not one.is_over), None)
        if job is not None:
            return self._values(job, request, None)
        nothing: list[Any] = [gr.skip() for _ in self._shown.all]
        nothing[1] = self._choices(seen, None)
        return nothing

    def handed(self, request: gr.Request) -> list[Any]:
        """Where this visitor comes from labelling: the folder, no other zip, and his table."""
        given = self._hands.take(request.session_hash or "")
        if given is None:
            return [gr.skip()] * 4
        return [self._folders.choose(given.folder, request), None, gr.update(open=True), str(given.table)]

    def watch(self, key: str | None, request: gr.Request) -> list[Any]:
        return self._values(self._visible_job(key, request), request, None)

    def tick(self, kept: str | None, request: gr.Request) -> list[Any]:
        job = self._known(kept, request)
        if job is not None and job.is_over:
            return self._values(job, request, None)
        values: list[Any] = [gr.skip() for _ in self._shown.all]
        if job is None:
            values[-1] = gr.Timer(active=False)
        else:
            values[2] = self._state(job)
        return values

    def stop(self, kept: str | None, request: gr.Request) -> list[Any]:
        job = self._visible_job(kept, request)
        job.stop()
        return self._values(job, request, None)

    def told(self, key: str, request: gr.Request) -> dict[str, Any]:
        """For programs: where the climb of that key is, and what it found."""
        job = self._visible_job(key, request)
        return {
            "key": job.key,
            "state": job.state,
            "stage": job.stage,
            "done": job.done,
            "total": job.total,
            "steps": [{"key": step.key, "accuracy": step.accuracy.value} for step in job.steps],
            "recommended": None if job.outcome is None else job.outcome.recommendation.key,
            "error": None if job.error is None else self._page.told(job.error),
        }

    def serve(self, kept: str | None, name: str, request: gr.Request) -> str:
        """The winner becomes a model of this server."""
        job = self._visible_job(kept, request)
        if self._serve is None or job.state != "done":
            raise BadRequest("this server takes on no models while it runs; download the winner and serve it yourself")
        cleaned = served_name(name)
        self._serve(getattr(request.request, "scope", {}), cleaned, job.folder / BEST)
        gr.Info(self._page.words("climb.served", cleaned))
        return cleaned

    def _known(self, key: str | None, request: gr.Request) -> Job | None:
        """What this browser followed, where it is still there and the visitor may see it."""
        try:
            return self._visible_job(key, request) if key else None
        except AnmokError:
            return None

    def _visible(self, request: gr.Request) -> list[Job]:
        scope: Any = getattr(request.request, "scope", {})
        return [job for job in self._jobs.shared() if self._page.host.may_use(scope, job.model)]

    def _visible_job(self, key: str | None, request: gr.Request) -> Job:
        """Raises `UnknownModel` where the visitor may not use what the climb stands on."""
        job = self._jobs.get(key or "")
        self._page.usable(request, job.model)
        return job

    def _choices(self, seen: list[Job], followed: Job | None) -> Any:
        jobs = [*seen, *([followed] if followed is not None and followed not in seen else [])]
        words = self._page.words
        choices = [(f"{job.called} · {job.model} · {words(f'climb.state_short.{job.state}')}", job.key) for job in jobs]
        return gr.update(choices=choices, value=None if followed is None else followed.key, visible=len(jobs) > 0)

    def _state(self, job: Job) -> str:
        trouble = "" if job.error is None else self._page.told(job.error)
        return showing.state(self._page.words, job, can_serve=self._serve is not None, trouble=trouble)

    def _values(self, job: Job, request: gr.Request, codes: list[str] | None) -> list[Any]:
        self._page.usable(request, job.model)
        is_done = job.state == "done"
        words = self._page.words
        paths = [job.folder / words.language / REPORT, job.folder / words.language / "report.json"]
        paths += [job.folder / words.language / "predictions.parquet", job.folder / f"{BEST}.zip"]
        return [
            job.key,
            self._choices(self._visible(request), job),
            self._state(job),
            showing.report(words, job),
            *[gr.update(value=str(path) if is_done else None, visible=is_done) for path in paths],
            gr.update(visible=is_done and self._serve is not None),
            *(codes if codes is not None else [gr.skip() for _ in self._shown.codes]),
            gr.update(visible=not job.is_over),
            gr.Timer(active=not job.is_over),
        ]


def served_name(text: str) -> str:
    """What somebody wrote as a name that a server takes."""
    return _NOT_IN_NAMES.sub("-", text.strip()).strip("-.") or BEST


def _kept_beside(labels: str | None, place: Path) -> Path | None:
    """The table of labels where the climb can still read it when the visitor has left."""
    if not labels:
        return None
    copy = place / Path(labels).name
    copy.write_bytes(Path(labels).read_bytes())
    return copy
