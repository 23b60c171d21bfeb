"""Rung R: made pictures beside real ones, on plates where it is known whether they resemble the real defects."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anmok
from anmok.cli.ladder_wishes import Pictures, Words, with_wishes
from anmok.errors import BadData, BadRequest
from anmok.ladder import Plan, climb
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.ledger import ledger_path
from anmok.ladder.report.page import render_page
from anmok.ladder.report.phrases import phrase
from anmok.ladder.rungs import linear
from anmok.ladder.rungs.fitting import Material, _is_more, fit
from anmok.ladder.rungs.mixed import Extra, mixture
from anmok.ladder.wishes import MadeWish, from_folder, to_make
from anmok.synth import Recipe, make, write
from command_line import anmok as run
from drawn_plates import plates

PLAN = Plan("fake", shots=(1,), draws=1, rungs=("2", "R"))
SPOTS = MadeWish(kinds=(("stain", "bad"), ("hole", "bad")), count=200)


def climbed(root: Path, flaw: str, wish: MadeWish | None, bad: int = 12) -> Climbed:
    photos, test = plates(root / "photos", 60, bad, flaw, 0), plates(root / "test", 150, 150, flaw, 100)
    return climb(read(photos, test=test), anmok.load("fake"), dataclasses.replace(PLAN, synthetic=wish))


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        return climbed(tmp_path_factory.mktemp("helped"), "dark", SPOTS)


def test_made_defects_that_resemble_the_few_real_ones_are_shown_to_help(helped: Climbed) -> None:
    outcome = helped.outcome
    gain = outcome.step("R").accuracy.value - outcome.step("2").accuracy.value
    assert gain > 0.03
    assert outcome.recommendation.key == "R"
    assert [(one.key, one.against, one.word) for one in outcome.comparisons] == [("R", "2", "BETTER")]
    assert "made pictures weigh" in outcome.step("R").variant
    assert outcome.step("R").labels == outcome.step("2").labels == 72  # made ones cost no label
    assert outcome.honesty.development is not None  # cross-validated inside the pool, made ones by their sources


def test_what_was_made_stands_in_the_honesty_box_the_books_and_the_folder(helped: Climbed, tmp_path: Path) -> None:
    outcome = helped.outcome
    assert ("made pictures (anmok)", "not known") in outcome.honesty.licences
    [told] = [one for one in outcome.honesty.assumptions if one.startswith("made pictures were learned from")]
    assert "120 made: anmok " in told  # ten for each of twelve defects, however many are asked for
    assert helped.best.licences["made pictures (anmok)"] == "not known"
    helped.best.write(tmp_path / "best")
    scene = helped.scene
    answers = anmok.load(str(tmp_path / "best")).run([scene.dataset.paths[i] for i in scene.test], anmok.Classify())
    wanted = [scene.dataset.classes[k] for k in helped.measured.final["R"].predicted[0]]
    assert [answer.label for answer in answers] == wanted


def test_made_defects_that_resemble_nothing_are_not_recommended(tmp_path: Path) -> None:
    """A drawn set on which louder defects alone would have brought 8 points: a class keeps its weight."""
    outcome = climbed(tmp_path, "blue", MadeWish(kinds=(("scratch", "bad"), ("thread", "bad")), count=200)).outcome
    assert outcome.recommendation.key == "2"
    [found] = outcome.comparisons
    assert (found.key, found.against, found.word) == ("R", "2", "CANNOT TELL")
    assert abs(found.gain) < 0.02


def test_with_many_real_defects_made_ones_bring_nothing_and_the_rung_is_rung_2(tmp_path: Path) -> None:
    found = climbed(tmp_path, "dark", SPOTS, bad=150)
    assert found.outcome.step("R").variant.endswith("made pictures brought nothing")
    assert np.array_equal(found.measured.final["R"].predicted, found.measured.final["2"].predicted)
    assert found.outcome.recommendation.key == "2"
    assert found.outcome.step("R").accuracy == found.outcome.step("2").accuracy


def test_only_pictures_of_the_pool_get_defects(helped: Climbed) -> None:
    scene = helped.scene
    assert scene.made is not None
    pool = set(scene.grouping.groups[scene.pool].tolist())
    tested = set(scene.grouping.groups[scene.test].tolist())
    sources = frozenset().union(*scene.made.extra.sources)
    assert all(len(one) == 1 for one in scene.made.extra.sources)
    assert sources <= pool
    assert sources.isdisjoint(tested)
    assert set(scene.made.extra.labels.tolist()) == {scene.dataset.classes.index("bad")}


def test_a_folder_of_made_pictures_without_those_of_test_pictures(tmp_path: Path) -> None:
    photos = plates(tmp_path / "photos", 80, 40, "dark", 1)
    goods = sorted((photos / "good").iterdir())
    write(make(goods, Recipe(kinds=("stain",), label="bad", licence="CC0-1.0"), 80, 0), tmp_path / "made")
    wish = from_folder(tmp_path / "made")
    scene = climb(read(photos), anmok.load("fake"), dataclasses.replace(PLAN, synthetic=wish)).scene
    assert scene.made is not None
    good = scene.dataset.classes.index("good")
    tested = int((scene.labels[scene.test] == good).sum())
    assert f"made pictures whose source is tested on, left out: {tested}" in scene.warnings
    assert len(scene.made.extra.labels) == 80 - tested
    assert scene.made.licences == (("made pictures (anmok)", "CC0-1.0"),)
    [line] = ledger_path(scene.data_hash).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["made"] == scene.made.provenance


def test_another_folder_is_another_opening_and_another_place_is_not() -> None:
    one, other = (MadeWish("made", digest) for digest in ("a", "b"))
    moved = dataclasses.replace(one, folder="elsewhere")
    digests = [dataclasses.replace(PLAN, synthetic=wish).digest("d", "s") for wish in (one, other, moved)]
    assert digests[0] == digests[2] != digests[1]


def test_made_pictures_among_the_real_ones_are_refused(tmp_path: Path) -> None:
    photos = plates(tmp_path / "photos", 60, 40, "dark", 2)
    goods = sorted((photos / "good").iterdir())[:5]
    write(make(goods, Recipe(kinds=("stain",), label="bad"), 5, 0), tmp_path / "made")
    copied = next((tmp_path / "made" / "bad").iterdir())
    (photos / "bad" / "copied.png").write_bytes(copied.read_bytes())
    plan = dataclasses.replace(PLAN, synthetic=from_folder(tmp_path / "made"))
    with pytest.raises(BadData, match="are among the real ones, which are tested on"):
        climb(read(photos), anmok.load("fake"), plan)


def test_sources_under_another_name_are_told_by_their_looks(tmp_path: Path) -> None:
    """Test pictures written anew, other bytes and the same pixels, and defects put into those."""
    photos = plates(tmp_path / "photos", 60, 40, "dark", 5)
    test = plates(tmp_path / "test", 40, 20, "dark", 6)
    goods = sorted((test / "good").iterdir())[:10]
    for path in goods:
        Image.open(path).save(tmp_path / f"{path.stem}.bmp")
    strangers = sorted(tmp_path.glob("*.bmp"))
    recipe = Recipe(kinds=("stain",), label="bad", area=(0.001, 0.002), contrast=(0.1, 0.15))
    write(make(strangers, recipe, 10, 0), tmp_path / "made")
    plan = dataclasses.replace(PLAN, synthetic=from_folder(tmp_path / "made"))
    with pytest.raises(BadData, match="near-copies of test pictures, left out: 10"):
        climb(read(photos, test=test), anmok.load("fake"), plan)


def test_a_folder_of_other_classes_says_which(tmp_path: Path) -> None:
    photos = plates(tmp_path / "photos", 60, 40, "dark", 3)
    goods = sorted((photos / "good").iterdir())[:5]
    write(make(goods, Recipe(kinds=("dent",)), 5, 0), tmp_path / "made")
    plan = dataclasses.replace(PLAN, synthetic=from_folder(tmp_path / "made"))
    with pytest.raises(BadData, match=r"no picture in it may be used .*classes that the real ones do not have.*dent"):
        climb(read(photos), anmok.load("fake"), plan)


def test_few_images_are_cross_fitted_with_the_made_ones_of_their_own_fold(tmp_path: Path) -> None:
    photos = plates(tmp_path / "photos", 30, 20, "dark", 4)
    found = climb(read(photos), anmok.load("fake"), dataclasses.replace(PLAN, synthetic=SPOTS))
    assert found.outcome.is_development
    assert found.outcome.step("R").accuracy.n == 50


def test_the_command_makes_pictures(tmp_path: Path) -> None:
    photos = plates(tmp_path / "photos", 60, 50, "dark", 7)
    flags = ("--synthesise", "stain,hole", "--synthesise-count", 40)
    done = run("ladder", photos, "--model", "fake", "--out", tmp_path / "report", *flags)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    [step] = [one for one in report["steps"] if one["key"] == "R"]
    assert "made pictures" in step["variant"]
    [told] = [one for one in report["honesty"]["assumptions"] if one.startswith("made pictures were learned from")]
    assert ": 40 made: anmok" in told


def test_the_command_takes_what_anmok_synth_wrote(tmp_path: Path) -> None:
    photos = plates(tmp_path / "photos", 3, 3, "dark", 7)
    made = tmp_path / "made"
    done = run("synth", photos / "good", "--out", made, "--kinds", "stain", "--label", "bad", "--count", 4)
    assert done.code == 0, done.err
    plan = with_wishes(PLAN, read(photos), Pictures(made, "", "good", 300), Words("", 10, ""))
    assert plan.synthetic == from_folder(made)
    assert plan.synthetic is not None
    assert plan.synthetic.folder == str(made)
    assert plan.written is None


@pytest.mark.parametrize(
    ("text", "classes", "pairs"),
    [
        ("scratch,dent", ("bad", "good"), (("scratch", "bad"), ("dent", "bad"))),
        ("scratch, dent", ("dent", "good", "scratch"), (("scratch", "scratch"), ("dent", "dent"))),
        ("scratch=kratzer", ("beule", "good", "kratzer"), (("scratch", "kratzer"),)),
    ],
)
def test_a_kind_stands_for_a_class(text: str, classes: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> None:
    assert to_make(text, "good", classes, 50) == MadeWish(kinds=pairs, good="good", count=50)


@pytest.mark.parametrize(
    ("text", "classes", "said"),
    [
        ("scratch", ("a", "b", "good"), "want a class for it beside good, as in scratch=a"),
        ("scratch=good", ("a", "good"), "want a class for it"),
        ("scrach", ("a", "good"), "no such kind of defect: scrach; there are scratch"),
        ("scratch=a,scratch=b", ("a", "b", "good"), "given twice"),
        ("scratch", ("a", "b"), "no such class; there are a, b"),
    ],
)
def test_kinds_that_make_no_sense(text: str, classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        to_make(text, "good", classes, 50)


def blobs(n: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (rng.normal(0, 1, (3, width))[labels] + rng.normal(0, 1.5, (n, width))).astype(np.float32), labels


@pytest.mark.parametrize("width", [8, 90])
def test_weight_two_is_the_row_twice_and_weight_nothing_is_no_row(width: int) -> None:
    features, labels = blobs(45, width, 0)
    weights = np.ones(45)
    weights[:15], weights[40:] = 2.0, 0.0
    twice = np.r_[np.arange(40), np.arange(15)]
    once = linear.logistic(linear.standardise(features, weights), labels, 3, 0.1, weights)
    both = linear.logistic(linear.standardise(features[twice]), labels[twice], 3, 0.1)
    np.testing.assert_allclose(once.logits(features), both.logits(features), atol=2e-4)
    towers = np.eye(3, width, dtype=np.float32), np.eye(width, dtype=np.float32)
    once = linear.cross_modal(features, labels, *towers, weights)
    both = linear.cross_modal(features[twice], labels[twice], *towers)
    np.testing.assert_allclose(once.logits(features), both.logits(features), atol=2e-4)


def test_a_class_weighs_as_much_as_it_has_real_pictures() -> None:
    features, labels = blobs(30, 4, 1)
    rare = np.r_[np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:2]]  # 10, 10 and 2
    made = Extra(np.zeros((50, 4), np.float32), np.full(50, 2), (frozenset(),) * 50)
    both = mixture(features[rare], labels[rare], made, 0.5)
    assert len(both.labels) == 22 + 20  # ten for each of two
    totals = [both.weights[both.labels == k].sum() for k in range(3)]
    assert totals == pytest.approx([10, 10, 2])
    assert both.weights[22:].sum() / both.weights[20:22].sum() == pytest.approx(0.5)


def test_made_pictures_teach_only_beside_their_sources() -> None:
    made = Extra(
        np.zeros((4, 2), np.float32), np.arange(4), (frozenset({1}), frozenset({2}), frozenset(), frozenset({1, 2}))
    )
    assert made.of(np.asarray([1, 1, 5])).labels.tolist() == [0, 2]
    assert made.of(np.asarray([1, 2])).labels.tolist() == [0, 1, 2, 3]
    features, labels = blobs(30, 4, 2)
    material = Material(
        features, labels, np.arange(30), 3, None, made=Extra(features[:3], labels[:3], (frozenset({99}),) * 3)
    )
    found, alone = fit("R", material, np.arange(30)), fit("2", material, np.arange(30))
    assert found.variant == f"{alone.variant}; no made picture may teach here"
    assert np.array_equal(found.head.logits(features), alone.head.logits(features))


def test_the_korean_page_has_words_for_it(helped: Climbed) -> None:
    outcome = helped.outcome
    assert phrase(outcome.step("R").variant, "ko").is_translated
    page = render_page(outcome, {}, "ko")
    assert "실제 사진 + 합성 사진" in page
    assert "합성 사진은 학습에만 썼고" in page
    assert "made pictures" not in page.replace("made pictures (", "")


@pytest.mark.parametrize(
    ("won", "lost", "is_more"), [(0, 0, False), (1, 0, False), (2, 0, True), (4, 1, True), (5, 3, False)]
)
def test_a_weight_has_to_win_more_than_luck(won: int, lost: int, is_more: bool) -> None:
    before = np.r_[np.zeros(won, np.bool_), np.ones(lost + 90, np.bool_)]
    after = np.r_[np.ones(won, np.bool_), np.zeros(lost, np.bool_), np.ones(90, np.bool_)]
    assert _is_more(before, after) is is_more
