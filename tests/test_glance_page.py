"""The first look as a page: its figures and words in both languages, and its files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import anmok as library
from anmok.errors import BadMedia
from anmok.ladder import Plan
from anmok.ladder.dataset import Dataset, read
from anmok.ladder.glance import Glance, glance, pictures
from anmok.ladder.report.figures import Lang
from anmok.ladder.report.glance import SECTIONS, glance_json, render_glance, write_glance
from anmok.ladder.report.glance_words import LABEL_ME, LABEL_MORE, answer, questions, summary, texts
from anmok.ladder.report.phrases import phrase
from anmok.ladder.report.phrases import texts as common_texts
from anmok.load import tiny
from glanced_photos import dataset_fixture, folder_fixture, many, page_of, seen_fixture  # noqa: F401  # fixtures
from test_report import HOSTILE, LANGS, Page


@pytest.mark.parametrize("lang", LANGS)
class TestPage:
    def test_is_well_formed_and_complete(self, seen: Glance, dataset: Dataset, lang: Lang) -> None:
        page = page_of(seen, dataset, lang)
        assert page.open == []
        assert page.all("html") == [{"lang": lang}]
        ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
        assert len(ids) == len(set(ids))
        assert set(SECTIONS) <= set(ids)
        assert {f"#{section}" for section in SECTIONS} <= {attributes["href"] for attributes in page.all("a")}
        assert not re.search(r"\bNone\b|\bnan\b|\bTrue\b|\bFalse\b|Undefined|[{}]|<<|\(\)", page.text)
        assert len(page.all("caption")) == len(page.all("table"))
        assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))

    def test_loads_nothing(self, seen: Glance, dataset: Dataset, lang: Lang) -> None:
        source = render_glance(seen, pictures(seen, dataset), lang)
        images = Page(source).all("img")
        assert len(images) == 12 + sum(len(row.surest) for row in seen.shares) + 2
        assert all((attributes["src"] or "").startswith("data:image/jpeg;base64,") for attributes in images)
        source = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", source)
        assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<iframe|<link|\son\w+=", source)
        assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:;" in source

    def test_says_what_the_terminal_says(self, seen: Glance, dataset: Dataset, lang: Lang) -> None:
        text = page_of(seen, dataset, lang).text
        for sentence in (*answer(seen, lang), *(part for pair in questions(seen, lang) for part in pair)):
            assert sentence in text
        said = summary(seen, lang, "report/label_me.csv")
        assert said.startswith(" ".join(answer(seen, lang)))
        assert said.endswith(seen.follow_up)
        assert seen.follow_up in text

    def test_shows_the_intervals(self, seen: Glance, dataset: Dataset, lang: Lang) -> None:
        text = page_of(many(230, seen), dataset, lang).text
        spans = ["46.2 72.4", "61.5 84.9", "78.6 95.7", "47.4 71.4", "62.8 84.2", "79.9 95.3", "53.1 66.5", "68.6 80.5"]
        for span in spans:
            low, high = span.split()
            assert f"{low} to {high} %" in text if lang == "en" else f"{low}~{high}%" in text
        assert "85.1" in text
        assert "93.4" in text

    def test_hostile_names_stay_text(self, seen: Glance, dataset: Dataset, lang: Lang) -> None:
        rows = tuple(replace(row, name=HOSTILE, read_as=HOSTILE) for row in seen.shares)
        bad = replace(seen, title=HOSTILE, classes=(HOSTILE,) * 2, shares=rows, unread=(HOSTILE,), follow_up=HOSTILE)
        bad = replace(bad, predictions=tuple(replace(one, image=HOSTILE, best=HOSTILE) for one in seen.predictions))
        source = render_glance(bad, {}, lang)
        assert "<script" not in source
        assert Page(source).open == []
        assert Page(source).text.count(HOSTILE) > 20

    def test_nothing_claims_an_accuracy(self, seen: Glance, dataset: Dataset, lang: Lang) -> None:
        text = page_of(seen, dataset, lang).text
        assert texts(lang)["answer"]["unmeasured"] in text
        assert texts(lang)["honesty"]["accuracy_text"] in text
        shares = {f"{100 * row.share:.1f}" for row in seen.shares}
        futures = {f"{100 * one.interval.low:.1f}" for one in seen.prospects} | {
            f"{100 * one.interval.high:.1f}" for one in seen.prospects
        }
        named = {f"{100 * one.accuracy:.0f}" for one in seen.prospects} | {"95", "0.0"}  # and the level of intervals
        shown = set(re.findall(r"(\d+(?:\.\d+)?)(?: to \d+\.\d)?\s?%", text)) | set(re.findall(r"~(\d+\.\d)%", text))
        assert shown <= shares | futures | named


class TestKorean:
    def test_texts_have_the_same_keys(self) -> None:
        english, korean = texts("en"), texts("ko")
        assert {key: set(part) for key, part in english.items()} == {key: set(part) for key, part in korean.items()}

    def test_every_text_is_used(self) -> None:
        home = Path(library.__file__).parent / "ladder" / "report"
        sources = [*home.glob("glance*.py"), *home.glob("templates/glance*.j2")]
        used = " ".join(path.read_text(encoding="utf-8") for path in sources)
        unused = [key for part in texts("en").values() for key in part if not re.search(rf"\b{key}\b", used)]
        assert unused == []

    def test_no_english_sentence_is_left(self, seen: Glance, dataset: Dataset) -> None:
        """But for what is marked as English: the summary of a card that has no Korean."""
        source = render_glance(many(230, seen), pictures(seen, dataset), "ko")
        plain = re.sub(r'<span lang="en">.*?</span>|<style>.*?</style>|<pre.*?</pre>', "", source, flags=re.DOTALL)
        english = re.findall(r"[A-Za-z][\w'’-]*(?: [A-Za-z][\w'’-]*){2,}", Page(plain).text)
        assert english == []
        assert len(re.findall("[가-힣]", Page(plain).text)) > 1200
        marked = re.findall(r'<span lang="en">(.*?)</span>', source)
        assert marked == [seen.model_note, "fake"]

    def test_what_mini_is_has_korean(self) -> None:
        [mini] = (card for card in library.cards() if card.name == "mini")
        assert phrase(mini.summary, "ko").text.endswith("제로샷은 약합니다.")

    @pytest.mark.parametrize(
        ("model", "subject"), [("mini", "mini가"), ("clip-b32", "clip-b32가"), ("vit-1", "vit-1이")]
    )
    def test_particles(self, seen: Glance, model: str, subject: str) -> None:
        assert answer(replace(seen, model=model), "ko")[0].startswith(f"{subject} 라벨 없는 이미지 22장을")

    def test_what_was_read_for_a_korean_name(self, folder: Path) -> None:
        korean = read(folder, classes=("빨강", "파랑"))
        found = glance(korean, tiny("mini"), Plan("mini"))
        assert {row.name: row.read_as for row in found.shares} == {"빨강": "red", "파랑": "blue"}
        assert "읽은 말: red" in page_of(found, korean, "ko").text


class TestFiles:
    def test_what_is_written(self, seen: Glance, dataset: Dataset, tmp_path: Path) -> None:
        write_glance(seen, pictures(seen, dataset), tmp_path / "deep" / "report")
        files = {path.name: path for path in (tmp_path / "deep" / "report").iterdir()}
        assert sorted(files) == ["index.html", LABEL_ME, LABEL_MORE, "predictions.parquet", "report.json"]
        assert json.loads(files["report.json"].read_text(encoding="utf-8")) == json.loads(glance_json(seen))
        content = json.loads(glance_json(seen))
        assert content["format"] == "anmok.glance/1"
        assert content["shares"][0]["images"] == seen.shares[0].images
        rows = pq.read_table(files["predictions.parquet"]).to_pylist()
        assert [(row["image"], row["pred"], row["is_abstained"]) for row in rows] == [
            (one.image, one.best, False) for one in seen.predictions
        ]
        assert [row["score"] for row in rows] == pytest.approx([one.score for one in seen.predictions], abs=1e-7)

    def test_a_bad_thumbnail_leaves_nothing(self, seen: Glance, tmp_path: Path) -> None:
        with pytest.raises(BadMedia, match="thumbnail of image 0"):
            write_glance(seen, {0: b"GIF89a"}, tmp_path / "report")
        assert not (tmp_path / "report").exists()

    def test_a_name_that_is_no_utf8(self, seen: Glance, tmp_path: Path) -> None:
        odd = replace(seen, predictions=(replace(seen.predictions[0], image="b\udcff.png"), *seen.predictions[1:]))
        write_glance(odd, {}, tmp_path)
        assert json.loads((tmp_path / "report.json").read_text("utf-8"))["predictions"][0]["image"] == "b\udcff.png"
        assert pq.read_table(tmp_path / "predictions.parquet")["image"][0].as_py() == "b\\udcff.png"
        (tmp_path / "index.html").read_text(encoding="utf-8")


def test_both_languages_of_the_common_texts_serve_the_page() -> None:
    """The page borrows these; a renamed key would only fail where the branch is taken."""
    for lang in LANGS:
        common = common_texts(lang)
        assert {"no_duplicates", "cosine", "duplicates"} <= common["images"].keys()
        assert "more" in common["page"]
