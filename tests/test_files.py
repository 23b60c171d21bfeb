"""A file is there and whole, or not there at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from anmok.errors import CannotWrite
from anmok.files import discard, remove, write_beside, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_target_appears_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "out.json"
    with write_beside(target) as beside:
        assert beside.parent == target.parent
        assert beside.suffix == ".json"
        assert beside.name.startswith(".")
        beside.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(target.parent) == ["out.json"]


def test_a_failure_in_the_middle_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write() -> None:
        with write_beside(target) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_killed_process_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    code = (
        "import os, sys, pathlib; from anmok.files import write_beside\n"
        "with write_beside(pathlib.Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["out.txt"]


def test_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "안목.txt", "안목\nb\n")
    assert (tmp_path / "안목.txt").read_bytes() == b"\xec\x95\x88\xeb\xaa\xa9\nb\n"


def test_a_name_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    target = tmp_path / ("가" * 83 + ".jsonl")  # 255 bytes
    write_text(target, "x")
    assert target.read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "out.txt", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o640


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "report"
    target.mkdir()
    (target / "stale.txt").write_text("old")
    with write_beside(target, is_folder=True) as folder:
        assert list(folder.iterdir()) == []
        (folder / "new.txt").write_text("new")
    assert names(target) == ["new.txt"]
    assert names(tmp_path) == ["report"]


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    target = tmp_path / "report"
    target.write_text("a file")
    with write_beside(target, is_folder=True) as folder:
        (folder / "new.txt").write_text("new")
    assert names(target) == ["new.txt"]


@pytest.mark.parametrize("is_folder", [True, False])
def test_who_was_first_can_be_kept(tmp_path: Path, is_folder: bool) -> None:
    target = tmp_path / "shelf"
    with write_beside(target, is_folder=is_folder, keeps_first=True) as ours:
        with write_beside(target, is_folder=is_folder, keeps_first=True) as theirs:
            (theirs / "a" if is_folder else theirs).write_text("theirs")
        (ours / "a" if is_folder else ours).write_text("ours")
    assert (target / "a" if is_folder else target).read_text() == "theirs"
    assert names(tmp_path) == ["shelf"]


def test_many_writers_of_one_folder_leave_one_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "shelf"
    start = threading.Barrier(6)

    def write(number: int) -> None:
        start.wait()
        with write_beside(target, is_folder=True) as folder:
            for name in "abc":
                (folder / name).write_text(str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["shelf"]
    assert names(target) == ["a", "b", "c"]
    assert len({path.read_text() for path in target.iterdir()}) == 1


def test_a_parent_that_is_a_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    target = tmp_path / "file" / "below" / "out.txt"
    with pytest.raises(CannotWrite) as caught:
        write_text(target, "y", remedy="set SOMEWHERE")
    assert str(target) in str(caught.value)
    assert str(caught.value).endswith("; set SOMEWHERE")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk to try is a Linux device")
def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with write_beside(tmp_path / "out.bin") as beside, Path("/dev/full").open("wb", buffering=0) as full:
            beside.write_bytes(b"half")
            full.write(b"the other half")

    with pytest.raises(CannotWrite, match="No space left on device; free some space"):
        write()
    assert names(tmp_path) == []


def test_a_failure_to_read_is_not_a_failure_to_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_beside(tmp_path / "out.txt") as beside:
        beside.write_text((tmp_path / "absent.txt").read_text())
    assert names(tmp_path) == []


def test_remove_and_discard_take_what_is_there_and_bear_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "content").write_text("y")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("folder", "file", "absent"):
        discard(tmp_path / name)
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert names(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "content").read_text() == "y"
