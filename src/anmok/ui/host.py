"""What the page needs of the server that it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from anmok.catalogue import Card, cards
from anmok.engine import Engine
from anmok.wire import Intake

Scope = Mapping[str, Any]  # of a request, as ASGI has it


def _everybody(scope: Scope, model: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Host:
    """The server under the page.

    Args:
        engine: answers everything; queue and admission are those of the API.
        models: what is served, by the name that callers say; may grow while the server runs.
        targets: what ``anmok.load`` takes for a served name, where that is not its card's name.
        intake: what one upload may bring.
        root: the only folder of this machine that may be read; None: uploads alone.
        address: of the server as its users reach it, for commands that are copied; no slash at the end.
        needs_key: whether callers send a key.
        prefix: the path that a proxy puts before ours and takes away again; no slash at the end.
        may_use: whether the sender of that request may use that model.
        enter: turns a key into the value of the cookie ``entrance.COOKIE``, and raises ``Unauthorized`` for a wrong
            one; None where no keys are demanded.
        serve: takes a copy of an adapter's folder and serves it under that name from then on, for whoever sent that
            request; raises ``Forbidden`` where he may not, ``BadRequest`` where the name is taken. None where the
            server takes on no models.
    """

    engine: Engine
    models: Mapping[str, Card]
    intake: Intake = field(default_factory=Intake)
    root: Path | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    address: str = "http://127.0.0.1:8000"
    needs_key: bool = False
    prefix: str = ""
    may_use: Callable[[Scope, str], bool] = _everybody
    enter: Callable[[str], str] | None = None
    serve: Callable[[Scope, str, Path], None] | None = None

    def doing(self, task: str) -> tuple[str, ...]:
        """The served models that have the task and look at pictures, in their order."""
        blind = _text_towers()
        return tuple(name for name, card in self.models.items() if task in card.tasks and card.name not in blind)


@cache
def _text_towers() -> frozenset[str]:
    """Cards that others name as the part that reads their texts: it reads nothing else."""
    return frozenset(one.parts["text"] for one in cards(is_hidden=True) if "text" in one.parts)
