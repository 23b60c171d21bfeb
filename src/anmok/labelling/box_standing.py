"""How a box session stands: what is done, and how good the model's proposals are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from anmok import geometry
from anmok.evidence.intervals import Estimate, accuracy
from anmok.labelling.agreement import Pace, pace
from anmok.labelling.box_book import Box, BoxBook, BoxStroke
from anmok.labelling.photos import Photos
from anmok.labelling.proposing import Proposer
from anmok.labelling.streams import Stream, Streams

OVERLAP = 0.5  # IoU with where a person has put it, from which a proposal counts as right


@dataclass(frozen=True, slots=True)
class BoxStanding:
    """images: in the folder; ``proposed`` those that the model has looked at, ``broken`` those that cannot be read.
    done: images by stream. boxes: kept boxes by label, of all images that are done.

    precision: of the proposals on measuring images, how many are right: accepted, or moved with the same label and an
    IoU of at least 0.5. recall: of the boxes that people kept there, how many a right proposal had found. Both with
    95 % intervals; boxes of one image count as a group. None where nothing can be told. Whoever is shown a box accepts
    it more easily than he would have drawn it: both are flattered by that.
    """

    images: int
    proposed: int
    broken: int
    done: Mapping[Stream, int]
    boxes: Mapping[str, int]
    precision: Estimate | None
    recall: Estimate | None
    paces: tuple[Pace, ...]
    trouble: str
    torn: int


def box_standing(book: BoxBook, streams: Streams, photos: Photos, proposer: Proposer, torn: int) -> BoxStanding:
    """How it stands now."""
    done = {i: book.boxes(i) for i in book.done}
    judged = {i: boxes for i, boxes in done.items() if streams.of[i] == "measure"}
    sides = Counter(streams.of[i] for i in done)
    kept = Counter(box.label for boxes in done.values() for box in boxes if box.state != "rejected")
    return BoxStanding(
        images=len(photos),
        proposed=len(book.proposed),
        broken=len(proposer.broken),
        done={"teach": sides["teach"], "measure": sides["measure"]},
        boxes=dict(kept),
        precision=_share(judged, lambda box: box.proposal is not None),
        recall=_share(judged, lambda box: box.state != "rejected"),
        paces=tuple(_pace(by, mine) for by, mine in sorted(book.by_person.items())),
        trouble=proposer.background.trouble,
        torn=torn,
    )


def _share(judged: Mapping[int, tuple[Box, ...]], counts: Callable[[Box], bool]) -> Estimate | None:
    """Of the boxes that count, those that the model had right."""
    rows = [(_is_right(box), number) for number, boxes in judged.items() for box in boxes if counts(box)]
    return accuracy([is_right for is_right, _ in rows], [number for _, number in rows]) if rows else None


def _is_right(box: Box) -> bool:
    if box.proposal is None or box.state == "rejected" or box.label != box.proposed_label:
        return False
    both = np.asarray([box.proposal, box.xyxy], np.float32)
    return float(geometry.iou(both[:1], both[1:])[0, 0]) >= OVERLAP


def _pace(by: str, strokes: list[BoxStroke]) -> Pace:
    return pace(by, (stroke.seconds for stroke in strokes))
