"""``classify`` and ``embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from anmok import catalogue
from anmok.catalogue import local
from anmok.cli.console import note, out, plain, print_json, progress_bar, warn
from anmok.cli.looking import AcceptLicence, AsJson, Device, Images, ModelName, expanded
from anmok.errors import BadRequest
from anmok.load import Model
from anmok.results import Failure, Scores
from anmok.tasks import Classify


def classify_command(
    images: Images,
    labels: Annotated[str, typer.Option("--labels", "-l", help="Labels with commas: cat,dog (고양이,개).")] = "",
    model: ModelName = "mini",
    head: Annotated[str, typer.Option("--head", help="A folder that `anmok ladder` wrote: report/best.")] = "",
    templates: Annotated[
        list[str] | None, typer.Option("--template", help='A sentence with {}: "a photo of a {}."')
    ] = None,
    threshold: Annotated[float, typer.Option(help="Below this score, answer nothing.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Show so many labels.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say which label fits each image: zero-shot, or with a head that `anmok ladder` trained.

    Example: anmok classify cat.jpg --labels cat,dog
    """
    from anmok.load import load

    names = tuple(name.strip() for name in labels.split(",") if name.strip())
    if not names and not head and not _has_labels(model):
        raise BadRequest("give --labels cat,dog, or --head report/best")
    if names and head:
        raise BadRequest("give --labels or --head, not both: a head has the labels that it was trained on")
    source = head if not head or head.startswith((".", "/", "~")) else f"./{head}"
    loaded = load(source or model, device=device, accept_licences=accept_licence or ())
    ask = Classify(names or None, tuple(templates) if templates else None, None, threshold, top_k)
    rows = _classified(loaded, expanded(images), ask)
    if as_json:
        print_json([{"image": str(path), **answer.to_dict()} for path, answer in rows])
    failures = [answer for _, answer in rows if isinstance(answer, Failure)]
    is_hopeless = len(failures) == len(rows)
    for failure in failures[is_hopeless:]:
        warn(failure.error)
    if not as_json:
        _print_scores(rows)
    if is_hopeless:
        raise failures[0].error


def _has_labels(model: str) -> bool:
    """Whether a model answers in labels of its own, as cards of the user's do. Its weights are not looked at."""
    one = next((one for one in catalogue.cards("classify") if one.name == model), None)
    return one is not None and one.family == local.FAMILY


def _classified(model: Model, paths: list[Path], ask: Classify) -> list[tuple[Path, Scores | Failure]]:
    rows: list[tuple[Path, Scores | Failure]] = []
    with progress_bar("classify") as report:
        answers = model.map(paths, ask)
        for path, answer in zip(paths, answers, strict=True):
            rows.append((path, answer))
            report(len(rows), len(paths))
    return rows


def _print_scores(rows: list[tuple[Path, Scores | Failure]]) -> None:
    has_said = False
    for path, answer in rows:
        if isinstance(answer, Failure):
            continue
        if not has_said and answer.read_as and answer.read_as != answer.labels:
            pairs = [f"{a} → {b}" for a, b in zip(answer.labels, answer.read_as, strict=True) if a != b]
            note(f"this model reads English; translated: {', '.join(pairs)}")
            has_said = True
        shown = "  ".join(f"{label} {score:.3f}" for label, score in answer.top(answer.top_k or 3))
        best = plain(answer.label or "(no label fits)", "bold")
        out.print(Text.assemble(plain(path), "  ", best, "  ", plain(shown)), soft_wrap=True)


def embed_command(
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .parquet file.")],
    model: ModelName = "mini",
    space: Annotated[str, typer.Option(help="image (unit vectors) or features (for your own heads).")] = "image",
    device: Device = "auto",
    accept_licence: AcceptLicence = None,
) -> None:
    """Write a vector per image to a Parquet file with the columns image and vector.

    Example: anmok embed photos/ -o vectors.parquet
    """
    from anmok.bulk import embed_files
    from anmok.cli.outputs import check_file
    from anmok.load import load

    if space not in ("image", "features"):
        raise BadRequest(f"--space {space}: want image or features")
    check_file(output, "vectors.parquet")
    paths = expanded(images)
    loaded = load(model, device=device, accept_licences=accept_licence or ())
    with progress_bar("embed") as report:
        failures = embed_files(
            loaded, paths, output, space="image" if space == "image" else "features", progress=report
        )
    for failure in failures:
        warn(failure.error)
    note(f"{len(paths) - len(failures)} vectors in {output}")
