"""The fields in which a model is chosen: models may be served after the page was made, so each page that is loaded
asks again which there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import gradio as gr

from anmok.ui.host import Host
from anmok.ui.listing import Choices, as_it_is

Names: TypeAlias = Callable[[Host], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picker:
    """One field. ``nobody`` is what it calls no model at all, and ``is_first`` whether that stands before the models;
    one that needs two models to be of use has ``least`` 2, and is hidden below that."""

    field: Any
    names: Names
    nobody: str = ""
    is_first: bool = False
    least: int = 0

    def choices(self, names: Sequence[str]) -> Choices:
        """What the field offers."""
        shown = [(name, name) for name in names]
        none = [(self.nobody, "")] if self.nobody else []
        return [*none, *shown] if self.is_first else [*shown, *none]

    def fresh(self, names: Sequence[str], chosen: str | None) -> Any:
        """The field as it is when a page is loaded. What it offers still and was ``chosen`` is left alone: whoever was
        quicker than this answer has chosen another one meanwhile; and a list that is what the page was made with is not
        sent: see ``listing``."""
        choices = self.choices(names)
        shown: Any = {"visible": len(names) >= self.least} if self.least else {}
        if chosen not in [value for _, value in choices]:
            shown["value"] = choices[0][1] if choices else None
        if choices != self.field.choices:
            shown["choices"] = choices
        return gr.update(**shown)


@dataclass(frozen=True, slots=True)
class Pickers:
    """All of a page."""

    _all: list[Picker] = field(default_factory=list)

    def add(self, picker: Picker) -> Any:
        """Keeps its field fresh from now on, and returns it. Events get whatever was chosen: whether there is such a
        model, and for whom, is to be asked of ``Page.usable``."""
        picker.field.preprocess = as_it_is
        self._all.append(picker)
        return picker.field

    def wire(self, blocks: Any, host: Host) -> None:
        """Has a page that is loaded offer what its visitor may use."""

        def refresh(request: gr.Request, *chosen: str | None) -> Any:
            scope: Any = getattr(request.request, "scope", {})
            usable = [[name for name in one.names(host) if host.may_use(scope, name)] for one in self._all]
            found = [one.fresh(names, value) for one, names, value in zip(self._all, usable, chosen, strict=True)]
            return found if len(found) > 1 else found[0]  # gradio takes a single output as it is

        if self._all:
            fields = [one.field for one in self._all]
            blocks.load(refresh, fields, fields, api_visibility="private", show_progress="hidden")


def doing(task: str) -> Names:
    """The models that have the task."""
    return lambda host: host.doing(task)
