"""The command line inside this process, by the entry point that the installed program has; and folders to run it in."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.cli import main
from conftest import coloured, write_photos

Files = Mapping[str, bytes | str | Path | None]  # name -> content; a Path is linked to, None is a folder

# What a climb keeps on purpose: the features that it has computed, failure or not.
_KEPT = ("features.sqlite", "features.sqlite-wal", "features.sqlite-shm")


@dataclass(frozen=True)
class Ran:
    """How it ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of standard error."""
        return self.err.splitlines()


def anmok(*words: object) -> Ran:
    """Runs ``anmok words...``. The streams are no terminal and start out as ASCII, as in a pipe under ``LC_ALL=C``."""
    buffers = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(buffer, encoding="ascii", write_through=True) for buffer in buffers)
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["anmok", *map(str, words)])
        patch.setenv("ANMOK_DEBUG", "")  # `--debug` sets it for the rest of the process
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    said = [buffer.getvalue().decode() for buffer in buffers]
    assert isinstance(code, int)
    return Ran(code, *said)


def fine(*words: object) -> Ran:
    """The same, where nothing may go wrong."""
    ran = anmok(*words)
    assert ran.code == 0, ran.err
    return ran


def answered(*words: object) -> Any:
    """What ``anmok words... --json`` prints."""
    return json.loads(fine(*words, "--json").out)


def typed(line: str) -> list[str]:
    """The words of a command line, with the model that needs no weights."""
    words = shlex.split(line)
    has_model = words[0] in ("ladder", "classify", "embed", "search") and "--model" not in words
    return [*words, *(["--model", "fake"] if has_model else [])]


def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, ``here``, and a cache of its own beside it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


def first_climb(root: Path) -> Ran:
    """``many`` photos of two colours below the root, enough for a sealed test set; a ``cache``; and the ``report``."""
    write_photos(root / "many", 52, ("red", "blue"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(root / "cache"))
        patch.chdir(root)
        return fine("ladder", "many", "--model", "fake")


def write(here: Path, files: Files) -> None:
    """Makes them below ``here``."""
    for name, content in files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case None:
                path.mkdir()
            case Path():
                path.symlink_to(content)
            case str():
                path.write_text(content, encoding="utf-8")
            case _:
                path.write_bytes(content)


def contents(*roots: Path) -> dict[str, str]:
    """What every path below the roots holds: the digest of a file, the target of a link. The cache of features is
    left out."""
    return dict(entry for root in roots for entry in _entries(root))


def _entries(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            yield str(path), str(path.readlink())
        elif path.name not in _KEPT:
            yield str(path), hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def _png(colour: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    pillow.fromarray(coloured(colour, np.random.default_rng(seed))).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = ([_png(colour, 100 * i + place) for i in range(4)] for place, colour in enumerate(("red", "blue")))
# Both classes have the same file names, and those tell nothing.
PHOTOS: Files = {f"photos/{name}/{i}5.png": of[i] for name, of in (("red", RED), ("blue", BLUE)) for i in range(4)}
