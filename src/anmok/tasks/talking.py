"""The ask of ``chat``."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from anmok.errors import BadRequest
from anmok.results import Piece, Reply
from anmok.tasks.asks import Ask

_MOST_STOPS = 16
_LONGEST_STOP = 200  # letters; as many are held back while an answer streams


@dataclass(frozen=True, slots=True)
class Chat(Ask[Reply, Piece]):
    """What is there to say to that?

    ``temperature=0`` always takes the likeliest token, so that an answer can be had again; above it the draws start
    anew from ``seed`` in each conversation of a batch, so that each is answered as if it were alone (``None``: other
    draws each time). ``max_tokens`` bounds the answer. It ends before the first of the ``stop`` texts. ``schema`` is
    a JSON Schema as text (a mapping becomes one) that the answer has to follow, for models that can be held to one.
    """

    task: ClassVar[str] = "chat"
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 2**20:
            raise BadRequest(f"max_tokens {self.max_tokens}: want at least 1, and no more than {2**20:,}")
        if not 0.0 <= self.temperature <= 2.0:
            raise BadRequest(f"temperature {self.temperature}: must lie between 0 and 2")
        if not 0.0 < self.top_p <= 1.0:
            raise BadRequest(f"top_p {self.top_p}: must lie above 0 and not over 1")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise BadRequest(f"seed {self.seed}: want a whole number from 0 on, below 2**63")
        object.__setattr__(self, "stop", _stops(self.stop))
        object.__setattr__(self, "schema", _schema(self.schema))


def _stops(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        given = (given,)
    stops = tuple(given)
    if not all(isinstance(one, str) and one for one in stops):
        raise BadRequest("stop: want texts, none of them empty")
    if len(stops) > _MOST_STOPS or any(len(one) > _LONGEST_STOP for one in stops):
        raise BadRequest(f"stop: {_MOST_STOPS} texts of {_LONGEST_STOP} letters are the most")
    return tuple(unicodedata.normalize("NFC", one) for one in stops)


def _schema(given: Any) -> str | None:
    """The schema as text; the order of its keys is kept, since answers follow it."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        try:
            return json.dumps(given, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise BadRequest(f"schema: no JSON ({error})") from None
    try:
        is_object = isinstance(json.loads(given), dict)
    except (TypeError, ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise BadRequest("schema: want a JSON Schema, an object, as text")
    return str(given)
