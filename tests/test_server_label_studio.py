"""Label Studio's side of the contract on a real socket: the bodies that it sends, and what it reads of the answers.

How it builds them: github.com/HumanSignal/label-studio, label_studio/ml/api_connector.py and ml/models.py; what its
own backends answer: github.com/HumanSignal/label-studio-ml-backend, label_studio_ml/api.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok.server.settings import Key, Served, Settings
from serving import FAKES, Running, png, running, scene

PIXELS = scene({"red": (20, 10, 50, 30), "green": (60, 40, 70, 59)})  # 60 x 80
DATA = "data:image/png;base64," + base64.b64encode(png(PIXELS)).decode()
BOXES = """<View>
  <Image name="img" value="$photo" zoom="true"/>
  <RectangleLabels name="box" toName="img">
    <Label value="green" background="#0f0"/><Label value="red"/>
  </RectangleLabels>
</View>"""
BRUSHES = BOXES.replace("RectangleLabels", "BrushLabels").replace('"box"', '"brush"')
SMART = """<View>
  <Image name="img" value="$photo"/>
  <RectangleLabels name="smart box" toName="img" smart="true"><Label value="red"/></RectangleLabels>
  <KeyPointLabels name="smart point" toName="img" smart="true"><Label value="red"/></KeyPointLabels>
  <BrushLabels name="brush" toName="img"><Label value="red"/></BrushLabels>
