"""A folder with pictures for the commands that look, and what a command printed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, anmok, answered, fine, stand
from scenes import save, scene

LOOKING = ("detect", "point", "segment", "depth", "pose", "gaze", "parse", "normals", "matte")
FAKE = "--model fake-places"


@pytest.fixture(name="here")
def here_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``cat.png`` with two red squares and a blue one, and ``photos/`` with two pictures and one that is none."""
    folder = stand(tmp_path, monkeypatch)
    save(folder / "cat.png", scene(("red", 5, 5), ("blue", 40, 30), ("red", 30, 4)))
    save(folder / "photos" / "a.png", scene(("red", 20, 20)))
    save(folder / "photos" / "sub" / "나.png", scene())
    return folder


def run(line: str) -> Ran:
    return anmok(*shlex.split(line))


def good(line: str) -> Ran:
    return fine(*shlex.split(line))


def rows(line: str) -> Any:
    return answered(*shlex.split(line))
