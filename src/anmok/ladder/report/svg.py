"""Just enough SVG: a drawing that escapes what it is given, two scales, and round ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

Point = tuple[float, float]

_MARKERS = (  # outlines for a unit radius, so that a series is known without its colour
    None,  # a circle
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)),
    ((0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    ((-1.3, -0.5), (-0.5, -0.5), (-0.5, -1.3), (0.5, -1.3), (0.5, -0.5), (1.3, -0.5),
     (1.3, 0.5), (0.5, 0.5), (0.5, 1.3), (-0.5, 1.3), (-0.5, 0.5), (-1.3, 0.5)),
)  # fmt: skip
MARKERS = len(_MARKERS)


class Drawing:
    """A picture of ``width`` x ``height`` units. ``style`` is always a class of the style sheet.

    With a ``title`` it is announced as an image with that name and the description ``about``; without one it
    is decoration beside a figure that is written out, and hidden from screen readers.
    """

    def __init__(self, width: float, height: float, style: str, *, title: str = "", about: str = "") -> None:
        attributes = {"viewBox": f"0 0 {_number(width)} {_number(height)}", "class": style}
        if title:
            attributes |= {"role": "img", "aria-label": f"{title}. {about}" if about else title}
        else:
            attributes["aria-hidden"] = "true"
        attributes |= {"width": _number(width), "height": _number(height)}
        self._root = ElementTree.Element("svg", attributes)
        if title:
            ElementTree.SubElement(self._root, "title").text = title
            ElementTree.SubElement(self._root, "desc").text = about

    def line(self, start: Point, end: Point, style: str) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        self._add("line", style, {"x1": x1, "y1": y1, "x2": x2, "y2": y2})

    def rectangle(self, corner: Point, width: float, height: float, style: str, radius: float = 0) -> None:
        """From the upper left ``corner``."""
        x, y = corner
        self._add("rect", style, {"x": x, "y": y, "width": width, "height": height, "rx": radius})

    def path(self, points: Sequence[Point], style: str, *, is_closed: bool = False) -> None:
        """A line through ``points``."""
        drawn = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        ElementTree.SubElement(self._root, "path", {"class": style, "d": f"M{drawn}{'Z' if is_closed else ''}"})

    def marker(self, kind: int, centre: Point, radius: float, style: str) -> None:
        """One of ``MARKERS`` shapes; a larger ``kind`` starts over."""
        outline = _MARKERS[kind % MARKERS]
        x, y = centre
        if outline is None:
            self._add("circle", style, {"cx": x, "cy": y, "r": radius})
        else:
            self.path([(x + radius * dx, y + radius * dy) for dx, dy in outline], style, is_closed=True)

    def text(self, place: Point, words: str, style: str, anchor: str = "start") -> None:
        """``anchor``: start, middle or end."""
        x, y = place
        self._add("text", style, {"x": x, "y": y, "text-anchor": anchor}, words)

    def markup(self) -> Markup:
        """The element, safe to put into a page: every text in it is escaped."""
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))

    def _add(self, tag: str, style: str, attributes: Mapping[str, float | str], words: str | None = None) -> None:
        written = {key: value if isinstance(value, str) else _number(value) for key, value in attributes.items()}
        ElementTree.SubElement(self._root, tag, {"class": style, **written}).text = words


@dataclass(frozen=True, slots=True)
class Scale:
    """Straight from ``low``..``high`` to ``start``..``end`` units; values beyond are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` round values (1, 2 or 5 times a power of ten apart) within ``low``..``high``."""
    if not (high > low and most > 1):
        return [low]
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    gap = next(step * power for step in (1, 2, 5, 10, 20) if step * power >= raw * (1 - 1e-9))
    first = math.ceil(low / gap - 1e-9)
    return [round(k * gap, 12) for k in range(first, math.floor(high / gap + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there is room, within ``low``..``high`` (above 0)."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        inside = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]


def spaced(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """``places`` in the same order of height, moved to lie ``gap`` apart within the bounds where they fit."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = [0.0] * len(places)
    floor = low
    for k in order:
        moved[k] = max(places[k], floor)
        floor = moved[k] + gap
    ceiling = high
    for k in reversed(order):
        moved[k] = min(moved[k], ceiling)
        ceiling = moved[k] - gap
    return moved


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
