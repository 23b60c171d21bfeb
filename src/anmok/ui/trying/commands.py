"""The same action as Python, curl and command line: text that runs as it stands, beside the file that it names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from anmok import wire
from anmok.catalogue import Card
from anmok.inputs import Box, Cue, Point
from anmok.tasks import Ask, Classify, Detect, Embed, Gaze, Inspect, Pointing, Pose, Segment, Track


@dataclass(frozen=True, slots=True)
class Thing:
    """What is asked about: a file by its name, with what was pointed at in it; or a text."""

    file: str = ""
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    cues: tuple[Cue, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """One action of a visitor. ``model`` is the served name, ``target`` what ``anmok.load`` takes."""

    model: str
    target: str
    card: Card
    ask: Ask[Any, Any]
    things: tuple[Thing, ...]
    address: str = "http://127.0.0.1:8000"
    needs_key: bool = False


@dataclass(frozen=True, slots=True)
class Commands:
    """Texts to copy. ``shell`` is empty where the command line has no such command."""

    python: str
    curl: str
    shell: str


def commands(act: Act) -> Commands:
    """The action in three languages."""
    return Commands(_python(act), _curl(act), _shell(act))


def _python(act: Act) -> str:
    accepted = () if act.card.licence.is_accepted_by_default else (act.card.licence.id,)
    terms = f", accept_licences={accepted!r}" if accepted else ""
    lines = ["import anmok", "", f"model = anmok.load({act.target!r}{terms})"]
    ask = _call(f"anmok.{type(act.ask).__name__}", _given(act.ask))
    if isinstance(act.ask, Track):
        [clip] = act.things
        cues = [_call("anmok.Cue", _given(cue)) for cue in clip.cues]
        told = f", cues=({', '.join(cues)},)" if cues else ""
        lines += [f"clip = anmok.Clip({clip.file!r}{told})", f"for frame in model.stream(clip, {ask}):"]
        return "\n".join([*lines, "    print(frame.to_json())"]) + "\n"
    items = ", ".join(_item(thing) for thing in act.things)
    if isinstance(act.ask, Embed):
        lines += [f"first, second = model.run([{items}], {ask})", "cosine = first.vector @ second.vector"]
        lines += ["cosine /= (first.vector @ first.vector) ** 0.5 * (second.vector @ second.vector) ** 0.5"]
        return "\n".join([*lines, "print(float(cosine))"]) + "\n"
    return "\n".join([*lines, f"for answer in model.run([{items}], {ask}):", "    print(answer.to_json())"]) + "\n"


def _item(thing: Thing) -> str:
    if thing.text:
        return f"anmok.Text({thing.text!r})"
    if not thing.points and not thing.boxes:
        return repr(thing.file)
    return _call("anmok.Prompted", {"": thing.file, "points": thing.points, "boxes": thing.boxes})


def _given(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that stand at another value than their default."""
    found = {one.name: (getattr(value, one.name), one) for one in fields(value)}
    return {name: held for name, (held, one) in found.items() if held != one.default}


def _call(name: str, arguments: dict[str, Any]) -> str:
    given = {key: value for key, value in arguments.items() if value not in ((), None)}
    return f"{name}({', '.join(repr(value) if not key else f'{key}={value!r}' for key, value in given.items())})"


def _curl(act: Act) -> str:
    request: dict[str, Any] = {"model": act.model, "ask": wire.ask_to_json(act.ask)}
    parts: list[str] = []
    plain = all(thing.file and not (thing.points or thing.boxes or thing.cues) for thing in act.things)
    kind = "clip" if isinstance(act.ask, Track) else "image"
    if plain:
        parts = [f"{kind}=@{thing.file}" for thing in act.things]
    else:
        request["items"] = [_described(thing, f"file{i}", kind) for i, thing in enumerate(act.things)]
        parts = [f"file{i}=@{thing.file}" for i, thing in enumerate(act.things) if thing.file]
    words = ["curl", "-sS", f"{act.address}/run/{act.ask.task}"]
    key = ' \\\n  -H "Authorization: Bearer $ANMOK_API_KEY"' if act.needs_key else ""
    told = f" \\\n  --form-string {shlex.quote('request=' + json.dumps(request, ensure_ascii=False))}"
    return shlex.join(words) + key + told + "".join(f" \\\n  -F {shlex.quote(part)}" for part in parts) + "\n"


def _described(thing: Thing, part: str, kind: str) -> dict[str, Any]:
    if thing.text:
        return {"text": thing.text}
    content: dict[str, Any] = {kind: {"part": part}}
    if thing.points:
        content["points"] = [list(point) for point in thing.points]
    if thing.boxes:
        content["boxes"] = [list(box) for box in thing.boxes]
    if thing.cues:
        content["cues"] = [_cue(cue) for cue in thing.cues]
    return content


def _cue(cue: Cue) -> dict[str, Any]:
    told: dict[str, Any] = {"frame": cue.frame, "object_id": cue.object_id}
    if cue.points:
        told["points"] = [list(point) for point in cue.points]
    if cue.box is not None:
        told["box"] = list(cue.box)
    return told


@dataclass(slots=True)
class _Line:
    """A command line in the making."""

    words: list[str] = field(default_factory=list)

    def add(self, flag: str, value: object) -> None:
        """The flag, where there is anything to say."""
        if value is not None and value != "" and value != ():
            self.words += [flag, ",".join(value) if isinstance(value, tuple) else str(value)]


def _shell(act: Act) -> str:
    ask = act.ask
    if any(thing.text for thing in act.things) or len({thing.file for thing in act.things}) < len(act.things):
        return ""  # texts, and two items of one picture, are for Python and HTTP
    line = _Line(["anmok", ask.task, *(thing.file for thing in act.things)])
    if isinstance(ask, Classify | Detect | Pointing | Segment):
        line.add("--labels", ask.labels)
    if isinstance(ask, Classify):
        line.add("--threshold", ask.threshold or None)
    elif isinstance(ask, Detect | Pointing | Segment):
        line.add("--threshold", ask.threshold)
    elif isinstance(ask, Pose):
        line.words += ["--threshold", str(ask.threshold), "--person", str(ask.person)]
    elif isinstance(ask, Gaze):
        line.words += ["--face", str(ask.face)]
    elif isinstance(ask, Track):
        line.add("--text", ask.labels)
        line.add("--threshold", ask.threshold)
        line.words += ["--fresh", "--output", "tracked.mp4"]
        for flag, told in _pointed(act.things[0].cues):
            line.add(flag, told)
    elif isinstance(ask, Embed):
        line.words += ["--space", ask.space, "--output", "vectors.parquet"]
    for thing in act.things:
        for point in thing.points:
            line.add("--point", _numbers(point[:2]) + ("" if point[2] else ",0"))
        for box in thing.boxes:
            line.add("--box", _numbers(box))
    line.add("--memory" if isinstance(ask, Inspect) else "--model", act.target)
    if not act.card.licence.is_accepted_by_default:
        line.add("--accept-licence", act.card.licence.id)
    return shlex.join(line.words) + "\n"


def _pointed(cues: Sequence[Cue]) -> list[tuple[str, str]]:
    found = []
    for cue in cues:
        for point in cue.points:
            sign = "" if point[2] else ",0"
            found.append(("--point", f"{cue.object_id}:{_numbers(point[:2])}{sign}@{cue.frame}"))
        if cue.box is not None:
            found.append(("--box", f"{cue.object_id}:{_numbers(cue.box)}@{cue.frame}"))
    return found


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
