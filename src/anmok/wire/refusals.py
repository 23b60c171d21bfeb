"""What the wire refuses, and how much of an error may leave the machine."""

from __future__ import annotations

import re

from anmok import errors
from anmok.errors import (
    AnmokError,
    BadMedia,
    BadRequest,
    DoesNotFit,
    Expired,
    Forbidden,
    LicenceRequired,
    UnknownModel,
    Unsupported,
)

# Errors that speak of the request. The others may name folders, mirrors or files of this machine.
_SPEAKING = (BadRequest, BadMedia, UnknownModel, LicenceRequired, Forbidden, Expired, DoesNotFit)
_SENTENCES = {
    errors.MissingDependency: "an optional package that this needs is not installed on the server",
    errors.WeightsUnavailable: "the model's weights cannot be fetched now; try again later",
    errors.BadWeights: "the model's weights cannot be used; the server's log says why",
    errors.CannotWrite: "the server's disk is full or read-only",
}
_LONGEST = 500  # letters of a message; one that names labels could be as long as the request
_CLASSES: dict[str, type[AnmokError]] = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AnmokError)
}


class WrongField(BadRequest):
    """One value of a request is not what it should be. ``field`` is its place in the body: ``ask.labels[2]``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotYet(Unsupported):
    """A route that a dialect has and whose models come later. ``missing`` names what is not there."""

    def __init__(self, what: str, missing: str) -> None:
        super().__init__(f"{what}: this server has no {missing} yet")
        self.missing = missing


def code(error: AnmokError) -> str:
    """The class as programs read it: ``bad_request``, ``unknown_model``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", public_class(error)).lower()


def public_class(error: AnmokError) -> str:
    """The nearest class that ``anmok.errors`` has."""
    return next(kind.__name__ for kind in type(error).__mro__ if _CLASSES.get(kind.__name__) is kind)


def public_message(error: AnmokError) -> str:
    """One line for the caller, without a path of this machine.

    An error that tells the caller to come back (``retry_after``) speaks for itself, as one about the request does.
    """
    if isinstance(error, _SPEAKING) or hasattr(error, "retry_after"):
        return " ".join(str(error).split())[:_LONGEST]
    known = (sentence for kind, sentence in _SENTENCES.items() if isinstance(error, kind))
    return next(known, "the server could not answer; its log says why")


def error_of(name: str, message: str) -> AnmokError:
    """The error that a server named, to be raised by its client; one of no known name is an ``AnmokError``."""
    return _CLASSES.get(name, AnmokError)(message)


def place(error: AnmokError) -> str | None:
    """Which field of the body is wrong, where that is known."""
    return error.field if isinstance(error, WrongField) else None
