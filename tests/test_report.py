"""The report: what it says follows from the outcome, and nothing in it comes from or goes to anywhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

import sample_outcome as sample
from anmok.errors import BadMedia, CannotWrite
from anmok.evidence.intervals import Estimate, Interval
from anmok.ladder.outcome import ClassRow, Comparison, Confusion, DuplicatePair, Outcome, Suspect
from anmok.ladder.report import answers, render, render_page, report_json, verdict, write_report
from anmok.ladder.report.figures import Lang
from anmok.ladder.report.page import SECTIONS

LANGS: tuple[Lang, ...] = ("en", "ko")
OUTCOMES = (sample.sample, sample.undecided, sample.useless, sample.development, sample.clean)
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
HOSTILE = '<script>alert("1")</script>'


class Page(HTMLParser):
    """Every element with its attributes, the text outside of ``style``, and whether the tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "wbr" and self.words:
            self.words[-1] += data  # a place where a name may be broken is no space in it
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        """As read, with ordinary spaces and hyphens."""
        return re.sub(r"\s+", " ", " ".join(self.words)).replace("−", "-").replace("\u2060", "")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@cache
def page_of(make: Callable[[], Outcome], lang: Lang) -> str:
    """Rendered once, looked at by several tests."""
    return render_page(make(), sample.thumbnails(make()), lang)


def shown(outcome: Outcome, lang: Lang = "en") -> Page:
    return Page(render_page(outcome, sample.thumbnails(outcome), lang))


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("make", OUTCOMES)
class TestEveryPage:
    def test_is_well_formed_and_complete(self, make, lang: Lang) -> None:
        page = Page(page_of(make, lang))
        assert page.open == []
        assert page.all("html") == [{"lang": lang}]
        ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
        assert len(ids) == len(set(ids))
        assert set(SECTIONS) <= set(ids)
        links = [attributes["href"] for attributes in page.all("a")]
        assert {f"#{section}" for section in SECTIONS} <= set(links)
        assert all(link is not None and link.removeprefix("#") in ids for link in links)

    def test_says_the_same_as_the_sentences(self, make, lang: Lang) -> None:
        outcome = make()
        text = Page(page_of(make, lang)).text
        for sentence in (*verdict(outcome, lang), *(part for pair in answers(outcome, lang) for part in pair)):
            assert sentence in text
        assert len(answers(outcome, lang)) == 5

    def test_loads_nothing(self, make, lang: Lang) -> None:
        source = page_of(make, lang)
        page = Page(source)
        source = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", source)
        assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<iframe|<link|\son\w+=", source)
        assert all((attributes["src"] or "").startswith("data:image/jpeg;base64,") for attributes in page.all("img"))
        policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")

    def test_leaks_no_python(self, make, lang: Lang) -> None:
        text = Page(page_of(make, lang)).text
        assert not re.search(r"\bNone\b|\bnan\b|\binf\b|\bTrue\b|\bFalse\b|Estimate|Undefined|[{}]|<<|\(\)", text)

    def test_can_be_read_aloud_and_by_keyboard(self, make, lang: Lang) -> None:
        page = Page(page_of(make, lang))
        assert len(page.all("caption")) == len(page.all("table"))
        assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
        regions = [a for a in page.all("div") if a.get("class") == "scroll"]
        assert regions
        assert all(a.get("tabindex") == "0" and a.get("aria-labelledby") for a in regions)
        assert all(a.get("aria-hidden") == "true" or a.get("aria-label") for a in page.all("svg"))
        assert all("alt" in attributes for attributes in page.all("img"))


