"""A folder without labels: rung 0 alone, and what labels would buy. Nothing here claims an accuracy."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anmok import __version__, media
from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import Interval
from anmok.evidence.power import interval_for
from anmok.ladder.dataset import Dataset
from anmok.ladder.features import Looked, look
from anmok.ladder.findings import pairs
from anmok.ladder.grouping import near_duplicates
from anmok.ladder.outcome import DuplicatePair
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import TINY, digest
from anmok.ladder.show import thumbnail
from anmok.load import Model
from anmok.results import Scores
from anmok.tasks import Classify

FORMAT = "anmok.glance/1"
FIRST, MORE = 50, 200  # labels to begin with, and to go on to
ACCURACIES = (0.6, 0.75, 0.9)  # at which the intervals to come are worked out: nobody knows the true one
_LEAST_SURE, _SUREST = 12, 4  # images shown: over all, and of each class


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image. ``score`` is its own, and no chance of being right: nobody has checked it."""

    image: str
    label: str | None  # ``best``, or None where the model abstains
    best: str
    score: float
    second: str
    second_score: float


@dataclass(frozen=True, slots=True)
class Share:
    """The images that were given one class."""

    name: str
    read_as: str  # what the text tower was given for the name
    images: int
    share: float  # of all images that could be read
    surest: tuple[int, ...]  # those with the highest scores: indices into ``Glance.predictions``


