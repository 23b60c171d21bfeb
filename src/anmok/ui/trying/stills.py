"""A picture in, an answer out: ``classify``, ``detect``, ``point``, ``depth``, ``inspect``, ``pose``, ``gaze``,
``parse``, ``normals`` and ``matte``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr

from anmok.results import Result, Scores
from anmok.tasks import Ask, Classify, Depth, Detect, Gaze, Inspect, Matting, Normals, Parse, Pointing, Pose
from anmok.ui.failing import Reasons
from anmok.ui.look import paragraph
from anmok.ui.page import Page
from anmok.ui.texts import Spoken, Words
from anmok.ui.trying.answering import Files, act, asked, copied, read, said, table, written
from anmok.ui.trying.commands import Thing
from anmok.ui.trying.fields import (
    Taken,
    examples_field,
    folder_field,
    labels_of,
    model_field,
    picture_field,
    taken,
    wanted_labels,
)

Examples = Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Question:
    """The controls of a task beside picture and model, and the ask that their values make."""

    controls: Callable[[Words], list[Any]]
    ask: Callable[..., Ask[Any, Any]]
    examples: tuple[str, ...]


def _nothing(words: Words) -> list[Any]:
    return []


def _classify(words: Words) -> list[Any]:
    return [
        gr.Textbox(words("try.example_labels"), label=words("try.labels"), info=words("try.labels_hint")),
        gr.Slider(0, 1, 0.0, step=0.01, label=words("try.threshold"), info=words("try.abstain_hint")),
    ]


def _point(words: Words) -> list[Any]:
    return [gr.Textbox(words("try.example_labels"), label=words("try.labels"), info=words("try.labels_hint"))]


def _detect(words: Words) -> list[Any]:
    return [*_point(words), *threshold_field(words)]


def threshold_field(words: Words) -> list[Any]:
    """Whether the model's own threshold holds, and the one that holds otherwise. Moving the slider decides."""
    is_own = gr.Checkbox(True, label=words("try.own_threshold"))
    slider = gr.Slider(0, 1, 0.3, step=0.01, label=words("try.threshold"))
    slider.input(lambda: False, None, [is_own], api_visibility="private", show_progress="hidden")
    return [is_own, slider]


def _pose(words: Words) -> list[Any]:
    return [
        gr.Slider(0, 1, 0.3, step=0.01, label=words("try.joint_threshold")),
        gr.Slider(0, 1, 0.5, step=0.01, label=words("try.person_threshold")),
    ]


def _ask_classify(labels: str, threshold: float) -> Classify:
    return Classify(wanted_labels(labels), threshold=threshold)


def _ask_point(labels: str) -> Pointing:
    return Pointing(wanted_labels(labels))


def _ask_detect(labels: str, is_own: bool, threshold: float) -> Detect:
    return Detect(labels_of(labels), threshold=None if is_own else threshold)


