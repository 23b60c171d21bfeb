"""``anmok ui``: the page, over models and a folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anmok.cli.console import note

if TYPE_CHECKING:
    from anmok.server.settings import Settings

_PORT = 7860
_DRAIN_SECONDS = 5.0


def ui_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="A folder of pictures, then names of models; by default all that are here."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="127.0.0.1, or 0.0.0.0 with an API key.")] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = _PORT,
    is_shown: Annotated[bool, typer.Option("--open", help="Open the browser as well.")] = False,
    prefix: Annotated[str, typer.Option(help="The path that a proxy puts before ours, such as /tools/anmok.")] = "",
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=["ANMOK_API_KEY", "ANMOK_UI_API_KEY"], help="What visitors must give; better as ANMOK_API_KEY."
        ),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="For all models together: 12GB.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    accept_licence: Annotated[
        list[str] | None, typer.Option("--accept-licence", help="A licence, by its name.")
    ] = None,
) -> None:
    """Open the page: try models, label, audit and climb by looking rather than typing.

    Example: anmok ui photos/ mini
    """
    from anmok.cli.serve import runner

    run = runner()
    folder, names = parted(words or [])
    flags = {"host": host, "port": port, "memory": memory, "device": device, "accept_licences": accept_licence}
    settings = _settings({**flags, "lazy": True}, names, api_key, (folder, prefix))
    run(settings, lambda address: _announce(address, is_shown))


def parted(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder, where the first word is one, and the names of models.

    Raises:
        BadRequest: a path that is no folder.
    """
    from anmok.errors import BadRequest

    if not words:
        return None, []
    first = Path(words[0]).expanduser()
    if first.is_dir() and not (first / "anmok.toml").is_file():
        return first, list(words[1:])
    if words[0].endswith(("/", os.sep)):
        raise BadRequest(f"{words[0]}: no such folder")
    return None, list(words)


def _settings(
    flags: dict[str, Any], names: Sequence[str], api_key: str | None, page: tuple[Path | None, str]
) -> Settings:
    from dataclasses import replace

    from anmok.catalogue import cards
    from anmok.cli.catalogue import is_here
    from anmok.cli.serve import settings_of
    from anmok.errors import BadRequest
    from anmok.server.settings import PageSettings, Served

    settings = settings_of(None, flags, {}, api_key)
    chosen = [Served.of(name) for name in names] or [Served(one.name, one.name) for one in cards() if is_here(one)]
    if not chosen:
        raise BadRequest("no model's weights are here yet: anmok pull mini, or name one: anmok ui photos/ mini")
    folder, prefix = page
    seen = PageSettings("/", None if folder is None else str(folder), prefix.rstrip("/"))
    settings = replace(settings, models=tuple(chosen), page=seen, drain_seconds=_DRAIN_SECONDS)
    settings.check_open()
    return settings


def _announce(address: str, is_shown: bool) -> None:
    import webbrowser

    note(f"{address} shows the page; Ctrl-C ends it (process {os.getpid()})")
    if is_shown:
        webbrowser.open(address)
