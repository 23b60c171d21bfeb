"""What each runtime opens: the GGUF that the card names, or files of the random SmolVLM, made once in ``.bench/``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from benchmarks.chat.peers import GGUF, Runtime
from benchmarks.serve.environments import NotInstalled, home
from benchmarks.serve.peers import ROOT

_DONE = "made-by.txt"
_SECONDS = 1800  # seconds on a quiet machine


def path(runtime: Runtime, model: str, version: str) -> str:
    """For a worker's command line; ``version`` of the runtime, for another reads files that it made itself.

    Raises:
        NotInstalled: the files cannot be made; the message is the last line of what was said.
    """
    if model == GGUF:
        return str(vocabulary())
    if not runtime.requirements:
        return model
    module = "benchmarks.chat.gguf_shape"
    folder, made_by = home() / "chat-smolvlm-gguf", _source("shapes.py", "gguf_shape.py")
    _make(folder, made_by, [sys.executable, "-m", module, str(vocabulary()), str(folder)])
    if runtime.worker == "llamacpp":
        return str(folder)
    module, gguf = "benchmarks.chat.openvino_folder", folder / "text.gguf"
    folder, made_by = home() / "chat-smolvlm-openvino", f"{version}, {made_by}{_source('openvino_folder.py')}"
    site = sysconfig.get_path("purelib", vars={"base": str(runtime.python.parents[1])})
    _make(folder, made_by, [sys.executable, "-m", module, str(gguf), str(folder), site])
    return str(folder)


def vocabulary() -> Path:
    """The GGUF of SmolLM2, fetched where it is not there."""
    from anmok.catalogue import card
    from anmok.weights import fetch

    found = card(GGUF)
    return next(iter(fetch(found.source, licence=found.licence).values()))


def _source(*names: str) -> str:
    """A digest of the modules that write the files: whoever changes them gets new ones."""
    return sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in names)).hexdigest()[:16]


def _make(folder: Path, made_by: str, command: Sequence[str]) -> None:
    """By a command that writes into the folder, where it is not there or another made it."""
    done = folder / _DONE
    if not done.is_file() or done.read_text(encoding="utf-8") != made_by:
        shutil.rmtree(folder, ignore_errors=True)
        _run(command)
        done.write_text(made_by, encoding="utf-8")


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{command[2]} had not finished after {_SECONDS} s") from None
    if done.returncode:
        raise NotInstalled(f"{command[2]}: {(done.stderr.strip().splitlines() or ['ended without a word'])[-1][:200]}")
