"""``/docs``: every route with a curl command that works, in one page without scripts and without anybody else's server.

The routes and their sentences come from the OpenAPI; the commands name the models of this server.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from anmok.server.desk import Desk

PHOTO, CLIP = "photo.jpg", "clip.webm"
_CODE = f"$(base64 < {PHOTO} | tr -d '\\n')"  # the same in GNU and BSD
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_TITLES: Mapping[str, tuple[str, str]] = {
    "anmok": ("anmok's own: asks and answers as in Python", "anmok 고유 형식: 파이썬과 같은 질문과 답"),
    "Hugging Face": ("Hugging Face Inference API", "허깅페이스 추론 API"),
    "OpenAI": ("OpenAI API", "OpenAI API 형식"),
    "Open Inference Protocol": ("Open Inference Protocol v2 (Triton, KServe)", "개방형 추론 프로토콜 v2"),
    "Label Studio": ("Label Studio backend", "레이블 스튜디오 백엔드"),
    "Operate": ("Operation", "운영"),
}
_INTRODUCTION = (
    ("The same models behind every dialect. Every command below can be pasted into a shell as it is.", "en"),
    ("같은 모델을 여러 형식으로 부를 수 있습니다. 아래 명령은 셸에 그대로 붙여 넣으면 됩니다.", "ko"),
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h2{margin-top:2.5rem}h2 span{font-weight:400;opacity:.7;margin-left:.7rem}"
    "pre{background:#8882;padding:.7rem;overflow-x:auto;border-radius:.4rem}"
    "summary{cursor:pointer}code.m{font-weight:700;display:inline-block;min-width:3.5rem}:root{color-scheme:light dark}"
)


@dataclass(frozen=True, slots=True)
class Example:
    """What curl is given for a route. ``task`` is what the model in it must do; ``body`` is JSON, in which the text
    ``PHOTO`` stands for the picture's base64; ``path`` fills what the address leaves open."""

    task: str = ""
    body: Mapping[str, Any] | None = None
    arguments: str = ""
    path: Mapping[str, str] | None = None


def add(api: FastAPI, desk: Desk) -> None:
    """Puts the page where FastAPI's own, which loads scripts from elsewhere, would be."""

    @api.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs(request: Request) -> Response:
        models = [(one.name, one.card.tasks) for one in desk.visible(request)]
        host = f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
        page = written(api.openapi(), models, host, needs_key=bool(desk.settings.keys))
        return HTMLResponse(page, headers=_HEADERS)


def written(
    openapi: Mapping[str, Any], models: list[tuple[str, tuple[str, ...]]], host: str, *, needs_key: bool
) -> str:
    """The page for a caller who may use these models (name and tasks)."""
    sections = []
    for tag, (english, korean) in _TITLES.items():
        rows = [
            _row(method, path, operation, _command(method, path, models, host, needs_key=needs_key))
            for method, path, operation in _operations(openapi, tag)
        ]
        title = f'<h2>{html.escape(english)}<span lang="ko">{html.escape(korean)}</span></h2>'
        sections.append(f"<section>{title}{''.join(rows)}</section>")
    lead = "".join(f'<p lang="{language}">{html.escape(text)}</p>' for text, language in _INTRODUCTION)
    more = '<p><a href="/openapi.json">openapi.json</a> · <a href="/info">/info</a></p>'
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>anmok</title><style>{_STYLE}'
    )
    return f'<!doctype html><html lang="en"><head>{head}</style></head><body><h1>anmok</h1>{lead}{more}' + (
        f"{''.join(sections)}</body></html>"
    )


