"""A vendor on a real socket: it keeps what it was asked, and answers what the test says, in the vendors' own shapes.

The bodies are those that the references of OpenAI, Google and Hugging Face document, with all their fields.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from anmok.load import Model, load

OPENAI, GEMINI, HUGGINGFACE = "openai", "gemini", "huggingface"
DOORS = (OPENAI, GEMINI, HUGGINGFACE)
KEY = "hf_k3y-for-tests-0123456789"  # the hub's client wants its own to begin so
EVENTS = "text/event-stream; charset=utf-8"

Write = Callable[[bytes], None]


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class Answer:
    """``data`` is bytes, or writes them piece by piece."""

    data: bytes | Callable[[Write], None]
    status: int = 200
    kind: str = EVENTS
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Vendor:
    """One answer for each request; the last one stays."""

    root: str
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    broken: threading.Event = field(default_factory=threading.Event)  # somebody left in the middle of an answer

    def says(self, *answers: Answer | bytes) -> None:
        self.answers = [one if isinstance(one, Answer) else Answer(one) for one in answers]


@contextlib.contextmanager
def vendor() -> Iterator[Vendor]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                found.asked.append(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
            try:
                self.send_response(answer.status)
                self.send_header("content-type", answer.kind)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()  # no length: the end of the line is the end of the answer
                if isinstance(answer.data, bytes):
                    self.wfile.write(answer.data)
                else:
                    answer.data(self.wfile.write)
            except OSError:
                found.broken.set()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        found = Vendor(f"http://127.0.0.1:{listening.server_address[1]}")
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        listening.shutdown()


def set_up(patch: pytest.MonkeyPatch, door: str, address: str, model: str = "eyes-1") -> None:
    """The environment of one who wants this door to lead there."""
    prefix = f"ANMOK_{door.upper()}"
    patch.setenv(f"{prefix}_BASE_URL", address + ("/v1beta" if door == GEMINI else "/v1"))
    patch.setenv(f"{prefix}_MODEL", model)
    patch.setenv(f"{prefix}_API_KEY", KEY)


def opened(door: str) -> Model:
    return load(f"{door}-chat", accept_licences=[f"remote:{door}"])


def answer(door: str, words: list[str], *, why: str = "stop") -> bytes:
    """A whole answer, streamed."""
    return gemini(words, why="STOP" if why == "stop" else "MAX_TOKENS") if door == GEMINI else openai(words, why=why)


def openai(words: list[str], *, why: str = "stop", usage: Mapping[str, Any] | None = None) -> bytes:
    """Chat completion chunks."""
    head = {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion.chunk",
        "created": 1_764_000_000,
        "model": "eyes-1-2026-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }
    deltas = [{"role": "assistant", "content": "", "refusal": None}, *({"content": word} for word in words), {}]
    chunks: list[dict[str, Any]] = [
        {
            **head,
            "choices": [
                {
                    "index": 0,
                    "delta": delta,
                    "logprobs": None,
                    "finish_reason": why if number == len(words) + 1 else None,
                }
            ],
            "usage": None,
            "obfuscation": "aB3",
        }
        for number, delta in enumerate(deltas)
    ]
    counts = {
        "prompt_tokens": 1_117,
        "completion_tokens": 9,
        "total_tokens": 1_126,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    chunks.append({**head, "choices": [], "usage": counts if usage is None else usage})
    return b"".join(event(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def gemini(words: list[str], *, why: str = "STOP") -> bytes:
    """Parts of a ``GenerateContentResponse``; the first one is a thought."""
    usage = {
        "promptTokenCount": 265,
        "totalTokenCount": 294,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}, {"modality": "IMAGE", "tokenCount": 258}],
        "thoughtsTokenCount": 20,
    }
    thought = [{"text": "Let me look.", "thought": True}]
    parts: list[list[dict[str, Any]]] = [thought, *([{"text": word}] for word in words)]
    chunks = []
    for number, part in enumerate(parts):
        candidate: dict[str, Any] = {"content": {"parts": part, "role": "model"}, "index": 0}
        counts: dict[str, Any] = dict(usage)
        if number == len(parts) - 1:
            candidate["finishReason"] = why
            counts["candidatesTokenCount"] = 9
        named = {"modelVersion": "eyes-1", "responseId": "yJ4WafnGMYyK"}
        chunks.append({"candidates": [candidate], "usageMetadata": counts, **named})
    return b"".join(event(chunk, b"\r\n") for chunk in chunks)


def event(content: object, end: bytes = b"\n") -> bytes:
    return b"data: " + json.dumps(content).encode() + end + end


@pytest.fixture(name="there")
def there_fixture() -> Iterator[Vendor]:
    with vendor() as found:
        yield found
