"""The command line. Each command parses, calls the same functions as Python does, and prints."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from anmok import __version__
from anmok.cli.catalogue import doctor_command, info_command, models_command, pull_command
from anmok.cli.console import fail
from anmok.cli.marking import gaze_command, point_command
from anmok.cli.see import (
    depth_command,
    detect_command,
    matte_command,
    normals_command,
    parse_command,
    pose_command,
    segment_command,
)
from anmok.cli.use import classify_command, embed_command
from anmok.errors import AnmokError

app = typer.Typer(
    name="anmok",
    help="Image foundation models, measured on your own images.\n\nStart with: anmok ladder photos/",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "ANMOK", "help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""
    if debug:
        os.environ["ANMOK_DEBUG"] = "1"


def _register() -> None:
    from anmok.cli import card
    from anmok.cli.audit import audit_command
    from anmok.cli.chat import chat_command
    from anmok.cli.inspecting import inspect_command
    from anmok.cli.label import label_command
    from anmok.cli.ladder import ladder_command
    from anmok.cli.plan import plan_command
    from anmok.cli.search import search_command
    from anmok.cli.serve import serve_command
    from anmok.cli.synth import synth_command
    from anmok.cli.tokens import tokens_command
    from anmok.cli.track import track_command
    from anmok.cli.ui import ui_command

    catalogue = (models_command, info_command, doctor_command, pull_command)
    places = (detect_command, point_command, segment_command, track_command, depth_command, inspect_command)
    people = (pose_command, gaze_command, parse_command, normals_command, matte_command)
    measured = (ladder_command, audit_command, label_command, synth_command, tokens_command)
    for command in (
        *catalogue,
        classify_command,
        embed_command,
        search_command,
        chat_command,
        *places,
        *people,
        *measured,
        plan_command,
        serve_command,
        ui_command,
    ):
        name = command.__name__.removesuffix("_command")
        example = (command.__doc__ or "").partition("Example:")[2].strip()
        help_text = (command.__doc__ or "").partition("Example:")[0].strip()
        app.command(name, help=help_text, epilog=f"Example: {example}")(command)
    app.add_typer(card.app, name="card")


_register()


def main() -> None:
    """The entry point: an error of ours is one line on stderr and its own exit code."""
    for stream in (sys.stdout, sys.stderr):  # Hangul on a Windows console that is not UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        app()
    except AnmokError as error:
        fail(error)
    except BrokenPipeError:  # `anmok models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a disk or a permission, at a place where nobody could say more
        what = f"{error.filename}: " if error.filename is not None else ""
        fail(AnmokError(f"{what}{error.strerror or error}; anmok --debug shows where"))
