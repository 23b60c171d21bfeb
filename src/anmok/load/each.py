"""One answer or error per item: a batch that fails is asked again item by item, so that one bad item harms no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from anmok import media
from anmok.catalogue import Card
from anmok.errors import AnmokError, BadRequest, ModelFailed
from anmok.inputs import Clip, Conversation, Encoded, Item, Prompted, Text
from anmok.load.states import Ready
from anmok.results import Failure

T = TypeVar("T")
A = TypeVar("A")

log: Final = logging.getLogger("anmok.load")

AT_ONCE: Final = 4  # questions that wait for somebody else's model at the same time


def each(
    ask: Callable[[Sequence[T]], Sequence[A]],
    items: Sequence[T],
    card: Card,
    caught: type[BaseException] = Exception,
) -> tuple[list[A | AnmokError], bool]:
    """One answer or error per item, in order; and whether the batch failed and was asked again item by item.

    A model whose every question is paid for (``Card.is_billed``) is never asked twice: each item is a question of its
    own from the start, some of them at a time, and its error is its own.

    Args:
        ask: answers a batch, all of it or nothing.
        caught: what does not get out of here; a thread that must outlive everything says ``BaseException``.
    """
    if card.is_billed:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda item: _alone(ask, item, card.name, caught), items)), False
    if len(items) < 2:
        return [_alone(ask, item, card.name, caught) for item in items], False
    try:
        return _whole(ask, items), False
    except caught:  # which item it was is not known
        pass
    return [_alone(ask, item, card.name, caught) for item in items], True


def failed(error: BaseException, name: str, what: str) -> AnmokError:
    """The error for the caller; one that is not ours is logged and hidden behind a sentence."""
    if isinstance(error, AnmokError):
        return error
    log.error("%s: %s", name, what, exc_info=error)
    hidden = ModelFailed(f"{name}: {what} ({type(error).__name__}); the log says more")
    hidden.__cause__ = error
    return hidden


def all_read(ready: Sequence[Ready | AnmokError]) -> list[Ready]:
    """What was read of a batch.

    Raises:
        AnmokError: one of the items was not.
    """
    good = [one for one in ready if isinstance(one, Ready)]
    if len(good) < len(ready):
        raise next(one for one in ready if isinstance(one, AnmokError))
    return good


def mapped(
    ask: Callable[[Sequence[Ready]], Sequence[A]],
    batches: Iterable[tuple[Sequence[Item], Sequence[Ready | AnmokError]]],
    card: Card,
) -> Iterator[A | Failure]:
    """One answer or ``Failure`` per item, in order, of batches of items and what was read of each.

    Raises:
        BadRequest: none of the first batch could be asked, each for the same reason.
    """
    has_begun = False
    for items, ready in batches:
        good = [one for one in ready if isinstance(one, Ready)]
        found, _ = each(ask, good, card)
        if not has_begun:
            _check_question(found)
        has_begun = has_begun or bool(found)
        answers = iter(found)
        for item, one in zip(items, ready, strict=True):
            answer = one if isinstance(one, AnmokError) else next(answers)
            yield _failure(item, answer) if isinstance(answer, AnmokError) else answer


def described(item: Item) -> str:
    """What a failure calls the item: a path, or what kind of thing it is."""
    if isinstance(item, Prompted):
        return described(item.image)
    if isinstance(item, Text):
        return "text"
    if isinstance(item, Clip):
        return "clip"
    if isinstance(item, Conversation):
        return "conversation"
    if isinstance(item, Encoded):
        return "state"
    return media.describe(item)


def _whole(ask: Callable[[Sequence[T]], Sequence[A]], items: Sequence[T]) -> list[A | AnmokError]:
    answers = ask(items)
    if len(answers) != len(items):
        raise RuntimeError(f"{len(answers)} answers to {len(items)} items")
    return list(answers)


def _alone(
    ask: Callable[[Sequence[T]], Sequence[A]], item: T, name: str, caught: type[BaseException]
) -> A | AnmokError:
    try:
        return _whole(ask, [item])[0]
    except caught as error:
        return failed(error, name, "the model failed on an item")


def _check_question(found: Sequence[object]) -> None:
    """Is the question wrong, and not the items? Then the rest is not worth reading."""
    refused = [one for one in found if isinstance(one, BadRequest)]
    if len(refused) == len(found) > 1 and len({str(one) for one in refused}) == 1:
        raise refused[0]


def _failure(item: Item, error: AnmokError) -> Failure:
    """The error in the place of the item's answer, without the frames that it came through: they hold the item."""
    cause = error.__cause__ if isinstance(error, ModelFailed) else None
    for one in (error, cause):
        if one is not None:
            one.__traceback__ = one.__context__ = None
    error.__cause__ = cause
    return Failure(described(item), error)
