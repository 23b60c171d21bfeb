"""``ladder --task inspect``: good pictures are known, which rung finds the strange ones?"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anmok.cli.console import note, out, warn
from anmok.errors import BadRequest

if TYPE_CHECKING:
    from anmok.ladder.report.figures import Lang

_BEST = "best"


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


def ladder_inspect(task: str, asked: Asked) -> None:
    """Climbs, writes the report, and prints.

    Raises:
        BadRequest: a task that has no ladder, or no folder.
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
    parts = read_parts(Path(asked.photos).expanduser(), asked.good)
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
