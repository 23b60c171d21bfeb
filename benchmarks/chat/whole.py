"""``anmok chat`` as it is typed: seconds from the start of its process to the first letter and to the last."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from benchmarks.chat.asking import Silent, busy
from benchmarks.chat.peers import GGUF
from benchmarks.serve.peers import ROOT

RUNTIMES = ("fastest", "torch")
_QUESTION = "Tell a long story about a boat and all the people who live on it."
_COUNT = re.compile(r"(\d+) tokens in.*?, (\d+) out")


@dataclass(frozen=True, slots=True)
class Whole:
    """Seconds since the start of the process, and how many tokens the prompt and the answer had."""

    first: float
    last: float
    tokens_in: int
    tokens_out: int


def asked(runtime: str, new: int, threads: int) -> Whole:
    """One question, answered and over.

    Raises:
        Silent: the command failed, or its answer ended before it had ``new`` tokens.
    """
    command = [sys.executable, "-m", "anmok", "chat", GGUF, _QUESTION, "--runtime", runtime, "--max-tokens", str(new)]
    return timed(command, {**os.environ, **busy(threads)}, new)


def timed(command: list[str], environment: dict[str, str], new: int) -> Whole:
    """As :func:`asked`, of any command that writes an answer, and on stderr how many tokens it had."""
    start = time.perf_counter()
    first = last = 0.0
    with tempfile.TemporaryFile() as errors:  # a pipe that nobody empties meanwhile would stop whoever fills it
        with subprocess.Popen(
            command, bufsize=0, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment
        ) as process:
            assert process.stdout is not None
            while process.stdout.read(65536):  # without a buffer: as much as is there, the moment that it is
                last = time.perf_counter() - start
                first = first or last
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
    found = _COUNT.search(said)
    if process.returncode or found is None:
        raise Silent((said.strip().splitlines() or ["ended without a word"])[-1][:200])
    if int(found[2]) != new:
        raise Silent(f"the answer ended after {found[2]} tokens, before the {new} that are measured")
    return Whole(first, last, int(found[1]), new)
