"""Requests in all dialects, and thousands of ways to damage them.

A case is made from its number alone, so that one that fails can be looked at: ``python -c "import damaged_requests as
d; print(d.case(4711))"`` in this folder.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image as pillow

JSON = "application/json"
CANARY = "canary4c1f"  # stands where an answer has no reason to repeat it
REPEATED = (
    "model",
    "labels",
    "candidate_labels",
    "id",
    "name",
    "task",
    "as",
    "project",
    "outputs",
    "label_config",
    "phrases",
)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
TASKS = (
    *("embed", "classify", "detect", "point", "segment", "depth"),
    *("pose", "gaze", "parse", "normals", "matte", "track"),
)


_DEEP = re.compile(rb'"deep ([ld])(\d+)"')  # stands for lists in lists, or objects, that Python itself cannot write


def _nested(match: re.Match[bytes]) -> bytes:
    start, end = (b"[", b"]") if match[1] == b"l" else (b'{"a":', b"}")
    return start * int(match[2]) + b"1" + end * int(match[2])


@dataclass(frozen=True)
class Sent:
    """A request: its address, what it says that it is, and its body as JSON or as bytes."""

    path: str
    kind: str
    body: Any
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def data(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return _DEEP.sub(_nested, json.dumps(self.body).encode())


@cache
def photo(form: str) -> bytes:
    rng = np.random.default_rng(3)
    image = pillow.fromarray(rng.integers(0, 255, (24, 31, 3), dtype=np.uint8))
    file = io.BytesIO()
    image.save(file, form, **({"comment": CANARY.encode()} if form in ("JPEG", "GIF") else {}))
    return file.getvalue()


def code(form: str = "PNG") -> str:
    return base64.b64encode(photo(form)).decode()


def multipart(*parts: tuple[str, bytes]) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\nContent-Type: image/png\r\n\r\n'
    return b"".join(head % name.encode() + data + b"\r\n" for name, data in parts) + b"--edge--\r\n"


@cache
def valid() -> tuple[Sent, ...]:
    """At least one request that is fine, or will be, of every route that reads a body."""
    labels = ["red", "green"]
    asks: dict[str, Any] = {"classify": {"labels": labels, "top_k": 2}, "detect": {"labels": labels, "threshold": 0.5}}
    asks |= {"segment": {"labels": labels, "candidates": 1}, "track": {"labels": labels, "every": 2}}
    asks |= {"point": {"labels": labels, "top_k": 2}}
    item: dict[str, Any] = {"image": code(), "points": [[3, 4, 1]], "boxes": [[1, 2, 9, 8]]}
    found = []
    for task in TASKS:
        model = "fake" if task in ("embed", "classify") else "fake-places"
        items: list[Any] = [{"clip": [code(), code("JPEG")], "fps": 2}] if task == "track" else [code(), code("GIF")]
        found.append(Sent(f"/run/{task}", JSON, {"model": model, "ask": asks.get(task, {}), "items": items}))
    rle = {"size": [24, 31], "counts": [10, 30, 704]}
    pointed = {"model": "fake-places", "items": [item, {"image": code(), "mask": rle}]}
    found += [
        Sent("/run/segment", JSON, pointed),
        Sent("/run/embed", JSON, {"model": "fake", "items": [{"text": "a"}]}),
    ]
    edge = "multipart/form-data; boundary=edge"
    request = json.dumps({"model": "fake", "ask": {}}).encode()
    found.append(Sent("/run/embed", edge, multipart(("request", request), ("image", photo("PNG")))))
    referred = json.dumps({"model": "fake-places", "items": [{"image": {"part": "a"}}]}).encode()
    found.append(Sent("/run/depth", edge, multipart(("request", referred), ("a", photo("WEBP")))))
    found += _hugging(labels) + _others(labels, edge)
    return tuple(found)


def _hugging(labels: list[str]) -> list[Sent]:
    zero_shot = {"inputs": code(), "parameters": {"candidate_labels": labels, "hypothesis_template": "a {}"}}
    found = [
        Sent("/models/fake", JSON, zero_shot),
        Sent(
            "/models/fake-places",
            JSON,
            {"inputs": code(), "parameters": {"threshold": 0.3, "candidate_labels": labels}},
        ),
        Sent("/models/fake-places/mask-generation", JSON, {"inputs": code(), "parameters": {"points": [[3, 4, 1]]}}),
        Sent("/models/fake/pipeline/feature-extraction", JSON, {"inputs": ["a", "b"], "normalize": True}),
        Sent("/models/fake", JSON, {"inputs": {"image": code(), "question": "what?"}}),
        Sent("/models/fake-places/object-tracking", JSON, {"inputs": code("GIF"), "parameters": {"fps": 1}}),
        Sent(
            "/models/fake/v1/chat/completions", JSON, {"model": "dummy", "messages": [{"role": "user", "content": "a"}]}
        ),
    ]
    found += [Sent("/models/fake/image-feature-extraction", "", photo(form)) for form in FORMATS]
    found += [Sent("/models/fake-places/depth-estimation", f"image/{form.lower()}", photo(form)) for form in FORMATS]
    return found


def _others(labels: list[str], edge: str) -> list[Sent]:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code()}", "detail": "auto"}}
    messages = [{"role": "user", "content": [part]}]
    tensors = [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [code()]}]
    named = {"name": "labels", "shape": [2], "datatype": "BYTES", "data": labels}
    pixels = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": list(range(12))}
    raw = photo("PNG")
    size = 4 + len(raw)
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = (("inference-header-content-length", str(len(head))),)
    boxes = '<RectangleLabels name="l" toName="i"><Label value="red"/></RectangleLabels>'
    config = f'<View><Image name="i" value="$image"/>{boxes}</View>'
    task = {"id": 1, "data": {"image": f"data:image/png;base64,{code()}"}}
    predict = {"tasks": [task], "project": "1.2", "label_config": config, "params": {"context": None}}
    return [
        Sent("/v1/embeddings", JSON, {"model": "fake", "input": ["a", f"data:image/png;base64,{code()}"]}),
        Sent(
            "/v1/embeddings",
            JSON,
            {"model": "fake", "input": [{"image": code()}, {"text": "a"}], "encoding_format": "base64"},
        ),
        Sent("/v1/embeddings", JSON, {"model": "fake", "messages": messages, "dimensions": 3}),
        Sent("/v1/chat/completions", JSON, {"model": "fake", "messages": messages, "stream": True}),
        Sent("/v1/images/generations", JSON, {"model": "fake", "prompt": "a cat", "n": 1, "size": "64x64"}),
        Sent("/v1/images/edits", edge, multipart(("model", b"fake"), ("image", raw), ("prompt", b"a cat"))),
        Sent("/v2/models/fake/infer", JSON, {"id": "1", "inputs": [*tensors, named], "outputs": [{"name": "scores"}]}),
        Sent("/v2/models/fake-places/infer", JSON, {"inputs": tensors, "parameters": {"task": "depth"}}),
        Sent("/v2/models/fake/versions/1/infer", JSON, {"inputs": [pixels]}),
        Sent("/v2/models/fake/infer", "application/octet-stream", head + len(raw).to_bytes(4, "little") + raw, length),
        Sent("/label-studio/fake-places/predict", JSON, predict),
        Sent("/predict", JSON, predict),
        Sent("/setup", JSON, {"project": "1.2", "schema": config, "hostname": "http://x.example", "access_token": "t"}),
        Sent("/label-studio/fake/train", JSON, {"action": "x"}),
    ]


# What is done to them


def odd(rng: random.Random, depth: int = 0) -> Any:
    """A value that somebody did not think of."""
    values: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.choice([True, False]),
        lambda: rng.choice([0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 10**30, 10**400]),
        lambda: rng.choice([0.5, -0.0, 1e308, -1e308, 5e-324, 1e-300, float("nan"), float("inf"), -float("inf")]),
        lambda: CANARY,
        lambda: CANARY * rng.choice([10, 1000]),
        lambda: rng.choice(
            ["", " ", "\0", "\ud800", "\udfff\ud800", "\u202e", "😀", "../../etc/passwd", "file:///etc/passwd"]
        ),
        lambda: rng.choice(
            ["http://127.0.0.1/x", "http://169.254.169.254/", "data:image/png;base64,", "data:,x", "%00"]
        ),
        lambda: rng.choice(
            ["A" * 4096, "AAA", "=", "{}", "[[", "a,b", "1e999", "nan", "${x}", "{0.__class__}", "%s%n"]
        ),
        lambda: base64.b64encode(flipped(photo(rng.choice(FORMATS)), rng)).decode(),
        lambda: code(rng.choice(FORMATS)),
        lambda: rng.choice(
            [[], {}, [[]], [{}], {"": None}, {"part": "a"}, {"image": None}, {"text": None}, {"clip": []}]
        ),
        lambda: [odd(rng, depth + 1) for _ in range(rng.choice([1, 3, 50]))],
        lambda: {rng.choice(["image", "text", "x" * 50, "size", "\ud800", "__class__"]): odd(rng, depth + 1)},
        lambda: f"deep {rng.choice('ld')}{rng.choice([5, 100, 900, 100_000])}",
    ]
    return rng.choice(values if depth < 2 else values[:8])()


def flipped(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few of them changed, gone, doubled or swapped."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        if not found:
            break
        at, size = rng.randrange(len(found)), rng.choice([1, 1, 2, 4, 16])
        match rng.randrange(6):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at : at + size] = rng.randbytes(size)
            case 2:
                del found[at : at + size]
            case 3:
                found[at:at] = found[at : at + size]
            case 4:
                found[at : at + size] = bytes([rng.choice([0, 255, 127, 128])]) * size
            case _:
                del found[at:]
    return bytes(found)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        rows = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in rows:
            yield from places(one, (*path, key))


def changed(content: Any, rng: random.Random) -> Any:
    """The JSON with one place of it replaced, gone, doubled or renamed."""
    path = rng.choice(list(places(content)))
    if not path:
        return odd(rng)
    content = copy.deepcopy(content)
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    value, last = inside[path[-1]], path[-1]
    match rng.randrange(8):
        case 0:
            del inside[last]
        case 1 if isinstance(inside, list):
            inside += [value] * rng.choice([1, 300])
        case 1:
            inside[rng.choice(["Image", "x", "items", "ask", "clip", "text", "model "])] = value
        case 2 if isinstance(value, str) and len(value) > 50:
            inside[last] = flipped(value.encode(), rng).decode("latin-1")
        case 3 if isinstance(value, str) and len(value) > 50:
            with contextlib.suppress(ValueError):
                inside[last] = base64.b64encode(flipped(base64.b64decode(value.rpartition(",")[2]), rng)).decode()
        case _:
            new = odd(rng)
            inside[last] = "x" if CANARY in str(new) and {*path} & {*REPEATED} else new
    return content


def case(number: int) -> Sent:
    """The request of that number."""
    rng = random.Random(number)
    sent = rng.choice(valid())
    if not isinstance(sent.body, bytes):
        body = sent.body
        for _ in range(rng.choice([1, 1, 2, 4])):
            body = changed(body, rng)
        sent = replace(sent, body=body)
    if isinstance(sent.body, bytes) or rng.random() < 0.15:
        sent = replace(sent, body=flipped(sent.data, rng))
    if rng.random() < 0.1:
        sent = replace(sent, path=rng.choice(valid()).path)
    if rng.random() < 0.1:
        kinds = (
            "",
            JSON,
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=edge",
            "image/png",
            "a" * 500,
        )
        sent = replace(sent, kind=rng.choice(kinds))
    if rng.random() < 0.05:
        name = rng.choice(["inference-header-content-length", "accept", "x-anmok-deadline", "content-encoding"])
        value = rng.choice(["0", "-1", "99999999999", "x", "image/png", "application/x-ndjson", "gzip"])
        sent = replace(sent, headers=(*sent.headers, (name, value)))
    return sent
