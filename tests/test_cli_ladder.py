"""`anmok ladder` and `anmok audit`, from what is typed to what lies on the disk, with the model without weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import anmok as library
from anmok.errors import GateFailed
from command_line import BLUE, PHOTOS, RED, anmok, answered, fine, first_climb, stand, typed, write

NAMES = sorted(name.removeprefix("photos/") for name in PHOTOS)
ENGLISH = re.compile(r"right on|95 % interval|development estimate|recommended|the test images")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stand(tmp_path, monkeypatch)
    write(folder, PHOTOS)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``many`` photos of two colours, a cache, and the ``report`` of a first climb there."""
    root = tmp_path_factory.mktemp("climbed")
    ran = first_climb(root)
    (root / "out.txt").write_text(ran.out)
    (root / "err.txt").write_text(ran.err)
    return root


@pytest.fixture
def climbed(first: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """There, with that cache."""
    monkeypatch.setenv("ANMOK_CACHE", str(first / "cache"))
    monkeypatch.chdir(first)
    return first


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return content


def visible(folder: Path) -> str:
    """The words of the page."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", "", page, flags=re.DOTALL).split())


def test_a_climb_writes_its_report_and_says_where(climbed: Path) -> None:
    written = sorted(path.relative_to(climbed).as_posix() for path in (climbed / "report").rglob("*"))
    assert [name for name in written if not name.endswith("head.safetensors")] == [
        "report/best",
        "report/best/anmok.toml",
        "report/index.html",
        "report/predictions.parquet",
        "report/report.json",
    ]
    said = (climbed / "err.txt").read_text()
    assert said == "note: the report is in report/index.html; the winner in report/best\n"
    outcome = report(climbed / "report")
    assert outcome["data"]["title"] == "many"
    assert outcome["data"]["counts"] == [52, 52]
    assert not outcome["is_development"]
    assert outcome["reproduce"] == "anmok ladder many --model fake"
    assert outcome["follow_up"] == f"anmok classify new.jpg --head {Path('report') / 'best'}"
    assert outcome["honesty"]["openings"] == 1
    assert [step["key"] for step in outcome["steps"]] == ["0a", "0b", "1", "2", "3"]
    page = (climbed / "report" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href|url)\W{1,2}http", page) == []  # it opens without a network


def test_the_terminal_and_the_page_say_the_same_verdict(climbed: Path) -> None:
    printed = " ".join((climbed / "out.txt").read_text().split())
    assert printed.partition(". ")[0] in visible(climbed / "report")
    best = next(step for step in report(climbed / "report")["steps"] if step["key"] == "0a")
    assert f"{100 * best['accuracy']['value']:.1f} %" in printed


def test_the_winner_answers_as_it_was_measured(climbed: Path) -> None:
    chosen = report(climbed / "report")["recommendation"]["key"]
    rows = pq.read_table(climbed / "report" / "predictions.parquet").to_pylist()
    measured = {f"many/{row['image']}": row["pred"] for row in rows if row["rung"] == chosen and row["shots"] <= 0}
    answers = answered("classify", *measured, "--head", "report/best")
    assert {row["image"]: row["label"] for row in answers} == measured
    assert len(measured) == report(climbed / "report")["data"]["test"]


def test_the_same_climb_again_is_a_replay(climbed: Path) -> None:
    fine("ladder", "many", "--model", "fake", "--out", "second")
    one, two = report(climbed / "report"), report(climbed / "second")
    assert (one["honesty"]["is_replay"], two["honesty"]["is_replay"]) == (False, True)
    assert two["honesty"]["openings"] == one["honesty"]["openings"] == 1
    assert two["plan_hash"] == one["plan_hash"]
    assert two["recommendation"] == one["recommendation"]
    accuracies = [[step["accuracy"] for step in report["steps"]] for report in (one, two)]
    assert accuracies[0] == accuracies[1]
    [ledger] = (climbed / "cache" / "ledger").iterdir()
    assert len(ledger.read_text().splitlines()) == 1


def test_a_korean_report_is_korean(here: Path) -> None:
    write(here, {"photos/green": None})
    ran = fine(*typed("ladder photos --lang ko"))
    assert "경고" not in ran.out
    assert "개발 단계 추정치" in ran.out
    assert ENGLISH.findall(ran.out) == []
    assert ran.lines[0] == "warning: 빈 클래스를 뺐습니다: green"
    page = (here / "report" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="ko"' in page
    assert len(re.findall("[가-힣]", page)) > 500
    assert ENGLISH.findall(visible(here / "report")) == []
    assert report(here / "report")["data"]["warnings"][0] == "empty class left out: green"  # data stay English


def test_json_is_the_report_s(here: Path) -> None:
    printed = answered(*typed("ladder photos"))
    assert printed == report(here / "report")


def test_a_table_of_labels_and_own_sentences(here: Path) -> None:
    rows = [f"{name};{'빨강' if name.startswith('red') else '파랑'}" for name in NAMES]
    write(here, {"l.csv": "\n".join(["file;class", *rows])})
    write(here, {"d.csv": 'label,sentence\n빨강,"something red, or warm"\n빨강,a red thing\n파랑,something blue\n'})
    fine(*typed("ladder photos --labels l.csv --descriptions d.csv"))
    outcome = report(here / "report")
    assert outcome["data"]["classes"] == ["빨강", "파랑"]
    steps = {step["key"]: step for step in outcome["steps"]}
    assert steps["0c"]["accuracy"]["value"] == 1.0
    assert steps["0c"]["labels"] == 0


def test_an_own_test_folder(here: Path) -> None:
    write(here, {"test/red/x.png": RED[0], "test/blue/y.png": BLUE[0], "test/blue/z.png": BLUE[1]})
    fine(*typed("ladder photos --test test"))
    data = report(here / "report")["data"]
    assert (data["pool"], data["test"]) == (5, 3)
    rows = pq.read_table(here / "report" / "predictions.parquet").to_pylist()
    assert {Path(row["image"]).name for row in rows} == {"x.png", "y.png", "z.png"}


def test_a_folder_without_labels_gets_a_first_look(here: Path) -> None:
    write(here, {"flat/1.png": RED[0], "flat/2.png": BLUE[0], "flat/3.png": BLUE[1]})
    ran = fine(*typed("ladder flat --classes red,blue"))
    assert ran.out.startswith("fake sorted 3 images without labels into 2 classes")
    assert "blue 2, red 1" in ran.out
    written = sorted(path.name for path in (here / "report").iterdir())
    assert written == ["index.html", "label_me.csv", "label_more.csv", "predictions.parquet", "report.json"]
    rows = pq.read_table(here / "report" / "predictions.parquet").to_pylist()
    assert [(row["image"], row["pred"]) for row in rows] == [("1.png", "red"), ("2.png", "blue"), ("3.png", "blue")]
    korean = fine(*typed("ladder flat --classes 빨강,파랑 --lang ko"))
    assert korean.out.startswith("fake가 라벨 없는 이미지 3장을")


def test_a_first_look_takes_own_sentences(here: Path) -> None:
    write(here, {"flat/1.png": RED[0], "flat/2.png": BLUE[0], "d.csv": "a,a blue thing\nb,a red thing\n"})
    seen = answered(*typed("ladder flat --classes a,b --descriptions d.csv"))
    assert [row["label"] for row in seen["predictions"]] == ["b", "a"]


def test_the_environment_stands_in_for_options(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODEL": "fake", "OUTPUT": "elsewhere", "SEED": "5", "MARGIN": "0.02"}.items():
        monkeypatch.setenv(f"ANMOK_LADDER_{name}", value)
    fine("ladder", "photos", "--margin", "0.03")
    outcome = report(here / "elsewhere")
    assert (outcome["model"], outcome["seed"], outcome["margin"]) == ("fake", 5, 0.03)  # what is typed goes before
    monkeypatch.setenv("ANMOK_LADDER_LANG", "fr")
    assert anmok("ladder", "photos").err == "error: --lang fr: want en or ko\n"


def test_a_licence_can_be_accepted_by_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert anmok("ladder", "--demo", "solar", "--model", "fake").code == 5
    monkeypatch.setenv("ANMOK_ACCEPT_LICENCES", "elpv")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert anmok("ladder", "--demo", "solar", "--model", "fake").code == 7  # past the gate; there is no network


def test_the_size_limit_can_be_set_by_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_PIXELS", "100")
    ran = anmok(*typed("ladder photos"))
    assert ran.code == 3
    assert "is over the limit of 100 pixels" in ran.err


def test_the_digits_demo_needs_no_network(here: Path) -> None:
    """Found, written and read; the climb itself, on 1,797 images, is not this test's matter."""
    ran = anmok("ladder", "--demo", "digits", "--model", "fake", "--margin", "7")
    assert ran.lines[0].startswith("note: handwritten digits (scikit-learn): 1,797 images, licence CC BY 4.0")
    assert ran.code == 2
    assert len(list((here.parent / "cache" / "demos" / "digits").glob("*.png"))) == 1797


# Audit -----------------------------------------------------------------------------------------------------


@pytest.fixture
def predictions(here: Path) -> Path:
    """Eight test images; all are called red."""
    rows = [f"{name},{name.split('/')[0]},red,test" for name in NAMES]
    write(here, {"p.csv": "\n".join(["image,label,pred,split", *rows])})
    return here / "p.csv"


@pytest.mark.parametrize(
    ("gate", "code"),
    [("accuracy>=0.5", 0), ("accuracy>0.5", 10), ("lower(accuracy)>=0.1", 0), ("balanced_accuracy>=51%", 10)],
)
def test_a_gate_decides_the_exit_code(predictions: Path, gate: str, code: int) -> None:
    ran = anmok("audit", "photos", "p.csv", "--require", gate, "--out", "v/verdict.json")
    assert ran.code == code
    assert code in (0, GateFailed.exit_code)
    assert ran.lines[0] == "note: verdict in v/verdict.json"
    assert len(ran.lines) == (1 if code == 0 else 2)
    verdict = json.loads((predictions.parent / "v" / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["required"][0]["is_met"] is (code == 0)
    assert verdict["claimed"] == 0.5
    assert [path.name for path in (predictions.parent / "v").iterdir()] == ["verdict.json"]


def test_an_audit_needs_no_images_and_speaks_korean(predictions: Path) -> None:
    english, korean = (fine("audit", "p.csv", "--lang", lang).out for lang in ("en", "ko"))
    assert english.startswith("Cannot tell")
    assert len(re.findall("[가-힣]", korean)) > 50
    assert answered("audit", "p.csv")["verdict"] == "CANNOT TELL"


def test_an_audit_of_the_ladder_s_own_predictions(climbed: Path) -> None:
    """What one command writes the other reads."""
    table = pq.read_table(climbed / "report" / "predictions.parquet")
    mask = [row["rung"] == "2" and row["shots"] == -1 for row in table.to_pylist()]
    pq.write_table(table.filter(mask).select(["image", "label", "pred"]), climbed / "rung2.parquet")
    step = next(one for one in report(climbed / "report")["steps"] if one["key"] == "2")
    assert answered("audit", "many", "rung2.parquet")["claimed"] == pytest.approx(step["accuracy"]["value"], abs=1e-6)
    assert library.load(str(climbed / "report" / "best")).card.name == "fake"
