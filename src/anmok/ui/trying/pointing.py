"""A picture that is pointed at: points by clicking, boxes by dragging, and both by keyboard.

Gradio's own pictures tell where they were clicked, but know no boxes and no keyboard; so this is HTML of ours.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import gradio as gr

from anmok.errors import BadRequest
from anmok.inputs import Box, Point, Prompted
from anmok.ui.texts import Words

_MOST: Final = 64  # points, and boxes
_TOOLS: Final = (("yes", "＋"), ("no", "－"), ("box", "▭"))
_ACTS: Final = (("undo", "↶"), ("clear", "✕"))


@dataclass(frozen=True, slots=True)
class Marks:
    """What was pointed at in a picture, in its pixels. ``stamp`` counts the changes, so that an answer that comes
    late does not undo what was pointed at meanwhile."""

    picture: str = ""  # which one; no marks outlive it
    source: str = ""  # its address, relative to the page
    width: int = 0
    height: int = 0
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    stamp: int = 0

    @classmethod
    def fresh(cls, file: Path, size: tuple[int, int]) -> Marks:
        """Of a new picture (width, height), with nothing pointed at."""
        return cls(secrets.token_hex(8), _address(file), *size)

    @classmethod
    def of(cls, value: object) -> Marks:
        """As the browser sent them.

        Raises:
            BadRequest: they are none, or too many.
        """
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise BadRequest("marks: want an object with points and boxes")
        points: Any = value.get("points") or []
        boxes: Any = value.get("boxes") or []
        is_listed = isinstance(points, list) and isinstance(boxes, list)
        if not is_listed or max(len(points), len(boxes)) > _MOST:
            raise BadRequest(f"marks: want up to {_MOST} points and as many boxes")
        checked = Prompted(b"", points=cast(Any, points)).points, Prompted(b"", boxes=cast(Any, boxes)).boxes
        given = {key: value.get(key) for key in ("width", "height", "stamp")}
        whole = {key: one if isinstance(one, int) and 0 <= one < 10**9 else 0 for key, one in given.items()}
        return cls(
            str(value.get("picture", ""))[:40],
            str(value.get("source", ""))[:1000],
            points=checked[0],
            boxes=checked[1],
            **whole,
        )

    def showing(self, file: Path) -> Marks:
        """The same marks over another picture of the same size."""
        return replace(self, source=_address(file))

    @property
    def is_empty(self) -> bool:
        return not self.points and not self.boxes

    def value(self) -> dict[str, Any] | None:
        """For the browser."""
        if not self.source:
            return None
        return {
            "picture": self.picture,
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "points": [list(point) for point in self.points],
            "boxes": [list(box) for box in self.boxes],
            "stamp": self.stamp,
        }

    def prompts(self) -> Sequence[tuple[tuple[Point, ...], tuple[Box, ...]]]:
        """What each item of a request is given: points go with one box; of several boxes each is an object."""
        if self.points and len(self.boxes) > 1:
            return [(self.points, ()), ((), self.boxes)]
        return [(self.points, self.boxes)]


def _address(file: Path) -> str:
    return f"gradio_api/file={quote(str(file))}"


def pointing_field(words: Words, name: str) -> Any:
    """The picture. Its value is that of ``Marks``; ``input`` tells that something was pointed at."""
    buttons = "".join(
        f'<button type="button" data-tool="{tool}" aria-pressed="{"true" if tool == "yes" else "false"}">'
        f'<span aria-hidden="true">{sign}</span> {html.escape(words(f"try.point.{tool}"))}</button>'
        for tool, sign in _TOOLS
    ) + "".join(
        f'<button type="button" data-act="{deed}"><span aria-hidden="true">{sign}</span> '
        f"{html.escape(words(f'try.point.{deed}'))}</button>"
        for deed, sign in _ACTS
    )
    label, hint = html.escape(words("try.point.label")), html.escape(words("try.point.hint"))
    template = (
        f'<div class="pointing" id="point-{name}" hidden><div class="tools" role="toolbar" aria-label="{label}">'
        f'{buttons}</div><div class="stage" tabindex="0" role="application" aria-label="{label}" '
        f'aria-describedby="hint-{name}"><img alt="{label}" draggable="false"><svg aria-hidden="true"></svg></div>'
        f'<p class="hint" id="hint-{name}">{hint}</p><p class="count" role="status"></p></div>'
    )
    return gr.HTML(
        value=None,
        html_template=template,
        css_template=_text("pointing.css"),
        js_on_load=_text("pointing.js"),
        apply_default_css=False,
        elem_classes="anmok-pointing",
        counted=words("try.point.counted"),
    )


def _text(name: str) -> str:
    return (resources.files("anmok.ui.trying") / name).read_text(encoding="utf-8")
