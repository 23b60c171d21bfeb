"""From labels to what a detector is asked, and from what it says back to the caller's labels. Pure numpy.

A detector that reads text gets one prompt, ``traffic light . light .``, and scores its tokens. Here every phrase keeps
the place of its own tokens, so that a box is given one whole phrase and with it the label that the phrase was given
for. Reading the label off the best tokens instead, as the published code of Grounding DINO does, can name a box by
half a phrase or by two at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.words import english

Scores = NDArray[np.floating]

# The names of COCO's classes in its own spelling and in Pascal VOC's, which published configurations use as well.
_SPELLINGS = (
    ("airplane", "aeroplane"),
    ("cell phone", "mobile phone"),
    ("couch", "sofa"),
    ("dining table", "diningtable"),
    ("hair drier", "hair dryer"),
    ("motorcycle", "motorbike"),
    ("potted plant", "pottedplant"),
    ("tv", "tvmonitor", "television"),
)
_SEPARATORS = str.maketrans(".?", "  ")
_OFFERED = 3  # names in a message


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. ``phrases`` are unique and sorted, so that the order of the labels changes nothing;
    ``owners`` are for each label the places of its phrases among them; ``read_as`` is the word for each label, empty
    where the caller gave the phrases."""

    phrases: tuple[str, ...]
    owners: tuple[tuple[int, ...], ...]
    read_as: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Phrases as one row of T tokens, ``start`` phrase stop phrase stop ... ``end``, and how they are kept apart.

    ``ids`` int64 (T,); ``together`` bool (T, T) says which tokens see each other: those of one phrase with its stop;
    ``places`` int64 (T,) count from 0 within each phrase; ``spans`` are the tokens (first, one past the last) of each
    phrase without its stop.
    """

    ids: NDArray[np.int64]
    together: NDArray[np.bool_]
    places: NDArray[np.int64]
    spans: tuple[tuple[int, int], ...]


def wanted(labels: Sequence[str], phrases: Sequence[Sequence[str]] | None, languages: tuple[str, ...]) -> Wanted:
    """Labels, or the phrases that the caller gave for each, in the words and the spelling that the model reads.

    Raises:
        Untranslatable: a word in a language that the model does not read and that no table holds.
        BadRequest: a phrase without a letter.
    """
    groups = [english(group, languages) for group in phrases] if phrases is not None else None
    read_as = english(labels, languages) if groups is None else ()
    spelled = [[spelling(phrase) for phrase in group] for group in (groups or [(word,) for word in read_as])]
    unique = sorted({phrase for group in spelled for phrase in group})
    place = {phrase: i for i, phrase in enumerate(unique)}
    owners = tuple(tuple(dict.fromkeys(place[phrase] for phrase in group)) for group in spelled)
    return Wanted(tuple(unique), owners, read_as)


def spelling(phrase: str) -> str:
    """Lower case, and without the full stops and question marks that would cut the phrase in two.

    Raises:
        BadRequest: nothing is left.
    """
    text = " ".join(phrase.lower().translate(_SEPARATORS).split())
    if not text:
        raise BadRequest(f"label {phrase!r}: there is no word in it to look for")
    return text


def packed(lengths: Sequence[int], room: int) -> tuple[tuple[int, ...], ...]:
    """Items of these lengths, in order, over as few groups of at most ``room`` as that takes, none much emptier
    than the others: a phrase alone in its prompt would score higher than in company.

    Raises:
        BadRequest: one item alone is longer than ``room``.
    """
    if max(lengths, default=0) > room:
        raise BadRequest(f"a label of {max(lengths)} tokens, where one prompt has room for {room}: shorten it")
    fewest = len(_filled(lengths, room))
    low, high = max(max(lengths, default=0), 1), room
    while low < high:  # the smallest room that needs no further group
        middle = (low + high) // 2
        low, high = (low, middle) if len(_filled(lengths, middle)) <= fewest else (middle + 1, high)
    return _filled(lengths, low)


def prompt(phrases: Sequence[Sequence[int]], start: int, stop: int, end: int) -> Prompt:
    """The token ids of each phrase, to one row. Neither ``start`` nor ``end`` sees another token."""
    ids, blocks, places, spans = [start], [0], [0], []
    for number, tokens in enumerate(phrases, start=1):
        spans.append((len(ids), len(ids) + len(tokens)))
        ids += [*tokens, stop]
        blocks += [number] * (len(tokens) + 1)
        places += range(len(tokens) + 1)
    blocks.append(len(phrases) + 1)
    block = np.asarray(blocks)
    together = block[:, None] == block[None, :]  # (T, T)
    return Prompt(np.asarray([*ids, end], np.int64), together, np.asarray([*places, 0], np.int64), tuple(spans))


def phrase_scores(tokens: Scores, spans: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Scores of tokens (N, T) to scores of phrases (N, P): the best of a phrase's own tokens."""
    bounds = np.asarray(spans, np.int64).ravel()  # (2 P,); what lies between two phrases is every second stretch
    return np.asarray(np.maximum.reduceat(tokens, bounds, axis=1)[:, ::2], np.float32)  # (N, P)


def by_label(scores: Scores, owners: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Scores of phrases or classes (N, P) to scores of labels (N, K): the best of those that a label owns."""
    columns = np.concatenate([np.asarray(group, np.int64) for group in owners])
    starts = np.cumsum([0, *(len(group) for group in owners[:-1])])
    return np.asarray(np.maximum.reduceat(scores[:, columns], starts, axis=1), np.float32)


def named(scores: Scores, owners: Sequence[Sequence[int]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of phrases (N, P) to the best label of each row and its score, both (N,); the first label of a tie."""
    labels = by_label(scores, owners)  # (N, K)
    class_ids = labels.argmax(axis=1).astype(np.int64)  # (N,)
    return labels[np.arange(len(labels)), class_ids], class_ids


def chosen(known: Sequence[str], sought: Wanted, labels: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """For each label the places of its phrases among the names of a closed set; capitals do not matter, nor which
    of two spellings of a class of COCO it is.

    Raises:
        BadRequest: a name that the set does not have; the message offers the nearest.
    """
    place = _places(known)
    for label, group in zip(labels, sought.owners, strict=True):
        for phrase in (sought.phrases[i] for i in group):
            if phrase not in place:
                near = [known[place[one]] for one in difflib.get_close_matches(phrase, place, n=_OFFERED, cutoff=0.5)]
                shown = label if spelling(label) == phrase else f"{label} ({phrase})"
                hint = f"did you mean {' or '.join(near)}?" if near else "a model that reads text finds other things"
                raise BadRequest(f"{shown} is none of the {len(known)} classes of this model; {hint}")
    return tuple(tuple(place[sought.phrases[i]] for i in group) for group in sought.owners)


def _places(known: Sequence[str]) -> dict[str, int]:
    place = {spelling(name): i for i, name in reversed(list(enumerate(known)))}
    for group in _SPELLINGS:
        held = [place[name] for name in group if name in place]
        place = {**dict.fromkeys(group, held[0]), **place} if held else place
    return place


def _filled(lengths: Sequence[int], room: int) -> tuple[tuple[int, ...], ...]:
    groups: list[list[int]] = []
    left = 0
    for index, length in enumerate(lengths):
        if not groups or length > left:
            groups.append([])
            left = room
        groups[-1].append(index)
        left -= length
    return tuple(tuple(group) for group in groups)
