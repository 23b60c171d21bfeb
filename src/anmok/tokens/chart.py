"""The premiums as one picture: a line for each language, a mark for each tokenizer. SVG, written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree import ElementTree

from anmok.tokens.comparing import Comparison, Row

_WIDTH, _LEFT, _RIGHT = 720.0, 110.0, 24.0
_LINE, _TOP, _BOTTOM = 26.0, 34.0, 46.0
_KEY: Final = 20.0  # height of a line of the key
_ACROSS: Final = 3  # entries in a line of the key
_LETTERS: Final = 26  # of a name that the key shows
_INK, _GREY, _GRID = "#222222", "#666666", "#dddddd"
# Okabe and Ito (2008), distinct for the colour-blind; the outlines are distinct for everybody.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_OUTLINES: Final = (
    None,  # a circle
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.3), (1.2, -0.9), (-1.2, -0.9)),
)
_TICKS: Final = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100)

_Point = tuple[float, float]


def chart(found: Comparison) -> str:
    """The picture as text; empty where there are no premiums. A hollow mark is a premium that says nothing, since the
    tokenizer cannot read all of the text."""
    rows = [row for row in found.rows if row.premium is not None and row.premium.value > 0]
    languages = [one.code for one in found.corpus.languages if one.code != found.reference]
    if not rows or not languages:
        return ""
    names = [one.name for one in found.tokenizers]
    is_any_hollow = not all(row.is_meaningful for row in rows)
    key = _KEY * (math.ceil(len(names) / _ACROSS) + is_any_hollow)
    height = _TOP + _LINE * len(languages) + _BOTTOM + key
    root = _root(height, f"Tokens for each token of {found.reference}, {found.corpus.name}")
    bottom = _TOP + _LINE * len(languages)
    places = _axis(root, [row.premium.value for row in rows if row.premium is not None], bottom)
    _text(root, (_LEFT, 18), f"tokens for each token of {found.reference} ({found.corpus.name})", _INK)
    heights = {code: _TOP + _LINE * (i + 0.5) for i, code in enumerate(languages)}
    for code, y in heights.items():
        _text(root, (_LEFT - 10, y + 4), code, _INK, "end")
        _stroke(root, (_LEFT, y), (_WIDTH - _RIGHT, y), _GRID)
    for row in rows:
        if row.count.language in heights:
            _mark(root, (places(row), heights[row.count.language]), names.index(row.count.tokenizer), row)
    _draw_key(root, names, bottom + _BOTTOM)
    if is_any_hollow:
        words = "hollow: the tokenizer cannot read all of it, so its premium says nothing"
        _text(root, (_LEFT - 5, bottom + _BOTTOM + key - _KEY + 4), words, _GREY)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


class _Places:
    """From a premium to a place across, on a scale where twice is as far from one as half."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log(low), math.log(high)

    def at(self, value: float) -> float:
        return _LEFT + (math.log(value) - self._low) / (self._high - self._low) * (_WIDTH - _LEFT - _RIGHT)

    def __call__(self, row: Row) -> float:
        return self.at(row.premium.value if row.premium is not None else 1.0)


def _axis(root: ElementTree.Element, values: Sequence[float], bottom: float) -> _Places:
    least, most = min(*values, 1.0) / 1.08, max(*values, 1.0) * 1.08
    low = max((tick for tick in _TICKS if tick <= least), default=least)
    high = min((tick for tick in _TICKS if tick >= most), default=most)
    places = _Places(low, high)
    shown: list[float] = []
    for tick in _TICKS:
        if low <= tick <= high and (tick == 1 or not shown or places.at(tick) - shown[-1] > 26):
            shown.append(places.at(tick))
            _stroke(root, (shown[-1], _TOP), (shown[-1], bottom), _GREY if tick == 1 else _GRID)
            _text(root, (shown[-1], bottom + 18), f"{tick:g}", _GREY, "middle")
    return places


def _root(height: float, title: str) -> ElementTree.Element:
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH:g} {height:g}",
            "width": f"{_WIDTH:g}",
            "height": f"{height:g}",
            "role": "img",
            "aria-label": title,
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    ElementTree.SubElement(root, "title").text = title
    ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    return root


def _mark(root: ElementTree.Element, centre: _Point, number: int, row: Row) -> None:
    shape = _shape(root, centre, number, is_hollow=not row.is_meaningful)
    one = row.premium
    value = f"{one.value:.2f}" if one is not None else ""
    ElementTree.SubElement(shape, "title").text = f"{row.count.tokenizer}, {row.count.language}: {value}"


def _shape(root: ElementTree.Element, centre: _Point, number: int, is_hollow: bool = False) -> ElementTree.Element:
    colour, outline = _COLOURS[number % len(_COLOURS)], _OUTLINES[number % len(_OUTLINES)]
    style: Mapping[str, str] = {
        "fill": "#ffffff" if is_hollow else colour,
        "stroke": colour,
        "stroke-width": "1.5",
        "fill-opacity": "0.9",
    }
    x, y = centre
    if outline is None:
        return ElementTree.SubElement(root, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "5", **style})
    points = " ".join(f"{x + 4.6 * dx:.1f},{y + 4.6 * dy:.1f}" for dx, dy in outline)
    return ElementTree.SubElement(root, "polygon", {"points": points, **style})


def _draw_key(root: ElementTree.Element, names: Sequence[str], top: float) -> None:
    step = (_WIDTH - _LEFT - _RIGHT) / _ACROSS
    for i, name in enumerate(names):
        x, y = _LEFT + step * (i % _ACROSS), top + _KEY * (i // _ACROSS)
        _shape(root, (x, y), i)
        _text(root, (x + 12, y + 4), name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}", _INK)


def _stroke(root: ElementTree.Element, start: _Point, end: _Point, colour: str) -> None:
    (x1, y1), (x2, y2) = start, end
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    ElementTree.SubElement(root, "line", {**{key: f"{value:.1f}" for key, value in ends.items()}, "stroke": colour})


def _text(root: ElementTree.Element, place: _Point, words: str, colour: str, anchor: str = "start") -> None:
    x, y = place
    style = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": colour, "text-anchor": anchor}
    # What a file's name may hold and XML may not.
    ElementTree.SubElement(root, "text", style).text = "".join(c if c.isprintable() else "?" for c in words)
