"""The first look at images without labels: its figures, what it refuses, its sample, and the tables to fill in."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import anmok as library
from anmok.errors import BadData, BadRequest, Unsupported
from anmok.ladder.dataset import Dataset, read, read_table
from anmok.ladder.features import look
from anmok.ladder.glance import FIRST, Glance, drawn, glance, prospects
from anmok.ladder.report.glance import write_glance
from anmok.ladder.report.glance_words import LABEL_ME, LABEL_MORE, answer, questions, summary, texts
from anmok.load import Adapter, tiny
from conftest import COLOURS, write_photos
from glanced_photos import CLASSES, PER_COLOUR, PLAN, dataset_fixture, folder_fixture, many, page_of, seen_fixture  # noqa: F401  # fixtures

COUNT = sum(PER_COLOUR.values()) + 1  # and a copy


class TestFigures:
    def test_answers_are_the_model_s_own(self, seen: Glance, dataset: Dataset) -> None:
        paths = dict(zip(dataset.names, dataset.paths, strict=True))
        model = library.load("fake")
        for one in seen.predictions:
            scores = model.classify(paths[one.image], CLASSES)
            assert (one.label, one.best) == (scores.label, scores.label)
            assert one.score == pytest.approx(scores.score, abs=1e-6)
            assert (one.second, one.second_score) == pytest.approx(scores.top(2)[1], abs=1e-6)

    def test_images_in_shares_sum_to_all(self, seen: Glance) -> None:
        assert seen.images == len(seen.predictions) == COUNT
        assert sum(row.images for row in seen.shares) + seen.abstained == COUNT
        assert sum(row.share for row in seen.shares) == pytest.approx(1.0, abs=1e-12)
        assert {row.name: row.images for row in seen.shares} == {
            **Counter(one.label for one in seen.predictions),
            "white": 0,
        }
        assert [row.images for row in seen.shares] == sorted((row.images for row in seen.shares), reverse=True)
        assert seen.unread == ("broken.jpg",)

    def test_a_threshold_makes_it_abstain(self, seen: Glance, dataset: Dataset) -> None:
        scores = sorted(one.score for one in seen.predictions)
        threshold = (scores[3] + scores[4]) / 2
        strict = glance(dataset, library.load("fake"), PLAN, threshold=threshold)
        assert (seen.abstained, strict.abstained) == (0, 4)
        assert sum(row.images for row in strict.shares) == COUNT - 4
        assert sum(row.share for row in strict.shares) == pytest.approx((COUNT - 4) / COUNT)
        assert [one.best for one in strict.predictions] == [one.best for one in seen.predictions]
        assert "sorted 18 of 22 images without labels into 4 classes" in answer(strict, "en")[0]
        assert summary(strict, "en", "x").splitlines()[1].endswith(", no answer 4")
        text = page_of(strict, dataset).text
        assert "no answer 4 18.2 %" in text
        assert texts("en")["shares"]["forced"] not in text
        assert texts("en")["shares"]["forced"] in page_of(seen, dataset).text

    def test_least_and_most_certain(self, seen: Glance) -> None:
        scores = [one.score for one in seen.predictions]
        assert [scores[i] for i in seen.least_sure] == sorted(scores)[:12]
        for row in seen.shares:
            own = [one.score for one in seen.predictions if one.label == row.name]
            assert [scores[i] for i in row.surest] == sorted(own, reverse=True)[:4]
            assert {seen.predictions[i].label for i in row.surest} <= {row.name}

    def test_a_copy_is_found(self, seen: Glance, dataset: Dataset) -> None:
        [pair] = seen.duplicates
        assert {seen.names[pair.first], seen.names[pair.second]} == {seen.names[0], "zz-copy.png"}
        assert not pair.is_conflict  # the same bytes get the same answer
        assert seen.copies == 2
        assert "Near-copies of another image: 2 images." in dict(questions(seen, "en"))["What is wrong with my data?"]
        assert page_of(seen, dataset).text.count("zz-copy.png") >= 1

    def test_intervals_to_come_are_wilson_s(self) -> None:
        """Against figures worked out by hand from (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
        expected = {
            (50, 50, 0.6): (0.4618, 0.7239),
            (50, 50, 0.75): (0.6151, 0.8492),
            (50, 50, 0.9): (0.7864, 0.9565),
            (200, 60, 0.6): (0.4737, 0.7143),
            (200, 60, 0.75): (0.6277, 0.8422),
            (200, 60, 0.9): (0.7985, 0.9534),
            (200, 200, 0.6): (0.5308, 0.6654),
            (200, 200, 0.75): (0.6857, 0.8049),
            (200, 200, 0.9): (0.8506, 0.9343),
        }
        found = {(one.labels, one.tested, one.accuracy): one.interval for one in prospects(1000, 0.3)}
        assert found.keys() == expected.keys()
        for key, (low, high) in expected.items():
            assert (found[key].low, found[key].high) == pytest.approx((low, high), abs=5e-5)

    @pytest.mark.parametrize(
        ("images", "sizes"),
        [
            (0, []),
            (1, [(1, 1)]),
            (50, [(50, 50)]),
            (99, [(50, 50), (99, 99)]),
            (100, [(50, 50), (100, 30), (100, 100)]),
        ],
    )
    def test_no_more_labels_are_promised_than_there_are_images(self, images: int, sizes: list[Any]) -> None:
        assert list(dict.fromkeys((one.labels, one.tested) for one in prospects(images, 0.3))) == sizes

    def test_own_sentences(self, dataset: Dataset) -> None:
        swapped = (("red", ("a blue thing",)), ("blue", ("a red thing",)))
        plain, told = (
            glance(dataset, library.load("fake"), replace(PLAN, descriptions=sentences)) for sentences in ((), swapped)
        )
        mirror = {"red": "blue", "blue": "red"}
        assert [mirror.get(one.best, one.best) for one in plain.predictions] == [one.best for one in told.predictions]
        assert "going by your sentences alone" in answer(told, "en")[0]
        assert "설명문만 보고" in answer(told, "ko")[0]

    def test_a_second_look_computes_nothing(self, dataset: Dataset) -> None:
        model = library.load("fake")
        first = glance(dataset, model, PLAN)
        assert look(dataset.paths, model).computed == 0
        again = glance(dataset, model, PLAN)
        assert replace(first, seconds=0) == replace(again, seconds=0)

    def test_single_and_equal_images(self, tmp_path: Path) -> None:
        """No two directions to compare: neither one image nor several that are alike may break the search."""
        for count in (1, 2, 3):
            pixels = np.full((24, 24, 3), COLOURS["red"], np.uint8)
            pillow.fromarray(pixels).save(tmp_path / f"{count}.png", compress_level=count)
            seen = glance(read(tmp_path, classes=("red", "blue")), library.load("fake"), PLAN)
            assert (seen.images, seen.shares[0].images) == (count, count)
            assert seen.copies == (0 if count == 1 else 2)  # no group is larger than two of so few images


class TestRefusals:
    def test_not_one_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"no picture")
        with pytest.raises(BadData, match="not one of its 1 images can be read; a.jpg: not an image"):
            glance(read(tmp_path, classes=CLASSES), library.load("fake"), PLAN)

    def test_no_text_tower(self, dataset: Dataset) -> None:
        with pytest.raises(Unsupported, match="efficientnet-lite2 has no text tower"):
            glance(dataset, tiny("efficientnet-lite2"), PLAN)

    def test_a_head_that_saw_labels(self, dataset: Dataset) -> None:
        model = library.load("fake")
        adapted = model.with_adapter(Adapter("fake", model.maker, CLASSES, "0b zero-shot"))
        with pytest.raises(BadRequest, match="an adapted model; a first look takes the plain fake"):
            glance(dataset, adapted, PLAN)


