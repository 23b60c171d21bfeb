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
from rich.text import Text

from anmok.errors import AnmokError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(error: AnmokError) -> NoReturn:
    """One line, the exit code of the error's class, and the traceback only where it was asked for."""
    if os.environ.get("ANMOK_DEBUG"):
        traceback.print_exception(error)
    _say("error:", "bold red", error)
    sys.exit(error.exit_code)


def note(text: object) -> None:
    _say("note:", "dim", text)


def warn(text: object) -> None:
    _say("warning:", "yellow", text)


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


def plain(text: object, style: str = "") -> Text:
    """Text as it is, on one line: no markup is read in the user's file names and labels, and a character that no
    terminal shows, such as the escape of a colour code, is written out."""
    return Text("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)), style)


def _say(kind: str, style: str, text: object) -> None:
    err.print(Text.assemble((kind, style), " ", plain(text)), soft_wrap=True)
