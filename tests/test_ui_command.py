"""``anmok ui``: what its words mean, and the installed program once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anmok.cli.ui import parted
from anmok.errors import BadRequest
from command_line import anmok
from serving import RED_BOX, ask, until_ready


def test_the_first_word_is_a_folder_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "anmok.toml").write_text("")
    assert parted(["photos", "mini"]) == (Path("photos"), ["mini"])
    assert parted(["photos/"]) == (Path("photos"), [])
    assert parted(["mini", "sam"]) == (None, ["mini", "sam"])
    assert parted(["./best"]) == (None, ["./best"])
    assert parted([]) == (None, [])
    with pytest.raises(BadRequest, match=r"fotos/: no such folder"):
        parted(["fotos/", "mini"])


def test_a_misspelt_model_is_refused_before_anything_starts() -> None:
    ran = anmok("ui", "mimi", "--port", "0")
    assert ran.code == 4
    assert "did you mean mini" in ran.err


def test_the_program_shows_the_page_at_its_root(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED_BOX)
    command = [sys.executable, "-m", "anmok", "ui", str(tmp_path), "fake", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=os.environ)
    try:
        assert process.stderr is not None
        found = next(match for line in process.stderr if (match := re.search(r":(\d+) shows the page", line)))
        port = int(found[1])
        until_ready(port)
        assert ask(port, "GET", "/", accept_language="ko").headers["location"] == "ko/"
        assert "a.png" in ask(port, "GET", "/ko/").body.decode()
        assert ask(port, "GET", "/docs").status == 200  # the routes of the API beside it
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate(timeout=20)
