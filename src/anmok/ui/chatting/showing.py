"""What the tab ``Chat`` shows: the conversation, and what an answer took."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from anmok.results import Reply
from anmok.ui.chatting.talking import Said, is_video
from anmok.ui.texts import Words


def talk(words: Words, turns: Sequence[Said]) -> str:
    """The conversation, as HTML. A model's words are words: nothing in them is taken for a mark of HTML or Markdown,
    which could have the visitor's browser open any address."""
    rows = "".join(_turn(words, turn) for turn in turns)
    label = html.escape(words("chat.talk"))
    # Its last line stays in view while it grows, because the box begins at its lower end.
    return f'<div class="anmok-talk" role="log" aria-label="{label}" tabindex="0"><div class="turns">{rows}</div></div>'


def brought(pictures: Sequence[str] | None, sound: str | None) -> str:
    """What the question will be about, as HTML. A sound is played by its own field; here is noted that there is one."""
    heard = "<span data-sound hidden></span>" if sound else ""
    return _row([_picture(str(path), Said("user", "")) for path in pictures or ()]) + heard


def style() -> str:
    """Of ``talk`` and ``brought``."""
    return resources.files("anmok.ui.chatting").joinpath("talk.css").read_text(encoding="utf-8")


def _turn(words: Words, turn: Said) -> str:
    who = html.escape(words(f"chat.who.{turn.role}"))
    shown = _row(
        [*(_picture(path, turn) for path in turn.pictures), *(_sound(words, path, turn) for path in turn.sounds)]
    )
    said = f'<p class="words" dir="auto">{html.escape(turn.text)}</p>'
    ended = ""
    if turn.is_failed and turn.role == "assistant":
        ended = f'<p class="ended">{html.escape(words("chat.broken_off" if turn.text else "chat.unanswered"))}</p>'
        said = said if turn.text else ""
    return f'<div class="turn {turn.role}"><span class="who">{who}</span>{shown}{said}{ended}</div>'


def _row(shown: Sequence[str]) -> str:
    """Uploads side by side."""
    return f'<div class="anmok-shown">{"".join(shown)}</div>' if shown else ""


def _picture(path: str, turn: Said) -> str:
    name, address = _called(path)
    if is_video(path):
        quiet = "" if turn.has_sound else "muted "
        place = f"{address}{_part(turn)}"
        return f'<video src="{place}" aria-label="{name}" controls {quiet}playsinline preload="metadata"></video>'
    return f'<img src="{address}" alt="{name}">'


def _sound(words: Words, path: str, turn: Said) -> str:
    """With its name to be read, since all sounds look alike."""
    name, address = _called(path)
    player = f'<audio src="{address}{_part(turn)}" aria-label="{name}" controls preload="metadata"></audio>'
    return f"<figure>{player}<figcaption>{name}{html.escape(_span(words, turn))}</figcaption></figure>"


def _part(turn: Said) -> str:
    """Of an address: what is to be played of it."""
    if turn.end is None:
        return f"#t={turn.start:g}" if turn.start else ""
    return f"#t={turn.start:g},{turn.end:g}"


def _span(words: Words, turn: Said) -> str:
    if turn.end is None:
        return f" ({words('chat.span_from', turn.start)})" if turn.start else ""
    return f" ({words('chat.span', turn.start, turn.end)})"


def _called(path: str) -> tuple[str, str]:
    """The name of an upload, and the address where gradio has it, below the page's own."""
    return html.escape(Path(path).name), f"gradio_api/file={html.escape(quote(path))}"


def totals(words: Words, reply: Reply) -> str:
    """What the answer took, in a sentence or two."""
    speed = reply.tokens_out / reply.seconds if reply.seconds > 0 else 0.0
    values = (reply.tokens_in, reply.image_tokens, reply.tokens_out, reply.seconds, speed, reply.sound_tokens)
    brought = ("_pictures" if reply.image_tokens else "") + ("_sounds" if reply.sound_tokens else "")
    told = words(f"chat.totals{brought}", *values)
    frames = [
        words("chat.frame" if len(seconds) == 1 else "chat.frames", number, len(seconds), seconds[0], seconds[-1])
        for number, seconds in enumerate(reply.frames, start=1)
    ]
    return " ".join([told, *frames, *([words("chat.cut")] if reply.finish == "length" else [])])
