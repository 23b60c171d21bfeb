"""Which images to label next: by the head that the ladder wrote, into a table that the ladder reads again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

import anmok
from anmok.errors import BadData, BadRequest
from anmok.ladder import Plan, climb
from anmok.ladder.dataset import read, read_table
from anmok.ladder.next_labels import Chosen, Next, next_images, write_next
from anmok.load import Model
from command_line import anmok as command
from command_line import answered, fine
from drawn_defects import draw

PLAN = Plan("fake", shots=(1,), draws=1, rungs=("0a", "2"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``best``, a head that learned good and scratch; ``flat``, 80 other images without labels."""
    root = tmp_path_factory.mktemp("next")
    climb(read(draw(root / "taught", {"good": 90, "scratch": 90})), anmok.load("fake"), PLAN).best.write(root / "best")
    (root / "flat").mkdir()
    for path in sorted(draw(root / "new", {"good": 40, "scratch": 40}, seed=9).rglob("*.png")):
        shutil.copy(path, root / "flat" / f"{path.parent.name}-{path.name}")
    return root


@pytest.fixture
def head(root: Path) -> Model:
    return anmok.load(str(root / "best"))


def test_the_images_are_unlabelled_different_and_doubtful(root: Path, head: Model) -> None:
    paths = sorted((root / "flat").iterdir())
    scores = head.run(paths, anmok.Classify())
    everything = {path.name: one.score for path, one in zip(paths, scores, strict=True)}
    labelled = sorted(everything)[:10]
    chosen = next_images(root / "flat", head, labelled, 12)
    names = [one.image for one in chosen.images]
    assert len(set(names)) == 12
    assert set(names).isdisjoint(labelled)
    assert (chosen.unlabelled, chosen.unread) == (70, 0)
    for one in chosen.images:
        assert one.score == pytest.approx(everything[one.image], abs=1e-5)  # at the temperature that classify shows
    rest = [score for name, score in everything.items() if name not in names]
    assert sum(one.score for one in chosen.images) / 12 < sum(rest) / len(rest)  # surer of those that were left
    assert next_images(root / "flat", head, labelled, 12) == chosen


def test_a_folder_named_like_a_class_is_labelled(root: Path, head: Model, tmp_path: Path) -> None:
    shutil.copytree(root / "new" / "good", tmp_path / "all" / "good")
    with pytest.raises(BadData, match="nothing to choose from"):
        next_images(tmp_path / "all", head)
    shutil.copytree(root / "new" / "scratch", tmp_path / "all" / "later")
    assert {one.image.split("/")[0] for one in next_images(tmp_path / "all", head, count=5).images} == {"later"}


def test_the_table_is_filled_in_and_read_by_the_ladder(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    write_next(Chosen((Next("a,b.png", "good", 0.5124),), 1, 0), table)
    assert list(csv.reader(table.read_text().splitlines())) == [
        ["image", "label", "stream", "guess", "score"],
        ["a,b.png", "", "teach", "good", "0.512"],
    ]
    table.write_text(table.read_text().replace(",,teach", ",scratch,teach"))
    [row] = read_table(table)
    assert (row.image, row.label, row.is_test) == ("a,b.png", "scratch", False)
    with pytest.raises(BadRequest, match="may hold labels"):
        write_next(Chosen((), 0, 0), table)


def test_the_command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = fine("label", "next", str(root / "flat"), "--head", str(root / "best"), "--count", "7")
    assert len(ran.out.splitlines()) == 7
    assert "must never estimate an accuracy" in ran.err
    assert len((tmp_path / "label_next.csv").read_text().splitlines()) == 8
    rows = answered(
        "label", "next", str(root / "flat"), "--head", str(root / "best"), "--count", "3", "-o", "other.csv"
    )
    assert [set(row) for row in rows] == [{"image", "guess", "score"}] * 3
    again = command("label", "next", str(root / "flat"), "--head", str(root / "best"))
    assert again.code != 0
    assert "is there already" in again.err
    assert "report/best" in command("label", "next", str(root / "flat")).err


def test_a_model_without_a_head_cannot_choose(root: Path) -> None:
    with pytest.raises(BadRequest, match="has no head"):
        next_images(root / "flat", anmok.load("fake"))
