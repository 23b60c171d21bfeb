"""OpenAI's chat completions: a request into a conversation and its ask, and the answer whole or as server-sent events.

Pictures come as ``image_url`` parts, with a ``data:`` address or one that the server opens; clips as ``video_url``,
which vLLM added, or frame by frame in its ``data:video/jpeg;base64,<one>,<next>``. Beside ``video_url`` there may be
``fps``, ``start`` and ``end``. An answer about clips has ``frames``: the seconds of what the model was shown of each.
Sounds come as ``input_audio`` parts with base64 and its format, ``start`` and ``end`` beside; ``has_sound`` beside
``video_url`` plays the sound track of a clip as well.
An answer whose tokens nobody counted has no ``usage``. ``developer`` is read as ``system``. Where ``temperature`` is
left out it is 0, so that an answer can be had again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from anmok.errors import AnmokError, BadRequest
from anmok.inputs import Clip, Conversation, Part, Role, Sound, Text, Turn
from anmok.results import Failure, Piece, Reply, Result
from anmok.tasks import Chat
from anmok.wire import fields
from anmok.wire.intake import Intake, binary, video
from anmok.wire.openai import error_body, part_of
from anmok.wire.own import CHOSEN, SPAN, Call, given_of
from anmok.wire.refusals import WrongField

_IGNORED: Final = (
    "user",
    "store",
    "metadata",
    "service_tier",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "tool_choice",
    "verbosity",
    "reasoning_effort",
    "prediction",
)
_KEYS: Final = (
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "response_format",
    "stream",
    "stream_options",
    "n",
)
# What would change the answer and is not done: let pass at the value that changes nothing.
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
DONE: Final = b"data: [DONE]\n\n"
_SHOWN: Final = ("image_url", "video_url", "input_audio")
_Kind: TypeAlias = Literal["text", "image_url", "video_url", "input_audio"]
_STILLS: Final = "data:video/jpeg;base64,"


@dataclass(frozen=True, slots=True)
class ChatCall(Call):
    """A ``Call`` of one conversation, with how its answer goes out."""

    is_streamed: bool = False
    has_usage: bool = False  # in a chunk of its own at the end of a stream


def chat_call(content: object, intake: Intake) -> ChatCall:
    """What ``/v1/chat/completions`` is asked.

    Raises:
        BadRequest: anything in the body is not as the dialect has it, or asks for what is not done here.
    """
    body = fields.an_object(content, "body")
    for key, values in _NEUTRAL.items():
        if body.get(key) is not None and body[key] not in values:
            raise WrongField(key, "this server does not do that; leave it out")
    ignored = tuple(key for key in _IGNORED if key in body)
    rest = {key: body[key] for key in body if key not in ignored and key not in _NEUTRAL}
    fields.known(rest, _KEYS, "body")
    if fields.value_as(int | None, body.get("n"), "n") not in (None, 1):
        raise WrongField("n", "want 1: one answer to a request")
    model = fields.value_as(str | None, body.get("model"), "model") or ""
    options = fields.an_object(body.get("stream_options") or {}, "stream_options")
    has_usage = fields.value_as(bool | None, options.get("include_usage"), "stream_options.include_usage")
    is_streamed = fields.value_as(bool | None, body.get("stream"), "stream")
    said = _conversation(body, intake)
    return ChatCall(_ask(body), (said,), model, ignored, bool(is_streamed), bool(has_usage))


def completion(result: Result, call: ChatCall, number: str, created: int) -> dict[str, Any]:
    """The answer in one piece.

    Args:
        result: the model's.
        call: what was asked.
        number: of the answer, ``chatcmpl-...``.
        created: Unix seconds.

    Raises:
        AnmokError: what the conversation failed with.
    """
    if isinstance(result, Failure):
        raise result.error
    if not isinstance(result, Reply):
        raise BadRequest(f"chat: {type(result).__name__} is no reply")
    message = {"role": "assistant", "content": result.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": result.finish, "logprobs": None}
    head = _head("chat.completion", call, number, created)
    return {**head, "choices": [choice], **_usage(result), **_frames(result)}


def chunks(piece: Piece, call: ChatCall, number: str, created: int, *, is_first: bool) -> bytes:
    """One piece as events: its words, and with the last one why it ends, the counts where they were asked for, and the
    mark of the end. Arguments as for ``completion``."""
    head = _head("chat.completion.chunk", call, number, created)
    if call.has_usage:
        head["usage"] = None
    events: list[dict[str, Any]] = []
    if is_first:
        events.append({**head, "choices": [_delta({"role": "assistant", "content": ""}, None)]})
    if piece.text:
        events.append({**head, "choices": [_delta({"content": piece.text}, None)]})
    if piece.reply is None:
        return b"".join(_event(one) for one in events)
    events.append({**head, "choices": [_delta({}, piece.reply.finish)], **_frames(piece.reply)})
    usage = _usage(piece.reply)
    if call.has_usage and usage:
        events.append({**head, "choices": [], **usage})
    return b"".join(_event(one) for one in events) + DONE


def broken_off(error: AnmokError) -> bytes:
    """What went wrong after the answer had begun; nothing follows it."""
    return _event(error_body(error))


def _head(kind: str, call: ChatCall, number: str, created: int) -> dict[str, Any]:
    return {"id": number, "object": kind, "created": created, "model": call.model}


def _delta(content: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": content, "finish_reason": finish, "logprobs": None}


def _usage(reply: Reply) -> dict[str, Any]:
    """Whatever is not known is left out: clients take ``usage`` and its details as they may be missing, but not a part
    of its three counts, and a 0 would be taken for one."""
    if "tokens_in" in reply.unknown or "tokens_out" in reply.unknown:
        return {}
    total = reply.tokens_in + reply.tokens_out
    counts = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out, "total_tokens": total}
    heard = {"audio_tokens": reply.sound_tokens} if reply.sound_tokens else {}
    is_told = "image_tokens" not in reply.unknown
    details = {"prompt_tokens_details": {"image_tokens": reply.image_tokens, **heard}} if is_told else {}
    return {"usage": {**counts, **details}}


def _frames(reply: Reply) -> dict[str, Any]:
    return {"frames": [list(one) for one in reply.frames]} if reply.frames else {}


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


def _ask(body: Mapping[str, Any]) -> Chat:
    most = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    given = {
        "max_tokens": fields.value_as(int | None, body.get(most), most),
        "temperature": fields.value_as(float | None, body.get("temperature"), "temperature"),
        "top_p": fields.value_as(float | None, body.get("top_p"), "top_p"),
        "seed": fields.value_as(int | None, body.get("seed"), "seed"),
        "schema": _schema(body.get("response_format")),
    }
    stop = body.get("stop")
    if stop is not None:
        given["stop"] = fields.value_as(tuple[str, ...], [stop] if isinstance(stop, str) else stop, "stop")
    return Chat(**{key: value for key, value in given.items() if value is not None})


def _schema(value: object) -> str | None:
    if value is None:
        return None
    form = fields.an_object(value, "response_format")
    kinds = Literal["text", "json_object", "json_schema"]
    kind = fields.value_as(kinds, form.get("type"), "response_format.type")
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type":"object"}'
    place = "response_format.json_schema"
    named = fields.an_object(fields.wanted(form, "json_schema", "response_format"), place)
    schema = fields.an_object(fields.wanted(named, "schema", place), f"{place}.schema")
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _conversation(body: Mapping[str, Any], intake: Intake) -> Conversation:
    messages = fields.a_list(fields.wanted(body, "messages", ""), "messages", intake.turns)
    shown = sum(_shown(message) for message in messages)
    if shown > intake.items:
        raise WrongField("messages", f"{shown:,} pictures and clips; {intake.items:,} are the limit")
    return Conversation(tuple(_turn(message, f"messages[{i}]", intake) for i, message in enumerate(messages)))


def _shown(message: object) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else []
    return sum(isinstance(part, dict) and part.get("type") in _SHOWN for part in parts)


def _turn(value: object, name: str, intake: Intake) -> Turn:
    message = fields.an_object(value, name)
    role = fields.value_as(str, fields.wanted(message, "role", name), f"{name}.role")
    if role not in _ROLES:
        raise WrongField(f"{name}.role", f"want {', '.join(_ROLES)}")
    if message.get("tool_calls") or message.get("function_call"):
        raise WrongField(name, "this server calls no tools; leave them out")
    content = message.get("content")
    if content is None and role == "assistant":
        content = ""
    if content is None:
        raise WrongField(f"{name}.content", "is missing")
    try:
        return Turn(_ROLES[role], _parts(content, f"{name}.content", intake))
    except WrongField:
        raise
    except BadRequest as error:
        raise WrongField(name, str(error)) from None


def _parts(content: object, name: str, intake: Intake) -> tuple[Part, ...]:
    if not isinstance(content, list):
        return (Text(fields.value_as(str, content, name)),)
    rows = fields.a_list(content, name, 4 * intake.items)
    return tuple(_part(row, f"{name}[{i}]", intake) for i, row in enumerate(rows))


def _part(value: object, name: str, intake: Intake) -> Part:
    part = fields.an_object(value, name)
    kind = fields.value_as(_Kind, part.get("type"), f"{name}.type")
    if kind == "input_audio":
        return _sound(part, name, intake)
    if kind != "video_url":
        return part_of(part, name, intake)
    address, place = fields.wanted(part, "video_url", name), f"{name}.video_url"
    if isinstance(address, dict):
        address = fields.wanted(address, "url", place)
    cut = given_of(part, CHOSEN, name)
    if isinstance(address, str) and address[: len(_STILLS)].lower() == _STILLS:
        return Clip(_stills(address[len(_STILLS) :], f"{place}.url", intake), **cut)
    return Clip(video(address, f"{place}.url", intake), **cut)


def _sound(part: dict[str, Any], name: str, intake: Intake) -> Sound:
    """OpenAI's part for sounds. What the file is, it says itself; the format that is told has to be one of these."""
    place = f"{name}.input_audio"
    told = fields.an_object(fields.wanted(part, "input_audio", name), place)
    fields.known(told, ("data", "format"), place)
    fields.value_as(Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"], told.get("format"), f"{place}.format")
    data = binary(fields.wanted(told, "data", place), f"{place}.data", intake.sound_bytes)
    return Sound(data, **given_of(part, SPAN, name))


def _stills(text: str, name: str, intake: Intake) -> list[bytes]:
    """Pictures with commas between them, counted before they are decoded; their bytes are some of the body's."""
    if text.count(",") >= intake.stills:
        raise WrongField(name, f"{text.count(',') + 1:,} frames; {intake.stills:,} are the limit")
    return [binary(one, name, intake.image_bytes) for one in text.split(",")]
