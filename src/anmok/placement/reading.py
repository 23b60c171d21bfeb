"""The files that a plan is made of: the rates that are wanted, and what was measured."""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anmok.errors import BadData, UnknownModel
from anmok.files import write_text
from anmok.placement.costs import Measured, Timing

FORMAT = 1
PIXELS = (640, 480)  # width and height of a picture of which nothing was said
_RATES = (("model", "task", "rate_per_second"), ("p99_seconds", "pixels"))
_COSTS = (("model", "task", "items", "seconds"), ("spread", "weights_bytes", "working_bytes", "pixels", "device"))
_PIXELS = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests of one item per second for one task of a model; ``wanted`` is the p99 that must not be passed, in
    seconds; ``pixels`` is width and height of the pictures."""

    model: str
    task: str
    rate: float
    wanted: float
    pixels: tuple[int, int] = PIXELS


def read_rates(file: Path, models: Collection[str], *, wanted: float = 1.0) -> tuple[Rate, ...]:
    """The rows of a ``rates.csv``: ``model,task,rate_per_second[,p99_seconds][,pixels]``.

    Args:
        file: UTF-8 with a header.
        models: the names that are served.
        wanted: p99 in seconds, where a row says none.

    Raises:
        BadData: a row that cannot be read; the message names file and line.
        UnknownModel: a model that is not served; the message offers the nearest.
    """
    found: dict[tuple[str, str], Rate] = {}
    for place, row in _table(file, *_RATES):
        name, task = row["model"], row["task"]
        if name not in models:
            near = difflib.get_close_matches(name, models, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it serves {', '.join(sorted(models))}"
            raise UnknownModel(f"{place}: no model of serve.toml is called {name!r}; {hint}")
        if (name, task) in found:
            raise BadData(f"{place}: a second row for {name}, {task}; add the rates up")
        rate = _number(row, "rate_per_second", place)
        within = _number(row, "p99_seconds", place, wanted)
        if not within > 0:
            raise BadData(f"{place}: p99_seconds {within:g}: must be above 0")
        found[name, task] = Rate(name, task, rate, within, _pixels(row, place))
    if not found:
        raise BadData(f"{file}: no rows below the header")
    return tuple(found.values())


def read_measured(file: Path) -> tuple[Measured, ...]:
    """What was measured before: a ``.json`` that ``anmok plan`` wrote, or a ``.csv`` with a row per batch size.

    The columns of a CSV are ``model,task,items,seconds[,spread][,weights_bytes][,working_bytes][,pixels][,device]``.

    Raises:
        BadData: it cannot be read; the message names the place.
    """
    if file.suffix.lower() == ".csv":
        return _measured_rows(file)
    content = _json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("models"), list):
        raise BadData(f"{file}: want an object with format {FORMAT} and models, as `anmok plan` writes it")
    return tuple(_from_json(row, f"{file}: models[{index}]") for index, row in enumerate(content["models"]))


def write_measured(file: Path, measured: Sequence[Measured]) -> None:
    """As JSON, whole or not at all.

    Raises:
        CannotWrite: the disk refuses.
    """
    rows = [{**asdict(one), "pixels": list(one.pixels)} for one in measured]
    content = {"format": FORMAT, "models": rows}
    write_text(file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(f"{file}: cannot be read as JSON ({error})") from None


def _from_json(row: object, place: str) -> Measured:
    if not isinstance(row, dict):
        raise BadData(f"{place}: want an object")
    try:
        timings = tuple(Timing(**one) for one in row["timings"])
        width, height = row["pixels"]
        one = Measured(**{**row, "timings": timings, "pixels": (int(width), int(height))})
        has_sense = all(t.items >= 1 and 0 < t.seconds < math.inf and t.spread >= 0 for t in timings)
        if not timings or not has_sense or not one.weights_bytes >= 0:
            raise ValueError("items, seconds and bytes must be positive")
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(f"{place}: not a measurement of this version ({error}); measure again") from None
    return one


def _measured_rows(file: Path) -> tuple[Measured, ...]:
    groups: dict[tuple[str, str, tuple[int, int]], list[tuple[Timing, int, str]]] = {}
    for place, row in _table(file, *_COSTS):
        items, seconds = _number(row, "items", place), _number(row, "seconds", place)
        if items < 1 or items != int(items) or not seconds > 0:
            raise BadData(f"{place}: want a whole number of items from 1 on, and seconds above 0")
        working = int(_number(row, "working_bytes", place)) if row.get("working_bytes") else None
        timing = Timing(int(items), seconds, _number(row, "spread", place, 0.0), 1, working)
        weights = int(_number(row, "weights_bytes", place, 0.0))
        key = row["model"], row["task"], _pixels(row, place)
        if any(other.items == timing.items for other, _, _ in groups.get(key, ())):
            raise BadData(f"{place}: a second row for {timing.items} items of {key[0]}, {key[1]}")
        groups.setdefault(key, []).append((timing, weights, row.get("device") or f"as {file.name} says"))
    return tuple(
        Measured(model, task, rows[0][2], max(weights for _, weights, _ in rows), _sorted(rows), pixels)
        for (model, task, pixels), rows in groups.items()
    )


def _sorted(rows: Sequence[tuple[Timing, int, str]]) -> tuple[Timing, ...]:
    return tuple(sorted((timing for timing, _, _ in rows), key=lambda one: one.items))


def _table(file: Path, needed: Sequence[str], allowed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(place in words, row) of a CSV with a header, blank lines left out."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{file}: cannot be read as UTF-8 text ({error})") from None
    reader = csv.reader(text.splitlines())
    names = [name.strip() for name in next(reader, [])]
    missing = next((name for name in needed if name not in names), None)
    strange = next((name for name in names if name not in (*needed, *allowed)), None)
    if missing is not None or strange is not None or len(set(names)) < len(names):
        what = f"unknown column {strange!r}" if missing is None and strange is not None else f"no column {missing!r}"
        if missing is None and strange is None:
            what = "a column twice"
        raise BadData(f"{file}:1: {what}; want {','.join(needed)}, and if need be {','.join(allowed)}")
    for cells in reader:
        place = f"{file}:{reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise BadData(f"{place}: {len(cells)} cells; the header has {len(names)}")
        yield place, {name: cell.strip() for name, cell in zip(names, cells, strict=True)}


def _number(row: dict[str, str], name: str, place: str, default: float | None = None) -> float:
    """Of a cell, not negative; the default where it is empty or its column is not there."""
    text = row.get(name, "")
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BadData(f"{place}: {name} {text!r}: want a number that is not negative")
    return value


def _pixels(row: dict[str, str], place: str) -> tuple[int, int]:
    text = row.get("pixels", "")
    match = _PIXELS.fullmatch(text.lower())
    if not text:
        return PIXELS
    if match is None or not (int(match[1]) and int(match[2])):
        raise BadData(f"{place}: pixels {text!r}: want width and height as 640x480")
    return int(match[1]), int(match[2])
