"""Rungs V0 and V: a model that talks, alone and behind examples, on coloured squares; and why it was not asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import anmok
from anmok import Classify
from anmok.errors import BadRequest
from anmok.ladder import Plan, climb
from anmok.ladder.asking import rung
from anmok.ladder.asking.examples import nearest
from anmok.ladder.asking.rung import Asking, climb_asked, opened
from anmok.ladder.beside import Beside
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.evaluate import Price
from anmok.ladder.report.page import render_page
from anmok.ladder.report.phrases import phrase
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.skipped import Skipped, too_long
from anmok.load import Adapter, tiny
from anmok.models import fake_talk
from command_line import anmok as run
from test_ladder import write

PLAN = Plan("fake", shots=(1,), draws=1, rungs=("0a", "1", "V0", "V"), vlm="fake-choose")
NAMES = {"red": "alpha", "green": "beta", "blue": "gamma"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colours under names that say nothing of them."""
    root = write(tmp_path_factory.mktemp("asking") / "photos", 50, 25, seed=0)
    for name, other in NAMES.items():
        (root / name).rename(root / other)
    return root


@pytest.fixture(scope="module")
def climbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        return climb(read(photos), anmok.load("fake"), PLAN)


def ground_of(climbed: Climbed, plan: Plan = PLAN) -> Ground:
    scene, measured = climbed.scene, climbed.measured
    price = measured.final["1"].step
    return Ground(
        anmok.load("fake"),
        scene,
        measured.material,
        scene.held(),
        Price(price.ms_per_image, price.megabytes),
        plan,
    )