class TestNumbers:
    def test_ladder_row_holds_the_outcomes_figures(self) -> None:
        text = shown(sample.sample()).text
        step = sample.sample().step("2")
        accuracy, interval = step.accuracy.value, step.accuracy.interval
        row = text[text.index("2 linear head recommended") : text.index("3 tuned projection highest")]
        assert f"1,556 {accuracy * 100:.1f} % {interval.low * 100:.1f} to {interval.high * 100:.1f} %" in row
        assert "▲ BETTER +7.9 points (+3.4 to +12.4) against rung 1" in row
        assert row.rstrip().endswith("2.9 s 2 min 33 s 96 ms 111 MB")

    def test_cannot_tell_names_the_images(self) -> None:
        assert (
            "? CANNOT TELL +3.5 points (-1.1 to +8.1) against rung 0a; about 1,093 test images"
            in shown(sample.sample()).text
        )

    def test_classes_weakest_first(self) -> None:
        text = shown(sample.sample()).text
        rows = text[text.index("Recall and precision") :]
        assert rows.index("defective 715 215 63.7 % 52.4 to 73.7 % 72.2 %") < rows.index("functional 1,508 452")

    def test_leak_shows_both_numbers(self) -> None:
        page = shown(sample.sample())
        assert "The number in the file name alone predicts the label at 83.1 %" in page.text
        assert (
            "For rung 1 (training-free), cross-validated on the 1,556 images to learn from, a random split claims "
            "80.3 %; with groups kept together 72.9 % survives. (The 72.4 % of this rung in the ladder is another "
            "measurement: the sealed test.)"
        ) in page.text
        [picture] = [a for a in page.all("svg") if a["class"] == "chart leak"]
        label = picture["aria-label"] or ""
        assert "a random split claims: 80.3 %" in label
        assert "with groups kept together: 72.9 %" in label

    def test_leak_bars_are_to_scale(self) -> None:
        page = shown(sample.sample())
        bars = {a["class"]: float(a["width"] or 0) for a in page.all("rect")}
        assert bars["claimed"] / bars["survives"] == pytest.approx(0.803 / 0.729, abs=1e-4)
        assert bars["survives"] / bars["track-bar"] == pytest.approx(0.729, abs=1e-4)

    def test_curve_table_holds_every_point(self) -> None:
        text = shown(sample.sample()).text
        table = text[text.index("Accuracy by labels per class") :]
        row = table[table.index("3 tuned projection") :]
        found = re.findall(r"(\d\d\.\d) % \d\d\.\d to", row)[:6]
        assert found == ["48.7", "53.8", "61.1", "67.7", "73.1", "80.5"]

    def test_honesty(self) -> None:
        text = shown(replace(sample.sample(), honesty=replace(sample.honesty(), openings=3, is_replay=True))).text
        assert "Openings of this test set 3 in all; this run repeats an earlier one and was not counted again" in text
        assert "Openings of this test set 1 in all, this one included" in shown(sample.sample()).text
        assert "78.8 % (73.2 to 83.5 %), from nested cross-validation; the test says 80.3 % (74.4 to 85.1 %)" in text
        assert "none were given: --descriptions FILE" in text
        assert text.count("CC BY-NC-SA 4.0 (ELPV solar cells)") == 1
        assert "opened by 3 different plans" in text

    def test_unknown_figures_are_dashes(self) -> None:
        made = sample.sample()
        odd = replace(made.steps[-1], ms_per_image=float("nan"), balanced_accuracy=float("nan"))
        row = ClassRow("never said", 3, 0, Estimate(float("nan"), Interval(0, 1), 0, 0.0), None)
        page = shown(replace(made, steps=(*made.steps[:-1], odd), per_class=(*made.per_class, row)))
        assert "never said 3 0 – –" in page.text
        assert not re.search(r"\bnan\b", page.text)

    def test_without_a_text_tower_curve_or_controls(self) -> None:
        made = sample.sample()
        bare = replace(made, steps=made.steps[3:], curve=(), controls=(), leak=None, comparisons=())
        text = shown(bare).text
        assert "No learning curve was drawn" in text
        assert "always answering" not in text.lower().split("the ladder:")[0]


class TestHostileNames:
    @pytest.fixture
    def outcome(self) -> Outcome:
        made = sample.sample()
        names = tuple(f"{HOSTILE}{i}\u202egnp.jpg" for i in range(len(made.data.names)))
        return replace(
            made,
            data=replace(made.data, title=HOSTILE, names=names, classes=(HOSTILE, "b"), warnings=(HOSTILE,)),
            reproduce=HOSTILE,
            follow_up=HOSTILE,
            model=HOSTILE,
            per_class=(replace(made.per_class[0], name=HOSTILE),),
            confusions=(Confusion(HOSTILE, "{0}{truth}", 2, (1,)),),
            suspects=(Suspect(1, HOSTILE, "{}", 0.9),),
            recommendation=replace(made.recommendation, reason=HOSTILE),
        )

    @pytest.mark.parametrize("lang", LANGS)
    def test_stay_text(self, outcome: Outcome, lang: Lang) -> None:
        page = shown(outcome, lang)
        assert page.open == []
        assert "script" not in {tag for tag, _ in page.elements}
        assert page.text.count(HOSTILE) > 8
        assert "{0}{truth}" in page.text

    def test_cannot_steer_the_terminal(self) -> None:
        made = sample.useless()
        console = Console(width=80, file=(pad := Pad()), force_terminal=False)
        render(replace(made, data=replace(made.data, classes=("\x1b[31m[bold]x", "b"))), console)
        assert "\x1b" not in pad.text
        assert "[bold]x" in pad.text

    def test_file_names_that_are_not_utf8(self, tmp_path: Path) -> None:
        made = sample.sample()
        names = ("caf\udce9.jpg", *made.data.names[1:])
        odd = replace(made, data=replace(made.data, names=names), duplicates=(DuplicatePair(0, 1, 1.0, True),))
        write_report(odd, {}, tmp_path)
        assert "caf?.jpg" in (tmp_path / "index.html").read_text(encoding="utf-8")
        assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["data"]["names"][0] == names[0]


