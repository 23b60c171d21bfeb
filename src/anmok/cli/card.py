"""``card``: models of your own under a name: new, list, show, remove."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.table import Table

from anmok import catalogue
from anmok.catalogue import Card, local
from anmok.cli.console import note, out, plain, print_json
from anmok.errors import BadRequest
from anmok.geometry import Pixels

app = typer.Typer(
    no_args_is_help=True,
    help="Give a model of your own a name: an ONNX graph, or a head that `anmok ladder` trained. It then loads, "
    "serves and climbs like the rest.",
    epilog="Example: anmok card new --onnx part_classifier.onnx --labels labels.txt --pixels 224,bicubic,imagenet",
)

Triple = tuple[float, float, float]

STATISTICS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # -1 to 1
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # 0 to 1
    "bytes": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),  # 0 to 255
}
FILTERS, FITS = ("bilinear", "bicubic", "lanczos", "nearest"), ("crop", "squash", "pad")
_LARGEST = 4096  # pixels of a side
_WANTED = (
    f"a size, a filter ({', '.join(FILTERS)}), statistics ({', '.join(STATISTICS)}), and a fit ({', '.join(FITS)})"
)


@app.command("new", epilog="Example: anmok card new --folder ./report/best --name inspector")
def new_command(
    onnx: Annotated[Path | None, typer.Option("--onnx", help="An ONNX graph that takes pictures.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="What `anmok ladder` wrote: report/best.")] = None,
    name: Annotated[str, typer.Option("--name", help="The card's name; of a graph, its file's unless given.")] = "",
    labels: Annotated[
        Path | None, typer.Option("--labels", help="One label a line in the order of the outputs, or JSON.")
    ] = None,
    pixels: Annotated[
        str, typer.Option("--pixels", help="What it was trained with: 224,bicubic,imagenet[,crop,0.875].")
    ] = "",
    task: Annotated[
        str, typer.Option("--task", help="classify or embed; by itself classify, where it has labels.")
    ] = "",
    scoring: Annotated[
        str, typer.Option("--scoring", help="softmax or sigmoid, where the graph does not show it.")
    ] = "",
    features: Annotated[str, typer.Option("--features", help="The tensor that heads shall be trained on.")] = "",
    scores: Annotated[str, typer.Option("--scores", help="The output with the scores, where several fit.")] = "",
    mean: Annotated[str, typer.Option("--mean", help="Instead of the name of statistics: 0.5,0.5,0.5.")] = "",
    std: Annotated[str, typer.Option("--std", help="The same: 0.2,0.2,0.2.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="own, or a licence by its name: mit.")] = local.OWN.id,
    link: Annotated[bool, typer.Option("--link", help="Leave the weights where they are instead of a copy.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of your card of that name.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Write a card for an ONNX graph or for an exported folder, and try the graph out."""
    from anmok.load import own

    if (onnx is None) == (folder is None):
        raise BadRequest("give --onnx graph.onnx, or --folder report/best")
    if onnx is None:
        assert folder is not None
        _refuse("--folder", labels=labels, pixels=pixels, task=task, scoring=scoring, features=features, scores=scores)
        _refuse("--folder", mean=mean, std=std, link=link)
        if not name:
            raise BadRequest("give the card a --name: inspector")
        _told(own.from_folder(folder.expanduser(), own.Naming(name, licence, replace)), as_json)
        return
    canvas = read_pixels(pixels, mean, std)
    reading = own.Reading(_scoring(scoring), features, scores)
    naming = own.Naming(name or _name_of(onnx), licence, replace)
    names = _labels(labels, task)
    _told(own.from_onnx(onnx.expanduser(), canvas, names, naming, reading, is_linked=link), as_json)


