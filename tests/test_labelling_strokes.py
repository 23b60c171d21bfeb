"""The file of strokes: nothing that was acknowledged is lost, whoever is killed, and who writes at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anmok.errors import BadData, BadRequest, CannotWrite
from anmok.labelling import LabelSession
from anmok.labelling.strokes import StrokeFile
from labelled_numbers import LABELS, drawn, labelled, truth_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Treat as read-only."""
    return drawn(tmp_path_factory.mktemp("labelling") / "photos")


KILLED = """
import sys
from pathlib import Path
from anmok.labelling import LabelSession
session = LabelSession.open(Path(sys.argv[1]), ("red", "blue"), store=Path(sys.argv[2]), model=None)
while True:
    [task] = session.next()
    session.answer(task, "red", seconds=1.0)
    print(task.id, flush=True)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(pictures: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(pictures), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [child.stdout.readline().strip() for _ in range(25)]
    child.send_signal(signal.SIGKILL)
    told += child.stdout.read().split()
    child.stdout.close()
    child.wait()
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        assert {session._photos.ids[i] for i in session._book.verdicts()} >= set(told)
        assert session.next()[0].id not in told


@pytest.mark.parametrize("cut", [1, 30, 80])
def test_a_torn_line_is_told_of_and_costs_no_other(pictures: Path, tmp_path: Path, cut: int) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        done = labelled(session, 5, truth_of)
    path = tmp_path / "strokes.jsonl"
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: len(whole) - len(last) + cut])
    for _ in range(2):  # the second opening finds what the first has noted
        with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
            assert session.verdict().torn == 1
            assert [task.id for task in session.next(1)] == [done[-1].id]
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        labelled(session, 1, truth_of)
        assert path.read_bytes().startswith(whole[: len(whole) - len(last) + cut])  # never rewritten
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        assert len(session._book.verdicts()) == 5


def test_a_line_without_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "strokes.jsonl"
    path.write_bytes(b'{"do": "begin", "format": 1}\n{"do": "answer"}')
    file = StrokeFile(path, {})
    assert file.append([{"do": "undo"}]) == [{"do": "answer"}, {"do": "undo"}]
    assert file.torn == 0
    file.close()


def test_damage_among_acknowledged_lines_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "strokes.jsonl"
    path.write_bytes(b'{"do": "begin", "format": 1}\n{"do": "ans\n{"do": "undo"}\n')
    with pytest.raises(BadData, match="line 2 is damaged"):
        StrokeFile(path, {})
    path.write_bytes(b"hello")
    with pytest.raises(BadData, match="no file of strokes"):
        StrokeFile(path, {})
    assert path.read_bytes() == b"hello"


WRITER = """
import sys
from pathlib import Path
from anmok.labelling.strokes import StrokeFile
file = StrokeFile(Path(sys.argv[1]), {"kind": "test"})
for i in range(100):
    file.append([{"do": "answer", "who": sys.argv[2], "i": i, "filler": "x" * (i * 37 % 5000)}])
"""


def test_two_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "strokes.jsonl"
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), who]) for who in "ab"]
    assert [child.wait() for child in children] == [0, 0]
    file = StrokeFile(path, {"kind": "test"})
    lines = file.read()
    file.close()
    assert file.torn == 0
    for who in "ab":
        assert [line["i"] for line in lines if line["who"] == who] == list(range(100))
    assert len(lines) == 200


def test_two_sessions_on_one_store_see_each_other(pictures: Path, tmp_path: Path) -> None:
    with (
        LabelSession.open(pictures, LABELS, store=tmp_path, by="a", model=None) as one,
        LabelSession.open(pictures, LABELS, store=tmp_path, by="b", model=None) as other,
    ):
        done = {task.id for task in labelled(one, 30, truth_of)}
        shared = {one._photos.ids[i] for i in one._streams.shared}
        fresh = {task.id for task in other.next(10)}
        assert fresh & done <= shared
        labelled(other, 10, truth_of)
        assert one.verdict() == other.verdict()


def test_a_full_disk_keeps_the_state_as_it_was(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        [task] = session.next()
        write = os.write

        def half(descriptor: int, data: bytes) -> int:
            if len(data) > 20:
                return write(descriptor, data[:20])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(CannotWrite, match="free some space"):
            session.answer(task, "red")
        monkeypatch.setattr(os, "write", write)
        assert session.next()[0] == task
        session.answer(task, "blue")
        assert session.verdict().teach == {"red": 0, "blue": 1}
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        assert session.verdict().teach == {"red": 0, "blue": 1}
        assert session.verdict().torn == 1


def test_undo_takes_back_one_after_the_other(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        first, second = labelled(session, 2, lambda task: "red")
        session.answer(first, "blue")  # a correction
        assert session.verdict().teach == {"red": 1, "blue": 1}
        assert session.undo() == first
        assert session.verdict().teach == {"red": 2, "blue": 0}
        assert session.undo() == second
        assert session.next(2)[0] == second  # comes back before all others
        assert session.undo() == first
        assert session.next(2) == [first, second]
        assert session.verdict().teach == {"red": 0, "blue": 0}
        with pytest.raises(BadRequest, match="nothing to undo"):
            session.undo()
        labelled(session, 1, lambda task: "red", by="b")
        with pytest.raises(BadRequest, match="nothing to undo: a"):
            session.undo(by="a")  # never another's
