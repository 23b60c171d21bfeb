"""The page over HTTP: languages, what is let in, what is kept out, and gradio's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from starlette.types import Message

from anmok.engine import Engine
from anmok.errors import Unauthorized
from anmok.server.settings import Settings
from anmok.ui import Host, mount
from anmok.wire import Intake
from browser.served import shown
from serving import FAKES, RED_BOX, Running, png, scene

# Gradio sets an option of pandas, and a keyword, that pandas has given up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

TASKS = (
    *("classify", "detect", "point", "segment", "track", "depth"),
    *("pose", "gaze", "parse", "normals", "matte", "embed"),
)
EVENTS = {f"/try_{task}" for task in TASKS}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "red.png").write_bytes(RED_BOX)
    return folder


@pytest.fixture(scope="module")
def page(photos: Path) -> Iterator[Running]:
    with shown(photos) as found:
        yield found


@pytest.fixture(scope="module")
def client(page: Running) -> Client:
    return Client(f"{page.address}/ui/en/", verbose=False, analytics_enabled=False)


def test_the_way_in_is_in_the_visitors_language(page: Running) -> None:
    reply = page.get("/ui", accept_language="ko-KR,ko;q=0.9")
    assert (reply.status, reply.headers["location"]) == (307, "ui/ko/")
    assert page.get("/ui/", accept_language="de").headers["location"] == "en/"
    chosen = page.get("/ui/?lang=ko")
    assert chosen.headers["location"] == "ko/"
    assert chosen.headers["set-cookie"].startswith("anmok-language=ko;")
    assert page.get("/ui/", cookie="anmok-language=ko").headers["location"] == "ko/"


@pytest.mark.parametrize(("language", "title"), [("en", "anmok"), ("ko", "anmok 안목")])
def test_a_page_says_its_language_and_keeps_to_this_server(page: Running, language: str, title: str) -> None:
    reply = page.get(f"/ui/{language}/")
    text = reply.body.decode()
    assert reply.status == 200
    assert f'lang="{language}"' in text[:200]
    assert title in text
    policy = reply.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self' data: blob:" in policy
    assert "://" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://127.0.0.1:1/x",
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/file=/https://127.0.0.1:1/x",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/process_recording",
        "/gradio_api/dev/reload",
        "/login",
        "/docs",
    ],
)
def test_what_the_page_does_not_need_is_not_there(page: Running, path: str) -> None:
    assert page.get(f"/ui/en{path}").status == 404


@pytest.mark.parametrize("name", ["/etc/passwd", "{root}/red.png", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", ""])
def test_no_file_of_this_machine_has_an_address(page: Running, photos: Path, name: str) -> None:
    reply = page.get(f"/ui/en/gradio_api/file={name.format(root=photos)}")
    assert reply.status in (403, 404)
    assert RED_BOX not in reply.body
    assert b"root:" not in reply.body


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/a.png", "https://example.org/a.png", "ftp://127.0.0.1/a.png"])
def test_no_event_makes_the_server_open_an_address(page: Running, path: str) -> None:
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for place in ("call/try_depth", "queue/join", "run/try_depth"):
        body = {"data": [picture, "fake-places"], "fn_index": 0, "session_hash": "a"}
        assert page.post(f"/ui/en/gradio_api/{place}", body).status == 422
    escaped = json.dumps({"data": [picture]}).replace("://", "\\u003a\\u002f/")
    sent = page.post("/ui/en/gradio_api/call/try_depth", escaped.encode(), content_type="application/json")
    assert sent.status == 422


@pytest.mark.parametrize("meta", [{"_type": "gradio.FileData"}, None])
def test_a_file_that_was_not_uploaded_is_no_input(
    page: Running, photos: Path, meta: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (str(photos / "red.png"), "/etc/passwd", "../../etc/passwd", "pyproject.toml"):
        body = {"data": [{"path": path, "meta": meta}, "fake-places"], "fn_index": 0, "session_hash": "a"}
        for place in ("call/try_depth", "queue/join", "run/try_depth"):
            assert page.post(f"/ui/en/gradio_api/{place}", body).status == 422
    # Nor does gradio itself take it, should ours ever let it pass.
    monkeypatch.setattr("anmok.ui.mounting._is_below", lambda path, folder: True)
    picture = {"path": str(photos / "red.png"), "meta": {"_type": "gradio.FileData"}}
    reply = page.post("/ui/en/gradio_api/call/try_depth", {"data": [picture, "fake-places"]})
    events = page.get(f"/ui/en/gradio_api/call/try_depth/{reply.json['event_id']}").body
    assert b"event: error" in events
    assert b"red.png" not in events


def test_an_upload_obeys_the_caps_of_the_server() -> None:
    settings = Settings(models=FAKES, intake=Intake(image_bytes=2000, clip_bytes=2000, sound_bytes=2000))
    with shown(settings=settings) as small:
        assert _upload(small, b"x" * 1000).status == 200
        assert _upload(small, b"x" * 5000).status == 413


def _upload(page: Running, data: bytes) -> Any:
    edge = "edge"
    head = f'--{edge}\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
    return page.post("/ui/en/gradio_api/upload", body, content_type=f"multipart/form-data; boundary={edge}")


def test_gradios_client_sees_every_endpoint(client: Client) -> None:
    found = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert found >= EVENTS
    assert {name for name in found if name.startswith("/try")} == EVENTS


def test_gradios_client_calls_every_endpoint(client: Client, photos: Path, tmp_path: Path) -> None:
    from anmok.ui.trying.examples import clip

    red, moving = handle_file(str(photos / "red.png")), clip(tmp_path)
    assert moving is not None
    marks = {"points": [[25, 15, 1]], "boxes": [], "width": 80, "height": 60, "source": "", "picture": "", "stamp": 1}
    on_clip = {**marks, "points": [[60, 90, 1]], "width": 480, "height": 360}
    calls: dict[str, tuple[Any, ...]] = {
        "classify": (red, "fake", "red, blue", 0.0, "fake-sigmoid"),
        "detect": (red, "fake-places", "red", True, 0.3),
        "segment": (red, marks, "fake-places", "", True, 0.3),
        "track": (handle_file(str(moving)), on_clip, "fake-places", ""),
        "point": (red, "fake-places", "red"),
        "depth": (red, "fake-places"),
        "pose": (red, "fake-places", 0.3, 0.5),
        "gaze": (red, "fake-places"),
        "parse": (red, "fake-places"),
        "normals": (red, "fake-places"),
        "matte": (red, "fake-places"),
        "embed": (red, None, "red", "fake"),
    }
    assert {f"/try_{task}" for task in calls} == EVENTS
    wanted = {
        "classify": "red",
        "detect": "1 found: red 1",
        "segment": "1 found: object 1",
        "track": "1 followed through 24 frames",
        "point": "1 found: red 1",
        "depth": "m away",
        "pose": "1 found, with their joints",
        "gaze": "Faces: 1. Looking at a place in the picture: 0.",
        "parse": "black",
        "normals": "Done",
        "matte": "of the picture stands in front",
        "embed": "Cosine",
    }
    for task, given in calls.items():
        answer = client.predict(*given, api_name=f"/try_{task}")
        assert wanted[task] in str(answer[0]), task
        assert any("import anmok" in str(one) for one in answer), task


def test_two_models_answer_side_by_side(client: Client, photos: Path) -> None:
    red = handle_file(str(photos / "red.png"))
    answer = client.predict(red, "fake-places", "red", True, 0.3, "fake-grounded", api_name="/try_detect")
    assert answer[0].count("<h3>") == 2
    assert len(answer[2]["value"] if isinstance(answer[2], dict) else answer[2]) == 2


def test_an_error_is_one_line_in_the_language_of_the_page(page: Running, client: Client, photos: Path) -> None:
    red = handle_file(str(photos / "red.png"))
    with pytest.raises(AppError, match="There are no labels yet") as raised:
        client.predict(red, "fake", "", 0.0, api_name="/try_classify")
    assert "Traceback" not in str(raised.value)
    korean = Client(f"{page.address}/ui/ko/", verbose=False, analytics_enabled=False)
    with pytest.raises(AppError, match="아직 라벨이 없습니다"):
        korean.predict(red, "fake", "", 0.0, api_name="/try_classify")


def test_a_file_that_is_no_picture_is_said_to_be_none(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"this is text")
    with pytest.raises(AppError, match=r"image") as raised:
        client.predict(handle_file(str(tmp_path / "broken.png")), "fake-places", api_name="/try_depth")
    assert str(tmp_path) not in str(raised.value)


def test_eight_visitors_at_once_get_their_own_answers(page: Running, tmp_path: Path) -> None:
    sides = [10 + 4 * number for number in range(8)]
    for side in sides:
        (tmp_path / f"{side}.png").write_bytes(png(scene({"red": (5, 5, 5 + side, 15)})))

    def visit(side: int) -> set[str]:
        mine = Client(f"{page.address}/ui/en/", verbose=False, analytics_enabled=False)
        picture = handle_file(str(tmp_path / f"{side}.png"))
        answers = [mine.predict(picture, "fake-places", "red", True, 0.3, api_name="/try_detect") for _ in range(3)]
        return {answer[3] for answer in answers}

    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(visit, sides))
    for side, found in zip(sides, tables, strict=True):
        assert len(found) == 1
        assert f"5, 5, {5 + side}, 15" in found.pop()


def test_behind_a_prefix_the_page_names_its_addresses_with_it() -> None:
    with shown(prefix="/tools/anmok") as page:
        assert page.get("/tools/anmok/ui", accept_language="ko").headers["location"] == "ui/ko/"
        config = page.get("/tools/anmok/ui/ko/config").json
        assert config["root"] == f"{page.address}/tools/anmok/ui/ko"
        mine = Client(f"{page.address}/tools/anmok/ui/ko/", verbose=False, analytics_enabled=False)
        assert set(mine.view_api(return_format="dict", print_info=False)["named_endpoints"]) >= EVENTS


def test_a_key_opens_the_page() -> None:
    def enter(key: str) -> str:
        if key != "the right key":
            raise Unauthorized("no")
        return "token"

    app = FastAPI()
    with Engine(10**8) as engine:
        mount(app, replace(Host(engine, {}), needs_key=True, enter=enter), "/ui")
        status, headers, body = asyncio.run(_ask(app, "GET", "/ui/login", b"", {"accept-language": "ko"}))
        assert (status, "이 서버에는 키가 필요합니다" in body.decode()) == (200, True)
        assert "default-src 'none'" in headers["content-security-policy"]
        status, headers, body = asyncio.run(_ask(app, "POST", "/ui/login", b"key=wrong%3Cb%3E", {}))
        assert (status, b"<b>" in body, "set-cookie" in headers) == (401, False, False)
        status, headers, _ = asyncio.run(_ask(app, "POST", "/ui/login", b"key=the+right+key", {}))
        assert (status, headers["location"]) == (303, "./")
        cookie = headers["set-cookie"].lower()
        assert cookie.startswith("anmok-entered=token;")
        assert all(word in cookie for word in ("httponly", "samesite=strict"))


async def _ask(
    app: FastAPI, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    raw = [(name.encode(), value.encode()) for name, value in {"host": "127.0.0.1", **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    whole = {**scope, "headers": raw, "scheme": "http", "server": ("127.0.0.1", 80), "state": {}}
    await app(whole, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:])
