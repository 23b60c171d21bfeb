"""A vendor in this very process, for tests: it reads the same requests and answers in the same chunks as the real ones.

What it says depends on what it is told alone: how many pictures and letters, and the last question. Its tokens are
words, a picture takes 85.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from anmok.calling import Server, refused
from anmok.models.remote import gemini, openai
from anmok.models.remote.speaking import Speech

_NAME: Final = "stand-in"
_SERVER: Final = Server("http://stand-in.invalid")
_CONTEXT: Final = 128_000
_IMAGE_TOKENS: Final = 85
_OPENINGS: Final = ("I see", "There are", "I count", "Here are")


def speech(kind: str) -> Speech:
    """``gemini`` speaks its own API, the two others OpenAI's."""
    if kind == "gemini":
        return gemini.speech_over(_gemini, _NAME, _NAME)
    return openai.speech_over(_openai, _NAME, _NAME)


def _openai(body: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    texts: list[str] = []
    pictures = 0
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts.append(" ".join(part["text"] for part in parts if part["type"] == "text"))
        pictures += sum(part["type"] == "image_url" for part in parts)
    tokens_in = _counted(texts, pictures)
    words, why = _answer(texts, pictures, body, body["max_tokens"], body.get("stop", ()))
    for word in words:
        yield {"model": _NAME, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": why}]}
    details = {"image_tokens": pictures * _IMAGE_TOKENS}
    usage = {"prompt_tokens": tokens_in, "completion_tokens": max(1, len(words)), "prompt_tokens_details": details}
    yield {"choices": [], "usage": usage}


def _gemini(body: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    turns = [*([body["systemInstruction"]] if "systemInstruction" in body else []), *body["contents"]]
    texts = [" ".join(part["text"] for part in turn["parts"] if "text" in part) for turn in turns]
    pictures = sum("inlineData" in part for turn in turns for part in turn["parts"])
    tokens_in = _counted(texts, pictures)
    wanted = body["generationConfig"]
    words, why = _answer(texts, pictures, wanted, wanted["maxOutputTokens"], wanted.get("stopSequences", ()))
    for word in words:
        yield {"candidates": [{"content": {"role": "model", "parts": [{"text": word}]}}], "modelVersion": _NAME}
    kinds = [{"modality": "IMAGE", "tokenCount": pictures * _IMAGE_TOKENS}] if pictures else []
    usage = {"promptTokenCount": tokens_in, "candidatesTokenCount": max(1, len(words)), "promptTokensDetails": kinds}
    ended: dict[str, Any] = {"content": {"parts": []}, "finishReason": "STOP" if why == "stop" else "MAX_TOKENS"}
    yield {"candidates": [ended], "usageMetadata": usage}


def _answer(
    texts: list[str], pictures: int, wanted: Mapping[str, Any], most: int, stops: tuple[str, ...]
) -> tuple[list[str], str]:
    """The words, with the space before each, and why they end."""
    rng = np.random.default_rng(wanted.get("seed"))
    opening = _OPENINGS[int(rng.integers(4)) if wanted.get("temperature", 1.0) else 0]
    letters = sum(map(len, texts))
    text = f"{opening} {pictures} pictures and {letters} letters: {texts[-1]}"
    ends = [text.find(stop) for stop in stops if stop in text]
    words = re.findall(r"\s*\S+\s*?", text[: min(ends, default=len(text))])
    kept = words[:most]
    return kept, "stop" if len(kept) == len(words) else "length"


def _counted(texts: list[str], pictures: int) -> int:
    """Tokens of what it is told.

    Raises:
        BadRequest: more than it reads, in the words of the real ones.
    """
    count = sum(len(text.split()) + 4 for text in texts) + pictures * _IMAGE_TOKENS
    if count > _CONTEXT:
        message = (
            f"This model's maximum context length is {_CONTEXT} tokens. However, your messages resulted in {count} "
            "tokens."
        )
        raise refused(_SERVER, 400, json.dumps({"error": {"message": message}}).encode())
    return count
