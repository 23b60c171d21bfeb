"""The OpenAPI that is kept with the documents, and the page that shows it: every command on it is carried out."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from PIL import Image as pillow

import anmok.server.engines
from anmok.ladder.inspecting.banking import bank_of
from anmok.load import Model, load
from anmok.server import openapi
from anmok.server.docs_page import CLIP, EXAMPLES, PHOTO
from anmok.server.settings import Key, Served, Settings
from anmok.wire import ASKS
from serving import FAKES, RED_BOX, Reply, Running, running, scene

KEPT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"
SECRET = "a key of the tests, long enough"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("memories") / "bank"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(folder.parent / "cache"))
        (folder.parent / "good.png").write_bytes(RED_BOX)
        bank_of(load("fake"), [folder.parent / "good.png"]).write(folder)
    with running(Settings(models=(FAKES[0], FAKES[2], Served.of("fake-talk"), Served.of(str(folder))))) as found:
        yield found


def film() -> bytes:
    pictures = [pillow.fromarray(scene({"red": (5 * i, 10, 5 * i + 20, 30)})) for i in range(3)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


FILES = {PHOTO: RED_BOX, CLIP: film()}


def test_the_kept_document_is_that_of_the_code() -> None:
    stale = "docs/openapi.json is stale: run python -m anmok.server.openapi > docs/openapi.json"
    assert KEPT.read_text(encoding="utf-8") == openapi.text(), stale


def test_what_is_served_is_the_kept_document(server: Running) -> None:
    assert server.get("/openapi.json").json == json.loads(KEPT.read_text(encoding="utf-8"))


def test_every_route_says_what_it_takes() -> None:
    document = json.loads(openapi.text())
    assert {f"/run/{task}" for task in ASKS} <= set(document["paths"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            named = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path
            assert operation["tags"], path
            assert operation.get("description") or operation["summary"], path
            assert ("requestBody" in operation) is (method == "post"), path
            if operation["tags"] != ["Operate"]:
                assert {"200", "4XX", "5XX"} <= set(operation["responses"]), path
    assert "HTTPValidationError" not in json.dumps(document)  # errors have each dialect's own form


class Page(HTMLParser):
    """The commands of the page, and the addresses that it would make a browser open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.commands: dict[str, str] = {}
        self.opened: list[str] = []
        self.tags: set[str] = set()
        self.languages: set[str] = set()
        self._summary = self._place = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self._place = tag
        if tag == "summary":
            self._summary = ""
        if "lang" in given:
            self.languages.add(str(given["lang"]))
        if tag != "a":
            self.opened += [str(given[key]) for key in ("src", "href", "action") if key in given]

    def handle_endtag(self, tag: str) -> None:
        self._place = "summary" if tag == "code" else ""

    def handle_data(self, data: str) -> None:
        if self._place in ("summary", "code"):
            self._summary += data
        if self._place == "pre":
            method, path, *_ = self._summary.split()
            self.commands[f"{method} {path}"] = data


def page(server: Running, **headers: str) -> Page:
    reply = server.get("/docs", **headers)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return Page(reply.body.decode())


def test_the_page_needs_nobody_else(server: Running) -> None:
    reply = server.get("/docs")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    found = page(server)
    assert found.opened == []
    assert not found.tags & {"script", "link", "img", "iframe", "object", "form"}
    assert {"en", "ko"} <= found.languages
    text = reply.body.decode()
    assert "Hugging Face Inference API" in text
    assert "허깅페이스 추론 API" in text
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert server.get(path).status == 404


def test_the_page_has_every_route() -> None:
    document = json.loads(openapi.text())
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    with running(Settings(models=(Served.of("fake"),))) as server:
        assert set(page(server).commands) == routes
    posts = {path for path, methods in document["paths"].items() if "post" in methods}
    assert set(EXAMPLES) == posts


def carried_out(server: Running, command: str) -> Reply:
    """What a shell and curl would send."""
    piped = b""
    if command.startswith("printf "):
        first, _, command = command.partition(" | ") if "tr -d" not in command else _piped(command)
        form = shlex.split(first)[1].replace("\\\\", "\\")
        piped = form.replace("%s", base64.b64encode(RED_BOX).decode()).replace("%%", "%").encode()
    words = shlex.split(command)
    assert words.pop(0) == "curl"
    headers: dict[str, str] = {}
    parts: list[tuple[str, bytes]] = []
    body: bytes | None = None
    url = ""
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name.replace("-", "_")] = value
        elif word == "-F":
            name, _, value = words.pop(0).partition("=")
            parts.append((name, FILES[value[1:]] if value.startswith("@") else value.encode()))
        elif word == "--json":
            value = words.pop(0)
            body, headers["content_type"] = piped if value == "@-" else value.encode(), "application/json"
        elif word == "--data-binary":
            body, headers["content_type"] = FILES[words.pop(0)[1:]], "application/x-www-form-urlencoded"
        elif word != "-N":
            url = word
    if parts:
        rows = [b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v) for k, v in parts]
        body, headers["content_type"] = b"".join(rows) + b"--b--\r\n", "multipart/form-data; boundary=b"
    assert url.startswith(server.address)
    return server.ask("GET" if body is None else "POST", url.removeprefix(server.address), body, **headers)


