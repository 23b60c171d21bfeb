"""One tree of errors. Each class knows its exit code (CLI) and its HTTP status (server).

    AnmokError                 1   500
    ├── BadRequest             2   422   the question makes no sense as asked
    │   ├── Untranslatable     2   422   a label that the model's text tower cannot read
    │   ├── WrongState         2   409   an encoding shown to another model than the one that made it
    │   └── Unsupported        2   501   a task, device or runtime that this model does not have
    ├── BadMedia               3   422   a file that is no image, or too large, or damaged
    ├── BadData                3   422   a data set, label table or predictions file that cannot be used
    ├── UnknownModel           4   404   no card of that name
    ├── LicenceRequired        5   403   weights or images whose licence was not accepted
    ├── MissingDependency      6   501   an optional package is not installed
    ├── WeightsUnavailable     7   503   the hub or the registry cannot be reached
    ├── BadWeights             8   500   weights that are damaged, unsafe or do not fit the net
    ├── CannotWrite            9   507   a full or read-only disk
    └── GateFailed            10   409   ``--require`` was not met

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
