"""``ladder``: from photos to a verdict."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from anmok.cli.console import err, note, out, progress_bar, warn
from anmok.errors import BadRequest

if TYPE_CHECKING:
    from anmok.ladder import Dataset, Plan
    from anmok.ladder.climb import Climbed, Progress

_BEST = "best"  # the winner, in the folder of the report
_DEMO_DESCRIPTION = "solar (real photos, non-commercial licence), textile or digits."


def ladder_command(
    photos: Annotated[str, typer.Argument(help="A folder with a sub-folder per class, or hf:owner/name.")] = "",
    labels: Annotated[Path | None, typer.Option(help="A CSV file: image,label[,group].")] = None,
    classes: Annotated[str, typer.Option(help="For a folder without labels: cat,dog.")] = "",
    test: Annotated[Path | None, typer.Option(help="Your own test folder, laid out like the other.")] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="A CSV file: label,sentence. Several rows a label are averaged.")
    ] = None,
    demo: Annotated[str, typer.Option(help=_DEMO_DESCRIPTION)] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="A name from `anmok models`.")] = "mini",
    output: Annotated[Path, typer.Option("--out", help="The folder of the report.")] = Path("report"),
    margin: Annotated[float, typer.Option(help="The smallest gain that matters to you: 0.01 is one point.")] = 0.01,
    groups: Annotated[str, typer.Option(help="auto, duplicates or none: what no split may divide.")] = "auto",
    seed: Annotated[int, typer.Option(help="Another seed is another split.")] = 0,
    threshold: Annotated[float, typer.Option(help="With --classes: no answer below this score.")] = 0.0,
    lang: Annotated[str, typer.Option(help="Language of the report: en or ko.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    accept_licence: Annotated[list[str] | None, typer.Option("--accept-licence", help="A licence you accept.")] = None,
) -> None:
    """Find out on your own images whether zero-shot is enough, or how far a few labels help.

    Writes report/index.html, report/report.json, report/predictions.parquet and report/best, which
    `anmok classify --head report/best` runs.

    Example: anmok ladder photos/ --out report
    """
    from anmok.cli.outputs import check_folder
    from anmok.ladder import Plan
    from anmok.ladder.dataset import read_sentences
    from anmok.ladder.report import render, report_json

    if lang not in ("en", "ko"):
        raise BadRequest(f"--lang {lang}: want en or ko")
    check_folder(output, "give another folder by --out")
    if photos and output.resolve() == Path(photos).expanduser().resolve():
        raise BadRequest(f"--out {output} holds the photos; give another folder")
    accepted = tuple(accept_licence or ())
    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    dataset = _dataset(photos, labels, names, test, demo, accepted)
    plan = Plan(
        model=model,
        margin=margin,
        groups=groups,
        seed=seed,
        descriptions=() if descriptions is None else read_sentences(descriptions, dataset.classes),
    )
    language: Literal["en", "ko"] = "ko" if lang == "ko" else "en"
    if dataset.labels is None:
        _glance(dataset, plan, threshold, output, language, accepted, as_json)
        return
    if threshold:
        raise BadRequest("--threshold is for images without labels, with --classes; drop it")
    climbed = _climbed(dataset, plan, accepted, output / _BEST)
    _write(climbed, output, language)
    if as_json:
        print(report_json(climbed.outcome), end="")
        return
    render(climbed.outcome, out, language)
    note(f"the report is in {output / 'index.html'}; the winner in {output / _BEST}")


def _dataset(
    photos: str,
    labels: Path | None,
    classes: tuple[str, ...],
    test: Path | None,
    demo: str,
    accepted: tuple[str, ...],
) -> Dataset:
    from anmok.ladder import dataset, demos, huggingface

    if not photos and not demo:
        raise BadRequest("give a folder: anmok ladder photos/ (or --demo solar)")
    if photos and demo:
        raise BadRequest(f"give {photos} or --demo {demo}, not both")
    folder = Path(photos).expanduser()
    is_data_set = photos.startswith("hf:") or huggingface.is_saved(folder)
    given = [name for name, value in (("labels", labels), ("classes", classes), ("test", test)) if value]
    if given and (demo or is_data_set):
        raise BadRequest(f"--{given[0]} is for a folder of images; {photos or demo} brings its own labels: drop it")
    if demo:
        with progress_bar(f"demo {demo}") as report:
            found = demos.demo(demo, accept=accepted, progress=lambda _, done, total: report(done, total))
        note(f"{found.title}: {len(found.paths):,} images, licence {found.licence}")
        return found
    if is_data_set:
        return huggingface.read(photos.removeprefix("hf:") if photos.startswith("hf:") else str(folder))
    return dataset.read(folder, labels=labels, classes=classes, test=test)


def _climbed(dataset: Dataset, plan: Plan, accepted: tuple[str, ...], best: Path) -> Climbed:
    from anmok.ladder import climb
    from anmok.load import load

    model = load(plan.model, accept_licences=accepted)
    commands = _command(), shlex.join(["anmok", "classify", "new.jpg", "--head", _near(best)])
    with _stages() as progress:
        return climb(dataset, model, plan, commands=commands, progress=progress)


def _near(path: Path) -> str:
    """Relative to where we stand, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


@contextmanager
def _stages() -> Iterator[Progress]:
    """One bar that is renamed as the climb goes from pictures to rungs."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _write(climbed: Climbed, output: Path, language: Literal["en", "ko"]) -> None:
    from anmok.ladder.report import write_report
    from anmok.ladder.report.phrases import spoken
    from anmok.ladder.show import predictions, thumbnails

    for warning in climbed.outcome.data.warnings:
        warn(spoken(warning, language))
    write_report(climbed.outcome, thumbnails(climbed), output, lang=language, predictions=predictions(climbed))
    climbed.best.write(output / _BEST)


def _glance(
    dataset: Dataset,
    plan: Plan,
    threshold: float,
    output: Path,
    language: Literal["en", "ko"],
    accepted: tuple[str, ...],
    as_json: bool,
) -> None:
    from anmok.ladder.glance import glance, pictures
    from anmok.ladder.report.glance import glance_json, write_glance
    from anmok.ladder.report.glance_words import LABEL_ME, summary
    from anmok.load import load

    table = output / LABEL_ME
    commands = _command(), shlex.join(["anmok", *_labelled(sys.argv[1:], table)])

    with progress_bar("zero-shot") as report:
        model = load(plan.model, accept_licences=accepted)
        seen = glance(dataset, model, plan, threshold=threshold, commands=commands, progress=report)
    if seen.unread:
        warn(f"{len(seen.unread)} images cannot be read and are left out; the first: {seen.unread[0]}")
    for kept in write_glance(seen, pictures(seen, dataset), output, language):
        warn(f"{kept} holds labels already and stays as it is; move it away for a new sample")
    if as_json:
        print(glance_json(seen), end="")
        return
    out.print(Text(summary(seen, language, str(table))), soft_wrap=True)
    note(f"the report is in {output / 'index.html'}; the images to label in {table}")


def _command() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["anmok", *sys.argv[1:]])


def _labelled(words: Sequence[str], table: Path) -> list[str]:
    """What was typed for images without labels, for the time when ``table`` holds some."""
    kept: list[str] = []
    is_value = False
    for word in words:
        name, equals, _ = word.partition("=")
        is_dropped = is_value or name in ("--classes", "--threshold", "--json")
        is_value = name in ("--classes", "--threshold") and not equals and not is_value
        if not is_dropped:
            kept.append(word)
    return [*kept, "--labels", str(table)]
