"""Input that is odd but usable, a disk that fills up, and books that were damaged: what is said, and what is left."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anmok.errors import BadData, CannotWrite
from command_line import BLUE, PHOTOS, RED, Files, anmok, contents, first_climb, stand, typed, write

REPORT = ["best", "best/anmok.toml", "index.html", "predictions.parquet", "report.json"]
NAMES = sorted(name.removeprefix("photos/") for name in PHOTOS)
LABELLED = ["image,label", *(f"{name},{name.split('/')[0]}" for name in NAMES)]
TINY = "labelled images are too few to seal a test set: development estimates only"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stand(tmp_path, monkeypatch)
    write(folder, PHOTOS)
    return folder


def report(here: Path, name: str = "report") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((here / name / "report.json").read_text(encoding="utf-8"))
    return content


def listed(folder: Path) -> list[str]:
    """Without the head of a rung that learned something."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return [name for name in found if name != "best/head.safetensors"]


@pytest.mark.parametrize(
    ("line", "files", "counts", "warnings"),
    [
        pytest.param(
            "ladder photos",
            {"photos/green": None},
            {"red": 4, "blue": 4},
            ["empty class left out: green"],
            id="empty class",
        ),
        pytest.param(
            "ladder few",
            {"few/red/1.png": RED[0], "few/blue/2.png": BLUE[0]},
            {"red": 1, "blue": 1},
            [f"2 {TINY}", "one image only to learn from: blue, red"],
            id="one image per class",
        ),
        pytest.param(
            "ladder photos",
            {"photos/red/a.png": RED[0][:60], "photos/blue/b.png": b""},
            {"red": 4, "blue": 4},
            ["2 images cannot be read and are left out; the first: b.png: the file is empty"],
            id="some files corrupt",
        ),
        pytest.param(
            "ladder photos",
            {"photos/blue/copy.png": RED[0]},
            {"red": 3, "blue": 4},
            ["the same image under two labels, left out: blue/copy.png, red/05.png"],
            id="one image under two labels",
        ),
        pytest.param(
            "ladder photos",
            {"photos/green/copy.png": RED[0]},
            {"red": 3, "blue": 4},
            ["classes without a usable image left out: green"],
            id="a class of stolen images alone",
        ),
        pytest.param(
            "ladder photos --labels l.csv",
            {"l.csv": "\n".join([*LABELLED[:-1], "ghost.png,red", LABELLED[1]])},
            {"red": 3, "blue": 4},
            ["labels of absent files left out: 1, such as ghost.png", "images without a label left out: 1"],
            id="labels of absent files, images without labels, a line twice",
        ),
        pytest.param(
            "ladder photos --labels l.csv",
            {"l.csv": "\n".join([*LABELLED, "red/05.png,blue"])},
            {"red": 3, "blue": 4},
            ["the same image under two labels, left out: red/05.png, red/05.png"],
            id="one file with two labels in the table",
        ),
        pytest.param(
            "ladder photos --labels l.csv",
            {"l.csv": "\ufeff" + "\r\n".join(LABELLED).replace("/", "\\").replace(",", ";") + "\r\n;\r\n"},
            {"red": 4, "blue": 4},
            [f"8 {TINY}"],
            id="a table as Excel writes it",
        ),
        pytest.param(
            "ladder photos --labels l.csv",
            {"photos/one.png": RED[3], "l.csv": "\n".join([*LABELLED, "/data/old/one.png,red"])},
            {"red": 5, "blue": 4},
            [f"9 {TINY}"],
            id="a table written for another folder",
        ),
        pytest.param(
            "ladder photos --labels l.csv",
            {"l.csv": "\n".join([*LABELLED, "blue/99/05.png,red"])},
            {"red": 4, "blue": 4},
            ["labels of absent files left out: 1, such as blue/99/05.png"],
            id="a file that another line names is not taken for an absent one",
        ),
    ],
)
def test_odd_but_usable(here: Path, line: str, files: Files, counts: Mapping[str, int], warnings: list[str]) -> None:
    write(here, files)
    ran = anmok(*typed(line))
    assert ran.code == 0, ran.err
    said = [text.removeprefix("warning: ") for text in ran.lines if text.startswith("warning: ")]
    assert [text for text in warnings if text not in said] == [], ran.err
    data = report(here)["data"]
    assert dict(zip(data["classes"], data["counts"], strict=True)) == counts
    assert data["warnings"] == said
    assert listed(here / "report") == REPORT