def _piped(command: str) -> tuple[str, str, str]:
    """At the pipe that is outside of the substitution."""
    place = command.index("')\" | ") + len("')\"")
    return command[:place], " | ", command[place + 3 :]


LATER = ("/v1/completions", "/images/", "/train", "/webhook")


def test_every_command_on_the_page_works(server: Running) -> None:
    commands = page(server).commands
    assert len(commands) > 50
    for route, command in commands.items():
        reply = carried_out(server, command)
        expected = 501 if any(word in route for word in LATER) else 200
        assert reply.status == expected, (route, command, reply.body[:300])
    lines = carried_out(server, commands["POST /run/track"]).body.splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0, 1, 2]


def test_the_page_shows_a_caller_his_own_models_alone() -> None:
    settings = Settings(
        models=(Served.of("fake-places"), Served.of("fake")), keys=(Key("one", Key.of(SECRET).sha256, ("fake",)),)
    )
    with running(settings) as server:
        assert server.get("/docs").status == 401
        text = server.get("/docs", x_api_key=SECRET).body.decode()
        commands = page(server, x_api_key=SECRET).commands
    assert "fake-places" not in text
    assert "MODEL" in commands["POST /run/detect"]  # no model here does that
    assert '-H "authorization: Bearer $ANMOK_API_KEY"' in commands["GET /v1/models"]


def test_a_host_is_text_on_the_page() -> None:
    """One that is open to others and was told no names of its own takes any."""
    settings = Settings(models=(Served.of("fake"),), host="0.0.0.0", keys=(Key.of(SECRET),))
    with running(settings) as server:
        body = server.get("/docs", host="<b>evil</b>", x_api_key=SECRET).body.decode()
    assert "<b>" not in body
    assert "http://<b>evil</b>/run/embed" in html.unescape(body)


CLIENTS = KEPT.with_name("serve-clients.md")
# The models that the page speaks of, and the fakes that stand for them.
NAMED = {
    "mini": "fake-sigmoid",
    "siglip2-b16-256": "fake",
    "rtdetr-v2-r18": "fake-places",
    "grounding-dino-tiny": "fake-places",
    "sam2.1-tiny": "fake-places",
}


def with_labels(name: str, **settings: Any) -> Model:
    """Classifier and detector have labels of their own, as those they stand for."""
    model = load(name, **settings)
    model.kind.vocabulary = ("red", "green", "black")
    if name == "fake-places":
        detect = model.kind.detect
        model.kind.detect = lambda states, ask: detect(states, replace(ask, labels=ask.labels or ("red", "green")))
    return model


def test_the_python_on_the_page_of_clients_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for Triton's client, which is not among the packages of the tests."""
    (tmp_path / "cat.jpg").write_bytes(RED_BOX)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(anmok.server.engines, "load", with_labels)
    blocks = re.findall(r"^```python\n(.*?)^```", CLIENTS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    with running(Settings(models=tuple(Served(target, name) for name, target in NAMED.items()))) as server:
        for block in blocks:
            code = block.replace("http://127.0.0.1:8000", server.address)
            code = re.sub(r'open\("cat.jpg", "rb"\).read\(\)', 'Path("cat.jpg").read_bytes()', code)
            code = code.replace("urllib.request.urlopen(request)", "opened(request)")
            exec(compile(code, "serve-clients.md", "exec"), names | {"Path": Path, "opened": opened}, names)
        names["client"].close()
        huggingface_hub.close_session()
    assert len(blocks) == 6
    assert len(names["texts"].data) == 2
    assert len(names["vllm"]["data"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "['embed', 'classify']"
    assert lines[1] == str(list(NAMED))
    assert lines[2] == "('red',) [[20. 10. 50. 30.]]"


def opened(request: Any) -> io.BytesIO:
    """Read to the end and closed, which a page of documents need not be so careful about."""
    with urllib.request.urlopen(request) as reply:
        return io.BytesIO(reply.read())


def test_the_document_is_the_same_for_all_models() -> None:
    with running(Settings(models=(Served("fake-places", "other"),))) as server:
        served: Any = server.get("/openapi.json").json
    assert served == json.loads(openapi.text())
