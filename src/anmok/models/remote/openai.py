"""OpenAI's chat completions: a conversation as messages, and what comes back, chunk by chunk.

Whoever speaks this API can be asked: OpenAI, vLLM, LMDeploy, SGLang, llama.cpp, Ollama, OpenRouter, another anmok.

Source: OpenAI, API reference, "Chat completions" (2026); what others do otherwise was read in the request classes of
vLLM (github.com/vllm-project/vllm) and text-generation-inference (github.com/huggingface).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

from anmok.calling import Server, events
from anmok.errors import BadData, BadRequest, Refused
from anmok.inputs import Conversation, Encoded, Part, Text
from anmok.models.remote import photos
from anmok.models.remote.places import VENDORS, Place
from anmok.models.remote.speaking import Counts, Said, Speech, check_model, withheld
from anmok.results.talk import Finish
from anmok.tasks import Chat

Send: TypeAlias = Callable[[dict[str, Any]], Iterator[Mapping[str, Any]]]

_STOPS: Final = 4  # that OpenAI takes; the others are looked for here
_ROUTE: Final = "chat/completions"
_LENGTH: Final = ("length", "max_tokens")
_TOOLS: Final = ("tool_calls", "function_call")


def speech(place: Place) -> Speech:
    """A vendor at a place."""
    headers = {"authorization": f"Bearer {place.key}"} if place.key else {}
    server = Server(place.address, place.model, headers, place.key, place.remedy, place.silence)
    is_theirs = urlsplit(place.address).hostname == urlsplit(VENDORS["openai"].address).hostname
    # Their newer models refuse the old name; what others run may not know the new one.
    longest = "max_completion_tokens" if is_theirs else "max_tokens"

    def send(body: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        renamed = {longest if key == "max_tokens" else key: value for key, value in body.items()}
        return events(server, _ROUTE, {"model": place.model, **renamed})

    return speech_over(send, server.place, place.model)


def speech_over(send: Send, place: str, model: str) -> Speech:
    """Whoever takes a body and gives chunks."""

    def said(state: Conversation, ask: Chat) -> Iterator[Said]:
        photos.check_size(state)
        reading = Reading(place, has_pictures=bool(state.pictures))
        try:
            for number, chunk in enumerate(send(body_of(state, ask))):
                if number == 0:
                    check_model(model, chunk.get("model"))
                yield reading.read(chunk)
        except BadRequest as error:
            if "temperature" in str(error) and ask.temperature != 1.0:
                raise BadRequest(f"{error}: a model that takes none is asked with temperature 1") from None
            raise

    return said


def body_of(state: Conversation, ask: Chat) -> dict[str, Any]:
    """The request, but for the model's name. What is left at its default there is left out."""
    given: dict[str, Any] = {
        "messages": [{"role": turn.role, "content": _content(turn.parts)} for turn in state.turns],
        "max_tokens": ask.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": None if ask.temperature == 1.0 else ask.temperature,
        "top_p": None if ask.top_p == 1.0 else ask.top_p,
        "seed": ask.seed,
        "stop": list(ask.stop[:_STOPS]) or None,
        "response_format": None if ask.schema is None else _format(ask.schema),
    }
    return {key: value for key, value in given.items() if value is not None}


class Reading:
    """One answer, as its chunks come."""

    def __init__(self, place: str, *, has_pictures: bool) -> None:
        self._place = place
        self._has_pictures = has_pictures
        self._refusal = ""

    def read(self, chunk: Mapping[str, Any]) -> Said:
        """Raises:
        BadRequest: the vendor will not answer.
        BadData: it is no chunk of this API.
        """
        try:
            counts = self._counts(chunk.get("usage"))
            choices = chunk.get("choices") or ()
            if not choices:
                return Said(counts=counts)
            choice = choices[0]
            told = choice.get("delta") or choice.get("message") or {}  # the second: a server that does not stream
            text, why = told.get("content") or "", choice.get("finish_reason")
            self._refusal += told.get("refusal") or ""
            if not isinstance(text, str):
                raise TypeError
        except (AttributeError, LookupError, TypeError):
            raise BadData(f"{self._place}: a chunk that is not of OpenAI's chat API") from None
        return Said(text, self._finish(why), counts)

    def _finish(self, why: Any) -> Finish | None:
        if not why:
            return None
        if why == "content_filter" or self._refusal:
            raise withheld(self._place, self._refusal or "its filter")
        if why in _TOOLS:
            raise BadData(f"{self._place}: it wants to call a tool, and was given none; ask another model")
        if why == "error":
            raise Refused(f"{self._place}: the model failed in the middle of its answer; ask again")
        return "length" if why in _LENGTH else "stop"  # some name the token or text that they stopped at

    def _counts(self, usage: Any) -> Counts | None:
        if not usage:
            return None
        details = usage.get("prompt_tokens_details") or {}
        image = _count(details.get("image_tokens")) if self._has_pictures else 0
        return Counts(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), image)


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    """Words alone as a text: not every server reads lists."""
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(cast(Text, part).text for part in parts)
    return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": photos.photo(cast(Encoded, part)).address}}


def _format(schema: str) -> dict[str, Any]:
    """``strict`` is what holds the model to it; without, it is a wish."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": True}}


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
