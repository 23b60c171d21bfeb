"""``chat``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anmok.cli.console import note, print_json
from anmok.cli.looking import AcceptLicence, AsJson, Device, opened
from anmok.errors import BadMedia, BadRequest

if TYPE_CHECKING:
    from anmok.inputs import Conversation
    from anmok.load import Model
    from anmok.results import Reply
    from anmok.tasks import Chat

_STDIN = "-"


def chat_command(
    model: Annotated[str, typer.Argument(help="A name from `anmok models --task chat`.")],
    told: Annotated[
        list[str],
        typer.Argument(
            metavar="[PHOTO|CLIP]... QUESTION",
            help="Photos, video files or folders of frames, then the question; - reads it.",
        ),
    ],
    sound: Annotated[
        list[Path] | None, typer.Option(help="A sound file, for a model that hears; may be repeated.")
    ] = None,
    has_sound: Annotated[
        bool, typer.Option("--with-sound", help="Play the sound tracks of clips, to a model that hears.")
    ] = False,
    system: Annotated[str, typer.Option("--system", help="What the model is told to be.")] = "",
    max_tokens: Annotated[int, typer.Option(help="The most that the answer may have.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 gives the same answer each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens with this share together.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="For the same draws again.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A file: the JSON Schema that the answer follows.")] = None,
    fps: Annotated[float | None, typer.Option(help="Of clips: so many frames a second, up to what it takes.")] = None,
    start: Annotated[float, typer.Option(help="Of clips and sounds: seconds.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Of clips and sounds: seconds.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
    runtime: Annotated[
        str, typer.Option(help="fastest, or torch: with all digits, as Python and the server.")
    ] = "fastest",
) -> None:
    """Ask a model that talks: about photos, clips, sounds, or nothing but words. The answer is printed as it comes.

    Example: anmok chat MODEL photo.jpg "What is broken here?"
    """
    from anmok.inputs import Clip, Conversation, Sound
    from anmok.tasks import Chat

    *files, question = told
    if question == _STDIN:
        question = sys.stdin.read().strip()
    elif _is_there(question):
        kind = "folder" if Path(question).is_dir() else "file"
        raise BadRequest(f'{question} is a {kind}: end with the question, anmok chat {model} {question} "What is it?"')
    sounds = sound or []
    for file in files:
        if not _is_there(file):
            raise BadMedia(f"{file}: no such file; the question is one word to the shell: put it in quotes")
    for track in sounds:
        if not _is_there(str(track)):
            raise BadMedia(f"{track}: no such file; --sound takes a file that is there")
    has_clip = any(_is_clip(file) for file in files)
    is_cut = start != 0 or end is not None
    if not has_clip and (fps is not None or (is_cut and not sounds)):
        raise BadRequest("--fps, --start and --end are for clips, and there is none")
    if not has_clip and has_sound:
        raise BadRequest("--with-sound is for clips, and there is none; a file that is heard alone is --sound FILE")
    ask = Chat(max_tokens, temperature, top_p, seed, tuple(stop or ()), _read(schema))
    shown = [Clip(Path(file), fps, start, end, (), has_sound) if _is_clip(file) else Path(file) for file in files]
    heard = [Sound(one, start, end) for one in sounds]
    said = Conversation.about(*shown, *heard, question=question, system=system)
    reply = _said(opened(model, device, accept_licence, runtime), said, ask, is_shown=not as_json)
    if as_json:
        print_json(reply.to_dict())
    shares = ((reply.image_tokens, "pictures"), (reply.sound_tokens, "sounds"))
    told_of = ", ".join(f"{count} for {what}" for count, what in shares if count)
    parts = f" ({told_of})" if told_of else ""
    cut = "; cut off at the most that it may have" if reply.finish == "length" else ""
    note(f"{reply.tokens_in} tokens in{parts}, {reply.tokens_out} out, {reply.seconds:.1f} s{cut}")
    for clip, seconds in zip(filter(_is_clip, files), reply.frames, strict=True):
        note(f"{clip}: {_at(seconds)}")


def _said(model: Model, conversation: Conversation, ask: Chat, *, is_shown: bool) -> Reply:
    """The whole answer, printed meanwhile. What no terminal should act on is written out."""
    for piece in model.stream(conversation, ask):
        if is_shown:
            print("".join(_plain(letter) for letter in piece.text), end="", flush=True)
        if piece.reply is not None:
            if is_shown:
                print()
            return piece.reply
    raise AssertionError("the last piece has the reply")


def _is_clip(file: str) -> bool:
    from anmok.clips import VIDEO_SUFFIXES

    return Path(file).suffix.lower() in VIDEO_SUFFIXES or Path(file).is_dir()


def _at(seconds: Sequence[float]) -> str:
    """Which frames the model was shown, in a few words."""
    if len(seconds) == 1:
        return f"1 frame shown, at {seconds[0]:.1f} s"
    return f"{len(seconds)} frames shown, from {seconds[0]:.1f} s to {seconds[-1]:.1f} s"


def _is_there(word: str) -> bool:
    try:
        return bool(word) and Path(word).exists()
    except OSError:  # a question is longer than any name of a file
        return False


def _plain(letter: str) -> str:
    """As it is, but for what moves the cursor or changes colours."""
    is_control = letter < " " or "\x7f" <= letter <= "\x9f"
    return letter.encode("unicode_escape").decode() if is_control and letter not in "\n\t" else letter


def _read(schema: Path | None) -> str | None:
    if schema is None:
        return None
    try:
        return schema.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadRequest(f"--schema {schema}: cannot be read ({error})") from None
