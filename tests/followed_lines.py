"""What the lines of a followed clip say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anmok.inputs import Cue
from anmok.load import tiny

FAKE, GROUNDED = tiny("fake-places"), tiny("fake-grounded")
BOTH = (Cue(0, 1, points=((9, 10, 1),)), Cue(0, 2, box=(49, 29, 61, 41)))


def rows(lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def frames(lines: Path) -> list[dict[str, Any]]:
    return [row for row in rows(lines) if "frame" in row]


def seen(lines: Path) -> list[dict[int, str]]:
    """Per frame what is in sight: the label by the number."""
    return [{one["id"]: one.get("label", "") for one in row["objects"] if one["area"]} for row in frames(lines)]


def cut(lines: Path, keep: int, letters: int = 0) -> None:
    """As a killed run leaves it: so many whole lines, and letters of the next."""
    whole = lines.read_text(encoding="utf-8").splitlines(keepends=True)
    lines.write_text("".join(whole[:keep]) + whole[keep][:letters], encoding="utf-8")
