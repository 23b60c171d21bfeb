"""``anmok serve``: the models behind one server that speaks everybody's dialect."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anmok.cli.console import note

if TYPE_CHECKING:
    from anmok.server.settings import PageSettings, Settings

Models = Annotated[
    list[str] | None, typer.Argument(help="Names of models, folders of adapters or memories, or name=model.")
]


def serve_command(
    models: Models = None,
    all_local: Annotated[bool, typer.Option("--all-local", help="Every model whose weights are here.")] = False,
    config: Annotated[Path | None, typer.Option(help="A serve.toml; what is given beside it goes first.")] = None,
    host: Annotated[str | None, typer.Option(help="127.0.0.1, or 0.0.0.0 with an API key.")] = None,
    port: Annotated[int | None, typer.Option(help="8000; 0 takes a free one.")] = None,
    control_port: Annotated[int | None, typer.Option(help="Load, unload and drain, for this machine alone.")] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=["ANMOK_API_KEY", "ANMOK_SERVE_API_KEY"], help="What callers must send; better as ANMOK_API_KEY."
        ),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="For all models together: 12GB.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    workers: Annotated[str | None, typer.Option(help="thread, or process: each model in one of its own.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="vllm://host:8000 and the like, for chat.")] = None,
    allow_urls: Annotated[bool | None, typer.Option("--allow-urls", help="Open public addresses of images.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Another name of this server.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="Pages of this origin may ask.")] = None,
    lazy: Annotated[bool | None, typer.Option("--lazy", help="Load a model when it is first asked.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Items in one batch.")] = None,
    max_wait: Annotated[float | None, typer.Option(help="Seconds of work that may wait for a model; then 429.")] = None,
    max_queue: Annotated[int | None, typer.Option(help="Items that may wait, over all models.")] = None,
    ui: Annotated[bool | None, typer.Option("--ui", help="The page too, at /ui.")] = None,
    folder: Annotated[Path | None, typer.Option(help="The only folder that the page may read.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    accept_licence: Annotated[
        list[str] | None, typer.Option("--accept-licence", help="A licence, by its name.")
    ] = None,
) -> None:
    """Serve models over HTTP, for clients of Hugging Face, OpenAI, Open Inference, Label Studio, and our own.

    Example: anmok serve mini --port 8000
    """
    run = runner()
    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "control_port": control_port,
        "memory": memory,
        "device": device,
        "dtype": dtype,
        "workers": workers,
        "engines": engine,
        "allow_urls": allow_urls,
        "hosts": allow_host,
        "origins": allow_origin,
        "lazy": lazy,
        "logs": log_format,
        "accept_licences": accept_licence,
    }
    limits = {"batch_items": max_batch_size, "queue_items": max_queue, "queue_seconds": max_wait}
    settings = settings_of(config, flags, limits, api_key)
    settings = _with_models(settings, models or [], is_all=all_local)
    if ui or folder is not None:
        settings = replace(settings, page=_page(folder))
    _check(settings)
    run(settings, lambda address: _announce(address, settings))


def runner() -> Callable[[Settings, Callable[[str], None]], None]:
    """What runs a server.

    Raises:
        MissingDependency: the packages of a server are not installed.
    """
    from anmok.errors import MissingDependency

    try:
        from anmok.server.running import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("anmok"):
            raise
        raise MissingDependency(f"serve needs the package {error.name}: pip install 'anmok[serve]'") from None
    return run


def settings_of(config: Path | None, flags: dict[str, Any], limits: dict[str, Any], api_key: str | None) -> Settings:
    """The file's settings, and over them what was given on the command line."""
    from anmok.server.settings import Key, Settings, changed, read_settings

    settings = Settings() if config is None else read_settings(config)
    keys = settings.keys if api_key is None else (*settings.keys, Key.of(api_key))
    given = {name: value for name, value in flags.items() if value is not None}
    bounds = {name: value for name, value in limits.items() if value is not None}
    return changed(settings, given, replace(settings.limits, **bounds), keys)


def _with_models(settings: Settings, models: Sequence[str], *, is_all: bool) -> Settings:
    from anmok.catalogue import cards
    from anmok.cli.catalogue import is_here
    from anmok.server.settings import Served

    served = {one.name: one for one in settings.models}
    served |= {one.name: one for one in map(Served.of, models)}
    if is_all:
        served |= {one.name: Served(one.name, one.name) for one in cards() if one.name not in served and is_here(one)}
    return replace(settings, models=tuple(served.values()), is_lazy=settings.is_lazy or is_all)


def _page(folder: Path | None) -> PageSettings:
    from anmok.server.settings import PageSettings

    return PageSettings(folder=None if folder is None else str(folder))


def _check(settings: Settings) -> None:
    from anmok.errors import BadRequest

    settings.check_open()
    if not settings.models and not settings.engines:
        raise BadRequest("name the models to serve: anmok serve mini (or --all-local, or --config serve.toml)")
    for one in settings.models:
        one.card  # noqa: B018  # a name without a card is refused here, before anything is started


def _announce(address: str, settings: Settings) -> None:
    if settings.logs == "json":
        logging.getLogger("anmok.server").info("listening", extra={"facts": {"address": address}})
        return
    names = ", ".join(one.name for one in settings.models[:6])
    more = f" and {len(settings.models) - 6} more" if len(settings.models) > 6 else ""
    note(f"{address} serves {names}{more}; {address}/docs shows the routes; Ctrl-C ends it (process {os.getpid()})")
