"""What an engine says instead of an answer. Each has its HTTP status; what passes by itself says when.

AnmokError
├── Refused               11   503   not now; ``retry_after`` says when
│   ├── Busy              11   429   the queue is full
│   ├── Loading           11   503   the model is on its way into memory, or waits for room there
│   └── Closing           11   503   the engine takes no more work
├── Expired               12   504   the deadline passed before the net saw the request
├── DoesNotFit            13   507   a model that is larger than the memory set aside for models
├── ModelFailed            1   500   the model raised something that it should not have
└── BadRequest
    └── TooMuch            2   413   one request that is larger than the whole queue
"""

from __future__ import annotations

from anmok.errors import AnmokError, BadRequest


class Refused(AnmokError):
    """Not now. ``retry_after`` is the number of seconds after which it is worth asking again."""

    exit_code, status = 11, 503

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Refused):
    """The queue is full. Nothing of the request was kept."""

    status = 429


class Loading(Refused):
    """The model is not in memory yet, and the caller did not want to wait."""


class Closing(Refused):
    """The engine is shutting down."""


class Expired(AnmokError):
    """The deadline passed while the request was waiting. The net never saw what was left of it."""

    exit_code, status = 12, 504


class DoesNotFit(AnmokError):
    """A model that is larger than what the budget leaves, whatever else is sent away."""

    exit_code, status = 13, 507


class ModelFailed(AnmokError):
    """The model raised what is not one of our errors. That one is the ``__cause__``: for the log, not for a client."""


class TooMuch(BadRequest):
    """One request that is larger than the whole queue: asking again does not help, splitting it does."""

    status = 413