class Pad:
    """A file for the console."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


class TestTerminal:
    @pytest.mark.parametrize("lang", LANGS)
    @pytest.mark.parametrize("make", OUTCOMES)
    def test_fits_80_columns(self, make, lang: Lang) -> None:
        console = Console(width=120, file=(pad := Pad()), force_terminal=False)
        render(make(), console, lang)
        widths = [console.measure(line).maximum for line in pad.text.splitlines() if line.strip()]
        assert max(widths) <= 80
        for sentence in verdict(make(), lang):
            assert sentence.replace(" ", "") in re.sub(r"\s", "", pad.text)

    def test_rows_hold_the_figures(self) -> None:
        console = Console(width=80, file=(pad := Pad()), force_terminal=False)
        render(sample.sample(), console)
        [row] = [line for line in pad.text.splitlines() if line.startswith(" *2")]
        assert row.split() == ["*2", "linear", "head", "1,556", "80.3", "%", "74-85", "BETTER", "153", "96", "111"]


class TestFiles:
    def test_json_is_the_outcome(self, tmp_path: Path) -> None:
        made = sample.clean()
        write_report(made, {}, tmp_path / "new" / "report")
        text = (tmp_path / "new" / "report" / "report.json").read_text(encoding="utf-8")
        assert json.loads(text) == json.loads(json.dumps(made.to_dict()))
        assert "고양이" in text
        assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == ["index.html", "report.json"]

    def test_json_has_no_nan(self) -> None:
        made = replace(sample.sample(), seconds=float("nan"))
        assert json.loads(report_json(made), parse_constant=pytest.fail)["seconds"] is None

    def test_predictions(self, tmp_path: Path) -> None:
        table = pa.table({"image": ["a.png", "b.png"], "pred": ["x", "y"]})
        write_report(sample.sample(), {}, tmp_path, predictions=table)
        assert parquet.read_table(tmp_path / "predictions.parquet").equals(table)
        assert "predictions.parquet" in (tmp_path / "index.html").read_text(encoding="utf-8")

    def test_a_bad_thumbnail_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(BadMedia, match="thumbnail of image 3"):
            write_report(sample.sample(), {3: b"GIF89a"}, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(CannotWrite):
            write_report(sample.sample(), {}, tmp_path / "taken")

    def test_stays_small(self) -> None:
        made = sample.sample()
        suspects = tuple(Suspect(i, "functional", "defective", 0.95) for i in range(24))
        pairs = tuple(DuplicatePair(100 + 2 * i, 101 + 2 * i, 0.98, False) for i in range(12))
        confusions = tuple(Confusion("a", f"b{i}", 9, tuple(range(200 + 4 * i, 204 + 4 * i))) for i in range(3))
        full = replace(made, suspects=suspects, duplicates=pairs, confusions=confusions)
        rng = np.random.default_rng(0)
        thumbnails = {i: b"\xff\xd8\xff" + rng.bytes(12_000) for i in sample.thumbnails(full)}
        assert len(thumbnails) == 60
        page = render_page(full, thumbnails)
        assert len(Page(page).all("img")) == 60
        assert len(page.encode()) < 3_000_000

    def test_long_lists_are_cut_and_say_so(self) -> None:
        many = tuple(Suspect(i, "functional", "defective", 0.95) for i in range(100))
        text = shown(replace(sample.sample(), suspects=many)).text
        assert "Where model and label disagree: the 24 surest of 100" in text
        assert "76 more are in report.json." in text
        assert text.count("confidence 95.0 %") == 24
        assert "test images were not searched, and to change their labels is to open the test again" in text


def test_words_of_a_comparison() -> None:
    """Each word has its own sign: nothing is told by colour alone."""
    made = sample.sample()
    words = ("BETTER", "WORSE", "SAME", "CANNOT TELL")
    contrasts = tuple(Comparison("2", "1", word, 0.01, 0.0, 0.02, 0.04, 0.1, None) for word in words)
    text = shown(replace(made, comparisons=contrasts)).text
    for sign in ("▲ BETTER", "▼ WORSE", "= SAME", "? CANNOT TELL"):
        assert sign in text
