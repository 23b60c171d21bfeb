"""The same question as Python, curl and command line: text that runs as it stands, beside the files that it names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anmok import wire
from anmok.catalogue import Card
from anmok.tasks import Chat
from anmok.ui.chatting.talking import Said, is_video
from anmok.ui.page import Page


@dataclass(frozen=True, slots=True)
class Act:
    """One question. ``model`` is the served name, ``target`` what ``anmok.load`` takes."""

    model: str
    target: str
    card: Card
    ask: Chat
    turns: tuple[Said, ...]
    system: str
    address: str
    needs_key: bool
    unsayable: str  # what stands in place of a command that there is not

    @classmethod
    def of(cls, page: Page, name: str, ask: Chat, turns: Sequence[Said], system: str) -> Act:
        host = page.host
        one = host.models[name]
        target = host.targets.get(name, one.name)
        nothing = page.words("chat.no_command")
        return cls(name, target, one, ask, tuple(turns), system.strip(), host.address, host.needs_key, nothing)


def texts(act: Act) -> list[str]:
    """Python, curl and command line, in the order of their boxes."""
    return [_python(act), _curl(act), _shell(act) or f"# {act.unsayable}\n"]


def _python(act: Act) -> str:
    accepted = () if act.card.licence.is_accepted_by_default else (act.card.licence.id,)
    terms = f", accept_licences={accepted!r}" if accepted else ""
    given = [f"{one.name}={value!r}" for one in fields(act.ask) if (value := getattr(act.ask, one.name)) != one.default]
    lines = ["import anmok", "", f"model = anmok.load({act.target!r}{terms})", f"said = {_said(act)}"]
    lines += [f"for piece in model.stream(said, anmok.Chat({', '.join(given)})):"]
    return "\n".join([*lines, '    print(piece.text, end="", flush=True)', "print()"]) + "\n"


def _said(act: Act) -> str:
    if len(act.turns) == 1:
        [turn] = act.turns
        given = [*_brought(turn), f"question={turn.text!r}"]
        return f"anmok.Conversation.about({', '.join(given + ([f'system={act.system!r}'] if act.system else []))})"
    first = [Said("system", act.system)] if act.system else []
    rows = [_turn(turn) for turn in (*first, *act.turns)]
    return "anmok.Conversation(\n    (\n" + "".join(f"        {row},\n" for row in rows) + "    )\n)"


def _turn(turn: Said) -> str:
    parts = [*_brought(turn), f"anmok.Text({turn.text!r})"]
    return f"anmok.Turn({turn.role!r}, ({', '.join(parts)},))"


def _curl(act: Act) -> str:
    """In our own dialect, line by line, with pictures, videos and sounds as files."""
    first = [Said("system", act.system)] if act.system else []
    turns: list[dict[str, Any]] = []
    files: list[str] = []
    for turn in (*first, *act.turns):
        parts: list[dict[str, Any]] = []
        shown = [("clip" if is_video(name) else "", name) for name in _names(turn.pictures)]
        for kind, name in (*shown, *(("sound", name) for name in _names(turn.sounds))):
            part: dict[str, Any] = {"part": f"file{len(files)}"}
            files.append(f"{part['part']}=@{name}")
            played = {"has_sound": True} if kind == "clip" and turn.has_sound else {}
            parts.append({kind: part, **_span(turn), **played} if kind else part)
        turns.append({"role": turn.role, "parts": [*parts, {"text": turn.text}]})
    request: dict[str, Any] = {"model": act.model, "ask": wire.ask_to_json(act.ask), "items": [{"turns": turns}]}
    words = ["curl", "-sSN", f"{act.address}/run/chat", "-H", "accept: application/x-ndjson"]
    key = ' \\\n  -H "Authorization: Bearer $ANMOK_API_KEY"' if act.needs_key else ""
    told = f" \\\n  --form-string {shlex.quote('request=' + json.dumps(request, ensure_ascii=False))}"
    return shlex.join(words) + key + told + "".join(f" \\\n  -F {shlex.quote(file)}" for file in files) + "\n"


def _shell(act: Act) -> str:
    """Nothing for more than one question: the command line asks one."""
    turn, others = act.turns[0], act.turns[1:]
    if others:
        return ""
    words = ["anmok", "chat"]
    default = Chat()
    flags = {"--max-tokens": "max_tokens", "--temperature": "temperature", "--seed": "seed"}
    for flag, name in flags.items():
        if getattr(act.ask, name) != getattr(default, name):
            words += [flag, str(getattr(act.ask, name))]
    words += [f"--sound={name}" for name in _names(turn.sounds)]
    if turn.has_sound:
        words.append("--with-sound")
    if turn.has_time:
        words += [f"--{key}={value:g}" for key, value in _span(turn).items()]
    if act.system:
        words.append(f"--system={act.system}")
    if not act.card.licence.is_accepted_by_default:
        words += ["--accept-licence", act.card.licence.id]
    told = [act.target, *_names(turn.pictures), turn.text]
    return shlex.join([*words, *(["--"] if any(one.startswith("-") for one in told) else []), *told]) + "\n"


def _brought(turn: Said) -> list[str]:
    """The files of a turn, in Python."""
    span = "".join(f", {key}={value:g}" for key, value in _span(turn).items())
    played = ", has_sound=True" if turn.has_sound else ""
    shown = [f"anmok.Clip({name!r}{span}{played})" if is_video(name) else repr(name) for name in _names(turn.pictures)]
    return [*shown, *(f"anmok.Sound({name!r}{span})" for name in _names(turn.sounds))]


def _span(turn: Said) -> dict[str, float]:
    """What is said of it, in seconds, where it is not the whole."""
    return {**({"start": turn.start} if turn.start else {}), **({} if turn.end is None else {"end": turn.end})}


def _names(paths: Sequence[str]) -> list[str]:
    return [Path(path).name for path in paths]
