"""Gemini's ``generateContent``, as a stream of server-sent events.

Its own door and not the one that speaks OpenAI's API: only here an answer says how many of its tokens the pictures
took, and why it was withheld. Whoever wants the other one sets ``ANMOK_OPENAI_BASE_URL`` to it.

Source: Google, Gemini API reference, "models.streamGenerateContent" (v1beta, 2026).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote

from anmok.calling import Server, events
from anmok.errors import BadData, Refused
from anmok.inputs import Conversation, Encoded, Part, Text
from anmok.models.remote import photos
from anmok.models.remote.places import Place
from anmok.models.remote.speaking import Counts, Said, Speech, check_model, withheld
from anmok.results.talk import Finish
from anmok.tasks import Chat

Send: TypeAlias = Callable[[dict[str, Any]], Iterator[Mapping[str, Any]]]

_STOPS: Final = 5  # that it takes
_SEEDS: Final = 2**31  # its seeds have 32 bits and a sign
_WITHHELD: Final = frozenset(
    ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")
)


def speech(place: Place) -> Speech:
    """Google at a place. The key goes in a header: an address would stand in the logs of everybody on the way."""
    headers = {"x-goog-api-key": place.key} if place.key else {}
    server = Server(place.address, place.model, headers, place.key, place.remedy, place.silence)
    route = f"models/{quote(place.model.removeprefix('models/'), safe='')}:streamGenerateContent?alt=sse"
    return speech_over(lambda body: events(server, route, body), server.place, place.model)


def speech_over(send: Send, place: str, model: str) -> Speech:
    """Whoever takes a body and gives parts of an answer."""

    def said(state: Conversation, ask: Chat) -> Iterator[Said]:
        photos.check_size(state)
        for number, chunk in enumerate(send(body_of(state, ask))):
            if number == 0:
                check_model(model, chunk.get("modelVersion"))
            yield _read(chunk, place, has_pictures=bool(state.pictures))

    return said


def body_of(state: Conversation, ask: Chat) -> dict[str, Any]:
    """The request. What is left at its default there is left out."""
    wanted: dict[str, Any] = {
        "maxOutputTokens": ask.max_tokens,
        "temperature": ask.temperature,
        "topP": None if ask.top_p == 1.0 else ask.top_p,
        "seed": None if ask.seed is None else ask.seed % _SEEDS,
        "stopSequences": list(ask.stop[:_STOPS]) or None,
        "responseMimeType": None if ask.schema is None else "application/json",
        "responseJsonSchema": None if ask.schema is None else json.loads(ask.schema),
    }
    body: dict[str, Any] = {
        "contents": [
            {"role": "model" if turn.role == "assistant" else "user", "parts": [_part(part) for part in turn.parts]}
            for turn in state.turns
            if turn.role != "system"
        ],
        "generationConfig": {key: value for key, value in wanted.items() if value is not None},
    }
    if state.system:
        body["systemInstruction"] = {"parts": [{"text": state.system}]}
    return body


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    photo = photos.photo(cast(Encoded, part))
    return {"inlineData": {"mimeType": photo.kind, "data": photo.text}}


def _read(chunk: Mapping[str, Any], place: str, *, has_pictures: bool) -> Said:
    """Raises:
    BadRequest: the vendor will not answer.
    Refused: the model failed.
    BadData: it is no part of an answer of this API.
    """
    try:
        counts = _counts(chunk.get("usageMetadata"), has_pictures=has_pictures)
        blocked = (chunk.get("promptFeedback") or {}).get("blockReason")
        candidates = chunk.get("candidates") or ()
        first = candidates[0] if candidates else {}
        parts = (first.get("content") or {}).get("parts") or ()
        # What it thinks before it answers is no answer.
        text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
        why = first.get("finishReason")
    except (AttributeError, LookupError, TypeError):
        raise BadData(f"{place}: a part of an answer that is not of Gemini's API") from None
    if blocked:
        raise withheld(place, str(blocked))
    return Said(text, _finish(why, place), counts)


def _finish(why: Any, place: str) -> Finish | None:
    if not why or why == "FINISH_REASON_UNSPECIFIED":
        return None
    if why in _WITHHELD:
        raise withheld(place, str(why))
    if why not in ("STOP", "MAX_TOKENS"):
        raise Refused(f"{place}: the model failed in the middle of its answer ({str(why)[:60]}); ask again")
    return "length" if why == "MAX_TOKENS" else "stop"


def _counts(usage: Any, *, has_pictures: bool) -> Counts | None:
    """Tokens of thinking were made too, and are paid for."""
    if not usage:
        return None
    made = [_count(usage.get(name, 0)) for name in ("candidatesTokenCount", "thoughtsTokenCount")]
    kinds = usage.get("promptTokensDetails")
    image: int | None = 0
    if has_pictures:
        image = None if not kinds else sum(_count(one.get("tokenCount")) or 0 for one in kinds if _is_image(one))
    out = None if None in made else sum(one or 0 for one in made)
    return Counts(_count(usage.get("promptTokenCount")), out, image)


def _is_image(kind: Mapping[str, Any]) -> bool:
    return kind.get("modality") == "IMAGE"


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
