"""Rung 0e: descriptions by a language model behind a stand-in server, beside random words of the same length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import anmok
from anmok.errors import BadData, BadRequest
from anmok.ladder import Plan, climb
from anmok.ladder.dataset import read, read_sentences
from anmok.ladder.described import kept_at, written
from anmok.ladder.ledger import ledger_path
from anmok.ladder.random_prompts import DRAWS
from anmok.ladder.report.page import render_page
from anmok.ladder.report.phrases import phrase
from anmok.ladder.wishes import Writing
from anmok.train.writers import Endpoint
from command_line import anmok as run
from test_describing import StandIn, server  # noqa: F401  # a fixture
from test_ladder import write

SENTENCES = {"alpha": ("A square in red.", "Something red."), "beta": ("It is green.",), "gamma": ("A blue square.",)}
WRITING = Writing("somebody", tuple(SENTENCES.items()), calls=3, tokens=210)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colours under names that say nothing of them."""
    root = write(tmp_path_factory.mktemp("described") / "photos", 50, 25, seed=0)
    for name, other in zip(("red", "green", "blue"), SENTENCES, strict=True):
        (root / name).rename(root / other)
    return root


def test_sentences_that_say_what_is_seen_beat_random_words(photos: Path) -> None:
    plan = Plan("fake", shots=(1,), draws=1, rungs=("0a", "0b", "0e"), written=WRITING)
    climbed = climb(read(photos), anmok.load("fake"), plan)
    outcome = climbed.outcome
    assert outcome.step("0e").accuracy.value > 0.8
    assert outcome.step("0e").variant == "4 sentences by somebody, 3 calls, 210 tokens"
    assert outcome.step("0e").labels == 0
    controls = {one.name: one for one in outcome.controls}
    found = controls["random words, as long as 0e"]
    assert found.against is not None
    assert (found.against.key, found.against.word) == ("0e", "BETTER")
    assert found.against.gain == pytest.approx(outcome.step("0e").accuracy.value - found.accuracy.value, abs=1e-9)
    assert found.accuracy.n == outcome.data.test
    plain = controls["random words, as long as 0b"].against
    assert plain is not None
    assert plain.key == "0b"
    assert not any(one.is_suspicious for one in (found, controls["random words, as long as 0b"]))
    *_, line = ledger_path(climbed.scene.data_hash).read_text(encoding="utf-8").splitlines()
    content = json.loads(line)
    assert (content["writer"], content["calls"], content["tokens"]) == ("somebody", 3, 210)
    assert climbed.best.descriptions == tuple(SENTENCES.values())


def test_sentences_about_names_that_say_it_all_bring_nothing(tmp_path: Path) -> None:
    told = {name: (f"A photo of something {name} on a table.",) for name in ("blue", "green", "red")}
    plan = Plan("fake", shots=(1,), draws=1, rungs=("0a", "0e"), written=Writing("somebody", tuple(told.items())))
    outcome = climb(read(write(tmp_path / "photos", 50, 25, seed=1)), anmok.load("fake"), plan).outcome
    [found] = [one for one in outcome.controls if one.name == "random words, as long as 0e"]
    assert found.against is not None
    assert found.against.word in ("SAME", "CANNOT TELL")
    assert found.against.gain == pytest.approx(0, abs=0.02)


def test_the_page_says_how_the_rung_stands_against_the_words(photos: Path) -> None:
    plan = Plan("fake", shots=(1,), draws=DRAWS, rungs=("0a", "0e"), written=WRITING)
    outcome = climb(read(photos), anmok.load("fake"), plan).outcome
    assert "rung 0e against it: BETTER" in render_page(outcome, {}, "en")
    page = render_page(outcome, {}, "ko")
    assert "방법 0e의 문장만큼 긴 의미 없는 단어" in page
    assert "제로샷(언어 모델의 설명문)" in page
    assert phrase(outcome.step("0e").variant, "ko").text == "somebody의 문장 4개(호출 3회, 토큰 210개)"


def test_the_same_question_is_paid_for_once(server: StandIn) -> None:  # noqa: F811
    server.says('["A red thing.", "A thing of red."]')
    writer = Endpoint(server.address, "writer-7")
    first = written(("이상=defect", "red"), ("en",), writer, 2)
    asked = len(server.bodies)
    again = written(("이상=defect", "red"), ("en",), writer, 2)
    assert first == again
    assert len(server.bodies) == asked == 2
    assert [name for name, _ in first.sentences] == ["이상=defect", "red"]
    assert first.sentences[0][1][0] == "defect: A red thing."
    assert (first.calls, first.tokens) == (2, 140)
    written(("이상=defect", "red"), ("en",), writer, 1)
    assert len(server.bodies) == 4  # another question
    kept_at(("defect", "red"), writer.name, 2).write_text("{", encoding="utf-8")
    with pytest.raises(BadData, match="is damaged .*delete it"):
        written(("이상=defect", "red"), ("en",), writer, 2)


def test_the_command_asks_writes_down_and_tells_the_cost(
    photos: Path,
    server: StandIn,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    server.says('["It is white."]', tokens=50)
    out = tmp_path / "report"
    asked = ("--describe", f"{server.address}#writer-8", "--describe-count", 1, "--describe-key", "A_KEY")
    done = run("ladder", photos, "--model", "fake", "--out", out, *asked)
    assert done.code == 0, done.err
    assert "wrote 3 sentences in 3 calls (150 tokens)" in done.err
    assert server.keys == ["Bearer secret"] * 3
    told = read_sentences(out / "descriptions.csv", tuple(SENTENCES))
    assert told == tuple((name, (f"{name}: It is white.",)) for name in SENTENCES)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    [step] = [one for one in report["steps"] if one["key"] == "0e"]
    assert step["variant"].startswith("3 sentences by writer-8 at 127.0.0.1")
    assert "secret" not in (out / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--describe", "http://host/v1"], "want smollm2, or an address and a model"),
        (["--describe", "smollm2", "--classes", "cat,dog"], "--describe is for labelled images"),
        (["--synthetic", "made", "--synthesise", "scratch"], "give one of the two"),
        (["--synthetic", "nowhere"], "cannot be read"),
        (["--synthesise", "scratch"], "--good good: no such class"),
        (["--synthesise", "scratch", "--good", "alpha"], "want a class for it beside alpha"),
    ],
)
def test_flags_that_make_no_sense(photos: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    source = photos / "alpha" if "--classes" in flags else photos
    done = run("ladder", source, "--model", "fake", "--out", tmp_path / "report", *flags)
    assert done.code not in (0, 1)
    assert said in done.err


def test_a_model_without_a_text_tower_is_not_described_to() -> None:
    from anmok.cli.ladder_wishes import _languages

    assert _languages("mini") == ("en",)
    with pytest.raises(BadRequest, match="has no text tower"):
        _languages("efficientnet-lite2")
