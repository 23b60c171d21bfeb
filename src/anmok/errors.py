"""One tree of errors. Each class knows its exit code (CLI) and its HTTP status (server).

    AnmokError                 1   500
    ├── BadRequest             2   422   the question makes no sense as asked
    │   ├── Untranslatable     2   422   a label that the model's text tower cannot read
    │   ├── WrongState         2   409   an encoding shown to another model than the one that made it
    │   ├── Unsupported        2   501   a task, device or runtime that this model does not have
    │   └── TooMuch            2   413   one request that is larger than what is let in at all
    ├── BadMedia               3   422   a file that is no image, or too large, or damaged
    ├── BadData                3   422   a data set, label table or predictions file that cannot be used
    ├── UnknownModel           4   404   no card of that name
    ├── LicenceRequired        5   403   weights or images whose licence was not accepted
    ├── MissingDependency      6   501   an optional package is not installed
    ├── WeightsUnavailable     7   503   the hub or the registry cannot be reached
    ├── BadWeights             8   500   weights that are damaged, unsafe or do not fit the net
    ├── CannotWrite            9   507   a full or read-only disk
    ├── GateFailed            10   409   ``--require`` was not met
    ├── Refused               11   503   not now; ``retry_after`` says when
    │   ├── Busy              11   429   the queue is full, or a key has used up its share
    │   ├── Loading           11   503   the model is on its way into memory, or waits for room there
    │   ├── WorkerDied        11   503   the process that the model ran in ended
    │   └── Closing           11   503   the server takes no more work
    ├── Expired               12   504   the deadline passed before the net saw the request
    ├── DoesNotFit            13   507   a model that is larger than the memory set aside for models
    ├── ModelFailed            1   500   the model raised something that it should not have
    └── Forbidden             14   403   a server that does not let this caller in
        ├── Unauthorized      14   401   no API key, or one that is not known
        └── AddressRefused    14   422   an address that a server must not open

A message is one line: what was wrong, where, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class AnmokError(Exception):
    """The root: everything that anmok raises on purpose."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500


class BadRequest(AnmokError):
    """The question makes no sense as asked: an empty label list, a negative threshold."""

    exit_code, status = 2, 422


class Untranslatable(BadRequest):
    """Labels in a language that the model's text tower does not read and that no table translates."""


class WrongState(BadRequest):
    """An ``Encoded`` shown to another model, revision or preprocessing than the one that made it."""

    status = 409


class Unsupported(BadRequest):
    """A task, device, dtype or runtime that this model does not have."""

    status = 501


class TooMuch(BadRequest):
    """One request that is larger than what is let in at all: asking again does not help, splitting it does."""

    status = 413


class BadMedia(AnmokError):
    """A file that is no image, is damaged, or is larger than the limit. The message names it."""

    exit_code, status = 3, 422


class BadData(AnmokError):
    """A folder, label table or predictions file that cannot be used as it is."""

    exit_code, status = 3, 422


class UnknownModel(AnmokError):
    """No card of that name. The message offers the nearest names."""

    exit_code, status = 4, 404


class LicenceRequired(AnmokError):
    """Weights or images whose licence has to be accepted by name before they are used."""

    exit_code, status = 5, 403


class MissingDependency(AnmokError):
    """An optional package is not installed. The message holds the command that installs it."""

    exit_code, status = 6, 501


class WeightsUnavailable(AnmokError):
    """The hub or the package registry cannot be reached, or does not have the file."""

    exit_code, status = 7, 503


class BadWeights(AnmokError):
    """Weights with a wrong digest, in an unsafe format, or that do not fit the net exactly."""

    exit_code, status = 8, 500


class CannotWrite(AnmokError):
    """The disk is full or read-only. Nothing half-written is left."""

    exit_code, status = 9, 507


class GateFailed(AnmokError):
    """A condition given with ``--require`` was not met."""

    exit_code, status = 10, 409


class Refused(AnmokError):
    """Not now. ``retry_after`` is the number of seconds after which it is worth asking again."""

    exit_code, status = 11, 503

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Refused):
    """The queue is full, or a caller has used up its share. Nothing of the request was kept."""

    status = 429


class Loading(Refused):
    """The model is not in memory yet, and the caller did not want to wait."""


class WorkerDied(Refused):
    """The process that the model ran in ended in the middle of the work; another one is being started."""


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


class Forbidden(AnmokError):
    """A server that does not let this caller do that."""

    exit_code, status = 14, 403


class Unauthorized(Forbidden):
    """No API key where one is needed, or one that is not known."""

    status = 401


class AddressRefused(Forbidden):
    """An address in a request that a server must not open: not public, not http, or too often redirected."""

    status = 422
