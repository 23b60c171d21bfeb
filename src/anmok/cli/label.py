"""``label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anmok.cli.console import note, out, print_json, progress_bar, warn
from anmok.cli.label_next import TABLE, Wish, label_next
from anmok.cli.looking import FOUND, GROUNDED, AcceptLicence, AsJson, Device, Images, Threshold, expanded, opened, words
from anmok.errors import BadRequest

_FOLDER = Path("labels")


def label_command(
    images: Images,
    classes: Annotated[str | None, typer.Option("--classes", "-l", help="With commas: cat,dog (고양이,개).")] = None,
    to: Annotated[str, typer.Option(help="coco, yolo or voc.")] = "coco",
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.")] = _FOLDER,
    masks: Annotated[bool, typer.Option("--masks", help="Masks instead of boxes (coco alone holds them).")] = False,
    model: Annotated[str, typer.Option("--model", "-m", help=f"By default {FOUND}, with --masks {GROUNDED}.")] = "",
    threshold: Threshold = None,
    device: Device = "auto",
    head: Annotated[str, typer.Option(help="For `label next`: a folder that `anmok ladder` wrote.")] = "",
    count: Annotated[int, typer.Option(help="For `label next`: so many images.")] = 20,
    labelled: Annotated[
        Path | None, typer.Option(help="For `label next`: a CSV file of the images that have a label already.")
    ] = None,
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Label a folder by a model, with a sample of 50 pictures to check; given the checked table, say how good it is.
    `anmok label next photos/ --head report/best` tells which images to label next.

    Example: anmok label photos/ --classes cat,dog --to yolo -o labels, then anmok label labels/audit/audit.csv
    """
    if head or (images[0] == Path("next") and classes is None):
        table = Path(TABLE) if output == _FOLDER else output
        folders = tuple(images[1:] if images[0] == Path("next") else images)
        label_next(Wish(folders, head, count, labelled, table, as_json, tuple(accept_licence or ())))
        return
    from anmok.cli.outputs import check_folder
    from anmok.gallery import labelling
    from anmok.tasks import Detect, Segment

    if len(images) == 1 and images[0].suffix == ".csv":
        found = labelling.precision(images[0])
        if as_json:
            print_json(
                {"precision": found.value, "low": found.interval.low, "high": found.interval.high, "finds": found.n}
            )
        else:
            share, low, high = (100 * one for one in (found.value, found.interval.low, found.interval.high))
            out.print(f"{share:.1f} % of the finds are right (95 % interval {low:.1f} to {high:.1f} %)")
            note("what the model did not find is not in this table: precision, not recall")
        return
    labels = words(classes, "--classes")
    if labels is None:
        raise BadRequest("say what to label: --classes cat,dog")
    ask = Segment(labels, threshold=threshold) if masks else Detect(labels, threshold=threshold)
    check_folder(output)
    paths = expanded(images, output)
    loaded = opened(model or (GROUNDED if masks else FOUND), device, accept_licence)
    with progress_bar("label") as report:
        done = labelling.label_folder(loaded, paths, ask, output, to, progress=report)
    for failure in done.failures:
        warn(failure.error)
    if as_json:
        print_json({"pictures": done.pictures, "things": done.things, "empty": done.empty, "output": str(output)})
    note(f"{done.things} things in {done.pictures} pictures ({done.empty} without any); labels in {output}")
    note(f"how good are they? answer the column `correct` of {output / 'audit' / labelling.TABLE} by y or n, then run")
    note(f"anmok label {output / 'audit' / labelling.TABLE}")
