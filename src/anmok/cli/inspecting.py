"""``inspect``: what is strange about pictures, when only good ones are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anmok.cli.console import note, progress_bar, warn
from anmok.cli.looking import AcceptLicence, AsJson, Device, Images, Output, Wanted, expanded, look

if TYPE_CHECKING:
    from anmok.ladder.inspecting.banking import Recipe
    from anmok.load import Bank, Model


def inspect_command(
    images: Images,
    good: Annotated[Path | None, typer.Option(help="A folder of good pictures to remember.")] = None,
    memory: Annotated[Path | None, typer.Option(help="The folder of a memory: read, or with --good written.")] = None,
    overkill: Annotated[float, typer.Option(help="With --good: how many good pictures may be called strange.")] = 0.05,
    coreset: Annotated[bool, typer.Option("--coreset", help="With --good: keep a tenth of the patches.")] = False,
    size: Annotated[int, typer.Option(help="With --good: the canvas in pixels; larger sees smaller flaws.")] = 0,
    model: Annotated[str, typer.Option("--model", "-m", help="With --good: a name from `anmok models`.")] = "mini",
    output: Output = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say how strange each picture is to a memory of good ones, and draw where.

    Example: anmok inspect parts/ --good good/ --memory bank -o strange
    """
    from anmok.errors import BadRequest
    from anmok.gallery import Kept
    from anmok.ladder.inspecting.banking import Recipe
    from anmok.load import load
    from anmok.tasks import Inspect

    if good is None and memory is None:
        raise BadRequest("inspect needs good pictures: --good FOLDER, or --memory FOLDER where they are remembered")
    if good is None and (coreset or size):
        raise BadRequest("--coreset and --size are for a new memory: give --good FOLDER with them")
    accepted = tuple(accept_licence or ())
    paths = expanded(images, output)
    if good is not None:
        base = load(model, device=device, accept_licences=accepted)
        bank = _made(base, good, size, Recipe("coreset" if coreset else "nearest", overkill=overkill))
        if memory is not None:
            bank.write(memory)
            note(f"the memory of {bank.pictures} good pictures is in {memory}")
        inspector = base.inspector(bank=bank)
    else:
        assert memory is not None
        inspector = load(f"{memory.expanduser().resolve()}", device=device, accept_licences=accepted)
    look(inspector, paths, Inspect(), Wanted(output, Kept(), as_json))


def _made(base: Model, good: Path, size: int, recipe: Recipe) -> Bank:
    from anmok import media
    from anmok.errors import BadData
    from anmok.ladder.inspecting.banking import bank_of

    paths = list(media.find(good.expanduser())) if good.is_dir() else []
    if not paths:
        raise BadData(f"{good}: no good pictures in it that anmok reads (JPEG, PNG, WEBP ...)")
    with progress_bar("good pictures") as report:
        bank = bank_of(base, paths, size=size, recipe=recipe, progress=lambda _, done, total: report(done, total))
    if bank.limit is None:
        warn("no threshold: it takes two good pictures that are no copies of each other")
    elif not bank.limit.is_reachable:
        warn(
            f"{bank.limit.normals} good pictures cannot promise {100 * recipe.overkill:.1f} % overkill: "
            f"the smallest share that they can speak for is {100 * bank.limit.smallest:.1f} %"
        )
    return bank