class TestSample:
    def test_is_random_and_the_same_everywhere(self) -> None:
        names = [f"{i:03d}.png" for i in range(400)]
        order = drawn(names, 0)
        assert order == drawn(names[::-1], 0)
        assert sorted(order) == names
        assert order != drawn(names, 1)
        assert order[:3] == ("376.png", "072.png", "284.png")  # on every machine and version
        halves = sum(name < "200" for name in order[:200])
        assert 80 <= halves <= 120  # 5.7 standard deviations wide

    def test_later_images_do_not_disturb_it(self) -> None:
        names = [f"{i:03d}.png" for i in range(100)]
        longer = drawn([*names, "new.png"], 0)
        assert tuple(name for name in longer if name != "new.png") == drawn(names, 0)

    def test_a_name_that_is_no_utf8_is_not_drawn(self) -> None:
        assert drawn(["a.png", "b\udcff.png"], 0) == ("a.png",)

    def test_the_tables(self, seen: Glance, tmp_path: Path) -> None:
        large = many(230, seen)
        assert write_glance(large, {}, tmp_path) == ()
        with (tmp_path / LABEL_ME).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["image", "label"]
        assert rows[1:] == [[name, ""] for name in large.sample[:FIRST]]
        with (tmp_path / LABEL_MORE).open(encoding="utf-8-sig", newline="") as file:
            more = [row[0] for row in csv.reader(file)][1:]
        assert (len(rows) - 1, len(more)) == (50, 150)
        assert (*large.sample[:FIRST], *more) == drawn([f"{i:04d}.png" for i in range(230)], 0)[:200]

    def test_unfilled_it_is_refused_with_the_line(self, seen: Glance, tmp_path: Path) -> None:
        write_glance(seen, {}, tmp_path)
        with pytest.raises(BadData, match="line 2 lacks its image or label"):
            read_table(tmp_path / LABEL_ME)

    def test_names_that_a_table_has_to_quote_come_back(self, seen: Glance, tmp_path: Path) -> None:
        names = ("a,b.png", 'c"d.png', "강아지.png", "e f.png")
        write_glance(replace(seen, sample=names), {}, tmp_path)
        text = (tmp_path / LABEL_ME).read_text(encoding="utf-8-sig")
        (tmp_path / LABEL_ME).write_text(re.sub(r",(?=\r?\n|$)", ",cat", text), encoding="utf-8")
        assert [row[:2] for row in read_table(tmp_path / LABEL_ME)] == [(n, "cat") for n in names]

    def test_labels_once_written_are_never_lost(self, seen: Glance, tmp_path: Path) -> None:
        write_glance(seen, {}, tmp_path)
        table = tmp_path / LABEL_ME
        begun = table.read_text(encoding="utf-8-sig").replace(f"{seen.sample[0]},", f"{seen.sample[0]},red", 1)
        table.write_text(begun, encoding="utf-8")
        assert write_glance(replace(seen, sample=("other.png",)), {}, tmp_path) == (table,)
        assert table.read_text(encoding="utf-8") == begun
        table.write_bytes(b"\xff\xfe\x00 saved by a spreadsheet")
        assert write_glance(seen, {}, tmp_path) == (table,)
        table.write_text("image,label\nold.png,\n", encoding="utf-8")  # of another folder, and nobody wrote into it
        assert write_glance(seen, {}, tmp_path) == ()
        assert "old.png" not in table.read_text(encoding="utf-8-sig")


def test_a_table_says_which_images_are_for_the_test(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    lines = [f"{name},{name.partition('/')[0]},{'measure' if i % 4 == 0 else 'teach'}" for i, name in enumerate(names)]
    table = tmp_path / "labels.csv"
    table.write_text("image,label,stream\n" + "\n".join(lines), encoding="utf-8")
    found = read(photos, labels=table)
    assert found.is_test is not None
    tested = [found.paths[i].relative_to(photos).as_posix() for i in np.flatnonzero(found.is_test)]
    assert sorted(tested) == names[::4]
    with pytest.raises(BadRequest, match="drop --test"):
        read(photos, labels=table, test=photos)
    table.write_text("image,label,split\n" + "\n".join(f"{name},{name[:3]},train" for name in names), encoding="utf-8")
    assert read(photos, labels=table).is_test is None
