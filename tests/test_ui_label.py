"""The Label tab without a browser: its addresses, what stays inside, strokes that count once, and gradio's client."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from PIL import Image as pillow

from anmok.labelling.photos import Photos
from anmok.ladder import dataset
from anmok.ui import Host, labelling
from anmok.ui.labelling import desk
from anmok.ui.texts import Words, table
from browser.labelled import labelled
from conftest import write_photos
from labelled_page import root_fixture, zipped  # noqa: F401  # a fixture
from serving import Running

# Gradio asks pandas in ways that pandas has given up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

LABELS = ["red", "blue"]


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Running]:
    with labelled(root) as found:
        yield found


@pytest.fixture
def room(page: Running) -> str:
    return str(opened(page, place="photos")["room"])


def opened(page: Running, **wanted: Any) -> dict[str, Any]:
    reply = page.post("/ui/label/open", {"kind": "labels", "labels": LABELS, "model": "fake", **wanted})
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


def sent(page: Running, room: str, *strokes: dict[str, Any], by: str, client: str = "c", **rest: Any) -> dict[str, Any]:
    reply = page.post(f"/ui/label/{room}/strokes", {"by": by, "client": client, "strokes": list(strokes), **rest})
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


def tasks(page: Running, room: str, by: str, count: int = 3) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.get(f"/ui/label/{room}/next?by={by}&count={count}").json["tasks"]
    return found


def proposed(page: Running, room: str, by: str) -> list[dict[str, Any]]:
    """Images that the model has looked at."""
    deadline = time.monotonic() + 30
    while not (ready := [one for one in tasks(page, room, by, 6) if one["ready"]]):
        assert time.monotonic() < deadline, "no proposals"
        time.sleep(0.05)
    return ready


def lines(folder: Path, kind: str = "labels") -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(folder.glob(f".anmok/{kind}-*/*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def test_a_stroke_is_on_the_disk_when_the_page_is_told(page: Running, root: Path, room: str) -> None:
    [task] = tasks(page, room, "ann", 1)
    told = sent(page, room, {"n": 1, "do": "answer", "image": task["id"], "answer": "red", "seconds": 1.25}, by="ann")
    assert told == {"saved": 1, "undone": [], "named": {}, "refused": []}
    last = [line for line in lines(root / "photos") if line.get("by") == "ann"][-1]
    assert (last["answer"], last["seconds"]) == ("red", 1.25)
    assert task["id"] not in [one["id"] for one in tasks(page, room, "ann")]
    undone = sent(page, room, {"n": 2, "do": "undo", "image": task["id"]}, by="ann")["undone"]
    assert [(number, one["id"]) for number, one in undone] == [(2, task["id"])]
    assert tasks(page, room, "ann")[0]["id"] == task["id"]


def test_a_stroke_that_comes_twice_counts_once(page: Running, root: Path, room: str) -> None:
    one, two = tasks(page, room, "bob", 2)
    strokes = [{"n": i + 1, "do": "answer", "image": it["id"], "answer": "blue"} for i, it in enumerate((one, two))]
    assert sent(page, room, *strokes, by="bob", client="b")["saved"] == 2
    assert sent(page, room, *strokes, by="bob", client="b", before=[])["saved"] == 2
    assert len([line for line in lines(root / "photos") if line.get("by") == "bob"]) == 2


def test_what_cannot_be_taken_is_said_and_the_rest_goes_on(page: Running, room: str) -> None:
    [task] = tasks(page, room, "eve", 1)
    wrong = {"n": 1, "do": "answer", "image": "0" * 16, "answer": "red"}
    strange = {"n": 2, "do": "answer", "image": task["id"], "answer": "purple"}
    good = {"n": 3, "do": "answer", "image": task["id"], "answer": "unsure"}
    told = sent(page, room, wrong, strange, good, by="eve", client="e")
    assert told["saved"] == 3
    assert [number for number, _ in told["refused"]] == [1, 2]


def test_ids_and_never_paths(page: Running, root: Path, room: str) -> None:
    found = tasks(page, room, "kim", 8)
    assert all(set(task) == {"id", "stream", "proposals", "chosen"} for task in found)
    assert not any("/" in task["id"] or "." in task["id"] for task in found)
    assert [task["proposals"] for task in found if task["stream"] == "measure"] == [[], []]  # of six, two measure
    picture = page.get(f"/ui/label/{room}/pictures/{found[0]['id']}")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/png")
    assert pillow.open(io.BytesIO(picture.body)).size == (28, 24)
    for odd in ("..%2f..%2fsecret.png", "photos%2fred", "0" * 16, "red"):
        assert page.get(f"/ui/label/{room}/pictures/{odd}").status in (400, 404)
    parts = Photos(root / "parts")
    assert page.get(f"/ui/label/{room}/pictures/{parts.ids[0]}").status == 400  # of a folder that is not this session's


def test_how_it_stands_is_told_in_the_pages_language(page: Running, room: str) -> None:
    html = page.get(f"/ui/label/{room}/standing?lang=ko").json["html"]
    assert "모델이 얼마나 맞히는가" in html
    assert "How good the model is" in page.get(f"/ui/label/{room}/standing?lang=en").json["html"]


def test_a_room_that_is_gone_is_opened_by_what_it_was(page: Running, room: str) -> None:
    assert page.get(f"/ui/label/{'0' * 24}/next?by=a").status == 404
    assert opened(page, place="photos")["room"] == room
    assert opened(page, place="photos", labels=["red", "blue", "other"])["room"] != room


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"place": "../label"}, 400),
        ({"place": "/etc"}, 400),
        ({"place": ""}, 400),
        ({"place": "zip:" + "0" * 32}, 400),
        ({"place": "zip:../../photos"}, 400),
        ({"place": "photos", "labels": ["red"]}, 400),
        ({"place": "photos", "labels": ["red", "skip"]}, 400),
        ({"place": "photos", "labels": "red"}, 400),
        ({"place": "photos", "kind": "points"}, 400),
        ({"place": "photos", "model": "nobody"}, 404),
    ],
)
def test_what_cannot_be_opened(page: Running, given: dict[str, Any], status: int) -> None:
    reply = page.post("/ui/label/open?lang=ko", {"kind": "labels", "labels": LABELS, "model": "fake", **given})
    assert reply.status == status
    assert re.search("[가-힣]", reply.json["error"])
    assert str(Path.cwd()) not in reply.json["error"]


def test_requests_that_make_no_sense(page: Running, room: str) -> None:
    path = f"/ui/label/{room}/strokes"
    assert page.ask("POST", path, b"{}", content_type="text/plain").status == 400  # what a foreign page could send
    assert page.ask("POST", path, b"[" * 100_000, content_type="application/json").status == 400
    for body in ({}, {"by": "a", "client": "c", "strokes": [{"n": -1, "do": "undo"}]}, {"by": " ", "client": "c"}):
        assert page.post(path, body).status == 400
    assert page.get(f"/ui/label/{room}/next?by=&count=3").status == 400
    assert page.get(f"/ui/label/{room}/next?by=a&count=1000").status == 400


def test_boxes_are_judged_and_drawn(page: Running, root: Path) -> None:
    room = opened(page, place="parts", kind="boxes", model="fake-places")["room"]
    ready = proposed(page, room, "kim")
    image = ready[0]["id"]
    assert ready[0]["size"] == [80, 60]
    [box] = ready[0]["boxes"]
    assert (box["label"], box["state"]) == ("red", "proposed")
    told = sent(
        page,
        room,
        {"n": 1, "do": "accept", "image": image, "box": box["id"]},
        {"n": 2, "do": "add", "image": image, "xyxy": [1, 2, 11, 12], "label": "blue"},
        {"n": 3, "do": "move", "image": image, "box": "n2", "xyxy": [2, 2, 12, 12], "label": "blue"},
        {"n": 4, "do": "done", "image": image},
        by="kim",
    )
    assert told["refused"] == []
    assert told["named"] == {"n2": "a0"}
    written = lines(root / "parts", "boxes")
    assert [line["do"] for line in written if line.get("by") == "kim"] == ["accept", "add", "move", "done"]
    assert [line["xyxy"] for line in written if line["do"] == "move"] == [[2.0, 2.0, 12.0, 12.0]]
    [(_, back)] = sent(page, room, {"n": 5, "do": "undo", "image": image}, by="kim")["undone"]
    assert [one["state"] for one in back["boxes"]] == ["accepted", "added"]


# --- programs, words --------------------------------------------------------------------------------------------


def test_gradios_own_client_labels_and_the_ladder_reads_it(page: Running, root: Path) -> None:
    client = Client(f"{page.address}/ui/en/", verbose=False, analytics_enabled=False)
    found, *_ = client.predict("climbed", None, "labels", "red, blue", "fake", "fake-places", api_name="/label_open")
    by_id = dict(zip(Photos(root / "climbed").ids, Photos(root / "climbed").names, strict=True))
    for i, task in enumerate(tasks(page, found["room"], "ann", 24)):
        truth = by_id[task["id"]].split("/")[0]
        sent(page, found["room"], {"n": i, "do": "answer", "image": task["id"], "answer": truth}, by="ann", client="z")
    time.sleep(0.6)  # a verdict is good for half a second
    told = client.predict(found["room"], api_name="/label_standing")
    assert (told["images"], told["done"]) == (24, 24)
    said, table_file, _, command = client.predict(found, "coco", api_name="/label_export")
    assert "learns from the first" in said
    export = next((root / "climbed").glob(".anmok/labels-*/export"))
    assert Path(table_file["value"]).read_bytes() == (export / "labels.csv").read_bytes()
    below = export.relative_to(root / "climbed").as_posix()
    assert command["value"].split() == [
        *("anmok", "ladder", f"{root.name}/climbed"),
        *("--labels", f"{root.name}/climbed/{below}/teach.csv", "--test", f"{root.name}/climbed/{below}/test"),
    ]
    data = dataset.read(root / "climbed", labels=export / "teach.csv", test=export / "test")
    assert set(data.classes) == {"red", "blue"}


def test_a_zip_comes_by_gradio_and_its_labels_go_with_the_test_pictures(page: Running, tmp_path: Path) -> None:
    client = Client(f"{page.address}/ui/ko/", verbose=False, analytics_enabled=False)
    photos = write_photos(tmp_path / "mine", 8, ("red", "blue"))
    members = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in sorted(photos.rglob("*.png"))}
    sent_zip = handle_file(str(zipped(tmp_path / "mine.zip", members)))
    found, *_ = client.predict(None, sent_zip, "labels", "red, blue", "fake", "fake-places", api_name="/label_open")
    for i, task in enumerate(tasks(page, found["room"], "ann", 16)):
        sent(page, found["room"], {"n": i, "do": "answer", "image": task["id"], "answer": "red"}, by="ann", client="y")
    *_, archive, command = client.predict(found, "coco", api_name="/label_export")
    with zipfile.ZipFile(archive["value"]) as packed:
        names = packed.namelist()
    assert {"labels/labels.csv", "labels/teach.csv"} < set(names)
    assert sum(name.startswith("labels/test/red/") for name in names) > 1
    assert command["value"].strip() == "anmok ladder photos --labels labels/teach.csv --test labels/test"


def test_boxes_are_taken_along_in_three_forms(page: Running) -> None:
    client = Client(f"{page.address}/ui/en/", verbose=False, analytics_enabled=False)
    found, *_ = client.predict("taken", None, "boxes", "red, blue", "fake", "fake-places", api_name="/label_open")
    ready = proposed(page, found["room"], "zoe")
    sent(page, found["room"], {"n": 1, "do": "done", "image": ready[0]["id"]}, by="zoe", client="x")
    for form, wanted in (("coco", "annotations.json"), ("yolo", ".txt"), ("voc", ".xml")):
        *_, archive, _ = client.predict(found, form, api_name="/label_export")
        with zipfile.ZipFile(archive["value"]) as packed:
            assert any(name.endswith(wanted) for name in packed.namelist()), form


def test_only_models_that_the_visitor_may_use(root: Path) -> None:
    def nobody(host: Host) -> Host:
        return replace(host, may_use=lambda scope, model: model != "fake")

    with labelled(root, nobody) as page:
        wanted = {"place": "photos", "kind": "labels", "labels": LABELS, "model": "fake"}
        assert page.post("/ui/label/open", wanted).status == 404
        assert page.post("/ui/label/open", wanted | {"model": "fake-sigmoid"}).status == 200


def test_names_are_text_wherever_they_are_shown(page: Running, room: str) -> None:
    by = "<img src=x onerror=alert(1)>"
    task = page.get(f"/ui/label/{room}/next?by=%3Cimg%20src=x%20onerror=alert(1)%3E&count=1").json["tasks"][0]
    sent(page, room, {"n": 1, "do": "answer", "image": task["id"], "answer": "red"}, by=by, client="w")
    html = ""
    while "onerror" not in html:  # a verdict is good for half a second
        time.sleep(0.1)
        html = page.get(f"/ui/label/{room}/standing").json["html"]
    assert "<img" not in html
    assert "&lt;img src=x" in html


def test_every_word_of_the_tab_is_used_and_korean_is_korean() -> None:
    source = Path(labelling.__file__).parent
    code = "".join(file.read_text(encoding="utf-8") for file in sorted(source.glob("*.py")))
    asked = set(re.findall(r"[\"'](label\.[a-z_.]+)[\"']", code))
    stems = tuple(re.findall(r"f[\"'](label\.[a-z_.]+)\{", code))
    said = {f"label.desk.{key}" for key in (*desk._SPOKEN, *re.findall(r"said\(\"(\w+)\"\)", code))}
    keys = {key for key in table("en") if key.startswith("label.")}
    assert {key for key in asked if not key.endswith(".")} - keys == set()
    unused = {key for key in keys - asked - said if not key.startswith(stems) or key.startswith("label.desk.")}
    shown_keys = {f"label.desk.{one[i]}" for kind in desk._KEYS.values() for one in kind for i in (0, 3)}
    assert unused - shown_keys == set()
    script = "".join(file.read_text(encoding="utf-8") for file in sorted(source.glob("*.js")))
    for key in re.findall(r"say\('(\w+)'", script):
        assert key in desk._SPOKEN, key
    bare = {key for key in keys if not re.search("[가-힣]", table("ko")[key])}
    assert bare == {"label.desk.backspace", "label.desk.box", "label.desk.scored", "label.end.table"}
    assert Words("ko")("label.verdict.head", 0.871, 0.79, 0.92, 41) == (
        "배우지 않은 사진 가운데 87%를 맞혔습니다(구간 79%~92%, 41장으로 측정)."
    )