@dataclass(frozen=True, slots=True)
class Prospect:
    """The interval that ``labels`` random labels would give if the accuracy were what it says.

    ``tested``: how many of them answer. The ladder tests zero-shot on all where they are few, and seals a part of
    them as test set where they are many.
    """

    labels: int
    tested: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Glance:
    """Everything that the report of a first look shows: plain frozen values. ``sample`` are the images to label, in
    the order in which to do it: `FIRST` of them to begin with, at most `MORE` in all."""

    model: str
    model_note: str  # what the model is, in one honest sentence
    title: str
    images: int  # that could be read
    classes: tuple[str, ...]
    is_described: bool  # own sentences stand for the names of classes
    threshold: float  # below this score the model abstains
    abstained: int
    shares: tuple[Share, ...]  # the commonest first
    least_sure: tuple[int, ...]  # indices into ``predictions``
    duplicates: tuple[DuplicatePair, ...]  # the nearest; a conflict is a pair that the model gave two answers
    copies: int  # images that are near-copies of another one
    prospects: tuple[Prospect, ...]
    sample: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    unread: tuple[str, ...]
    licences: tuple[tuple[str, str], ...]  # what, under which
    data_hash: str
    seed: int
    reproduce: str  # the command
    follow_up: str  # the command for when the sample is labelled
    seconds: float
    version: str = __version__
    format: str = FORMAT

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, in the order of ``predictions``."""
        return tuple(prediction.image for prediction in self.predictions)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def glance(
    dataset: Dataset,
    model: Model,
    plan: Plan,
    *,
    threshold: float = 0.0,
    commands: tuple[str, str] = ("", ""),
    progress: Callable[[int, int], None] | None = None,
) -> Glance:
    """Zero-shot answers for every image that can be read. ``commands``: the one that was typed, and the one to type
    when the sample is labelled.

    Raises:
        BadData: not one image can be read.
        BadRequest: the model brings a head that was trained on labels.
        CannotWrite: the cache of features cannot be written.
        Unsupported: the model has no text tower.
        Untranslatable: a class that the text tower cannot read.
    """
    start = time.perf_counter()
    ask = _ask(dataset.classes, model, plan, threshold)
    looked = look(dataset.paths, model, progress=progress)
    unread = tuple(dataset.names[index] for index, _ in looked.failures)
    if len(looked.indices) == 0:
        raise BadData(f"{dataset.title}: not one of its {len(unread)} images can be read; {looked.failures[0][1]}")
    names = [dataset.names[index] for index in looked.indices]
    answers = model.run([model.state(row) for row in looked.features], ask)
    predictions = tuple(_prediction(name, answer) for name, answer in zip(names, answers, strict=True))
    duplicates, copies = _duplicates(looked, predictions, dataset.classes)
    order = drawn(names, plan.seed)
    return Glance(
        model=model.card.name,
        model_note=model.card.summary,
        title=dataset.title,
        images=len(predictions),
        classes=dataset.classes,
        is_described=ask.descriptions is not None,
        threshold=threshold,
        abstained=sum(one.label is None for one in predictions),
        shares=_shares(predictions, dataset.classes, answers[0].read_as or dataset.classes),
        least_sure=tuple(sorted(range(len(predictions)), key=lambda i: predictions[i].score)[:_LEAST_SURE]),
        duplicates=duplicates,
        copies=copies,
        prospects=prospects(len(order), plan.test_share),
        sample=order[:MORE],
        predictions=predictions,
        unread=unread,
        licences=((model.card.name, model.card.licence.name),),
        data_hash=digest([facts.sha256 for facts in looked.facts], []),
        seed=plan.seed,
        reproduce=commands[0],
        follow_up=commands[1],
        seconds=time.perf_counter() - start,
    )


def pictures(seen: Glance, dataset: Dataset) -> dict[int, bytes]:
    """Thumbnails, by index into ``seen.predictions``, of the images that the report shows."""
    wanted = set(seen.least_sure) | {index for row in seen.shares for index in row.surest}
    wanted |= {index for pair in seen.duplicates for index in (pair.first, pair.second)}
    paths = dict(zip(dataset.names, dataset.paths, strict=True))
    return {index: thumbnail(media.read(paths[seen.predictions[index].image])) for index in sorted(wanted)}


def drawn(names: Sequence[str], seed: int) -> tuple[str, ...]:
    """All names in a random order that is the same on every machine, whatever the order in which they come.

    Images that are added later fall in between and leave the others where they were. A name that UTF-8 cannot hold
    is left out: no table could tell it back.
    """
    keys = {name: hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names if _is_text(name)}
    return tuple(sorted(keys, key=keys.__getitem__))


def prospects(images: int, test_share: float) -> tuple[Prospect, ...]:
    """The intervals (Wilson's) that ``FIRST`` and ``MORE`` labels would give, or all images where there are fewer.

    From ``TINY`` labels on, the ladder seals ``test_share`` of them as test set; both sizes are told then.
    """
    found = []
    for labels in sorted({min(images, FIRST), min(images, MORE)} - {0}):
        sealed = [round(test_share * labels)] if labels >= TINY else []
        found += [
            Prospect(labels, tested, accuracy, interval_for(tested, accuracy))
            for tested in (*sealed, labels)
            for accuracy in ACCURACIES
        ]
    return tuple(found)


def _ask(classes: tuple[str, ...], model: Model, plan: Plan, threshold: float) -> Classify:
    if model.adapter is not None:
        raise BadRequest(f"--model {plan.model}: an adapted model; a first look takes the plain {model.card.name}")
    ask = Classify(classes, descriptions=plan.described(classes), threshold=threshold)
    model.towers.text_vectors(ask)  # a class that cannot be read is refused before thousands of pictures are
    return ask


def _prediction(name: str, answer: Scores) -> Prediction:
    (best, score), (second, second_score) = answer.top(2)
    return Prediction(name, answer.label, best, score, second, second_score)


def _shares(predictions: Sequence[Prediction], classes: Sequence[str], read_as: Sequence[str]) -> tuple[Share, ...]:
    given: dict[str, list[int]] = {name: [] for name in classes}
    for index, prediction in enumerate(predictions):
        if prediction.label is not None:
            given[prediction.label].append(index)
    rows = []
    for name, reading in zip(classes, read_as, strict=True):
        surest = sorted(given[name], key=lambda i: -predictions[i].score)[:_SUREST]
        count = len(given[name])
        rows.append(Share(name, reading, count, count / len(predictions), tuple(surest)))
    return tuple(sorted(rows, key=lambda row: -row.images))


def _duplicates(
    looked: Looked, predictions: Sequence[Prediction], classes: Sequence[str]
) -> tuple[tuple[DuplicatePair, ...], int]:
    found = near_duplicates(looked)
    places = {name: index for index, name in enumerate(classes)}
    answers = np.asarray([places[prediction.best] for prediction in predictions])  # (n,)
    sizes = np.bincount(found.group)  # (G,)
    return pairs(found, answers.astype(np.int64)), int((sizes[found.group] > 1).sum())


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, carried along as surrogates
        return False
    return True
