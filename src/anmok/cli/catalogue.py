"""``models``, ``info``, ``doctor`` and ``pull``: what there is, and whether it is here. None of them loads torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from anmok import catalogue
from anmok.catalogue import Card
from anmok.catalogue.sources import ClosedSource, NoSource, RemoteSource
from anmok.cli.console import note, out, plain, print_json, progress_bar
from anmok.errors import BadRequest
from anmok.weights import fetch, is_fetched


def models_command(
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only models for this task.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models of the catalogue.

    Example: anmok models --task classify
    """
    found = catalogue.cards(task)
    if not found:
        known = {name for one in catalogue.cards() for name in one.tasks}
        raise BadRequest(f"no model is for the task {task!r}; there are {', '.join(sorted(known))}")
    if as_json:
        print_json([_plain(one) for one in found])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "tasks", "params", "languages", "licence", "verified", "here"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for one in found:
        params = f"{one.params / 1e6:.0f} M" if one.params else "?"
        here = "yes" if is_here(one) else "no"
        here = "sends" if isinstance(one.source, RemoteSource) else here
        languages = " ".join(one.languages) if len(one.languages) < 4 else f"{len(one.languages)} languages"
        cells = (one.name, " ".join(one.tasks), params, languages, one.licence.id, str(one.verified), here)
        table.add_row(*cells)
    out.print(table)
    if any(isinstance(one.source, RemoteSource) for one in found):
        note("sends: somebody else runs it, and words and pictures leave this machine; each wants its --accept-licence")


def info_command(
    name: Annotated[str, typer.Argument(help="A model's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Everything that the catalogue knows of one model.

    Example: anmok info mini
    """
    one = catalogue.card(name)
    if as_json:
        print_json(_plain(one))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _described(one).items():
        table.add_row(key, value)
    out.print(table)


def pull_command(
    names: Annotated[list[str], typer.Argument(help="Names of models.")],
    accept_licence: Annotated[
        list[str] | None, typer.Option("--accept-licence", help="A licence that you accept, by its name.")
    ] = None,
) -> None:
    """Bring the weights of models onto this machine and check them.

    Example: anmok pull mini
    """
    for name in names:
        one = catalogue.card(name)
        for part in _with_parts(one):
            with progress_bar(part.name) as report:
                fetch(
                    part.source,
                    licence=part.licence,
                    accept=accept_licence or (),
                    progress=lambda _, done, total: report(done, total),
                )
            is_elsewhere = isinstance(part.source, RemoteSource)
            note(f"{part.name}: nothing to fetch" if is_elsewhere else f"{part.name} is here")


def doctor_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What this installation has, what is missing, and how to mend it.

    Example: anmok doctor
    """
    from anmok.cli.doctor import examine

    checks = examine()
    if as_json:
        print_json([asdict(check) for check in checks])
        return
    for check in checks:
        mark = ("ok", "green") if check.is_ok else ("--", "yellow")
        out.print(Text.assemble(mark, "  ", plain(check.what, "bold"), ": ", plain(check.found)), soft_wrap=True)
        if check.remedy:
            out.print(Text.assemble("      ", plain(check.remedy, "dim")), soft_wrap=True)


def is_here(one: Card) -> bool:
    """Whether it is on this machine and nothing of it has to be fetched, its parts included."""
    if isinstance(one.source, RemoteSource):
        return False
    return is_fetched(one.source) and all(is_here(catalogue.card(part)) for part in one.parts.values())


def _with_parts(one: Card) -> list[Card]:
    """The parts first, and theirs before them."""
    inner = {found.name: found for part in one.parts.values() for found in _with_parts(catalogue.card(part))}
    return [*inner.values(), one]


def _described(one: Card) -> dict[str, str]:
    licence = one.licence
    terms = licence.name if licence.is_accepted_by_default else f"{licence.name} (needs --accept-licence {licence.id})"
    source = one.source
    has_weights = not isinstance(source, NoSource | RemoteSource | ClosedSource)
    here = "yes" if is_here(one) else f"no: anmok pull {one.name}"
    if isinstance(source, RemoteSource):
        here = f"no: sends words and pictures to {source.remote}"
    pixels = f"{one.pixels.size} px, {one.pixels.fit}, {one.pixels.filter}"
    params = one.params or sum(catalogue.card(part).params for part in one.parts.values())
    unpinned = "unpinned: the first pull locks it" if has_weights else ""
    fields = {
        "name": one.name,
        "what": one.summary,
        "tasks": ", ".join(one.tasks),
        "parts": ", ".join(f"{role}: {name}" for role, name in one.parts.items()),
        "source": json.dumps(asdict(source, dict_factory=_said), ensure_ascii=False) if has_weights else "",
        "revision": one.revision or unpinned,
        "here": f"no: {source.closed}" if isinstance(source, ClosedSource) else here,
        "pixels": pixels if has_weights or isinstance(source, NoSource) else "",
        "scoring": one.scoring if "classify" in one.tasks else "",
        "languages": ", ".join(one.languages) or "no text tower",
        "params": f"{params:,} ({4 * params / 1e6:,.0f} MB in float32)" if params else "not counted",
        "licence": f"{terms} {licence.url}",
        "verified": str(one.verified),
        "year": str(one.year) if one.year else "",
        "cite": one.cite,
    }
    return {key: value for key, value in fields.items() if value}


def _said(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if value is not None}


def _plain(one: Card) -> dict[str, Any]:
    values = asdict(one)
    values.update(revision=one.revision, is_here=is_here(one), memory_bytes=one.memory_bytes)
    return values
