"""``chat``."""

from __future__ import annotations

import sys
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
        list[str], typer.Argument(metavar="[PHOTO]... QUESTION", help="Photos, then the question; - reads it.")
    ],
    system: Annotated[str, typer.Option("--system", help="What the model is told to be.")] = "",
    max_tokens: Annotated[int, typer.Option(help="The most that the answer may have.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 gives the same answer each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens with this share together.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="For the same draws again.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A file: the JSON Schema that the answer follows.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Ask a model that talks: about photos, or about nothing but words. The answer is printed as it comes.

    Example: anmok chat MODEL photo.jpg "What is broken here?"
    """
    from anmok.inputs import Conversation
    from anmok.tasks import Chat

    *photos, question = told
    if question == _STDIN:
        question = sys.stdin.read().strip()
    elif _is_file(question):
        raise BadRequest(f'{question} is a file: end with the question, anmok chat {model} {question} "What is it?"')
    missing = [photo for photo in photos if not _is_file(photo)]
    if missing:
        raise BadMedia(f"{missing[0]}: no such file; the question is one word to the shell: put it in quotes")
    ask = Chat(max_tokens, temperature, top_p, seed, tuple(stop or ()), _read(schema))
    said = Conversation.about(*(Path(photo) for photo in photos), question=question, system=system)
    reply = _said(opened(model, device, accept_licence), said, ask, is_shown=not as_json)
    if as_json:
        print_json(reply.to_dict())
    pictures = f" ({reply.image_tokens} for pictures)" if reply.image_tokens else ""
    cut = "; cut off at the most that it may have" if reply.finish == "length" else ""
    note(f"{reply.tokens_in} tokens in{pictures}, {reply.tokens_out} out, {reply.seconds:.1f} s{cut}")


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


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
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