@app.command("list", epilog="Example: anmok card list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List your own cards."""
    cards = [one for one in catalogue.cards() if one.family == local.FAMILY]
    if as_json:
        print_json([_plain(one) for one in cards])
        return
    if not cards:
        note(f"no cards of your own in {local.cards_folder()}")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "tasks", "what"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for one in cards:
        table.add_row(one.name, " ".join(one.tasks), plain(one.summary))
    out.print(table)


@app.command("show", epilog="Example: anmok card show part-classifier")
def show_command(
    name: Annotated[str, typer.Argument(help="The name of a card of yours.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a card of yours: the file, as it stands, or its values as JSON."""
    one = catalogue.card(name)
    if one.family != local.FAMILY:
        raise BadRequest(f"{name} is the catalogue's: anmok info {name}")
    if as_json:
        print_json(_plain(one))
        return
    path = local.file_of(name)
    note(path)
    print(path.read_text(encoding="utf-8"), end="")


@app.command("remove", epilog="Example: anmok card remove part-classifier")
def remove_command(
    names: Annotated[list[str], typer.Argument(help="Names of cards of yours.")],
) -> None:
    """Take cards of yours away, with the weights that were copied for them. What was linked to stays."""
    from anmok.load import own

    for name in names:
        own.remove(name)
        note(f"{name} is gone")


def read_pixels(text: str, mean: str = "", std: str = "") -> Pixels:
    """``224,bicubic,imagenet``, in any order, with a fit and the share that a crop keeps where wanted.

    Raises:
        BadRequest: a word that says nothing, or something is missing.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    sizes = [int(word) for word in words if word.isascii() and word.isdigit()]
    crops = [float(word) for word in words if _is_share(word)]
    named = [[word for word in words if word in known] for known in (FILTERS, STATISTICS, FITS)]
    count = len(sizes) + len(crops) + sum(map(len, named))
    filters, statistics, fits = named
    has_numbers = bool(mean and std)
    if len(sizes) != 1 or len(filters) != 1 or len(statistics) + has_numbers != 1 or count != len(words):
        raise BadRequest(f"--pixels {text!r}: want {_WANTED}: 224,bicubic,imagenet; or --mean and --std as statistics")
    if len(fits) > 1 or len(crops) > 1 or (crops and fits not in ([], ["crop"])):
        raise BadRequest(f"--pixels {text!r}: want one fit, and a share such as 0.875 with crop alone")
    if not 1 <= sizes[0] <= _LARGEST:
        raise BadRequest(f"--pixels {text!r}: want a size from 1 to {_LARGEST}")
    center, spread = (_triple(mean, "--mean"), _triple(std, "--std")) if has_numbers else STATISTICS[statistics[0]]
    return Pixels(
        sizes[0], cast(Any, (fits or ["crop"])[0]), cast(Any, filters[0]), center, spread, (crops or [1.0])[0]
    )


def _is_share(word: str) -> bool:
    whole, dot, part = word.partition(".")
    return bool(dot) and whole in ("0", "1", "") and part.isascii() and part.isdigit()


def _triple(text: str, option: str) -> Triple:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise BadRequest(f"{option} {text!r}: want three numbers: 0.5,0.5,0.5") from None
    return red, green, blue


def _scoring(text: str) -> Literal["softmax", "sigmoid"] | None:
    if text not in ("", *local.SCORINGS):
        raise BadRequest(f"--scoring {text}: want softmax or sigmoid")
    return cast(Literal["softmax", "sigmoid"], text) if text else None


def _labels(path: Path | None, task: str) -> tuple[str, ...]:
    if task not in ("", *local.TASKS):
        raise BadRequest(f"--task {task}: a graph of your own can classify or embed")
    if task == "embed":
        _refuse("--task embed", labels=path)
        return ()
    if path is None and task == "classify":
        raise BadRequest("to classify, give --labels labels.txt: one label a line, in the order of the outputs")
    return () if path is None else local.read_labels(path.expanduser())


def _refuse(beside: str, **given: object) -> None:
    """Options that say nothing beside another one."""
    named = [name for name, value in given.items() if value]
    if named:
        raise BadRequest(f"--{named[0]} does not go with {beside}: drop it")


def _name_of(path: Path) -> str:
    """``part_classifier.onnx`` becomes ``part-classifier``."""
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower())
    return "-".join(part for part in letters.split("-") if part)


def _told(one: Card, as_json: bool) -> None:
    if as_json:
        print_json(_plain(one))
        return
    note(one.summary)
    note(
        f"pixels: {one.pixels.size} px, {one.pixels.fit} {one.pixels.crop:g}, {one.pixels.filter}; be sure it was so "
        "in training: nothing can check it"
    )
    if one.parts:
        note(f"it needs {', '.join(one.parts.values())}")
    out.print(plain(local.file_of(one.name)), soft_wrap=True)


def _plain(one: Card) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(one)))
    return {**values, "revision": one.revision, "file": str(local.file_of(one.name))}
