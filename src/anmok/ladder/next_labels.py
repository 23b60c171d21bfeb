"""Which images of a folder to label next, for a head that the ladder wrote."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import BadData, BadRequest
from anmok.evidence.calibration import softmax
from anmok.evidence.choosing import next_to_label
from anmok.files import write_text
from anmok.ladder.features import Progress, look
from anmok.load import Adapter, Model, logits_of
from anmok.tasks import Classify

HEADER = ("image", "label", "stream", "guess", "score")
STREAM = "teach"  # chosen, so harder than the rest: they teach, and never measure


@dataclass(frozen=True, slots=True)
class Next:
    """``image``: its path below the folder. ``guess``: what the head says today, ``score``: how sure it is."""

    image: str
    guess: str
    score: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """The images to label, the one that teaches most first; how many were to choose from."""

    images: tuple[Next, ...]
    unlabelled: int
    unread: int


def next_images(
    folder: Path,
    model: Model,
    labelled: Collection[str] = (),
    count: int = 20,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Chosen:
    """``labelled``: paths below the folder that have a label already; images in a sub-folder named like a class have
    one too.

    Raises:
        BadData: no such folder, or no image without a label in it.
        BadRequest: a model without a head of the ladder's, or a count below 1.
    """
    adapter = model.adapter
    if adapter is None:
        raise BadRequest(f"{model.card.name} has no head of its own; give one that `anmok ladder` wrote: report/best")
    if not folder.is_dir():
        raise BadData(f"{folder}: no such folder; give the one with the images to choose from")
    paths = list(media.find(folder))
    names = [path.relative_to(folder).as_posix() for path in paths]
    looked = look(paths, model, progress=progress)
    kept = [names[i] for i in looked.indices]
    is_labelled = np.array([_has_label(name, adapter.labels, labelled) for name in kept], np.bool_)
    if is_labelled.all():
        raise BadData(f"{folder}: no image without a label that can be read; there is nothing to choose from")
    chance = _chances(adapter, model, [paths[i] for i in looked.indices], looked.features)  # (n, K)
    rows = next_to_label(looked.features, chance, is_labelled, count, seed=seed)
    guesses = chance.argmax(1)
    images = tuple(Next(kept[i], adapter.labels[int(guesses[i])], float(chance[i].max())) for i in rows)
    return Chosen(images, int((~is_labelled).sum()), len(looked.failures))


def write_next(chosen: Chosen, table: Path) -> None:
    """A CSV file whose column ``label`` is to be filled in, and which `anmok ladder --labels` reads then.

    Raises:
        BadRequest: the file is there already; it may hold labels.
        CannotWrite: the disk is full or read-only.
    """
    if table.exists():
        raise BadRequest(f"{table} is there already and may hold labels; give another file by -o")
    stream = io.StringIO()
    rows = [(one.image, "", STREAM, one.guess, f"{one.score:.3f}") for one in chosen.images]
    csv.writer(stream).writerows([HEADER, *rows])
    write_text(table, stream.getvalue())


def _has_label(name: str, labels: tuple[str, ...], labelled: Collection[str]) -> bool:
    return name in labelled or any(part in labels for part in name.split("/")[:-1])


def _chances(adapter: Adapter, model: Model, paths: list[Path], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, K) of the head; of the text tower where there is none. A head on tiles is shown the pictures again."""
    if adapter.head is not None and adapter.tiling is None:
        return softmax(adapter.head.logits(features), adapter.temperature)
    answers = model.run(paths, Classify())  # at its temperature already
    return softmax(np.stack([logits_of(one) for one in answers]))
