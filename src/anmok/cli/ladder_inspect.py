"""``ladder --task inspect``: good pictures are known, which rung finds the strange ones?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anmok.cli.console import note, out, warn
from anmok.errors import BadRequest

if TYPE_CHECKING:
    from anmok.ladder.report.figures import Lang

_BEST = "best"
_TAKEN = frozenset(
    {"photos", "labels", "task", "good", "thing", "overkill", "pairs", "model", "output", "margin", "groups", "seed"}
    | {"lang", "as_json", "accept_licence"}
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags that this task takes."""

    photos: str
    model: str
    output: Path
    margin: float
    groups: str
    seed: int
    lang: str
    is_json: bool
    accepted: tuple[str, ...]
    good: str
    thing: str
    overkill: float
    labels: Path | None
    is_paired: bool


def ladder_inspect(task: str, asked: Asked, typed: Sequence[str] = ()) -> None:
    """Climbs, writes the report, and prints. ``typed``: the flags that were given, by their parameters' names.

    Raises:
        BadRequest: a task that has no ladder, no folder, or a flag that this task does not take.
    """
    from anmok.cli.ladder import stages
    from anmok.ladder.inspecting import InspectPlan, climb_parts, read_parts
    from anmok.ladder.inspecting.report import inspection_json, render, write_inspection
    from anmok.ladder.report.phrases import spoken
    from anmok.load import load

    if task != "inspect":
        raise BadRequest(f"--task {task}: want classify or inspect")
    if not asked.photos:
        raise BadRequest("give a folder: anmok ladder parts/ --task inspect")
    _refuse_others(asked, typed)
    parts = read_parts(Path(asked.photos).expanduser(), asked.good, table=asked.labels, is_paired=asked.is_paired)
    plan = InspectPlan(
        model=asked.model,
        thing=asked.thing,
        margin=asked.margin,
        overkill=asked.overkill,
        groups=asked.groups,
        seed=asked.seed,
    )
    best = asked.output / _BEST
    commands = shlex.join(["anmok", *sys.argv[1:]]), shlex.join(["anmok", "inspect", "new.jpg", "--memory", str(best)])
    model = load(asked.model, accept_licences=asked.accepted)
    with stages() as progress:
        found = climb_parts(parts, model, plan, commands=commands, progress=progress)
    language: Lang = "ko" if asked.lang == "ko" else "en"
    for warning in found.outcome.data.warnings:
        warn(spoken(warning, language))
    write_inspection(found, asked.output, language)
    if asked.is_json:
        print(inspection_json(found.outcome), end="")
        return
    render(found.outcome, out, language)
    note(f"the report is in {asked.output / 'index.html'}; the memory in {best}")


def _refuse_others(asked: Asked, typed: Sequence[str]) -> None:
    """What was typed and would change nothing is told, and not passed over.

    Raises:
        BadRequest: such a flag.
    """
    if asked.is_paired and asked.groups == "none":
        raise BadRequest("--pairs says what belongs together, and --groups none that nothing does: drop one of the two")
    others = [name for name in typed if name not in _TAKEN]
    if others:
        raise BadRequest(f"--{others[0].replace('_', '-')} is for the ladder of classes; drop it with --task inspect")
