"""A runtime's process, loaded and waiting, and what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.chat.peers import Runtime
from benchmarks.chat.prompts import Prompt
from benchmarks.serve.environments import home
from benchmarks.serve.peers import ROOT

_PAUSE: Final = 0.05  # seconds, for which the threads of the one asked before may look for more work


class Silent(Exception):
    """A process ended, or said something that is no answer; the message is the last line of its log."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds to the first token, tokens a second after it, processor seconds a token after it, and what was said."""

    first: float
    rate: float
    cpu: float
    pieces: Sequence[Any]


@dataclass(slots=True)
class Worker:
    runtime: Runtime
    process: subprocess.Popen[str]
    log: Path
    answers: list[Answer] = field(default_factory=list)

    def ask(self, prompt: Prompt, new: int) -> Answer:
        """Raises:
        Silent: the process ended, or it read another number of tokens than the prompt has.
        """
        assert self.process.stdin is not None
        time.sleep(_PAUSE)
        try:
            self.process.stdin.write(json.dumps({**prompt.to_json(), "new": new}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Silent(_last(self.log)) from None
        told = json.loads(_line(self, "{"))
        if told["read"] != len(prompt.ids):
            raise Silent(f"it read {told['read']} tokens where the others read {len(prompt.ids)}")
        return Answer(told["first"], (new - 1) / told["rest"], told["rest_cpu"] / (new - 1), told["pieces"])

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it is over already
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def busy(threads: int) -> dict[str, str]:
    """What in a process's environment holds it to so many threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def started(runtime: Runtime, model: str, threads: int) -> Worker:
    """A process that has loaded the model.

    Raises:
        Silent: it ended before.
    """
    log = home() / f"chat-{runtime.name.replace(' ', '-')}.log"
    command = [str(runtime.python), "-m", f"benchmarks.chat.workers.{runtime.worker}_worker", model, str(threads)]
    environment = {**os.environ, **busy(threads), "HF_HUB_OFFLINE": "1"}
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*command, runtime.how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            env=environment,
        )
    worker = Worker(runtime, process, log)
    try:
        _line(worker, "ready")
    except Silent:
        worker.end()
        raise
    return worker


def _line(worker: Worker, start: str) -> str:
    """The next line that begins so; whatever a runtime prints besides is passed over."""
    assert worker.process.stdout is not None
    for line in worker.process.stdout:
        if line.startswith(start):
            return line
    raise Silent(_last(worker.log))


def _last(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "ended without a word"
