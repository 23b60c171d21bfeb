"""``plan``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from anmok.cli.console import note, out, plain, print_json, progress_bar, warn
from anmok.cli.looking import AcceptLicence, AsJson, Device
from anmok.errors import BadRequest, CannotWrite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anmok.placement import Expected, Measured, Offer, Plan, Planned, Rate
    from anmok.server.settings import Settings as Serving


def plan_command(
    gpus: Annotated[str, typer.Option(help="3x24GB, or 1x80GB,2x24GB, or cpu with --memory.")],
    models: Annotated[Path, typer.Option(help="A serve.toml: what is to be served.")],
    rates: Annotated[Path, typer.Option(help="model,task,rate_per_second[,p99_seconds][,pixels] as CSV.")],
    measured: Annotated[
        Path, typer.Option(help="What was measured before, .json or .csv; what a .json lacks is measured into it.")
    ] = Path("measured.json"),
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for a serve.toml per device, nginx.conf, plan.json.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="For cpu: what the models may take, 12GB.")] = None,
    scale: Annotated[
        list[str] | None, typer.Option(help="Times of the devices over those measured: 0.1, or 80GB=0.05 for a kind.")
    ] = None,
    reserve: Annotated[float, typer.Option(help="Share of each device's memory that is left free.")] = 0.1,
    p99: Annotated[float, typer.Option(help="Seconds wanted where a rate says none.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say which model goes on which device, with the p99 to expect there and how much more it could bear.

    Example: anmok plan --gpus 3x24GB --models serve.toml --rates rates.csv --out plan
    """
    from anmok.placement import Settings, devices, nbytes, plan, read_rates, scales, to_dict, wishes, write_plan
    from anmok.server.settings import read_settings

    if not p99 > 0:
        raise BadRequest(f"--p99 {p99:g}: must be above 0 seconds")
    if output is not None and output.exists() and not output.is_dir():
        raise CannotWrite(f"--out {output}: is a file; give a folder")
    serving = read_settings(models)
    content = _content(models, serving)
    room = nbytes(memory, "--memory") if memory is not None else _memory(content, serving)
    on = devices(gpus, memory=room, scales=scales(scale or []))
    settings = Settings(serving.limits, reserve, seed)
    offers = _offers(content, serving)
    wanted = read_rates(rates, [one.name for one in offers], wanted=p99)
    licences = (*serving.accept_licences, *(accept_licence or ()))
    found = _measured(measured, offers, wishes(offers, wanted), (serving, device, licences))
    made = plan(offers, wanted, found, on, settings)
    written = write_plan(output, made, content, models.parent) if output is not None else []
    if as_json:
        print_json(to_dict(made))
    else:
        _print(made)
    for text in made.notes:
        note(text)
    for one in made.unplaced:
        warn(f"{one.model} is on no device: {one.reason}. What would help: {'; '.join(one.remedies)}")
    if output is not None:
        first = next((name for name in written if name.endswith(".toml")), None)
        note(f"{output}: {', '.join(written)}" + (f"; anmok serve --config {output / first}" if first else ""))


def _content(file: Path, serving: Serving) -> dict[str, Any]:
    """The tables as they stand, each model with the name that it is served under."""
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    rows = zip(content.get("model", []), serving.models, strict=True)
    content["model"] = [{**row, "as": served.name} for row, served in rows]
    if not content["model"]:
        raise BadRequest(f"{file}: has no [[model]], so there is nothing to place")
    return content


def _memory(content: dict[str, Any], serving: Serving) -> int | None:
    return serving.memory_bytes if "memory" in content else None


def _offers(content: dict[str, Any], serving: Serving) -> tuple[Offer, ...]:
    from anmok.placement import Offer

    rows = zip(content["model"], serving.models, strict=True)
    return tuple(Offer(served.name, str(row["name"]), served.card) for row, served in rows)


def _measured(
    file: Path, offers: Sequence[Offer], wanted: Sequence[Rate], how: tuple[Serving, str, Sequence[str]]
) -> list[Measured]:
    """What the file has, and what it lacks, which is measured here and written into it after each model."""
    from anmok.load import load
    from anmok.placement import known, measure, read_measured, resolved, write_measured

    serving, device, licences = how
    is_new = file.suffix.lower() == ".json" and not file.exists()
    found = [] if is_new else list(read_measured(file))
    by_name = {one.name: one for one in offers}
    targets = {served.name: served.target for served in serving.models}
    lacking = [wish for wish in wanted if known(by_name[wish.model], wish, found) is None]
    if not lacking:
        return found
    if file.suffix.lower() != ".json":
        names = ", ".join(f"{one.model} {one.task} {one.pixels[0]}x{one.pixels[1]}" for one in lacking)
        raise BadRequest(f"{file} lacks {names}; add rows, or let it be measured: --measured measured.json")
    where = resolved(device)
    with progress_bar("measure") as report:
        for done, wish in enumerate(lacking):
            report(done, len(lacking))
            offer = by_name[wish.model]
            if known(offer, wish, found) is not None:
                continue  # under another name, a moment ago

            def loader(target: str = targets[wish.model]) -> Any:
                return load(target, device=where, dtype=serving.dtype, accept_licences=licences)

            one = measure(offer.target, wish.task, loader, serving.limits, device=where, pixels=wish.pixels)
            found.append(one)
            write_measured(file, found)
    note(f"measured on {found[-1].device}; kept in {file}")
    return found


def _print(made: Plan) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("device", "models", "weights", "batches", "of", "load", "headroom"):
        table.add_column(title, justify="left" if title in ("device", "models") else "right")
    for one in made.planned:
        names = ", ".join(
            share.job.name + (f" ({100 * share.part:.0f} %)" if share.part < 1 else "") for share in one.held
        )
        sizes = (one.weights_bytes, one.working_bytes, one.room_bytes)
        load = f"{100 * one.load:.0f} %" if one.headroom is not None else "-"
        table.add_row(plain(one.device.name), plain(names or "-"), *map(_size, sizes), load, _headroom(one))
    out.print(table)
    rows = [(one, row) for one in made.planned for row in one.expected]
    if not rows:
        return
    out.print()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("model", "task", "device", "per second", "p50", "p99", "wanted", "batch"):
        table.add_column(title, justify="left" if title in ("model", "task", "device") else "right")
    for one, row in rows:
        words = (plain(row.model), row.task, plain(one.device.name), f"{row.rate:g}", _seconds(row.p50))
        table.add_row(*words, _p99(row), _seconds(row.wanted), f"{row.batch:.1f}")
    out.print(table)


def _p99(row: Expected) -> Text:
    """With half of its interval; red where it is too long."""
    number, _, unit = _seconds(row.p99).partition(" ")
    half = (row.high - row.p99) * (1000 if unit == "ms" else 1)
    text = f"{number} ±{half:.2g} {unit}" if half > 0 else _seconds(row.p99)
    return Text(text, "" if row.p99 <= row.wanted else "bold red")


def _headroom(one: Planned) -> str:
    if one.headroom is None:
        return "-"
    return "none" if one.headroom == 0 else f"x{one.headroom:g}"


def _seconds(value: float) -> str:
    if value == float("inf"):
        return "refuses"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _size(value: int) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 10**7 else f"{value / 1e6:.2f} MB"
