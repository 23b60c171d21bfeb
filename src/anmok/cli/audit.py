"""``audit``: what somebody's accuracy is worth. Needs no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from anmok.cli.console import note, out, print_json, progress_bar
from anmok.errors import BadRequest


def audit_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="[IMAGES] PREDICTIONS", help="The folder of the images, then the predictions."),
    ],
    require: Annotated[
        list[str] | None,
        typer.Option("--require", help='Exit with 10 unless it survives: "accuracy>=0.90", "lower(accuracy)>=0.85".'),
    ] = None,
    tried: Annotated[int, typer.Option(help="How many models were compared on this test set.")] = 1,
    claimed: Annotated[
        float | None, typer.Option(help="The accuracy that was claimed, if not that of the file.")
    ] = None,
    margin: Annotated[float, typer.Option(help="How far below the claim still stands, as a share.")] = 0.03,
    groups: Annotated[Path | None, typer.Option(help="A CSV (image, group): what was made together.")] = None,
    classes: Annotated[str, typer.Option(help="Names of class numbers, in order: cat,dog (고양이,개).")] = "",
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Write verdict.json there.")] = None,
    seed: Annotated[int, typer.Option(help="For the random splits of the controls.")] = 0,
    lang: Annotated[str, typer.Option(help="en or ko.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Say what a claimed accuracy is worth: copies, groups across the split, leaks, luck. For anybody's
    model.

    Example: anmok audit photos/ predictions.csv --require "accuracy>=0.90"
    """
    from anmok.cli.outputs import check_file
    from anmok.evidence.audit import audit
    from anmok.evidence.audit_gate import check, parse_gate
    from anmok.evidence.audit_rows import read_groups
    from anmok.evidence.audit_text import render
    from anmok.evidence.readers import read_predictions
    from anmok.evidence.schema import verdict, write_verdict

    if len(paths) > 2:
        raise BadRequest(f"{len(paths)} paths: want the folder of the images, if it is at hand, and the predictions")
    if lang not in ("en", "ko"):
        raise BadRequest(f"--lang {lang}: want en or ko")
    if output is not None:
        check_file(output, "verdict.json")
    gates = [parse_gate(text) for text in require or ()]
    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    predictions = read_predictions(paths[-1], names or None)
    if claimed is not None:
        predictions = replace(predictions, claimed=_share(claimed))
    own = None if groups is None else read_groups(groups)
    with progress_bar("look at the images") as report:
        found = audit(
            paths[0] if len(paths) == 2 else None,
            predictions,
            margin=margin,
            tried=tried,
            seed=seed,
            groups=own,
            progress=report,
        )
    if as_json:
        print_json(verdict(found, gates))
    else:
        render(found, out, gates, "ko" if lang == "ko" else "en")
    if output is not None:
        write_verdict(output, found, gates)
        note(f"verdict in {output}")
    check(gates, found.surviving)


def _share(number: float) -> float:
    if not 0 <= number <= 100:
        raise BadRequest(f"--claimed {number}: give a share, 0.92, or percent, 92")
    return number if number <= 1 else number / 100
