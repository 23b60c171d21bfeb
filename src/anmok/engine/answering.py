"""A batch through the model, in a thread that must outlive whatever comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from anmok.engine.encodings import Encodings
from anmok.engine.tickets import Answer
from anmok.errors import AnmokError
from anmok.inputs import Item
from anmok.load import Model
from anmok.load.each import described, each, failed
from anmok.results import Failure
from anmok.tasks import Ask


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
        assert self.error is not None
        return failed(self.error, name, what)


def answered(
    model: Model, items: Sequence[Item], ask: Ask[Any, Any], encodings: Encodings
) -> tuple[list[Answer], bool]:
    """One answer or ``Failure`` per item, in order; and whether the batch failed and was taken apart."""

    def asked(some: Sequence[Item]) -> Sequence[Answer]:
        answers: Sequence[Answer] = model.run(encodings.states(model, some), ask)
        return answers

    found, is_retried = each(asked, items, model.card, BaseException)
    answers = [
        Failure(described(item), one) if isinstance(one, AnmokError) else one
        for item, one in zip(items, found, strict=True)
    ]
    return answers, is_retried
