"""What the commands that look at pictures do alike: answer each, print a line, keep what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from anmok.cli.console import note, out, plain, print_json, progress_bar, warn
from anmok.errors import BadMedia, BadRequest
from anmok.inputs import Item, Prompted
from anmok.load import Model, load
from anmok.results import Failure
from anmok.tasks import Ask

if TYPE_CHECKING:
    from anmok.gallery import Kept

Images = Annotated[list[Path], typer.Argument(help="Images, or folders of images.")]
ModelName = Annotated[str, typer.Option("--model", "-m", help="A name from `anmok models`.")]
AcceptLicence = Annotated[list[str] | None, typer.Option("--accept-licence", help="A licence you accept, by name.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="A folder for pictures, results.jsonl and a contact sheet."),
]
Labels = Annotated[str, typer.Option("--labels", "-l", help="What to look for, with commas: cat,dog (고양이,개).")]
Threshold = Annotated[float | None, typer.Option(help="Leave out what scores below; the model's own unless given.")]
Crops = Annotated[bool, typer.Option("--save-crops", help="Each find as a picture of its own, in crops/.")]
Forms = Annotated[list[str] | None, typer.Option("--to", help="Also write coco or label-studio; may be repeated.")]


def words(text: str) -> tuple[str, ...] | None:
    """Labels with commas between them; nothing is None."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name) or None


def opened(name: str, device: str, accept_licence: list[str] | None) -> Model:
    return load(name, device=device, accept_licences=accept_licence or ())


def expanded(images: Sequence[Path]) -> list[Path]:
    """Folders become the images below them.

    Raises:
        BadRequest: there are none.
    """
    from anmok import media

    found: list[Path] = []
    for path in images:
        found += list(media.find(path)) if path.is_dir() else [path]
    if not found:
        raise BadRequest(f"{images[0]}: no images there that anmok reads (JPEG, PNG, WEBP ...)")
    return found


def look(
    model: Model, paths: Sequence[Path], ask: Ask[Any, Any], output: Path | None, kept: Kept, prompt: Prompted | None
) -> list[tuple[Path, Any]]:
    """Every answer, written to the folder as it comes. A picture that cannot be read is a ``Failure``.

    Raises:
        BadMedia: not one of them could be read.
    """
    from anmok.gallery import Gallery

    items: list[Item] = [path if prompt is None else _pointed(path, prompt) for path in paths]
    rows: list[tuple[Path, Any]] = []
    with ExitStack() as stack:
        report = stack.enter_context(progress_bar(ask.task))
        gallery = None if output is None else stack.enter_context(Gallery(output, kept, model.maker))
        for path, answer in zip(paths, model.map(items, ask), strict=True):
            rows.append((path, answer))
            if gallery is not None and not isinstance(answer, Failure):
                gallery.add(path, answer)
            report(len(rows), len(paths))
    failures = [answer for _, answer in rows if isinstance(answer, Failure)]
    if len(failures) == len(rows):
        raise (
            failures[0].error
            if len(failures) == 1
            else BadMedia(f"none of {len(failures)} images: {failures[0].error}")
        )
    for failure in failures:
        warn(failure.error)
    return rows


def show(rows: Sequence[tuple[Path, Any]], output: Path | None, *, as_json: bool) -> None:
    """A line per picture, or one JSON document."""
    if as_json:
        print_json([{"image": str(path), **answer.to_dict()} for path, answer in rows])
    from anmok.gallery import summary

    has_said = False
    for path, answer in rows:
        if isinstance(answer, Failure) or as_json:
            continue
        read_as = getattr(answer, "read_as", ())
        if not has_said and read_as and read_as != answer.labels:
            pairs = [f"{a} → {b}" for a, b in zip(answer.labels, read_as, strict=True) if a != b]
            note(f"this model reads English; translated: {', '.join(pairs)}")
            has_said = True
        out.print(Text.assemble(plain(path), "  ", plain(summary(answer))), soft_wrap=True)
    if output is not None:
        note(f"pictures and results are in {output}")


def _pointed(path: Path, prompt: Prompted) -> Prompted:
    return Prompted(path, prompt.points, prompt.boxes, prompt.mask, prompt.exemplars)
