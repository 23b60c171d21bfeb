"""Where the commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from anmok.errors import AnmokError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(error: AnmokError) -> NoReturn:
    """One line, the exit code of the error's class, and the traceback only where it was asked for."""
    if os.environ.get("ANMOK_DEBUG"):
        traceback.print_exception(error)
    err.print(f"[bold red]error:[/] {_escaped(error)}", soft_wrap=True)
    sys.exit(error.exit_code)


def note(text: str) -> None:
    err.print(f"[dim]note:[/] {_escaped(text)}", soft_wrap=True)


def warn(text: str) -> None:
    err.print(f"[yellow]warning:[/] {_escaped(text)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout, as it is: nothing wrapped, nothing coloured."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that follows ``report(done, total)``; nothing where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _escaped(text: object) -> str:
    return str(text).replace("[", "\\[")
