"""How a labelling session stands: what is labelled, how good the head is, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import Estimate, Interval, accuracy
from anmok.labelling.agreement import Agreement, Pace, agreement, pace
from anmok.labelling.book import SKIP, UNSURE, Book, Status
from anmok.labelling.outlook import Outlook, outlook
from anmok.labelling.photos import Photos
from anmok.labelling.remembering import Seen
from anmok.labelling.streams import Streams
from anmok.labelling.thinking import Thought

Array = NDArray[np.float32]
Why = Literal["", "no_model", "no_labels", "no_head", "no_words"]
Scorer = Callable[[NDArray[np.int64]], Array]  # numbers (m,) -> scores (m, K)


@dataclass(frozen=True, slots=True)
class Measured:
    """An accuracy on the measuring images, none of which has taught the head.

    ``estimate`` is of those with a label, with its 95 % interval; copies of one file count as one image. ``without``
    is how many measuring images were answered without giving a label (not sure, skipped, or two labels that
    contradict), and ``if_all_wrong`` the interval if the answer would be wrong on every one of them. ``estimate`` is
    None where nothing can be told, and ``why`` says why. The interval is that of a look at a number of images fixed
    beforehand: whoever stops at the moment when it pleases is flattered a little.
    """

    why: Why
    estimate: Estimate | None = None
    without: int = 0
    if_all_wrong: Interval | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the page shows beside the picture.

    images: in the folder; ``seen`` those that the model has looked at, ``broken`` those that cannot be read,
    ``absent`` answered ones that are no longer there, ``left_out`` what leads out of the folder. teach, measure:
    images with a label, by label, of each stream. unsure, skipped, disputed: images without one, by what was said.
    commonest: the accuracy on measuring images of always answering their commonest label, which a head must beat;
    None while none has a label. pending: labelled measuring images that the model has not yet looked at. copies: those
    of which the same bytes were taught, and which therefore do not measure. taught: labels that the head has learnt
    from. trouble: what keeps the model from looking; empty where nothing does. torn: strokes that a kill cut off,
    nobody having been told that they were kept.
    """

    images: int
    seen: int
    broken: int
    absent: int
    left_out: int
    teach: Mapping[str, int]
    measure: Mapping[str, int]
    unsure: int
    skipped: int
    disputed: int
    commonest: float | None
    pending: int
    copies: int
    taught: int
    head: Measured
    zero_shot: Measured
    outlook: Outlook
    agreements: tuple[Agreement, ...]
    paces: tuple[Pace, ...]
    trouble: str
    torn: int


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What there is to go by, as one consistent look at it."""

    photos: Photos
    streams: Streams
    book: Book
    seen: Seen
    thought: Thought
    labels: tuple[str, ...]
    seed: int
    broken: int
    trouble: str
    torn: int


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Measuring images that a model can be judged on: numbers (m,), truth (m,) and digests; and the others."""

    numbers: NDArray[np.int64]
    truth: NDArray[np.int64]
    digests: Sequence[str]
    without: int
    pending: int
    copies: int


def standing(known: Known) -> Standing:
    """How it stands now."""
    verdicts = known.book.verdicts()
    asked = _asked(known, verdicts)
    head = _head(known, asked)
    statuses = Counter(status for status, _ in verdicts.values())
    by_stream = {
        stream: Counter(label for i, (_, label) in verdicts.items() if label and known.streams.of[i] == stream)
        for stream in ("teach", "measure")
    }
    return Standing(
        images=len(known.photos),
        seen=int(known.seen.is_seen.sum()),
        broken=known.broken,
        absent=len(known.book.absent),
        left_out=known.photos.left_out,
        teach={label: by_stream["teach"][label] for label in known.labels},
        measure={label: by_stream["measure"][label] for label in known.labels},
        unsure=statuses["unsure"],
        skipped=statuses["skipped"],
        disputed=statuses["disputed"],
        commonest=_commonest(by_stream["measure"]),
        pending=asked.pending,
        copies=asked.copies,
        taught=known.thought.taught,
        head=head,
        zero_shot=_zero_shot(known, asked),
        outlook=outlook(
            head.estimate,
            known.thought.curve,
            sum(i not in verdicts for i in known.streams.teach),
            sum(i not in verdicts for i in known.streams.measure),
        ),
        agreements=agreements(known.book, known.photos, known.streams, known.labels, known.seed),
        paces=tuple(pace(by, (one.seconds for one in mine)) for by, mine in sorted(known.book.by_person.items())),
        trouble=known.trouble,
        torn=known.torn,
    )


def _commonest(counts: Counter[str]) -> float | None:
    return max(counts.values()) / counts.total() if counts else None


def agreements(
    book: Book, photos: Photos, streams: Streams, labels: tuple[str, ...], seed: int
) -> tuple[Agreement, ...]:
    """Of every two people who have labels on the same measuring images."""
    shared = [(i, book.answers(i)) for i in streams.measure if len(book.by_whom(i)) > 1]
    found = []
    for first, second in combinations(sorted(book.by_person), 2):
        pairs = [
            (photos.names[i], said[first], said[second])
            for i, said in shared
            if said.get(first, SKIP) not in (SKIP, UNSURE) and said.get(second, SKIP) not in (SKIP, UNSURE)
        ]
        one = agreement(first, second, pairs, labels, seed)
        if one is not None:
            found.append(one)
    return tuple(found)


def _asked(known: Known, verdicts: Mapping[int, tuple[Status, str]]) -> _Asked:
    number = {label: i for i, label in enumerate(known.labels)}
    taught = {known.seen.digests[i] for i in verdicts if known.streams.of[i] == "teach"} - {""}
    measuring = [(i, label) for i, (_, label) in verdicts.items() if known.streams.of[i] == "measure"]
    labelled = [(i, label) for i, label in measuring if label]
    seen = [(i, label) for i, label in labelled if known.seen.is_seen[i]]
    good = [(i, label) for i, label in seen if known.seen.digests[i] not in taught]
    return _Asked(
        numbers=np.array([i for i, _ in good], np.int64),
        truth=np.array([number[label] for _, label in good], np.int64),
        digests=[known.seen.digests[i] for i, _ in good],
        without=len(measuring) - len(labelled),
        pending=len(labelled) - len(seen),
        copies=len(seen) - len(good),
    )


def _head(known: Known, asked: _Asked) -> Measured:
    if not known.thought.has_model:
        return Measured("no_model")
    if known.thought.head is None:
        return Measured("no_head")
    head = known.thought.head
    return _measured(asked, lambda rows: head.logits(known.seen.features[rows]))


def _zero_shot(known: Known, asked: _Asked) -> Measured:
    if not known.thought.has_model:
        return Measured("no_model")
    if not known.seen.words.shape[1]:
        return Measured("no_words")
    return _measured(asked, lambda rows: known.seen.words[rows])


def _measured(asked: _Asked, scores: Scorer) -> Measured:
    if not len(asked.numbers):
        return Measured("no_labels", without=asked.without)
    correct = scores(asked.numbers).argmax(1) == asked.truth  # (m,)
    found = accuracy(correct, asked.digests)
    if not asked.without:
        return Measured("", found)
    worst = np.concatenate([correct, np.zeros(asked.without, np.bool_)])
    alone = [*asked.digests, *(f"\0{i}" for i in range(asked.without))]
    return Measured("", found, asked.without, accuracy(worst, alone).interval)
