"""``python -m benchmarks chat``: every runtime at every prompt, in turn, several times over."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chat import whole
from benchmarks.chat.asking import Answer, Silent, Worker, started
from benchmarks.chat.files import path
from benchmarks.chat.peers import GGUF, RUNTIMES, VLM, install
from benchmarks.chat.prompts import Prompts, tokenizer
from benchmarks.chat.tables import printed
from benchmarks.serve.environments import NotInstalled


@dataclass(slots=True)
class Results:
    """All that was measured; ``answers`` by model, then runtime, then length of the prompt."""

    machine: str
    threads: int
    new: int
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, dict[int, list[Answer]]]] = field(default_factory=dict)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)  # by model, then runtime
    commands: dict[str, list[whole.Whole]] = field(default_factory=dict)  # `anmok chat`, by runtime
    missing: dict[str, str] = field(default_factory=dict)
    load_average: list[float] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> Results:
    """Everything, with a line on stderr for each step."""
    out = Results(_machine(), arguments.threads, arguments.new)
    for model in arguments.models:
        workers = _loaded(model, arguments, out)
        try:
            _rounds(model, workers, arguments, out)
        finally:
            for worker in workers:
                worker.end()
        _keep(out, arguments.json)
    if arguments.has_commands and GGUF in arguments.models:
        _commands(arguments, out)
        _keep(out, arguments.json)
    return out


def _keep(out: Results, to: Path | None) -> None:
    if to is not None:
        to.write_text(json.dumps(asdict(out), indent=1), encoding="utf-8")


def _commands(arguments: argparse.Namespace, out: Results) -> None:
    """Alone on the machine, for it has the threads to itself as well when it is typed."""
    for turn in range(-1, arguments.rounds):  # the first is not counted: it reads what the disk has cold
        for runtime in whole.RUNTIMES if turn % 2 == 0 else whole.RUNTIMES[::-1]:
            try:
                told = whole.asked(runtime, arguments.new, arguments.threads)
            except Silent as error:
                out.missing[f"anmok chat --runtime {runtime}"] = str(error)
                continue
            if turn >= 0:
                out.commands.setdefault(runtime, []).append(told)
        out.load_average.append(os.getloadavg()[0])
        _say(f"anmok chat: round {turn + 1} of {arguments.rounds}, load {out.load_average[-1]:.1f}")


def _loaded(model: str, arguments: argparse.Namespace, out: Results) -> list[Worker]:
    workers = []
    for runtime in RUNTIMES:
        if model not in runtime.models or runtime.name not in arguments.runtimes:
            continue
        name = f"{runtime.name}, {model}"
        try:
            out.versions[runtime.name] = install(runtime)
            out.notes[runtime.name] = runtime.note
            _say(f"{name}: loading")
            opened = path(runtime, model, out.versions[runtime.name])
            workers.append(started(runtime, opened, arguments.threads))
        except (NotInstalled, Silent) as error:
            out.missing[name] = str(error)
    return workers


def _rounds(model: str, workers: list[Worker], arguments: argparse.Namespace, out: Results) -> None:
    words = tokenizer()
    prompts = Prompts(words)
    found = out.answers.setdefault(model, {worker.runtime.name: {} for worker in workers})
    # Runtimes that take a picture with text alone add tokens of their own: what they say is no other's answer.
    same = [worker.runtime.name for worker in workers if model == GGUF or not worker.runtime.requirements]
    said: dict[str, list[Sequence[Any]]] = {name: [] for name in same}
    for turn in range(-1, arguments.rounds):  # the first is not counted
        for length in arguments.prompts:
            prompt = prompts.one(model, length, turn + 1, arguments.tiles)
            # The order turns round at every round, so that a machine that drifts favours nobody.
            for worker in workers if turn % 2 == 0 else workers[::-1]:
                try:
                    answer = worker.ask(prompt, arguments.new)
                except Silent as error:
                    out.missing[f"{worker.runtime.name}, {model}"] = str(error)
                    workers = [one for one in workers if one is not worker]
                    continue
                if turn >= 0:
                    found[worker.runtime.name].setdefault(len(prompt.ids), []).append(answer)
                    said.get(worker.runtime.name, []).append(answer.pieces)
        out.load_average.append(os.getloadavg()[0])
        _say(f"{model}: round {turn + 1} of {arguments.rounds}, load {out.load_average[-1]:.1f}")
    out.agreement[model] = _agreement(said, words)


def _agreement(said: dict[str, list[Sequence[Any]]], words: Any) -> dict[str, float]:
    """For each runtime the share of the answers that is, letter by letter from the start, that of transformers."""

    def text(pieces: Sequence[Any]) -> str:
        return "".join(pieces) if pieces and isinstance(pieces[0], str) else words.decode(pieces)

    if "transformers" not in said:
        return {}
    right = [text(pieces) for pieces in said["transformers"]]
    shares = {}
    for name, answers in said.items():
        same = [_shared(text(one), two) for one, two in zip(answers, right, strict=False)]
        shares[name] = sum(same) / max(1, sum(len(one) for one in right[: len(same)]))
    return shares


def _shared(one: str, two: str) -> int:
    """Letters that both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    kind = next((line.partition(": ")[2] for line in lines if "model name" in line), platform.machine())
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    told = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if flag in flags]
    return f"{os.cpu_count()} cores, {kind} ({', '.join(told)}), Python {platform.python_version()}"


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def command(given: Sequence[str]) -> None:
    """The command line."""
    names = [runtime.name for runtime in RUNTIMES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks chat", description=__doc__)
    parser.add_argument("--runtimes", type=_names, default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--models", type=_names, default=[GGUF, VLM])
    parser.add_argument(
        "--prompts", type=lambda text: [int(one) for one in _names(text)], default=[64, 512], help="tokens of text"
    )
    tiles = "of 512 pixels that a picture has, for the model that sees; llama.cpp shows it two: a slice, and the whole"
    parser.add_argument("--tiles", type=int, default=2, help=tiles)
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where all numbers go, after every model")
    parser.add_argument(
        "--no-commands", dest="has_commands", action="store_false", help="leave out `anmok chat` as a whole command"
    )
    arguments = parser.parse_args(given)
    if not set(arguments.runtimes) <= set(names) or not set(arguments.models) <= {GGUF, VLM} or arguments.new < 2:
        parser.error("unknown runtime or model, or an answer of less than two tokens")
    print(printed(run(arguments)))


__all__ = ["Results", "command", "run"]
