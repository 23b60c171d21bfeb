"""The anomaly ladder on drawn parts, with the model that needs no weights: folders, rungs, report, commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from anmok.errors import BadData, BadRequest, CannotWrite, Unsupported
from anmok.inspecting import remember
from anmok.ladder.inspecting import Inspected, InspectPlan, climb_parts, read_parts
from anmok.ladder.inspecting.banking import PLAIN, banked
from anmok.ladder.inspecting.parts import read_mask
from anmok.ladder.inspecting.report import render_inspection, write_inspection
from anmok.ladder.inspecting.sight import see
from anmok.ladder.inspecting.words import sentences, texts
from anmok.load import load
from anmok.metrics import auroc
from anmok.tasks import Inspect
from command_line import anmok, fine
from drawn_parts import mvtec_folder, part, plain_folder

PLAN = InspectPlan("fake", thing="disc", size=32, shots=(1, 2, 4), draws=2, groups="none")


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_folder(tmp_path_factory.mktemp("parts") / "parts", good=64, each=18)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set of its own, so that it is sealed however small."""
    return mvtec_folder(tmp_path_factory.mktemp("small") / "small", train=14, test=10, each=4)


@pytest.fixture(scope="module")
def climbed(parts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        return climb_parts(read_parts(parts_folder), load("fake"), PLAN, commands=("again", "use"))


def test_both_layouts_are_read(parts_folder: Path, tmp_path: Path) -> None:
    plain = read_parts(parts_folder)
    assert plain.dataset.classes == ("good", "blob", "cut")
    assert (len(plain.dataset.paths), int(plain.is_defect.sum())) == (100, 36)
    assert sum(mask is not None for mask in plain.masks) == 36
    assert plain.dataset.is_test is None
    paired = read_parts(parts_folder, is_paired=True).dataset
    assert paired.groups is not None
    assert len(set(paired.groups.tolist())) == 64  # 000 to 017 stand in all three folders
    assert (np.bincount(paired.groups) == 3).sum() == 18
    mvtec = read_parts(mvtec_folder(tmp_path / "mv", train=6, test=3, each=2))
    assert mvtec.dataset.is_test is not None
    assert int(mvtec.dataset.is_test.sum()) == 7
    assert mvtec.is_defect[~mvtec.dataset.is_test].sum() == 0
    assert [path.parent.name for path in mvtec.masks if path is not None] == ["blob", "blob", "cut", "cut"]
    (parts_folder.parent / "other").mkdir(exist_ok=True)
    with pytest.raises(BadData, match="no pictures in fine/"):
        read_parts(parts_folder, "fine")
    with pytest.raises(BadRequest, match="want the name of a folder"):
        read_parts(parts_folder, "a/b")
    with pytest.raises(BadData, match="no such folder"):
        read_parts(tmp_path / "nowhere")


def test_a_thin_flaw_is_not_lost_in_a_small_mask(tmp_path: Path) -> None:
    _, mask = part(np.random.default_rng(0), "cut")
    mask.save(tmp_path / "m.png")
    small = read_mask(tmp_path / "m.png", (12, 12))
    assert small.shape == (12, 12)
    full = np.asarray(mask) > 127
    assert small.sum() >= full.mean() * 144
    assert (small.repeat(8, 0).repeat(8, 1) >= full).all()


def test_the_rungs_find_what_was_drawn(climbed: Inspected) -> None:
    outcome = climbed.outcome
    assert not outcome.is_development
    assert [step.key for step in outcome.steps] == ["A0", "A1", "A2", "P", "A4"]
    values = {step.key: step.auroc.value for step in outcome.steps}
    assert min(values["A1"], values["P"], values["A4"]) > 0.9
    for step in outcome.steps:
        assert step.auroc.interval.low <= step.auroc.value <= step.auroc.interval.high
    assert {(step.key, step.good) for step in outcome.curve if step.key == "A1"} == {("A1", n) for n in (1, 2, 4)}
    assert {step.defects for step in outcome.curve if step.key == "A4"} == {1, 2, 4}
    assert outcome.step("A4").defects == 26
    assert outcome.step("A1").good == 45
    assert outcome.grid == (16, 16)


def test_the_figures_are_those_of_the_scores(climbed: Inspected) -> None:
    scene, graded = climbed.scene, climbed.graded
    assert scene is not None
    assert graded is not None
    truth = climbed.parts.is_defect[scene.test]
    assert graded.step.auroc.value == pytest.approx(auroc(graded.scores[0], truth))
    assert graded.is_called is not None
    rates = graded.step.rates
    assert rates is not None
    assert rates.overkill.value == pytest.approx(graded.is_called[~truth].mean())
    assert rates.miss.value == pytest.approx((~graded.is_called[truth]).mean())
    assert (rates.overkill.n, rates.miss.n) == (19, 10)
    assert climbed.outcome.honesty.surest_miss == pytest.approx(1 - 0.05 ** (1 / 10))
    pixels = graded.step.pixels
    assert pixels is not None
    assert pixels.aupro is not None
    assert pixels.aupro > 0.6
    assert pixels.aupro_interval is not None
    assert pixels.aupro_interval.low < pixels.aupro < pixels.aupro_interval.high


def test_the_test_set_is_opened_once_for_a_plan(small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    brief = InspectPlan("fake", size=32, shots=(1,), draws=1, rungs=("A1",), groups="none")
    model, parts = load("fake"), read_parts(small)
    first, again = (climb_parts(parts, model, brief).outcome for _ in range(2))
    assert (first.honesty.openings, first.honesty.is_replay) == (1, False)
    assert (again.honesty.openings, again.honesty.is_replay) == (1, True)
    assert again.step("A1").auroc == first.step("A1").auroc
    other = InspectPlan("fake", size=40, shots=(1,), draws=1, rungs=("A1",), groups="none")
    assert climb_parts(parts, model, other).outcome.honesty.openings == 2


def test_no_answer_is_told_where_the_opening_cannot_be_written(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    (tmp_path / "ledger").write_text("a file where the folder of the books should be")
    brief = InspectPlan("fake", size=32, shots=(1,), draws=1, rungs=("A1",), groups="none")
    with pytest.raises(CannotWrite, match="cannot be recorded"):
        climb_parts(read_parts(small), load("fake"), brief)


def test_the_memory_that_is_written_judges_as_the_threshold_says(climbed: Inspected, tmp_path: Path) -> None:
    climbed.best.write(tmp_path / "best")
    model = load(str(tmp_path / "best"))
    rng = np.random.default_rng(77)
    good = model.run([part(rng)[0] for _ in range(40)], Inspect())
    bad = model.run([part(rng, "blob")[0] for _ in range(20)], Inspect())
    assert climbed.outcome.limit == climbed.best.limit
    assert np.mean([one.is_strange for one in good]) <= 0.2  # 5 % was asked of 40 pictures
    assert np.mean([one.is_strange for one in bad]) >= 0.9


def test_mvtec_has_its_own_test_and_no_labelled_defects(small: Path) -> None:
    outcome = climb_parts(read_parts(small), load("fake"), PLAN).outcome
    assert [step.key for step in outcome.steps] == ["A0", "A1", "A2", "P"]
    assert outcome.data.pool == 14
    assert outcome.data.test == 18
    assert any(one.what == "rung A4" and "0 labelled defects" in one.why for one in outcome.honesty.not_tried)
    assert outcome.step("A1").auroc.value > 0.9


def test_few_pictures_make_a_development_estimate(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "few", good=14, each=5)
    outcome = climb_parts(read_parts(folder), load("fake"), replace(PLAN, rungs=("A1", "A4"), shots=(1,))).outcome
    assert outcome.is_development
    assert outcome.honesty.openings == 0
    step = outcome.step("A1")
    assert step.rates is not None
    assert step.rates.threshold is None  # each fold has its own
    assert not step.rates.is_reachable
    assert step.rates.smallest == pytest.approx(1 / (step.rates.normals + 1))
    assert any("good pictures cannot speak for" in sentence for sentence in sentences(outcome, "en"))


def test_good_pictures_alone_make_a_memory_and_no_claim(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "good-only", good=9, each=0)
    found = climb_parts(read_parts(folder), load("fake"), PLAN)
    outcome = found.outcome
    assert (outcome.steps, outcome.advice, outcome.comparisons) == ((), None, ())
    assert outcome.limit is not None
    assert outcome.limit.normals <= 9
    assert not outcome.limit.is_reachable
    said = sentences(outcome, "en")
    assert "no AUROC, no miss rate" in said[0]
    assert "1 / (n + 1)" in said[-1]
    page = render_inspection(outcome, {}, "ko")
    assert "양품 사진만 있으므로" in page


def test_group_mates_never_judge_each_other(parts_folder: Path) -> None:
    paths = sorted((parts_folder / "good").iterdir())[:6]
    model = load("fake")
    sight, everyone = see(paths, model, 0, ""), np.arange(6)
    alone = banked(model, sight, everyone, np.zeros(6, np.int64), PLAIN)
    assert (alone.limit, len(alone.normals), alone.pictures) == (None, 0, 6)
    pairs = banked(model, sight, everyone, np.asarray([0, 0, 1, 1, 2, 2]), PLAIN)
    expected = []
    for index in range(6):
        others = [sight.rows(i) for i in range(6) if i // 2 != index // 2]
        expected.append(remember(others, seed=0).judge(sight.rows(index)).score)
    assert len(pairs.normals) == 3  # one of each group, since group-mates are no new evidence
    assert [np.isclose(expected, score, rtol=1e-6).sum() for score in pairs.normals] == [1, 1, 1]


def test_the_report_has_every_figure_in_both_languages(climbed: Inspected, tmp_path: Path) -> None:
    for lang in ("en", "ko"):
        write_inspection(climbed, tmp_path / lang, lang)  # type: ignore[arg-type]
        page = (tmp_path / lang / "index.html").read_text(encoding="utf-8")
        for step in (*climbed.outcome.steps, *climbed.outcome.curve):
            assert f"{step.auroc.value:.3f}" in page
        assert page.count("data:image/jpeg;base64") == len(climbed.outcome.shown)
        assert "http" not in page.replace("http-equiv", "")
        assert "{" not in page.partition("<body>")[2]
    assert "불량 종류별" in (tmp_path / "ko" / "index.html").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads((tmp_path / "en" / "report.json").read_text(encoding="utf-8"))
    assert content["format"] == "anmok.inspect/1"
    assert content["steps"][1]["auroc"]["value"] == climbed.outcome.steps[1].auroc.value
    table = pq.read_table(tmp_path / "en" / "scores.parquet").to_pylist()
    assert len(table) == 29
    assert climbed.graded is not None
    truth = np.asarray([row["kind"] != "good" for row in table])
    again = auroc(np.asarray([row["score"] for row in table]), truth)
    assert again == pytest.approx(climbed.graded.step.auroc.value)


def test_the_texts_of_both_languages_have_the_same_keys() -> None:
    english, korean = texts("en"), texts("ko")
    assert {key: set(value) for key, value in english.items()} == {key: set(value) for key, value in korean.items()}


def test_a_model_without_patches_and_a_wrong_plan_are_refused(parts_folder: Path) -> None:
    with pytest.raises(Unsupported, match="shows no patches"):
        see([parts_folder / "good" / "000.png"], load("fake-places"), 0, "")
    with pytest.raises(BadRequest, match="rungs A9"):
        InspectPlan("fake", rungs=("A9",))
    with pytest.raises(BadRequest, match="overkill 0.9"):
        InspectPlan("fake", overkill=0.9)
    with pytest.raises(BadRequest, match="thing"):
        InspectPlan("fake", thing=" ")


def test_the_command_climbs_and_says_where(small: Path, tmp_path: Path) -> None:
    words = ("ladder", small, "--task", "inspect", "--model", "fake", "--groups", "none")
    ran = fine(*words, "--out", tmp_path / "r")
    assert "AUROC" in ran.out
    assert "A1" in ran.out
    written = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert written == ["best", "index.html", "report.json", "scores.parquet"]
    assert "the memory in" in ran.err
    assert anmok("ladder", small, "--task", "guess", "--model", "fake").code == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--task", "inspect", "--demo", "digits"), "--demo is for the ladder of classes"),
        (("--task", "inspect", "--classes", "a,b"), "--classes is for the ladder of classes"),
        (("--task", "inspect", "--pairs", "--groups", "none"), "drop one of the two"),
        (("--task", "inspect", "--pairs"), "no defect has the file name of a good picture"),
        (("--pairs",), "--pairs is for --task inspect"),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(flags: tuple[str, ...], said: str, tmp_path: Path) -> None:
    for kind, stem in (("good", "a1"), ("bad", "b2")):
        (tmp_path / "p" / kind).mkdir(parents=True)
        part(np.random.default_rng(0))[0].save(tmp_path / "p" / kind / f"{stem}.png")
    ran = anmok("ladder", tmp_path / "p", *flags, "--model", "fake", "--out", tmp_path / "r")
    assert (ran.code, said in ran.err.replace("\n", " ")) in ((2, True), (3, True), (1, True)), ran.err


def test_inspect_remembers_and_answers_from_its_memory(small: Path, tmp_path: Path) -> None:
    bank, strange = tmp_path / "bank", small / "test" / "blob" / "000.png"
    words = ("inspect", strange, "--good", small / "train" / "good", "--memory", bank, "--model", "fake", "--size", 64)
    first = fine(*words)
    assert "strange: score" in first.out
    assert "the memory of 14 good pictures" in first.err
    second = json.loads(fine("inspect", strange, "--memory", bank, "--json", "-o", tmp_path / "drawn").out)
    assert second[0]["is_strange"] is True
    assert f"{second[0]['score']:.4g}" in first.out
    assert (tmp_path / "drawn" / "results.jsonl").is_file()
    assert anmok("inspect", strange).code == 2
    assert anmok("inspect", strange, "--memory", tmp_path / "nowhere").code != 0
    assert "--coreset" in anmok("inspect", strange, "--memory", bank, "--coreset").err
