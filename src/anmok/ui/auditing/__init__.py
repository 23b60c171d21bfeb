"""The tab ``Audit``: what a claimed accuracy is worth, from predictions of any tool. Needs no model."""

from __future__ import annotations

from typing import Any, Final

import gradio as gr

from anmok.errors import BadRequest
from anmok.evidence.schema import write_verdict
from anmok.ui.auditing import commands
from anmok.ui.auditing.answering import KINDS, Question, answered
from anmok.ui.auditing.showing import shown
from anmok.ui.choosing import FolderList
from anmok.ui.copying import code_tab
from anmok.ui.failing import Reasons
from anmok.ui.look import in_sight
from anmok.ui.page import Page
from anmok.ui.texts import Spoken, Words

_AT_ONCE: Final = 2  # audits: each reads every picture of a set
_MOST: Final = 1000  # models tried
# On a phone the answer begins below what is seen.
_SEEN: Final = in_sight("audit-said")


def tab(page: Page) -> None:
    """One tab: what was brought on the left, what it is worth on the right."""
    words = page.words
    folders = FolderList(page, words("audit.whole"), words("audit.no_folder"))
    with gr.Tab(words("audit.title"), id="audit") as shown_tab, page.columns("audit.begin"):
        with gr.Column(scale=4, min_width=300):
            folder, inputs = _form(page, folders)
            go = gr.Button(words("audit.go"), variant="primary", elem_id="audit-go")
        with gr.Column(scale=8, min_width=300):
            said = gr.HTML(elem_id="audit-said")
            verdict = gr.DownloadButton("verdict.json", visible=False, size="sm", elem_id="audit-verdict")
            with gr.Accordion(words("audit.copy"), open=False), gr.Tabs():
                codes = [code_tab(words("audit.shell"), "shell"), code_tab("Python", "python")]
    reasons = Reasons()
    done = go.click(
        page.guarded(_event(page), reasons),
        inputs,
        [said, verdict, *codes],
        api_name="audit_go",
        concurrency_limit=_AT_ONCE,
        show_progress_on=[said],
    )
    done.success(None, js=_SEEN)
    hidden = gr.update(visible=False)
    failed = reasons.show(done, words, [said, verdict, *codes], lambda why: [why, hidden, "", ""])
    failed.then(None, js=_SEEN)
    folders.keep_fresh(folder, shown_tab)


def _form(page: Page, folders: FolderList) -> tuple[Any, list[Any]]:
    words = page.words
    predictions = gr.File(
        label=words("audit.predictions"), file_types=list(KINDS), height=150, elem_id="audit-predictions"
    )
    folder = folders.field(words("audit.folder"), "audit-folder")
    zipped = gr.File(label=words("audit.zip"), file_types=[".zip"], height=150, elem_id="audit-zip")
    with gr.Accordion(words("audit.more"), open=False):
        hint = words("audit.claimed_hint")
        claimed = gr.Number(None, label=words("audit.claimed"), info=hint, minimum=0, maximum=100)
        tried = gr.Number(1, label=words("audit.tried"), info=words("audit.tried_hint"), precision=0, minimum=1)
        margin = gr.Number(3.0, label=words("audit.margin"), info=words("audit.margin_hint"), minimum=0.1, maximum=49)
        required = gr.Textbox("", label=words("audit.required"), info=words("audit.required_hint"), max_lines=1)
        classes = gr.Textbox("", label=words("audit.classes"), info=words("audit.classes_hint"), max_lines=1)
        groups = gr.File(label=words("audit.groups"), file_types=[".csv"], height=150)
        seed = gr.Number(0, label=words("audit.seed"), precision=0, minimum=0)
    return folder, [predictions, folder, zipped, claimed, tried, margin, required, classes, groups, seed]


def _event(page: Page) -> Any:
    words = page.words

    def audited(request: gr.Request, progress: Any = gr.Progress(), *values: Any) -> list[Any]:  # noqa: B008
        question = _question(words, *values)

        def report(done: int, total: int) -> None:
            progress((done, total), desc=words("audit.looking"), unit=words("audit.unit"))

        with answered(page.host, question, report) as answer:
            said = shown(words, answer.audit, question.gates)
            path = page.sessions.place(request.session_hash or "") / "verdict.json"
            write_verdict(path, answer.audit, question.gates)
        codes = [commands.shell(question, answer.called, words.language), commands.python(question, answer.called)]
        return [said, gr.update(value=str(path), visible=True), *codes]

    return audited


def _question(words: Words, *values: Any) -> Question:
    """values: of the form, in its order.

    Raises:
        BadRequest: there are no predictions, or a number that makes no sense.
    """
    predictions, folder, zipped, claimed, tried, margin, required, classes, groups, seed = values
    if not predictions:
        raise Spoken(words("audit.no_predictions"))
    if not 1 <= tried <= _MOST:
        raise BadRequest(f"models tried: want 1 to {_MOST}")
    return Question(
        folder=folder or None,
        zipped=zipped,
        predictions=predictions,
        claimed=None if claimed is None else _share(claimed),
        tried=int(tried),
        margin=margin / 100,
        classes=_listed(classes),
        groups=groups,
        required=_listed(required),
        seed=int(seed),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _share(number: float) -> float:
    """A share as it is, percent as a share; as the command line reads it."""
    return number if number <= 1 else number / 100
