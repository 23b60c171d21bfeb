"""The program in a process of its own: what only the system can show, streams, signals and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from anmok.cli import main
from command_line import PHOTOS, write
from conftest import write_photos

COMMAND = [sys.executable, "-m", "anmok"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write(tmp_path, PHOTOS)
    return tmp_path


def environment(here: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "ANMOK_CACHE": str(here / "cache"), "TERM": "xterm-256color", **more}


def run(here: Path, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *words], cwd=here, env=environment(here, **more), capture_output=True, check=False, timeout=60
    )


def test_the_installed_program_is_this_one() -> None:
    [script] = entry_points(group="console_scripts", name="anmok")
    assert script.load() is main


def test_hangul_comes_out_as_utf8_where_the_system_says_ascii(here: Path) -> None:
    words = ("classify", "photos/red/05.png", "없다.png", "--labels", "고양이,개", "--model", "fake")
    ran = run(here, *words, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert ran.returncode == 0
    assert {"고양이", "개"} & set(ran.stdout.decode("utf-8").split())
    assert ran.stderr.decode("utf-8") == "warning: 없다.png: no such file\n"


def test_a_pipe_gets_no_colours_and_errors_their_exit_code(here: Path) -> None:
    helped, listed, failed = run(here, "--help"), run(here, "models"), run(here, "info", "minni")
    assert [ran.returncode for ran in (helped, listed, failed)] == [0, 0, 4]
    assert [ran.args for ran in (helped, listed, failed) if b"\x1b" in ran.stdout + ran.stderr] == []
    assert listed.stderr.startswith(b"note: sends: somebody else runs it")
    assert failed.stdout == b""
    assert failed.stderr.startswith(b"error: no model is called 'minni'; did you mean mini")


def test_a_reader_that_hangs_up_is_no_error_to_talk_about(here: Path) -> None:
    """As in `anmok models | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        ran = subprocess.run(
            [*COMMAND, "models"], stdout=pipe, stderr=subprocess.PIPE, env=environment(here), check=False, timeout=60
        )
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_an_interrupted_climb_leaves_no_report(here: Path) -> None:
    write_photos(here / "many", 150)
    words = ["ladder", "many", "--model", "fake"]
    # A shell that runs the tests in the background has its children ignore interrupts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=here, env=environment(here), stderr=subprocess.PIPE, preexec_fn=heeding
    )
    until = time.monotonic() + 60
    while not (here / "cache" / "features.sqlite").exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert not (here / "report").exists()
    assert not (here / "cache" / "ledger").exists()
    assert list(here.rglob("*.part*")) == []
