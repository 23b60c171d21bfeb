"""``synth``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anmok.cli.console import note, print_json, progress_bar, warn
from anmok.errors import BadRequest

if TYPE_CHECKING:
    from anmok.synth import Good, Made, Recipe

_SHOWN = 36  # pictures on the sheet


def synth_command(
    photos: Annotated[Path | None, typer.Argument(help="A folder of good pictures, without a defect.")] = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")] = Path("made"),
    kinds: Annotated[str, typer.Option(help="With commas; all of them by default.")] = "",
    count: Annotated[int, typer.Option(help="How many pictures.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pictures.")] = 0,
    area: Annotated[str, typer.Option(help="Least and most of one defect, as a share of the picture.")] = "0.0005,0.03",
    contrast: Annotated[str, typer.Option(help="Least and most, as a share of full scale.")] = "0.08,0.35",
    defects: Annotated[str, typer.Option(help="Least and most in one picture.")] = "1,1",
    controls: Annotated[float, typer.Option(help="The share of pictures that get no defect.")] = 0.0,
    label: Annotated[str, typer.Option(help="One class for all defects, instead of one for each kind.")] = "",
    masks: Annotated[Path | None, typer.Option(help="Pictures of the same names, bright where the part is.")] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="Beside the part as well.")] = False,
    camera: Annotated[bool, typer.Option("--camera", help="Light, blur, noise and JPEG afterwards.")] = False,
    occlusion: Annotated[float, typer.Option(help="With --camera: the chance of something in front.")] = 0.0,
    licence: Annotated[str, typer.Option(help="Of the good pictures; goes into the table.")] = "",
    surface: Annotated[str, typer.Option(help="No photos at hand: draw good pictures of this kind.")] = "",
    size: Annotated[int, typer.Option(help="With --surface: pixels each way.")] = 512,
    sheet: Annotated[Path | None, typer.Option(help="Draw some of them with their masks on one picture.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make pictures with defects of good ones, each with its exact mask. Training material: never a test.

    Example: anmok synth photos/good --out made/ --kinds scratch,dent,stain --count 500 --seed 0
    """
    from anmok.cli.outputs import check_file, check_folder
    from anmok.synth import KINDS, Camera, Recipe, make, write

    if (photos is None) == (not surface):
        raise BadRequest("give a folder of good pictures, or --surface to draw some: one of the two")
    if occlusion and not camera:
        raise BadRequest("--occlusion goes with --camera")
    chosen: tuple[str, ...] = tuple(name.strip() for name in kinds.split(",") if name.strip()) or KINDS
    recipe = Recipe(
        kinds=chosen,  # type: ignore[arg-type]  # checked by the recipe
        area=_range(area, "--area"),
        contrast=_range(contrast, "--contrast"),
        defects=_whole(_range(defects, "--defects")),
        controls=controls,
        label=label,
        inside="everywhere" if everywhere else "part",
        camera=Camera(occlusion=occlusion) if camera else None,
        licence=licence,
    )
    check_folder(output)
    if sheet is not None:
        check_file(sheet, "sheet.jpg")
    shown: list[Made] = []
    with progress_bar("draw" if surface else "make") as report:
        made = (
            _surfaces(surface, size, count, seed)
            if photos is None
            else make(_sources(photos, masks, output), recipe, count, seed, workers=workers)
        )
        entries = write(_seen(made, shown, count, report), output, None if surface else recipe)
    if sheet is not None and shown:
        _draw(shown, sheet)
    labels = sorted({entry.label for entry in entries})
    numbers = {name: sum(entry.label == name for entry in entries) for name in labels}
    if as_json:
        print_json({"folder": str(output), "pictures": len(entries), "labels": numbers, "recipe": recipe.digest})
    _tell(numbers, output, recipe, bool(surface))


def _range(text: str, option: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        low, high = float(parts[0]), float(parts[-1])
    except ValueError:
        raise BadRequest(f"{option} {text}: want two numbers with a comma between, such as 0.001,0.02") from None
    if len(parts) > 2:
        raise BadRequest(f"{option} {text}: want two numbers, least and most")
    return low, high


def _whole(values: tuple[float, float]) -> tuple[int, int]:
    low, high = (int(value) for value in values)
    if (low, high) != values:
        raise BadRequest(f"--defects {values[0]:g},{values[1]:g}: want whole numbers")
    return low, high


def _sources(photos: Path, masks: Path | None, output: Path) -> list[Good]:
    """Every picture of the folder; with masks, each with that of its name."""
    from anmok import media
    from anmok.synth import Good

    if not photos.is_dir():
        raise BadRequest(f"{photos}: no such folder; give one with good pictures")
    found = [path for path in media.find(photos) if not path.resolve().is_relative_to(output.resolve())]
    if not found:
        raise BadRequest(f"{photos}: no images in it that anmok reads (JPEG, PNG, WEBP ...)")
    if masks is None:
        return [Good(path) for path in found]
    named = {path.stem: path for path in media.find(masks)}
    lacking = [path.name for path in found if path.stem not in named]
    if lacking:
        raise BadRequest(f"{masks}: no mask for {lacking[0]}" + (f" and {len(lacking) - 1} more" * (len(lacking) > 1)))
    return [Good(path, named[path.stem]) for path in found]


def _surfaces(kind: str, size: int, count: int, seed: int) -> Iterator[Made]:
    from anmok.synth import drawn

    return drawn(kind, (size, size), count, seed)  # type: ignore[arg-type]  # checked there


def _seen(made: Iterator[Made], shown: list[Made], count: int, report: object) -> Iterator[Made]:
    for number, one in enumerate(made, start=1):
        if len(shown) < _SHOWN:
            shown.append(one)
        if callable(report):
            report(number, count)
        yield one


def _draw(shown: list[Made], sheet: Path) -> None:
    from anmok import draw, files

    cells = [(one.label, draw.plot(one.masks, one.image)) for one in shown]
    with files.write_beside(sheet) as beside:
        draw.contact_sheet(cells, 256).save(beside)


def _tell(numbers: dict[str, int], output: Path, recipe: Recipe, is_surface: bool) -> None:
    each = ", ".join(f"{name} {number}" for name, number in numbers.items())
    note(f"{sum(numbers.values())} pictures in {output}: {each or 'none'}")
    if is_surface:
        note(f"drawn, not photographed. Put defects into them with: anmok synth {output / 'good'} --out more")
        return
    if recipe.camera is not None and not recipe.controls:
        warn("every picture went through the camera and has a defect: add --controls 0.5, or a model may learn that")
    if not recipe.licence:
        warn("the licence of the good pictures is not known: --licence NAME writes it into the table")
