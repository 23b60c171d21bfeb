"""``ladder``: from photos to a verdict."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from anmok.cli.console import err, note, out, progress_bar, warn
from anmok.cli.stakes import Typed
from anmok.errors import BadRequest

if TYPE_CHECKING:
    from anmok.ladder import Dataset, Plan
    from anmok.ladder.climb import Climbed, Progress
    from anmok.load import Model

_BEST = "best"  # the winner, in the folder of the report
_STUDENT = "student"  # the distilled one, recommended or not
_TYPED = ("COMMANDLINE", "ENVIRONMENT")  # where a flag's value comes from that the user gave
_DEMO_DESCRIPTION = "solar (real photos, non-commercial licence), textile or digits."


def ladder_command(
    context: typer.Context,
    photos: Annotated[str, typer.Argument(help="A folder with a sub-folder per class, or hf:owner/name.")] = "",
    labels: Annotated[Path | None, typer.Option(help="A CSV file: image,label[,group].")] = None,
    classes: Annotated[str, typer.Option(help="For a folder without labels: cat,dog.")] = "",
    test: Annotated[Path | None, typer.Option(help="Your own test folder, laid out like the other.")] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="A CSV file: label,sentence. Several rows a label are averaged.")
    ] = None,
    demo: Annotated[str, typer.Option(help=_DEMO_DESCRIPTION)] = "",
    task: Annotated[
        str, typer.Option(help="classify, or inspect: good pictures known, strange ones to find.")
    ] = "classify",
    good: Annotated[
        str, typer.Option(help="The class of good ones, for inspect, --synthesise and --max-overkill.")
    ] = "good",
    costs: Annotated[
        Path | None, typer.Option(help="A CSV file of what errors cost: a line for what is shown, a column an answer.")
    ] = None,
    prevalence: Annotated[str, typer.Option(help="How common each class is: defect=0.02,good=0.98.")] = "",
    max_overkill: Annotated[
        str, typer.Option(help="The share of good ones that may be called something else, such as 1%.")
    ] = "",
    thing: Annotated[str, typer.Option(help="For inspect: what the pictures show, such as bottle.")] = "object",
    overkill: Annotated[float, typer.Option(help="For inspect: good pictures that may be called strange.")] = 0.05,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="For inspect: a good and a bad picture of one file name show one piece.")
    ] = False,
    model: Annotated[str, typer.Option("--model", "-m", help="A name from `anmok models`.")] = "mini",
    output: Annotated[Path, typer.Option("--out", help="The folder of the report.")] = Path("report"),
    margin: Annotated[float, typer.Option(help="The smallest gain that matters to you: 0.01 is one point.")] = 0.01,
    budget: Annotated[str, typer.Option(help="Time for the rungs that fine-tune: 90s, 20m, 2h.")] = "",
    student: Annotated[str, typer.Option(help="A small model to distil into, such as efficientnet-lite0.")] = "",
    vlm: Annotated[
        str, typer.Option(help="A vision-language model to ask about each image, such as smolvlm-256m.")
    ] = "",
    synthetic: Annotated[
        Path | None, typer.Option(help="A folder that `anmok synth` wrote, to learn from too.")
    ] = None,
    synthesise: Annotated[str, typer.Option(help="Defects to put into good pictures: scratch,dent=bad.")] = "",
    synthesise_count: Annotated[int, typer.Option(help="How many such pictures, at most.")] = 300,
    describe: Annotated[str, typer.Option(help="Who describes the classes: http://host/v1#model, or smollm2.")] = "",
    describe_count: Annotated[int, typer.Option(help="Sentences for each class.")] = 10,
    describe_key: Annotated[str, typer.Option(help="The environment variable that holds the API key.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Fine-tune anew, whatever earlier runs have kept.")] = False,
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
    from anmok.cli.ladder_wishes import Pictures, Words, with_wishes, write_descriptions
    from anmok.ladder.dataset import read_sentences
    from anmok.ladder.plan import DEFAULT_BUDGET, Plan, rungs_for
    from anmok.ladder.report import render, report_json

    _check_places(photos, output, lang)
    accepted = tuple(accept_licence or ())
    told = (model, output, margin, groups, seed, lang, as_json, accepted, good, thing, overkill, labels, pairs)
    if _is_other_task(task, context, (photos, *told)):
        return
    dataset = _dataset(photos, labels, _names(classes), test, demo, accepted)
    plan = Plan(
        model=model,
        margin=margin,
        groups=groups,
        seed=seed,
        rungs=rungs_for(has_budget=bool(budget), has_student=bool(student), has_vlm=bool(vlm)),
        budget=_seconds(budget) if budget else DEFAULT_BUDGET,
        descriptions=() if descriptions is None else read_sentences(descriptions, dataset.classes),
        stakes=Typed(costs, prevalence, max_overkill, good).stakes(dataset.classes),
        student=student,
        vlm=vlm,
        is_fresh=fresh,
    )
    pictures = Pictures(synthetic, synthesise, good, synthesise_count)
    plan = with_wishes(plan, dataset, pictures, Words(describe, describe_count, describe_key))
    language: Literal["en", "ko"] = "ko" if lang == "ko" else "en"
    if dataset.labels is None:
        _glance(dataset, plan, threshold, output, language, accepted, as_json)
        return
    if threshold:
        raise BadRequest("--threshold is for images without labels, with --classes; drop it")
    climbed = _climbed(dataset, plan, accepted, output / _BEST)
    _write(climbed, output, language)
    write_descriptions(plan.written, output)
    if as_json:
        print(report_json(climbed.outcome), end="")
        return
    render(climbed.outcome, out, language)
    note(f"the report is in {output / 'index.html'}; the winner in {output / _BEST}")


def _is_other_task(task: str, context: typer.Context, flags: tuple[Any, ...]) -> bool:
    """Does it, where it is another one than ``classify``."""
    from anmok.cli.ladder_inspect import Asked, ladder_inspect

    asked = Asked(*flags)
    if task == "classify":
        if asked.is_paired:
            raise BadRequest("--pairs is for --task inspect: give it, or drop --pairs")
        return False
    sources = {name: context.get_parameter_source(name) for name in context.params}
    ladder_inspect(task, asked, [name for name, one in sources.items() if one is not None and one.name in _TYPED])
    return True


def _check_places(photos: str, output: Path, lang: str) -> None:
    from anmok.cli.outputs import check_folder

    if lang not in ("en", "ko"):
        raise BadRequest(f"--lang {lang}: want en or ko")
    check_folder(output, "give another folder by --out")
    if photos and output.resolve() == Path(photos).expanduser().resolve():
        raise BadRequest(f"--out {output} holds the photos; give another folder")


def _names(classes: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in classes.split(",") if name.strip())


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
    from anmok.ladder.beside import Beside
    from anmok.load import load

    model = load(plan.model, accept_licences=accepted)
    beside = Beside(_loaded(plan.student, accepted), _loaded(plan.vlm, accepted))
    commands = _command(), shlex.join(["anmok", "classify", "new.jpg", "--head", _near(best)])
    with stages() as progress:
        return climb(dataset, model, plan, commands=commands, progress=progress, beside=beside)


def _loaded(name: str, accepted: tuple[str, ...]) -> Model | str | None:
    """A model beside the ladder's own, or why it is not here; the other rungs stand without it."""
    from anmok.ladder.beside import NOT_HERE
    from anmok.load import load

    try:
        return load(name, accept_licences=accepted) if name else None
    except NOT_HERE as error:
        return str(error)


def _seconds(duration: str) -> float:
    """``90s``, ``20m``, ``2h`` or plain seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", duration.strip().lower())
    if found is None:
        raise BadRequest(f"--budget {duration}: want a time such as 90s, 20m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _near(path: Path) -> str:
    """Relative to where we stand, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


@contextmanager
def stages() -> Iterator[Progress]:
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
    if climbed.student is not None:
        climbed.student.write(output / _STUDENT)


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