def _operations(openapi: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if tag in operation.get("tags", ()):
                yield method.upper(), path, operation


def _row(method: str, path: str, operation: Mapping[str, Any], command: str) -> str:
    says = str(operation.get("description") or operation.get("summary", "")).partition("\n\n")[0]
    address = f'<code class="m">{method}</code> <code>{html.escape(path)}</code>'
    return f"<details><summary>{address} {html.escape(says)}</summary><pre>{html.escape(command)}</pre></details>"


def _command(method: str, path: str, models: list[tuple[str, tuple[str, ...]]], host: str, *, needs_key: bool) -> str:
    """One line for a shell. A model that the server does not have is called MODEL."""
    example = EXAMPLES.get(path, Example())
    names = [name for name, tasks in models if not example.task or example.task in tasks]
    name = names[0] if names else "MODEL"
    for key, value in {"name": name, "version": "1", **(example.path or {})}.items():
        path = path.replace(f"{{{key}}}", value)
    words = ["curl"]
    if needs_key:
        words.append('-H "authorization: Bearer $ANMOK_API_KEY"')
    words += [f"{host}{path}"] if method in ("GET", "POST") else ["-X", method, f"{host}{path}"]
    if example.arguments:
        words.append(example.arguments.replace("MODEL", name))
    if example.body is None:
        return " ".join(words)
    body = json.dumps(example.body).replace("MODEL", name).replace("'", "'\\''")
    if "PHOTO" not in body:
        return " ".join([*words, f"--json '{body}'"])
    # A picture is longer than what one argument may be, but not than what the shell's own printf takes.
    shell = body.replace("\\", "\\\\").replace("%", "%%").replace("PHOTO", "%s")
    return f"printf '{shell}' \"{_CODE}\" | " + " ".join([*words, "--json @-"])


def _own(task: str, ask: Mapping[str, Any]) -> Example:
    request = json.dumps({"model": "MODEL", "ask": ask})
    return Example(task, arguments=f"-F 'request={request}' -F image=@{PHOTO}")


_LABELS = {"labels": ["red", "blue"]}
_FOLLOWED = json.dumps({"model": "MODEL", "ask": {"labels": ["red"]}})
_SHOWN = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,PHOTO"}}
_MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "What is in this picture?"}, _SHOWN]}]
_TURNS = [{"role": "user", "parts": ["PHOTO", {"text": "What is in this picture?"}]}]
_FACE = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">'
    '<Label value="red"/></RectangleLabels></View>'
)
_SETUP = {"project": "1.0", "schema": _FACE, "hostname": "http://localhost:8080", "access_token": ""}
_PREDICT = {"project": "1.0", "label_config": _FACE, "tasks": [{"data": {"image": "data:image/jpeg;base64,PHOTO"}}]}
_TENSORS = {
    "inputs": [
        {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["PHOTO"]},
        {"name": "labels", "shape": [2], "datatype": "BYTES", "data": ["red", "blue"]},
    ]
}
_CANDIDATES = {"inputs": "PHOTO", "parameters": {"candidate_labels": ["red", "blue"]}}

# By address; what is not here takes none but its address.
EXAMPLES: Mapping[str, Example] = {
    "/run/chat": Example("chat", {"model": "MODEL", "ask": {"max_tokens": 100}, "items": [{"turns": _TURNS}]}),
    "/run/classify": _own("classify", _LABELS),
    "/run/depth": _own("depth", {}),
    "/run/detect": _own("detect", _LABELS),
    "/run/embed": _own("embed", {}),
    "/run/gaze": _own("gaze", {}),
    "/run/inspect": _own("inspect", {}),
    "/run/matte": _own("matte", {}),
    "/run/normals": _own("normals", {}),
    "/run/parse": _own("parse", {}),
    "/run/point": _own("point", _LABELS),
    "/run/pose": _own("pose", {}),
    "/run/segment": _own("segment", _LABELS),
    "/run/track": Example(
        "track", arguments=f"-N -H 'accept: application/x-ndjson' -F 'request={_FOLLOWED}' -F clip=@{CLIP}"
    ),
    "/models/{name}": Example("classify", _CANDIDATES),
    "/models/{name}/{task}": Example("depth", None, f"--data-binary @{PHOTO}", {"task": "depth-estimation"}),
    "/models/{name}/pipeline/{task}": Example("embed", {"inputs": "a red box"}, "", {"task": "feature-extraction"}),
    "/models/{name}/v1/chat/completions": Example("chat", {"model": "MODEL", "messages": _MESSAGES}),
    "/v1/embeddings": Example("embed", {"model": "MODEL", "input": ["a red box", "data:image/jpeg;base64,PHOTO"]}),
    "/v1/chat/completions": Example("chat", {"model": "MODEL", "messages": _MESSAGES}),
    "/v1/completions": Example("", {"model": "MODEL", "prompt": "A red box is"}),
    "/v1/images/generations": Example("", {"model": "MODEL", "prompt": "a red box"}),
    "/v1/images/edits": Example("", arguments=f"-F model=MODEL -F prompt=blue -F image=@{PHOTO}"),
    "/v1/images/variations": Example("", arguments=f"-F model=MODEL -F image=@{PHOTO}"),
    "/v2/models/{name}/infer": Example("detect", _TENSORS),
    "/v2/models/{name}/versions/{version}/infer": Example("detect", _TENSORS),
    "/label-studio/{name}/predict": Example("detect", _PREDICT),
    "/predict": Example("detect", _PREDICT),
    "/label-studio/{name}/setup": Example("detect", _SETUP),
    "/setup": Example("detect", _SETUP),
    "/label-studio/{name}/train": Example("detect", {"project": "1.0"}),
    "/label-studio/{name}/webhook": Example("detect", {"action": "START_TRAINING"}),
}