_NAMED: Final = ("classify", "point")  # nothing can be asked without labels
QUESTIONS: Final[Mapping[str, Question]] = {
    "classify": Question(_classify, _ask_classify, ("shapes",)),
    "detect": Question(_detect, _ask_detect, ("shapes", "person")),
    "point": Question(_point, _ask_point, ("shapes", "person")),
    "depth": Question(_nothing, Depth, ("room", "shapes")),
    "inspect": Question(_nothing, Inspect, ()),  # what is good there, only the memory knows: no example fits
    "pose": Question(_pose, Pose, ("person",)),
    "gaze": Question(_nothing, Gaze, ("shapes", "person")),
    "parse": Question(_nothing, Parse, ("person", "shapes")),
    "normals": Question(_nothing, Normals, ("room", "person")),
    "matte": Question(_nothing, Matting, ("person", "shapes")),
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where an answer stands: words, then what is looked at, in the order of ``components``."""

    task: str
    words: Words
    said: Any
    looked: Sequence[Any]
    rows: Any
    taken: Taken

    @property
    def components(self) -> list[Any]:
        return [self.said, *self.looked, self.rows, *self.taken.files, *self.taken.codes]

    def blank(self, paragraph: str) -> list[Any]:
        looked = [gr.update(value=None, visible=False) for _ in self.looked[:2]]
        looked += [gr.update(value=None, visible="hidden") for _ in self.looked[2:]]
        return [paragraph, *looked, "", *self.taken.values(None), *[""] * 3]

    def values(self, results: Sequence[Result], files: Sequence[Files], names: Sequence[str], codes: list[str]) -> Any:
        """One answer, or two side by side."""
        lines = [said(self.words, result) for result in results]
        if len(results) > 1:
            lines = [f"<h3>{name}</h3>{line}" for name, line in zip(names, lines, strict=True)]
        looked = self._scores(results, names) if self.task == "classify" else self._pictures(files)
        return ["".join(lines), *looked, table(self.words, results[0]), *self.taken.values(files[0]), *codes]

    def _scores(self, results: Sequence[Result], names: Sequence[str]) -> list[Any]:
        found = []
        for place in range(2):
            result = results[place] if place < len(results) else None
            value = dict(result.top(10)) if isinstance(result, Scores) else None
            label = names[place] if place < len(names) else ""
            found.append(gr.update(value=value, visible=value is not None, label=label))
        return found

    def _pictures(self, files: Sequence[Files]) -> list[Any]:
        is_pair = len(files) > 1
        pair = (files[0].png, files[1].png) if is_pair else None
        found = [gr.update(value=files[0].png, visible=not is_pair), gr.update(value=pair, visible=is_pair)]
        if self.task == "depth":
            # Gradio's view shows nothing where it comes into being together with its value: it is there, and hidden.
            found.append(gr.update(value=files[0].cloud or None, visible=True if files[0].cloud else "hidden"))
        return found


def tab(page: Page, task: str, examples: Examples) -> None:
    """The tab of one task."""
    words, question = page.words, QUESTIONS[task]
    with gr.Tab(words(f"try.tasks.{task}"), id=task, elem_id=f"task-{task}"), gr.Row():
        with gr.Column(scale=5, min_width=300):
            picture = picture_field(page, words("try.picture"))
            folder_field(page, picture)
            if question.examples:
                examples_field(page, [picture], {name: [examples[name]] for name in question.examples})
            controls = question.controls(words)
            models = model_field(page, task)
            go = gr.Button(words("try.go"), variant="primary", elem_id=f"go-{task}")
        with gr.Column(scale=7, min_width=300):
            shown = _shown(page, task)
    inputs = [picture, models.model, *controls, models.other]
    sliders = [one for one in controls if not isinstance(one, gr.Textbox)]
    texts = [one.submit for one in controls if isinstance(one, gr.Textbox)]
    others = [one.change for one in (picture, models.model, models.other, *sliders)]
    reasons = Reasons()
    asked_for = gr.on(
        [go.click, *texts, *others],
        page.guarded(_event(page, task, shown), reasons),
        inputs,
        shown.components,
        api_name=f"try_{task}",
        trigger_mode="always_last",
        show_progress="minimal",
        show_progress_on=shown.looked[:1],
    )
    reasons.show(asked_for, words, shown.components, shown.blank)  # never another picture's answer beside this one


def _shown(page: Page, task: str) -> _Shown:
    words = page.words
    line = gr.HTML(paragraph(words("try.begin")), elem_id=f"said-{task}", elem_classes="anmok-live")
    looked: list[Any]
    if task == "classify":
        with gr.Row():
            looked = [gr.Label(label=words("try.answer"), visible=False, min_width=200) for _ in range(2)]
    else:
        answer = words("try.answer")
        looked = [
            gr.Image(
                label=answer,
                alt_text=answer,
                type="filepath",
                format="png",
                interactive=False,
                visible=False,
                buttons=["fullscreen"],
            ),
            gr.ImageSlider(
                label=answer, type="filepath", format="png", interactive=False, visible=False, buttons=["fullscreen"]
            ),
        ]
    if task == "depth":
        looked.append(
            gr.Model3D(
                label=words("try.cloud"),
                display_mode="point_cloud",
                camera_position=(90, 90, None),
                height=380,
                visible="hidden",
            )
        )
    rows = gr.HTML()
    return _Shown(task, words, line, looked, rows, taken(page, has_coco=task == "detect"))


def _event(page: Page, task: str, shown: _Shown) -> Callable[..., list[Any]]:
    question = QUESTIONS[task]

    def answer(request: gr.Request, *given: Any) -> list[Any]:
        path, model, *values, other = given
        if not path:
            return shown.blank(paragraph(page.words("try.no_picture")))
        if task in _NAMED and labels_of(values[0]) is None:
            raise Spoken(page.words("try.no_labels"))
        names = [page.usable(request, one) for one in dict.fromkeys((model, other)) if one]
        name, data = read(path)
        ask = question.ask(*values)
        results = [asked(page, one, [data], ask)[0] for one in names]
        files = [written(page, request.session_hash or "", name, data, result) for result in results]
        return list(shown.values(results, files, names, copied(page, act(page, names[0], ask, (Thing(name),)))))

    return answer