</View>"""
SECRET, OTHER = "a key of the tests, long enough", "another key of the tests"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=(FAKES[0], FAKES[2]))) as found:
        yield found


def task(number: int, photo: str = DATA) -> dict[str, Any]:
    """As its serializer writes one."""
    return {
        "id": number,
        "data": {"photo": photo},
        "meta": {},
        "created_at": "2026-11-01T12:00:00.000000Z",
        "is_labeled": False,
        "annotations": [],
        "predictions": [],
        "project": 3,
    }


def predict(config: str, tasks: list[dict[str, Any]], context: Any = None) -> dict[str, Any]:
    return {
        "tasks": tasks,
        "model_version": "fake-places",
        "project": "3.1793500000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


def setup(config: str, hostname: str = "http://127.0.0.1:8080") -> dict[str, Any]:
    return {
        "project": "3.1793500000",
        "schema": config,
        "hostname": hostname,
        "access_token": "0123456789abcdef",
        "extra_params": None,
    }


def unbrushed(numbers: list[int]) -> NDArray[np.uint8]:
    """The values of a brush, as label-studio-converter decodes them (brush.py, decode_rle)."""
    bits = "".join(f"{number:08b}" for number in numbers)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeats = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeats else [take(word) for _ in range(length)]
    return np.asarray(values, np.uint8)


@pytest.mark.parametrize("place", ["", "/label-studio/fake-places"])
def test_a_project_connects(server: Running, place: str) -> None:
    health = server.get(f"{place}/health").json
    assert health["status"] == "UP"
    assert health["model_class"]
    for config in (BOXES, BRUSHES, SMART, "<View></View>"):  # a new project has no interface yet
        assert server.post(f"{place}/setup", setup(config)).json == {"model_version": "fake-places"}
    assert server.get("/label-studio/fake-places/versions").json == {"versions": ["fake-places"]}


@pytest.mark.parametrize("place", ["", "/label-studio/fake-places"])
def test_boxes(server: Running, place: str) -> None:
    reply = server.post(f"{place}/predict", predict(BOXES, [task(1), task(2)])).json
    assert reply["model_version"] == "fake-places"
    first, second = reply["results"]  # one per task, or Label Studio asks for them one by one
    assert first == second
    assert first["score"] == 1.0
    rows = [(row["from_name"], row["to_name"], row["type"], row["value"]["rectanglelabels"]) for row in first["result"]]
    assert rows == [("box", "img", "rectanglelabels", ["green"]), ("box", "img", "rectanglelabels", ["red"])]
    value = first["result"][1]["value"]
    places = {key: value[key] for key in ("x", "y", "width", "height", "rotation")}
    # in percent; float32 boxes
    assert places == pytest.approx({"x": 25, "y": 100 / 6, "width": 37.5, "height": 100 / 3, "rotation": 0}, abs=1e-4)
    assert (first["result"][1]["original_width"], first["result"][1]["original_height"]) == (80, 60)


def test_brushes(server: Running) -> None:
    reply = server.post("/label-studio/fake-places/predict", predict(BRUSHES, [task(1)])).json
    [prediction] = reply["results"]
    masks = {}
    for row in prediction["result"]:
        assert (row["from_name"], row["type"], row["value"]["format"]) == ("brush", "brushlabels", "rle")
        masks[row["value"]["brushlabels"][0]] = unbrushed(row["value"]["rle"]).reshape(60, 80, 4)[..., 3] == 255
    np.testing.assert_array_equal(masks["red"], PIXELS[..., 0] > 0)
    np.testing.assert_array_equal(masks["green"], PIXELS[..., 1] > 0)


def point(x: float, y: float, *, is_positive: int = 1) -> dict[str, Any]:
    return {
        "original_width": 80,
        "original_height": 60,
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": 0.3, "keypointlabels": ["red"]},
        "is_positive": is_positive,
        "id": "k1",
        "from_name": "smart point",
        "to_name": "img",
        "type": "keypointlabels",
        "origin": "manual",
    }


def rectangle(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["red"]}
    return {**point(0, 0), "from_name": "smart box", "type": "rectanglelabels", "value": value}


@pytest.mark.parametrize("drawn", [point(50, 30), rectangle(20, 10, 50, 50)])
@pytest.mark.parametrize("place", ["", "/label-studio/fake-places"])
def test_a_smart_tool_gives_the_brush(server: Running, place: str, drawn: dict[str, Any]) -> None:
    context = {"result": [drawn], "annotation_id": None, "draft_id": 0, "user_id": 1}
    reply = server.post(f"{place}/predict", predict(SMART, [task(1)], context)).json
    [row] = reply["results"][0]["result"]
    assert (row["from_name"], row["to_name"], row["type"]) == ("brush", "img", "brushlabels")
    assert row["value"]["brushlabels"] == ["red"]
    mask = unbrushed(row["value"]["rle"]).reshape(60, 80, 4)[..., 3] == 255
    np.testing.assert_array_equal(mask, PIXELS[..., 0] > 0)


def test_a_smart_tool_gives_the_brush_where_boxes_are_asked_for_too(server: Running) -> None:
    both = SMART.replace('name="smart box" toName="img" smart="true"', 'name="box" toName="img"')
    reply = server.post("/predict", predict(both, [task(1)], {"result": [point(50, 30)]})).json
    assert [row["from_name"] for row in reply["results"][0]["result"]] == ["brush"]
    reply = server.post("/predict", predict(both, [task(1)])).json  # nothing drawn: the first that people fill
    assert [row["from_name"] for row in reply["results"][0]["result"]] == ["box"]


def test_a_smart_tool_gives_a_box_where_there_is_no_brush(server: Running) -> None:
    context = {"result": [point(80, 80)]}
    reply = server.post("/predict", predict(BOXES, [task(1)], context)).json
    [row] = reply["results"][0]["result"]
    assert (row["from_name"], row["type"], row["value"]["rectanglelabels"]) == ("box", "rectanglelabels", ["red"])
    assert (row["value"]["x"], row["value"]["width"]) == pytest.approx((75, 12.5), abs=1e-4)  # float32 boxes


def test_smart_tools_alone_are_not_what_is_asked_for(server: Running) -> None:
    """Without anything drawn, the brush of the interface is filled."""
    [prediction] = server.post("/predict", predict(SMART, [task(1)])).json["results"]
    assert [row["from_name"] for row in prediction["result"]] == ["brush"]


def test_a_picture_that_cannot_be_read_has_an_empty_prediction(server: Running) -> None:
    torn = "data:image/png;base64," + base64.b64encode(b"nothing of the kind").decode()
    reply = server.post("/predict", predict(BOXES, [task(1), task(2, torn), task(3)])).json
    assert [len(one["result"]) for one in reply["results"]] == [2, 0, 2]


def test_pictures_that_lie_with_label_studio_need_addresses_to_be_allowed(server: Running) -> None:
    stored = predict(BOXES, [task(1, "/data/upload/3/a.png")])
    server.post("/setup", setup(BOXES))
    reply = server.post("/predict", stored)
    assert reply.status == 422
    assert reply.json["error"]["message"].startswith("tasks[0].data.photo: this server opens no addresses")
    assert reply.json["error"]["field"] == "tasks[0].data.photo"
    with running(Settings(models=FAKES[2:3], allow_urls=True)) as open_server:
        reply = open_server.post("/predict", stored)
        assert "lies with Label Studio, and no address of it is known" in reply.json["error"]["message"]
        open_server.post("/setup", setup(BOXES))
        reply = open_server.post("/predict", stored)  # this machine's own address, which no request may reach
        assert (reply.status, reply.json["error"]["code"]) == (422, "address_refused")


def test_what_one_key_says_holds_for_its_own_projects() -> None:
    keys = (Key.of(SECRET, "one"), replace(Key.of(OTHER, "two"), models=("fake-places",)))
    with running(Settings(models=FAKES[2:3], keys=keys, allow_urls=True)) as server:
        stored = predict(BOXES, [task(1, "/data/upload/3/a.png")])
        server.post("/setup", setup(BOXES), x_api_key=OTHER)
        mine = server.post("/predict", stored, x_api_key=SECRET).json["error"]
        other = server.post("/predict", stored, x_api_key=OTHER).json["error"]
        assert "no address of it is known" in mine["message"]
        assert other["code"] == "address_refused"
        assert server.post("/predict", stored).status == 401


def test_the_first_model_that_can_is_asked() -> None:
    """Boxes from a detector; a brush from the model that segments, though it comes later."""
    with running(Settings(models=(Served.of("fake"), Served.of("fake-grounded")))) as server:
        assert server.post("/setup", setup(BRUSHES)).json == {"model_version": "fake-grounded"}
        [prediction] = server.post("/predict", predict(BRUSHES, [task(1)])).json["results"]
        assert prediction["model_version"] == "fake-grounded"
    with running(Settings(models=(Served.of("fake"),))) as server:
        reply = server.post("/predict", predict(BRUSHES, [task(1)]))
        assert (reply.status, reply.json["error"]["message"]) == (404, "this server has no model that does segment")


def test_what_comes_later_and_what_makes_no_sense(server: Running) -> None:
    place = "/label-studio/fake-places"
    for route in ("train", "webhook"):
        reply = server.post(f"{place}/{route}", {"action": "START_TRAINING", "project": {"id": 3}})
        assert (reply.status, reply.headers["x-should-retry"]) == (501, "false")
        assert reply.json["error"]["message"] == "train: this server has no training from Label Studio yet"
    choices = BOXES.replace("RectangleLabels", "Choices").replace("Label", "Choice")
    reply = server.post(f"{place}/predict", predict(choices, [task(1)]))
    assert (reply.status, reply.json["error"]["field"]) == (422, "label_config")
    reply = server.post("/label-studio/fake/predict", predict(BOXES, [task(1)]))
    assert (reply.status, reply.json["error"]["message"]) == (501, "fake does not segment; it can embed, classify")