def test_a_report_among_the_photos_is_no_class(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands in the folder of the photos and names none gets the report in there."""
    monkeypatch.chdir(here / "photos")
    for _ in range(2):
        ran = anmok(*typed("ladder ."))
        assert ran.code == 0
        assert "empty class" not in ran.err
    data = report(here / "photos")["data"]
    assert (data["title"], data["classes"]) == ("photos", ["blue", "red"])


def test_own_groups_stay_together_and_an_image_without_one_stands_alone(here: Path) -> None:
    rows = [f"{name},{name.split('/')[0]},{'ab'[i % 2] if i < 4 else ''}" for i, name in enumerate(NAMES)]
    write(here, {"l.csv": "\n".join(["image,label,group", *rows])})
    assert anmok(*typed("ladder photos --labels l.csv")).code == 0
    assert report(here)["data"]["groups"] == 2 + 4


def test_own_groups_stay_together_beside_an_own_test_folder(here: Path) -> None:
    write(here, {f"test/{name}": data for name, data in (("red/1.png", RED[3]), ("blue/1.png", BLUE[3]))})
    rows = [f"{name},{name.split('/')[0]},{name[0]}" for name in NAMES if "35" not in name]
    write(here, {"l.csv": "\n".join(["image,label,group", *rows])})
    ran = anmok(*typed("ladder photos --labels l.csv --test test"))
    assert ran.code == 0, ran.err
    data = report(here)["data"]
    assert (data["pool"], data["test"], data["groups"]) == (6, 2, 2 + 2)


def test_an_unlabelled_folder_says_what_it_could_not_read(here: Path) -> None:
    write(here, {"flat/a/1.png": RED[0], "flat/a/2.png": b"no picture", "flat/b/3.png": BLUE[0]})
    ran = anmok(*typed("ladder flat --classes red,blue --json"))
    assert ran.code == 0
    assert ran.lines == ["warning: 1 images cannot be read and are left out; the first: a/2.png"]
    answers = json.loads(ran.out)
    assert {row["image"]: row["label"] for row in answers["predictions"]} == {"a/1.png": "red", "b/3.png": "blue"}
    assert answers["unread"] == ["a/2.png"]


def test_ten_thousand_labels_are_answered_at_once(here: Path) -> None:
    labels = ",".join(["red", *map(str, range(9_999))])
    ran = anmok("classify", "photos/red/05.png", "--labels", labels, "--model", "fake", "--json")
    assert ran.code == 0
    scores = json.loads(ran.out)[0]["scores"]
    assert len(scores) == 10_000
    assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-3)


def test_names_and_labels_are_printed_as_they_are(here: Path) -> None:
    """Square brackets are no markup, colons no emoji, and an escape cannot colour the terminal."""
    write(here, {"[red]/a\x1b[31m.png": RED[0], "[red]/b.png": b"no"})
    ran = anmok(*typed("classify [red] --labels [red],:cat:"))
    assert ran.code == 0
    assert ran.out.split() == ["[red]/a\\x1b[31m.png", "[red]", "[red]", "1.000", ":cat:", "0.000"]
    assert ran.err.startswith("warning: [red]/b.png: not an image")


# State that was damaged ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with enough photos for a sealed test set, the cache of a first climb beside it."""
    root = tmp_path_factory.mktemp("opened")
    first_climb(root)
    return root


@pytest.mark.parametrize("line", [b'{"plan": "5', b'{"model": "fake"}'], ids=["cut short", "without its plan"])
def test_a_damaged_ledger_is_not_read_past(here: Path, opened: Path, line: bytes) -> None:
    """How often a test set was opened is not guessed, and the climb that meets the damage writes no verdict."""
    shutil.copytree(opened / "cache", here.parent / "cache", dirs_exist_ok=True)
    [ledger] = (here.parent / "cache" / "ledger").iterdir()
    ledger.write_bytes(line + b"\n" + ledger.read_bytes())
    before = contents(here.parent)
    ran = anmok("ladder", opened / "many", "--model", "fake", "--out", "report")
    assert (ran.code, len(ran.lines)) == (BadData.exit_code, 1)
    assert f"{ledger}: line 1 is damaged" in ran.err
    assert "mend the line, or delete it" in ran.err
    assert contents(here.parent) == before


def test_a_damaged_cache_of_features_is_named(here: Path) -> None:
    cache = here.parent / "cache" / "features.sqlite"
    cache.write_bytes(b"damaged " * 1000)
    ran = anmok(*typed("ladder photos"))
    assert (ran.code, len(ran.lines)) == (BadData.exit_code, 1)
    assert f"{cache} is damaged (file is not a database); delete it" in ran.err
    assert not (here / "report").exists()


def test_a_cache_that_cannot_be_made_names_the_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, {"file": "mine"})
    monkeypatch.setenv("ANMOK_CACHE", str(here / "file" / "cache"))
    ran = anmok(*typed("ladder photos"))
    assert (ran.code, len(ran.lines)) == (CannotWrite.exit_code, 1)
    assert "the cache cannot be written" in ran.err
    assert "set ANMOK_CACHE" in ran.err
    assert not (here / "report").exists()


# A disk that fills up --------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_above(limit: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow further, as a full disk does; root is not spared."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (0, ("the cache cannot be written", "free space there or set ANMOK_CACHE")),
        (40_000, ("cannot write report/", "File too large")),
    ],
)
def test_a_disk_that_fills_up_leaves_whole_files_or_none(here: Path, limit: int, says: tuple[str, str]) -> None:
    assert anmok(*typed("ladder photos --out first")).code == 0  # now all features are in the cache
    with no_file_above(limit):
        ran = anmok(*typed("ladder photos"))
    assert ran.code == CannotWrite.exit_code
    assert ran.out == ""
    assert [part for part in says if part not in ran.lines[-1]] == []
    whole = {path.name: path.stat().st_size for path in (here / "first").iterdir() if path.is_file()}
    left = listed(here / "report") if (here / "report").exists() else []
    assert [name for name in left if whole[name] > limit] == []
    assert list(here.parent.rglob("*.part*")) == []


def test_vectors_that_do_not_fit_on_the_disk_leave_the_old_ones(here: Path) -> None:
    assert anmok(*typed("embed photos -o v.parquet")).code == 0
    before = contents(here)
    with no_file_above(500):
        ran = anmok(*typed("embed photos/red -o v.parquet"))
    assert ran.code == CannotWrite.exit_code
    assert "cannot write v.parquet" in ran.err
    assert "File too large" in ran.err
    assert contents(here) == before


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="other systems have no file that root cannot read")
def test_what_nobody_foresaw_of_the_disk_is_one_line_too(here: Path) -> None:
    write(here, {"g.csv": Path("/proc/self/mem"), "p.csv": "image,label,pred\na.png,red,red\n"})
    ran = anmok("audit", "p.csv", "--groups", "g.csv")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert ran.err.startswith("error: ")
    assert "Input/output error" in ran.err
