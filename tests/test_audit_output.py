"""The audit as a screen, a document, a gate and a command."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from anmok.cli.audit import audit_command
from anmok.errors import BadRequest, GateFailed
from anmok.evidence.audit import Audit, audit
from anmok.evidence.audit_gate import check, parse_gate
from anmok.evidence.audit_rows import Note
from anmok.evidence.audit_text import Lang, render
from anmok.evidence.audit_text_en import note as english
from anmok.evidence.audit_text_ko import note as korean
from anmok.evidence.intervals import Estimate, wilson
from anmok.evidence.readers import read_predictions
from anmok.evidence.schema import FORMAT, verdict, write_verdict
from audit_samples import series, write_csv, write_pictures

NOTES = (
    Note("by_order", (3,)),
    Note("labels_differ", (2, "a.jpg, b.jpg")),
    Note("unlisted_dropped", (4,)),
    Note("unlisted_train", (5,)),
    Note("class_numbers", ("0 = cat",)),
    Note("no_answer", (6,)),
    Note("no_split"),
    Note("validation_only"),
    Note("unreadable", (1, "x.png: the image is damaged")),
)
SURVIVING = {"accuracy": Estimate(0.9, wilson(90, 100), 100, 100.0)}


def leaking_csv(path: Path) -> Path:
    """A series split at random and a model that half repeats its neighbours."""
    data = series(parts=90, size=20)
    rng = np.random.default_rng(5)
    mostly = np.array([data.code[data.part == part].mean() > 0.5 for part in data.part]).astype(int)
    predicted = np.where(rng.random(data.code.size) < 0.6, mostly, data.code)
    side = np.where(rng.random(data.code.size) < 0.3, "test", "train")
    rows = [
        (name, label, ("bad", "good")[p], s)
        for name, label, p, s in zip(data.names, data.labels, predicted, side, strict=True)
    ]
    return write_csv(path, ("image", "label", "pred", "split"), rows)


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    path = leaking_csv(tmp_path_factory.mktemp("leaking") / "p.csv")
    return audit(None, read_predictions(path), tried=5)


def shown(found: Audit, lang: Lang, width: int = 100, require: str = "accuracy>=0.99") -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    render(found, console, [parse_gate(require)], lang)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen_says_claimed_surviving_why_and_what_next(leaking: Audit) -> None:
    text = shown(leaking, "en")
    first = text.splitlines()[0]
    assert first.startswith(f"The claim falls: {100 * leaking.claimed:.1f} % was claimed, ")
    assert f"{100 * leaking.surviving['accuracy'].value:.1f} % survives" in first
    assert "the number in the file name gives the label away" in text
    assert "the best of 5 models on one test set" in text
    assert "Runs of" in text
    assert "groups in all" in text
    assert "split by the groups in verdict.json" in text
    assert "accuracy>=0.99" in text
    assert "not met" in text
    number = next(line for line in text.splitlines() if line.strip().startswith("number in the file name"))
    random = next(one for one in leaking.leaks.random if one.name == "number")
    grouped = next(one for one in leaking.leaks.grouped if one.name == "number")
    assert f"{100 * random.accuracy.value:.1f} % *" in number
    assert f"{100 * grouped.accuracy.value:.1f} %" in number


def test_the_same_screen_in_korean(leaking: Audit) -> None:
    text = shown(leaking, "ko")
    assert text.startswith(f"믿을 수 없습니다: 주장한 정확도는 {100 * leaking.claimed:.1f}%이지만")
    assert "파일 이름의 번호만 보아도 라벨이 드러남" in text
    assert "무작위 분할" in text
    assert "묶음별 분할" in text
    assert "미달" in text


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_it_fits_one_screen(leaking: Audit, lang: Lang) -> None:
    lines = shown(leaking, lang, width=80).splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80


def test_every_note_has_a_sentence_in_both_languages() -> None:
    for one in NOTES:
        for value in one.values:
            assert str(value) in english(one)
            assert str(value) in korean(one)
    assert len({english(one) for one in NOTES}) == len({korean(one) for one in NOTES}) == len(NOTES)


def test_the_document_holds_what_the_audit_found(leaking: Audit) -> None:
    document = verdict(leaking, [parse_gate("lower(accuracy)>=50%")])
    assert document["format"] == FORMAT == "anmok.audit/1"
    assert document["verdict"] == "FALLS"
    assert document["openings"] == 5
    assert document["surviving"]["accuracy"]["value"] == pytest.approx(leaking.surviving["accuracy"].value, abs=1e-6)
    assert [part["code"] for part in document["parts"]] == ["neighbours", "tried"]
    assert document["required"] == [
        {
            "text": "lower(accuracy)>=50%",
            "value": pytest.approx(leaking.surviving["accuracy"].interval.low, abs=1e-6),
            "is_met": True,
        }
    ]
    assert document["controls"]["leaking"] == ["number"]
    groups = document["groups"]
    assert groups["sources"] == ["proposed"]
    assert groups["count"] == len(set(groups["of_image"].values()))
    assert len(groups["of_image"]) == 1800
    proposed = {groups["of_image"][name] for name in groups["proposed_test"]}
    others = {group for name, group in groups["of_image"].items() if name not in set(groups["proposed_test"])}
    assert not proposed & others, "the proposed test set keeps groups whole"
    assert 0.2 < len(groups["proposed_test"]) / 1800 < 0.4


def test_the_document_does_not_depend_on_the_order_of_its_hashes(tmp_path: Path) -> None:
    rows = [(f"{i * 37 % 101:03d}.png", "ab"[i % 2], "ab"[i % 2], "test") for i in range(60)]
    header = ("image", "label", "pred", "split")
    one = verdict(audit(None, read_predictions(write_csv(tmp_path / "a.csv", header, rows))))
    two = verdict(audit(None, read_predictions(write_csv(tmp_path / "b.csv", header, rows[::-1]))))
    assert one["split"]["sha256"] == two["split"]["sha256"]
    assert one["predictions"]["sha256"] != two["predictions"]["sha256"]


def test_the_document_is_written_whole_and_is_plain_json(leaking: Audit, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdict.json"
    write_verdict(path, leaking)
    assert json.loads(path.read_text(encoding="utf-8")) == verdict(leaking)
    assert [file.name for file in path.parent.iterdir()] == ["verdict.json"]


def test_every_field_of_the_document_is_described(leaking: Audit) -> None:
    page = (Path(__file__).parents[1] / "docs" / "audit-schema.md").read_text(encoding="utf-8")

    def fields(value: object, path: str = "") -> set[str]:
        if isinstance(value, list):
            return set().union(*(fields(item, path) for item in value[:1]))
        if not isinstance(value, dict) or path in ("groups.of_image", "split.sides"):
            return {path} - {""}
        return set().union(*(fields(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()))

    shared = ("computed.", "surviving.")  # estimates are described once
    for field in fields(verdict(leaking)):
        name = field.split(".")[-1] if field.startswith(shared) or ".accuracy." in field else field
        assert f"`{name}`" in page, f"{name} is not in docs/audit-schema.md"


@pytest.mark.parametrize(
    ("text", "metric", "is_lower", "threshold", "is_met"),
    [
        ("accuracy>=0.90", "accuracy", False, 0.9, True),
        ("accuracy > 0.90", "accuracy", False, 0.9, False),
        ("accuracy>=90%", "accuracy", False, 0.9, True),
        ("lower(accuracy)>=0.83", "accuracy", True, 0.83, False),
        ("lower( accuracy )>=0.82", "accuracy", True, 0.82, True),
        ("macro_f1>=0", "macro_f1", False, 0.0, False),
    ],
)
def test_gates(text: str, metric: str, is_lower: bool, threshold: float, is_met: bool) -> None:
    gate = parse_gate(text)
    assert (gate.metric, gate.is_lower) == (metric, is_lower)
    assert gate.threshold == pytest.approx(threshold)
    assert gate.is_met(SURVIVING) is is_met


@pytest.mark.parametrize("text", ["accuracy", "accuracy<=0.9", "speed>=0.9", "accuracy>=90", "upper(accuracy)>=0.9"])
def test_gates_that_make_no_sense(text: str) -> None:
    with pytest.raises(BadRequest, match="--require"):
        parse_gate(text)


def test_a_gate_that_is_not_met_fails_with_what_was_found() -> None:
    check([parse_gate("accuracy>=0.9")], SURVIVING)
    with pytest.raises(GateFailed, match="required accuracy>=0.95: 0.900 survives") as caught:
        check([parse_gate("accuracy>=0.9"), parse_gate("accuracy>=0.95")], SURVIVING)
    assert caught.value.exit_code == 10
    with pytest.raises(GateFailed, match="nothing survives to be measured"):
        check([parse_gate("accuracy>=0.1")], {})


def run(*arguments: str) -> tuple[str, BaseException | None]:
    app = typer.Typer()
    app.command("audit")(audit_command)
    ran = CliRunner().invoke(app, arguments)
    return ran.stdout, ran.exception


def test_the_command_prints_json_writes_the_verdict_and_fails_its_gate(tmp_path: Path) -> None:
    path = leaking_csv(tmp_path / "p.csv")
    output, error = run(str(path), "--json", "--out", str(tmp_path / "verdict.json"), "--require", "accuracy>=0.99")
    assert isinstance(error, GateFailed)
    printed = json.loads(output)
    assert printed["verdict"] == "FALLS"
    assert printed == json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))


def test_the_command_takes_images_groups_classes_and_a_claim(tmp_path: Path) -> None:
    names = [f"{name}/{i:02d}.png" for i in range(20) for name in ("cat", "dog")]
    write_pictures(tmp_path / "photos", names)
    path = write_csv(tmp_path / "p.csv", ("image", "pred"), [(name, int("dog" in name)) for name in names])
    groups = write_csv(tmp_path / "g.csv", ("image", "group"), [(n, f"g{i // 4}") for i, n in enumerate(names)])
    output, error = run(
        str(tmp_path / "photos"),
        str(path),
        *("--groups", str(groups), "--classes", "cat,dog", "--claimed", "97", "--json"),
    )
    assert error is None
    printed = json.loads(output)
    assert printed["claimed"] == 0.97
    assert printed["computed"]["accuracy"]["value"] == 1.0
    assert printed["groups"]["sources"][0] == "given"
    assert printed["groups"]["count"] == 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a", "b", "c"), "3 paths"),
        (("p.csv", "--lang", "fr"), "--lang fr"),
        (("p.csv", "--require", "what"), "--require 'what'"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(arguments: tuple[str, ...], says: str) -> None:
    _, error = run(*arguments)
    assert isinstance(error, BadRequest)
    assert says in str(error)


def test_the_program_audits_in_korean_and_exits_with_ten(tmp_path: Path) -> None:
    path = leaking_csv(tmp_path / "p.csv")
    ran = subprocess.run(
        [sys.executable, "-m", "anmok", "audit", str(path), "--lang", "ko", "--require", "accuracy>=0.99"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 10, ran.stderr
    assert ran.stdout.startswith("믿을 수 없습니다")
    assert ran.stderr.startswith("error: required accuracy>=0.99: 0.")
    assert "Traceback" not in ran.stderr
