"""What the commands that look at pictures do alike: answer each, print a line, keep what was asked for."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.text import Text

from anmok.cli.console import note, out, plain, progress_bar, warn
from anmok.errors import BadMedia, BadRequest
from anmok.inputs import Item, Prompted
from anmok.load import Model, load
from anmok.results import Failure
from anmok.tasks import Ask

if TYPE_CHECKING:
    from anmok.gallery import Kept

# What answers where no model is named: by words alone, by words with masks, by pointing; with places alone.
FOUND, GROUNDED, POINTED = "grounding-dino-tiny", "grounded-sam2.1-tiny", "sam2.1-tiny"
MARKED = "moondream2"

Images = Annotated[list[Path], typer.Argument(help="Images, or folders of images.")]
ModelName = Annotated[str, typer.Option("--model", "-m", help="A name from `anmok models`.")]
AcceptLicence = Annotated[list[str] | None, typer.Option("--accept-licence", help="A licence you accept, by name.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="A folder for pictures, results.jsonl and a contact sheet."),
]
Labels = Annotated[
    str | None, typer.Option("--labels", "-l", help="What to look for, with commas: cat,dog (고양이,개).")
]
Threshold = Annotated[float | None, typer.Option(help="Leave out what scores below; the model's own unless given.")]
Crops = Annotated[bool, typer.Option("--save-crops", help="Each find as a picture of its own, in crops/.")]
Forms = Annotated[list[str] | None, typer.Option("--to", help="Also write coco or label-studio; may be repeated.")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command was asked for beside its question: a folder, what is kept in it, JSON, and a prompt whose
    points and boxes hold for every picture."""

    output: Path | None
    kept: Kept
    as_json: bool = False
    prompt: Prompted | None = None


def words(text: str | None, option: str = "--labels") -> tuple[str, ...] | None:
    """Labels with commas between them; None where the option was not given.

    Raises:
        BadRequest: it was given and has no label in it.
    """
    if text is None:
        return None
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    if not names:
        raise BadRequest(f"{option} {text!r} has no label in it: {option} cat,dog")
    return names


def opened(name: str, device: str, accept_licence: list[str] | None, runtime: str = "torch") -> Model:
    return load(name, device=device, runtime=runtime, accept_licences=accept_licence or ())


def expanded(images: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Folders become the images below them, but for those in ``output``, which an earlier run wrote.

    Raises:
        BadRequest: there are none, or ``output`` holds one of them.
    """
    from anmok import media

    own = None if output is None else output.absolute()
    found: list[Path] = []
    for path in images:
        if own is not None and own == (path if path.is_dir() else path.parent).absolute():
            raise BadRequest(f"-o {output} holds the pictures themselves; give another folder")
        below = media.find(path) if path.is_dir() else (path,)
        found += [one for one in below if own not in one.absolute().parents or own in path.absolute().parents]
    if not found:
        raise BadRequest(f"{images[0]}: no images there that anmok reads (JPEG, PNG, WEBP ...)")
    return found


def look(model: Model, paths: Sequence[Path], ask: Ask[Any, Any], wanted: Wanted) -> None:
    """Every answer, written to the folder as it comes, and a line each (or JSON) on stdout.

    A picture that cannot be read is a warning. However many there are, one batch of answers is in memory.

    Raises:
        BadMedia: not one of them could be read.
    """
    from anmok.gallery import Gallery

    items: list[Item] = [path if wanted.prompt is None else _pointed(path, wanted.prompt) for path in paths]
    shown = _Shown(wanted.as_json, sys.stdout)
    failures: list[Failure] = []
    with ExitStack() as stack:
        output = wanted.output
        gallery = None if output is None else stack.enter_context(Gallery(output, wanted.kept, model.maker))
        report = stack.enter_context(progress_bar(ask.task))  # it takes stdout for itself where it is shown
        for count, (path, answer) in enumerate(zip(paths, model.map(items, ask), strict=True), start=1):
            if isinstance(answer, Failure):
                failures.append(answer)
            elif gallery is not None:
                gallery.add(path, answer)
            shown.add(path, answer)
            report(count, len(paths))
    if len(failures) == len(paths):
        many = BadMedia(f"none of {len(failures)} images: {failures[0].error}")
        raise failures[0].error if len(failures) == 1 else many
    for failure in failures:
        warn(failure.error)
    shown.close()
    if wanted.output is not None:
        note(f"pictures and results are in {wanted.output}")


@dataclass(slots=True)
class _Shown:
    """What stdout gets. JSON goes out at once, since a dense map is large; lines wait until the bar is gone."""

    as_json: bool
    stream: TextIO
    _count: int = 0
    _failed: list[tuple[Path, Failure]] = field(default_factory=list)  # before the first answer
    _lines: list[Text] = field(default_factory=list)
    _read_as: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, answer: Any) -> None:
        from anmok.gallery import summary

        if isinstance(answer, Failure) and not self._count:
            self._failed.append((path, answer))  # where all fail, stdout stays empty
            return
        if self.as_json:
            for row in (*self._failed, (path, answer)):
                self._print(*row)
            self._failed.clear()
            return
        self._count += 1
        if isinstance(answer, Failure):
            return
        read_as = getattr(answer, "read_as", ())
        if read_as and read_as != answer.labels:
            self._read_as = {a: b for a, b in zip(answer.labels, read_as, strict=True) if a != b}
        self._lines.append(Text.assemble(plain(path), "  ", plain(summary(answer))))

    def close(self) -> None:
        translated(self._read_as)
        if self.as_json:
            print("\n]", file=self.stream)
        for line in self._lines:
            out.print(line, soft_wrap=True)

    def _print(self, path: Path, answer: Any) -> None:
        text = json.dumps({"image": str(path), **answer.to_dict()}, ensure_ascii=False, indent=2)
        print(",\n" if self._count else "[\n", textwrap.indent(text, "  "), sep="", end="", file=self.stream)
        self._count += 1


def translated(read_as: dict[str, str]) -> None:
    """Says what a model that reads English was given for the labels."""
    if read_as:
        note(f"this model reads English; translated: {', '.join(f'{a} → {b}' for a, b in read_as.items())}")


def _pointed(path: Path, prompt: Prompted) -> Prompted:
    return Prompted(path, prompt.points, prompt.boxes, prompt.mask, prompt.exemplars)