def colours(climbed: Climbed, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the fake makes of pictures of the scene, (n, 3)."""
    states = anmok.load("fake-choose").encode([climbed.scene.dataset.paths[i] for i in indices])
    return np.stack([np.asarray(state.maps["colour"], np.float64) for state in states])


def test_names_that_say_nothing_leave_it_at_the_first_class(climbed: Climbed) -> None:
    found = climbed.measured.final["V0"]
    held = climbed.scene.held()
    assert (found.predicted == 0).all()  # all alike, and the first of equals
    assert found.step.accuracy.value == pytest.approx(np.mean(held.labels == 0))
    assert (found.step.rung, found.step.variant) == ("VLM, zero-shot", "fake-choose")
    assert (found.step.labels, found.step.shots, found.step.cold_seconds) == (0, 0, 0.0)


def test_examples_are_the_nearest_of_each_class_and_are_followed(climbed: Climbed) -> None:
    """All of it once more in numpy: which three are shown, and what the fake makes of them."""
    scene, found = climbed.scene, climbed.measured.final["V"]
    pool, features = scene.pool, scene.looked.features
    mean = features[pool].mean(0)
    rows, seen = features[pool] - mean, colours(climbed, np.arange(len(scene.labels)))
    wanted = []
    for index in scene.test:
        query = features[index] - mean
        near = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        shown = [
            pool[np.flatnonzero(scene.labels[pool] == k)[near[scene.labels[pool] == k].argmax()]] for k in range(3)
        ]
        wanted.append(int(np.abs(seen[shown] - seen[index]).mean(1).argmin()))
    assert found.predicted[0].tolist() == wanted
    assert found.step.accuracy.value > 0.8
    assert found.step.variant == "fake-choose, 3 examples in context"  # of four pictures
    assert found.step.labels == len(pool)
    assert (found.step.seconds, found.step.shots) == (0.0, None)


def test_what_examples_bring_is_judged_and_the_rung_is_not_recommended(climbed: Climbed) -> None:
    outcome = climbed.outcome
    [verdict] = [one for one in outcome.comparisons if "V" in (one.key, one.against)]
    assert (verdict.key, verdict.against, verdict.word) == ("V", "V0", "BETTER")
    gain = outcome.step("V").accuracy.value - outcome.step("V0").accuracy.value
    assert verdict.gain == pytest.approx(gain, abs=1e-9)
    assert outcome.recommendation.key != "V"
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert told["recommending rung V"] == "it needs labelled images at hand, which no folder of ours holds"
    assert not any("V0" in one for one in told)
    assert ("fake-choose", "Apache License 2.0") in outcome.honesty.licences


def test_its_price_is_measured(climbed: Climbed) -> None:
    outcome = climbed.outcome
    alone, shown, own = outcome.step("V0"), outcome.step("V"), outcome.step("1")
    assert alone.ms_per_image > 0
    assert alone.megabytes == pytest.approx(anmok.load("fake-choose").memory_bytes / 1e6)
    assert shown.ms_per_image > own.ms_per_image  # the examples are found by the ladder's own model
    assert shown.megabytes == pytest.approx(
        alone.megabytes + climbed.measured.final["1"].step.megabytes - climbed.measured.final["1"].step.head_megabytes
    )
    assert shown.cold_seconds == pytest.approx(len(climbed.scene.pool) * own.ms_per_image / 1e3)


def test_shuffled_labels_bring_nothing(photos: Path) -> None:
    dataset = read(photos)
    assert dataset.labels is not None
    shuffled = dataclasses.replace(dataset, labels=np.random.default_rng(3).permutation(dataset.labels))
    outcome = climb(shuffled, anmok.load("fake"), dataclasses.replace(PLAN, groups="none")).outcome
    [verdict] = [one for one in outcome.comparisons if one.key == "V"]
    assert verdict.word != "BETTER"
    assert outcome.step("V").accuracy.interval.low < 1 / 3 < outcome.step("V").accuracy.interval.high


def test_no_example_is_of_the_pictures_own_group(photos: Path, tmp_path: Path) -> None:
    """Few images, so that each is pool and test at once; two and two of them belong together."""
    table = tmp_path / "labels.csv"
    paths = [path for one in sorted(photos.iterdir()) for path in sorted(one.iterdir())[:20]]
    lines = [f"{path.relative_to(photos)},{path.parent.name},{i // 2}" for i, path in enumerate(paths)]
    table.write_text("\n".join(["image,label,group", *lines]), encoding="utf-8")
    found = climb(read(photos, labels=table), anmok.load("fake"), PLAN)
    assert found.scene.is_development
    assert found.outcome.step("V").accuracy.value > 0.7
    ground = ground_of(found)
    asking = Asking(ground, anmok.load("fake-choose"), 3, rung._fold(ground, 5))
    fold, groups = asking.fold, found.measured.material.groups
    assert fold is not None
    for i in range(len(paths)):
        rows = asking._examples(i, None)
        assert len(rows) == 3
        assert not set(groups[rows]) & {groups[i]}
        assert (fold[rows] != fold[i]).all()


def test_rehearsals_do_not_show_a_picture_to_itself(climbed: Climbed) -> None:
    ground = ground_of(climbed)
    asking = Asking(ground, anmok.load("fake-choose"), 3, None)
    for row, index in enumerate(climbed.scene.pool[:20].tolist()):
        assert row in asking._examples(index, None)
        assert row not in asking._examples(index, row)


def test_one_of_each_class_comes_first_and_the_nearest_last() -> None:
    features = np.asarray([[4, 0], [3, 1], [2.5, 2], [0, 3], [-2, 1], [-7.5, -7]], np.float32)
    labels = np.asarray([0, 0, 1, 1, 2, 2])
    asked = np.asarray([4, 0.5], np.float32)
    angles = np.degrees(np.arctan2(*(features - features.mean(0)).T[::-1]))
    here = np.degrees(np.arctan2(*(asked - features.mean(0))[::-1]))
    away = np.abs((angles - here + 180) % 360 - 180)
    first: list[int] = [min(np.flatnonzero(labels == k).tolist(), key=lambda row: away[row]) for k in range(3)]
    ranked = sorted(first, key=lambda row: float(-away[row]))
    assert nearest(features, labels, asked, 3).tolist() == ranked
    assert nearest(features, labels, asked, 2).tolist() == ranked[1:]
    four = nearest(features, labels, asked, 4).tolist()
    fourth = min(set(range(6)) - set(first), key=lambda row: away[row])
    assert sorted(four) == sorted([*first, fourth])
    assert [away[row] for row in four] == np.sort(away[four])[::-1].tolist()
    assert len(nearest(features, labels, asked, 99)) == 6


def test_a_zero_shot_winner_is_written_and_answers_as_it_was_measured(tmp_path: Path) -> None:
    photos = write(tmp_path / "photos", 50, 25, seed=0)
    plan = dataclasses.replace(PLAN, rungs=("1", "V0"), margin=0.3)
    found = climb(read(photos), anmok.load("fake"), plan)
    assert found.outcome.recommendation.key == "V0"
    assert found.outcome.trust is not None
    assert found.outcome.trust.source == "nothing learned"
    found.best.write(tmp_path / "best")
    kept = Adapter.read(tmp_path / "best")
    assert (kept.base, kept.head) == ("fake-choose", None)
    assert kept.licences == {"weights": "apache-2.0", "images": ""}
    paths = [found.scene.dataset.paths[i] for i in found.scene.test]
    answered = [one.label for one in anmok.load(str(tmp_path / "best")).run(paths, Classify())]
    assert answered == [found.scene.dataset.classes[k] for k in found.measured.final["V0"].predicted[0]]
    assert found.outcome.step("V0").accuracy.value > 0.7


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fake", "fake does not talk; take it as the model of the ladder, --model"),
        ("fake-talk-text", "fake-talk-text only reads: it looks at no picture"),
        ("fake-talk", "fake-talk does not say how likely a label is"),
    ],
)
def test_models_that_cannot_be_asked(name: str, why: str) -> None:
    assert opened(dataclasses.replace(PLAN, vlm=name), Beside()) == why
    assert phrase(why, "ko").is_translated


def test_why_there_is_none(climbed: Climbed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(PLAN, Beside(vlm="the weights are not here")) == "the weights are not here"
    assert "no model is called" in str(opened(dataclasses.replace(PLAN, vlm="smolvlm-3"), Beside()))
    ground = ground_of(climbed)
    once, four = anmok.load("fake-choose-once"), anmok.load("fake-choose")
    assert climb_asked("V", ground, once, 60, 5) == Skipped(
        "V", "fake-choose-once takes one picture in a conversation: no example beside the one asked about"
    )
    assert not isinstance(climb_asked("V0", ground, once, 60, 5), Skipped)
    late = climb_asked("V0", ground, four, 0.0, 5)
    assert isinstance(late, Skipped)
    assert late.why.startswith("it would take about ")
    # A question of 27 tokens, one more turn's 2, and 16 for each picture; an example 17 more and 2 for its label.
    monkeypatch.setattr(fake_talk, "_CONTEXT", 70)
    assert climb_asked("V", ground, four, 60, 5) == Skipped("V", "not one example fits into the context of fake-choose")
    monkeypatch.setattr(fake_talk, "_CONTEXT", 10)
    short = climb_asked("V0", ground, four, 60, 5)
    assert isinstance(short, Skipped)
    assert "the model reads 10" in short.why


def test_fewer_examples_where_the_context_has_no_room(climbed: Climbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_talk, "_CONTEXT", 170)
    found = climb_asked("V", ground_of(climbed), anmok.load("fake-choose"), 60, 5)
    assert not isinstance(found, Skipped)
    assert found.step.variant == "fake-choose, 2 examples in context"


def test_the_climb_stands_without_it(photos: Path) -> None:
    outcome = climb(read(photos), anmok.load("fake"), PLAN, beside=Beside(vlm="no such thing here")).outcome
    assert [step.key for step in outcome.steps] == ["0a", "1"]
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert told["rung V0 (VLM, zero-shot)"] == "no such thing here"
    assert told["rung V (VLM, examples shown)"] == "no such thing here"


def test_a_toy_with_real_parts_climbs(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eyes, tokenizer, template and net of Qwen2-VL at toy size: chance is all that it can reach."""
    monkeypatch.setattr(rung, "MOST", 2)
    dataset = read(photos).keep(np.arange(0, 150, 5))
    outcome = climb(dataset, anmok.load("fake"), PLAN, beside=Beside(vlm=tiny("qwen2-vl-2b"))).outcome
    assert outcome.step("V0").accuracy.interval.low < 1 / 3 < outcome.step("V0").accuracy.interval.high
    assert outcome.step("V").variant == "qwen2-vl-2b, 2 examples in context"


def test_plans_without_it_keep_their_place_in_the_books() -> None:
    assert Plan("fake").digest("a", "b") == Plan("fake", vlm="").digest("a", "b") == "2f86d3d06ba7c063"
    assert Plan("fake", vlm="x").digest("a", "b") != Plan("fake").digest("a", "b")
    with pytest.raises(BadRequest, match="rungs V0, V: name a vision-language model, --vlm"):
        Plan("fake", rungs=("1", "V"))


def test_a_budget_that_would_do() -> None:
    assert too_long(80, 0.5) == "it would take about 80 seconds: --budget 4m"
    assert too_long(80) == "it would take about 80 seconds: --budget 2m"


def test_the_page_speaks_of_it_in_both_languages(climbed: Climbed) -> None:
    page = render_page(climbed.outcome, {}, "en")
    assert "VLM, examples shown" in page
    assert "recommending rung V" in page
    korean = render_page(climbed.outcome, {}, "ko")
    for words in ("VLM(제로샷)", "VLM(예시 제시)", "fake-choose, 예시 3장", "방법 V의 추천"):
        assert words in korean
    for text in ("x, 1 example in context", "x, 2 to 3 examples in context", "rungs V0 and V, a vision-language model"):
        assert phrase(text, "ko").is_translated


def test_from_the_command_line(photos: Path, tmp_path: Path) -> None:
    done = run("ladder", str(photos), "--model", "fake", "--vlm", "fake-choose", "--out", str(tmp_path / "r"), "--json")
    assert done.code == 0, done.err
    steps = {one["key"]: one for one in json.loads(done.out)["steps"]}
    assert steps["V"]["accuracy"]["value"] > 0.8
    assert steps["V0"]["labels"] == 0
    slip = run("ladder", str(photos), "--model", "fake", "--vlm", "fake-chose", "--out", str(tmp_path / "s"))
    assert slip.code != 0
    assert "fake-chose" in slip.err
    without = run("ladder", str(photos), "--model", "fake", "--out", str(tmp_path / "t"), "--json")
    told = {one["what"]: one["why"] for one in json.loads(without.out)["honesty"]["not_tried"]}
    assert told["rungs V0 and V, a vision-language model"] == "none was named: --vlm"
