"""A batch through the model; where that fails, item by item, so that one bad picture harms nobody else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from anmok import media
from anmok.engine.encodings import Encodings
from anmok.engine.tickets import Answer
from anmok.errors import AnmokError, ModelFailed
from anmok.inputs import Clip, Conversation, Encoded, Item, Prompted, Text
from anmok.load import Model
from anmok.results import Failure
from anmok.tasks import Ask

log: Final = logging.getLogger("anmok.engine")


class Caught:
    """Around code of a model, in a thread that must outlive whatever it raises: keeps the exception as ``error``."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True

    def told(self, name: str, what: str) -> AnmokError:
        """The error for the caller; one that is not ours is logged and hidden behind a sentence."""
        if isinstance(self.error, AnmokError):
            return self.error
        log.error("%s: %s", name, what, exc_info=self.error)
        failed = ModelFailed(f"{name}: {what} ({type(self.error).__name__}); the server's log says more")
        failed.__cause__ = self.error
        return failed


def answered(
    model: Model, items: Sequence[Item], ask: Ask[Any, Any], encodings: Encodings
) -> tuple[list[Answer], bool]:
    """One answer or ``Failure`` per item, in order; and whether the batch failed and was taken apart."""
    caught = Caught()
    with caught:
        answers = model.run(encodings.states(model, items), ask)
        if len(answers) != len(items):
            raise RuntimeError(f"{len(answers)} answers to {len(items)} items")
        return list(answers), False
    if len(items) == 1:
        error = caught.told(model.card.name, "the model failed on an item")
        return [Failure(_described(items[0]), error)], False
    return [answered(model, [item], ask, encodings)[0][0] for item in items], True


def _described(item: Item) -> str:
    if isinstance(item, Prompted):
        return _described(item.image)
    if isinstance(item, Text):
        return "text"
    if isinstance(item, Clip):
        return "clip"
    if isinstance(item, Conversation):
        return "conversation"
    if isinstance(item, Encoded):
        return "state"
    return media.describe(item)
