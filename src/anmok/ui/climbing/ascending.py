"""What a climb does in its thread: the model, the pictures, the ladder, and the files that are left."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from anmok.errors import Busy
from anmok.files import cannot_write
from anmok.ladder import Dataset, Plan, climb
from anmok.ladder.beside import NOT_HERE, Beside
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.measure import Watch
from anmok.ladder.plan import BRIEF
from anmok.ladder.report import write_report
from anmok.ladder.show import predictions, thumbnails
from anmok.load import Model, load
from anmok.ui.climbing.commands import Wanted, follow_up, reproduce
from anmok.ui.climbing.jobs import Job, Work
from anmok.ui.host import Host
from anmok.ui.sources import Source
from anmok.ui.unpacking import remove
from anmok.wire import refusals

BEST: Final = "best"
REPORT: Final = "index.html"  # of each language, in a folder of its name
PHOTOS: Final = "photos"  # what was unpacked, for as long as it is needed

EVERYTHING: Final = "all"
# What a visitor is willing to wait for: the rungs up to one of them.
BUDGETS: Final = {
    "zero_shot": ("0a", "0b", "0c", "0d"),
    "few": ("0a", "0b", "0c", "0d", "1"),
    "linear": ("0a", "0b", "0c", "0d", "1", "2"),
    EVERYTHING: BRIEF,  # what the command line does by itself
}


@dataclass(frozen=True, slots=True)
class Counted:
    """The classes of a folder, and how many images each has."""

    title: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    warnings: tuple[str, ...]


def counted(source: Source, labels: Path | None) -> Counted:
    """What is there to be learned. Raises `BadData` as ``anmok.ladder.dataset.read``."""
    found = _read(source, labels)
    assert found.labels is not None
    counts = np.bincount(found.labels, minlength=len(found.classes))  # (K,)
    return Counted(source.called, found.classes, tuple(int(count) for count in counts), found.warnings)


def models(host: Host) -> tuple[str, ...]:
    """The served names on which a climb can stand: plain models that embed pictures."""
    cards = {name: host.models[name].name for name in host.doing("embed")}
    return tuple(name for name, card in cards.items() if host.targets.get(name, card) == card)


def talkers(host: Host) -> tuple[str, ...]:
    """The served names of models that can be asked about a picture and say how likely a label is."""
    cards = {name: host.models[name] for name in host.doing("chat") if "classify" in host.models[name].tasks}
    return tuple(name for name, card in cards.items() if host.targets.get(name, card.name) == card.name)


@dataclass(frozen=True, slots=True)
class Companions:
    """The served names of further models; empty for none."""

    student: str = ""
    vlm: str = ""


def work(
    host: Host,
    source: Source,
    labels: Path | None,
    wanted: Wanted,
    plan: Plan,
    companions: Companions = Companions(),
) -> Work:
    """The climb as a job carries it out."""

    def ascend(job: Job) -> None:
        try:
            with contextlib.ExitStack() as stack:
                model = stack.enter_context(lent(host, wanted.served))
                dataset = _read(source, labels)
                beside = _beside(host, companions, stack)
                climbed = climb(
                    dataset,
                    model,
                    plan,
                    commands=(reproduce(wanted), follow_up(wanted)),
                    progress=job.progressed,
                    watch=Watch(job.arrived, job.is_enough),
                    beside=beside,
                )
                _write(job, climbed)
        finally:
            remove(job.folder / PHOTOS)

    return ascend


@contextlib.contextmanager
def lent(host: Host, name: str) -> Iterator[Model]:
    """The engine's own model of that served name; where it lives in a process of its own, a second copy of it.

    Raises:
        Busy: what the engine's budget leaves is less than a second copy needs.
        AnmokError: as ``load``.
    """
    with host.engine.lend(name) as model:
        if model.kind is not None:
            yield model
            return
    card, status = host.models[name], host.engine.status()
    free = status.budget_bytes - status.model_bytes
    if card.memory_bytes > free:
        raise Busy(
            f"{name} needs {card.memory_bytes:,} bytes for a climb, and {free:,} are free; try again later", 60.0
        )
    # Its licence was accepted when the server began to serve it.
    with load(card.name, accept_licences=(card.licence.id,)) as copy:
        yield copy


def _beside(host: Host, companions: Companions, stack: contextlib.ExitStack) -> Beside:
    """The further models, for as long as the climb takes."""
    return Beside(_lent_or_why(host, companions.student, stack), _lent_or_why(host, companions.vlm, stack))


def _lent_or_why(host: Host, name: str, stack: contextlib.ExitStack) -> Model | str | None:
    """A further model, or why it is not here: the other rungs stand without it. The report is for visitors, so it has
    no more of the reason than they may be told."""
    if not name:
        return None
    try:
        return stack.enter_context(lent(host, name))
    except NOT_HERE as error:
        return refusals.public_message(error)


def _read(source: Source, labels: Path | None) -> Dataset:
    return read(source.folder, labels=labels)


def _write(job: Job, climbed: Climbed) -> None:
    """Reports in both languages, the table of all answers, and the winner, alone and as a zip."""
    job.progressed("writing", 0, 0)
    pictures, table = thumbnails(climbed), predictions(climbed)
    write_report(climbed.outcome, pictures, job.folder / "en", lang="en", predictions=table)
    write_report(climbed.outcome, pictures, job.folder / "ko", lang="ko", predictions=table)
    climbed.best.write(job.folder / BEST)
    with cannot_write(job.folder):
        shutil.make_archive(str(job.folder / BEST), "zip", job.folder, BEST)
    job.steps, job.outcome = climbed.outcome.steps, climbed.outcome
    job.state = "done"
