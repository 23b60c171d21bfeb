"""Label Studio's backend contract: interfaces read, tasks asked, predictions in percent and brushes."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import AnmokError, BadMedia, BadRequest
from anmok.geometry import Rle
from anmok.inputs import Prompted
from anmok.results import Detections, Failure, Masks, Scores
from anmok.tasks import Detect, Segment
from anmok.wire import Intake, label_studio
from anmok.wire.label_studio import Interface
from wire_samples import corrupted, json_values

INTAKE = Intake(items=2)
DATA = "data:image/png;base64," + base64.b64encode(b"a picture").decode()
BOXES = """<View><Header value="x"/><Image name="img" value="$photo"/>
<RectangleLabels name="box" toName="img"><Label value="cat"/><Label value=" dog "/><Label value="cat"/>
</RectangleLabels>
</View>"""
BRUSHES = BOXES.replace("RectangleLabels", "BrushLabels")
FACE = Interface("rectanglelabels", "box", "img", "photo", ("cat", "dog"))
MASK = np.zeros((4, 8), np.bool_)
MASK[1:3, 2:6] = True


def body(config: str = BOXES, **other: Any) -> dict[str, Any]:
    return {"tasks": [{"id": 1, "data": {"photo": DATA}}], "project": "1.2", "label_config": config, **other}


def unbrushed(numbers: list[int]) -> list[int]:
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
    return values


def test_an_interface_says_what_to_look_for() -> None:
    assert label_studio.interface(BOXES) == FACE
    call = label_studio.predict_call(body(), INTAKE)
    assert (call.ask, call.items, call.interface) == (Detect(("cat", "dog")), (b"a picture",), FACE)
    call = label_studio.predict_call(body(BRUSHES), INTAKE)
    assert (call.ask, call.interface) == (Segment(("cat", "dog")), replace(FACE, kind="brushlabels"))
    bare = '<View><Image name="i" value="$photo"/><RectangleLabels toName="i"/></View>'
    assert label_studio.predict_call(body(bare), INTAKE).ask == Detect()


def test_boxes_are_in_percent() -> None:
    found = Detections(
        np.asarray([[2, 1, 6, 3]], np.float32), np.asarray([0.5], np.float32), np.asarray([1]), FACE.labels, (4, 8)
    )
    answer = label_studio.predictions(
        [found, Failure("a", BadMedia("torn"))], label_studio.predict_call(body(), INTAKE), "m"
    )
    assert json.loads(json.dumps(answer)) == {
        "model_version": "m",
        "results": [
            {
                "model_version": "m",
                "score": 0.5,
                "result": [
                    {
                        "id": "r0",
                        "type": "rectanglelabels",
                        "from_name": "box",
                        "to_name": "img",
                        "original_width": 8,
                        "original_height": 4,
                        "image_rotation": 0,
                        "score": 0.5,
                        "value": {
                            "x": 25,
                            "y": 25,
                            "width": 50,
                            "height": 50,
                            "rotation": 0,
                            "rectanglelabels": ["dog"],
                        },
                    }
                ],
            },
            {"model_version": "m", "score": 0.0, "result": []},
        ],
    }


def test_brushes_are_the_mask() -> None:
    empty = Rle.of(np.zeros((4, 8), np.bool_))
    found = Masks((Rle.of(MASK), empty), np.asarray([0.75, 0.25], np.float32), np.asarray([-1, -1]), (), (4, 8))
    [row] = label_studio.prediction(found, replace(FACE, kind="brushlabels"), "m", "cat")["result"]
    assert (row["value"]["format"], row["value"]["brushlabels"]) == ("rle", ["cat"])
    np.testing.assert_array_equal(np.reshape(unbrushed(row["value"]["rle"]), (4, 8, 4))[..., 3] == 255, MASK)
    boxes = label_studio.prediction(found[[0]], FACE, "m")["result"]
    assert boxes[0]["value"]["rectanglelabels"] == ["object"]


def test_a_brush_of_a_large_picture() -> None:
    """Runs over 65,536 values are cut."""
    mask = np.zeros((300, 300), np.bool_)
    mask[100:] = True
    np.testing.assert_array_equal(
        np.reshape(unbrushed(label_studio.brush(Rle.of(mask))), (300, 300, 4))[..., 0] == 255, mask
    )


def test_what_was_drawn_is_cut_out() -> None:
    whole = {"original_width": 200, "original_height": 100}
    result = [
        {**whole, "type": "keypointlabels", "is_positive": 1, "value": {"x": 50, "y": 10, "keypointlabels": ["dog"]}},
        {**whole, "type": "keypointlabels", "is_positive": 0, "value": {"x": 0, "y": 0}},
        {**whole, "type": "rectanglelabels", "value": {"x": 10, "y": 10, "width": 50, "height": 20}},
    ]
    call = label_studio.predict_call(body(BRUSHES, params={"context": {"result": result}}), INTAKE)
    [item] = call.items
    assert isinstance(item, Prompted)
    assert (item.points, item.boxes) == (((100, 10, 1), (0, 0, 0)), ((20, 10, 120, 30),))
    assert (call.ask, call.label) == (Segment(), "dog")


def test_pictures_that_lie_with_label_studio_are_fetched_from_there() -> None:
    asked: list[str] = []

    def fetch(address: str, limit: int) -> bytes:
        asked.append(address)
        return b"a picture"

    stored = body(tasks=[{"data": {"photo": "/data/upload/1/a.png"}}])
    with pytest.raises(
        BadRequest, match=r"tasks\[0\].data.photo: lies with Label Studio, and no address of it is known"
    ):
        label_studio.predict_call(stored, Intake(fetch=fetch))
    with pytest.raises(BadRequest, match="this server opens no addresses"):
        label_studio.predict_call(stored, INTAKE, "http://ls:8080/")
    call = label_studio.predict_call(stored, Intake(fetch=fetch), "http://ls:8080/")
    assert (call.items, asked) == ((b"a picture",), ["http://ls:8080/data/upload/1/a.png"])


ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><View>&x;</View>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "body: want an object"),
        ({"tasks": []}, "label_config: is missing"),
        (body("<View"), "label_config: is no XML"),
        (body(ENTITY), "label_config: has a document type"),
        (body("<View/>"), "label_config: want RectangleLabels or BrushLabels over an Image"),
        (body(" " * 200_001), "label_config: 200,001 letters; 200,000 are the limit"),
        (body(tasks=[]), "tasks: give at least one"),
        (body(tasks=[{}] * 3), "tasks: 3 values; 2 are the limit"),
        (body(tasks=[{}]), r"tasks\[0\].data: is missing"),
        (body(tasks=[{"data": {"image": DATA}}]), r"tasks\[0\].data.photo: is missing"),
        (body(tasks=[{"data": {"photo": "file:///etc/passwd"}}]), r"tasks\[0\].data.photo: want base64"),
        (body(params=3), "params: want an object"),
        (body(params={"context": {"result": [{"type": "brushlabels"}]}}), r"params.context.result\[0\].type: want"),
        (
            body(params={"context": {"result": [{"type": "keypointlabels", "value": {}}]}}),
            r"params.context.result\[0\].original_width: is missing",
        ),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(content: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        label_studio.predict_call(content, INTAKE)


@given(st.data())
def test_no_body_breaks_anything(data: st.DataObject) -> None:
    config = data.draw(st.sampled_from([BOXES, BRUSHES, ENTITY, "\0", "<a\ud800/>"]) | st.text(max_size=20))
    row = {"type": "rectanglelabels", "original_width": 9, "original_height": 9, "value": {"x": 1, "y": 2}}
    context = {"context": {"result": [row]}}
    content = corrupted(body(config, params=context), data.draw) if data.draw(st.booleans()) else data.draw(json_values)
    with contextlib.suppress(AnmokError):
        label_studio.predict_call(content, INTAKE)
    with contextlib.suppress(AnmokError):
        label_studio.setup(content)


def test_setup_and_health() -> None:
    found = label_studio.setup(
        {"project": "1.2", "schema": BOXES, "hostname": "http://ls", "access_token": "s3cret", "x": 1}
    )
    assert (found.project, found.access_token) == ("1.2", "s3cret")
    assert "s3cret" not in repr(found)
    assert label_studio.health("m") == {"status": "UP", "model_class": "m"}
    assert label_studio.train().status == 501
    with pytest.raises(BadRequest, match="the call does not say where they go"):
        label_studio.predictions([], label_studio.PredictCall(Detect(), ()), "m")
    with pytest.raises(BadRequest, match="Scores has no form there"):
        label_studio.prediction(Scores(("a",), np.ones(1, np.float32), "softmax"), FACE, "m")
    with pytest.raises(BadRequest, match="BrushLabels need a model that segments"):
        label_studio.prediction(Detections.none((), (3, 3)), replace(FACE, kind="brushlabels"), "m")
