"""The drawings of the report: to scale, escaped, and readable where points lie close."""

from __future__ import annotations

from dataclasses import replace

import pytest

import sample_outcome as sample
from anmok.evidence.intervals import Estimate, Interval
from anmok.ladder.outcome import ClassRow, Step
from anmok.ladder.report import render_page
from anmok.ladder.report.bars import axis
from anmok.ladder.report.fronts import Dot, front
from anmok.ladder.report.svg import Drawing, Scale, log_ticks, spaced, ticks
from test_report import HOSTILE, Page, shown


class TestCharts:
    def test_text_is_escaped(self) -> None:
        drawing = Drawing(10, 10, "x", title=HOSTILE)
        drawing.text((1, 2.5), HOSTILE, "label")
        page = Page(str(drawing.markup()))
        assert [tag for tag, _ in page.elements] == ["svg", "title", "desc", "text"]
        assert page.all("text") == [{"class": "label", "x": "1", "y": "2.5", "text-anchor": "start"}]

    def test_scales(self) -> None:
        assert Scale(0.4, 0.9, 100, 0)(0.65) == pytest.approx(50)
        assert Scale(0, 1, 0, 10)(2) == 10
        assert Scale(1, 1, 0, 10)(1) == 5
        assert ticks(0.33, 0.91, 7) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
        assert ticks(1, 1, 5) == [1]
        assert log_ticks(0.9, 120, 6) == pytest.approx([1, 3, 10, 30, 100])
        assert log_ticks(1, 1e9, 6) == pytest.approx([1, 100, 1e4, 1e6, 1e8])

    def test_bars_share_an_axis_of_tenths(self) -> None:
        found = axis([Estimate(0.5, Interval(0.42, 0.58), 9, 9)], [0.71])
        assert (found.low, found.high) == pytest.approx((0.4, 0.8))

    def test_labels_are_spaced(self) -> None:
        moved = spaced([50, 10, 52, 51], 17, 0, 100)
        assert moved == [50, 10, 84, 67]
        assert spaced([98, 99], 17, 0, 100) == [83, 100]

    def test_front_keeps_what_nothing_cheaper_beats(self) -> None:
        dots = [Dot("a", 1, 0.5), Dot("b", 1, 0.6), Dot("c", 3, 0.6), Dot("d", 2, 0.55), Dot("e", 9, 0.9)]
        assert [dot.key for dot in front(dots)] == ["b", "e"]

    def test_names_of_close_dots_do_not_cover_each_other(self) -> None:
        made = sample.sample()
        steps = tuple(replace(step, accuracy=sample.estimate(0.8 + k / 1000)) for k, step in enumerate(made.steps))
        page = Page(render_page(replace(made, steps=steps, curve=()), {}))
        begins = [i for i, (_, a) in enumerate(page.elements) if a.get("class") == "chart front"]
        for begin, end in zip(begins, [*begins[1:], len(page.elements)], strict=True):
            names = [
                a for tag, a in page.elements[begin:end] if tag == "text" and (a["class"] or "").startswith("name")
            ]
            places = [(float(a["x"] or 0), float(a["y"] or 0)) for a in names]
            assert len(places) == len(steps)
            pairs = [(one, other) for k, one in enumerate(places) for other in places[:k]]
            assert all(abs(one[0] - other[0]) >= 12 or abs(one[1] - other[1]) >= 11 for one, other in pairs)

    def test_curve_points_lie_where_the_accuracy_is(self) -> None:
        """The gridlines give the scale: a marker between them must read as its accuracy."""
        made = sample.sample()
        page = Page(render_page(replace(made, curve=made.curve[:5]), {}))
        start = next(i for i, (tag, a) in enumerate(page.elements) if (a.get("class") or "").startswith("chart wide"))
        part = page.elements[start : start + 120]
        grid = [float(a["y1"] or 0) for tag, a in part if tag == "line" and a["class"] == "grid"]
        first = next(a["d"] or "" for tag, a in part if tag == "path" and a["class"] == "curve s3")
        heights = [float(pair.split()[1]) for pair in first[1:].split("L")]
        per_point = (grid[0] - grid[-1]) / 0.6  # 30 % to 90 %
        read = [0.3 + (grid[0] - y) / per_point for y in heights]
        assert read == pytest.approx([0.531, 0.552, 0.601, 0.634, 0.671], abs=1e-3)

    @pytest.mark.parametrize("accuracy", [0.0, 1.0])
    def test_extremes_can_be_drawn(self, accuracy: float) -> None:
        made = sample.sample()
        flat = Estimate(accuracy, Interval(accuracy, accuracy), 10, 10.0)

        def flattened(step: Step) -> Step:
            return replace(step, accuracy=flat, ms_per_image=0.0, megabytes=0.0)

        steps, curve = tuple(map(flattened, made.steps)), tuple(map(flattened, made.curve))
        assert Page(render_page(replace(made, steps=steps, curve=curve), {})).open == []

    def test_many_rungs_and_classes(self) -> None:
        made = sample.sample()
        rows = tuple(ClassRow(f"class {i}", 10, 3, sample.estimate(0.5 + i / 2000, 3, 3.0), 0.5) for i in range(1000))
        steps = (*made.steps, *(replace(made.steps[-1], key=f"{i}") for i in range(4, 9)))
        page = shown(replace(made, per_class=rows, steps=steps))
        assert "The other 975 classes" in page.text
        assert page.open == []
