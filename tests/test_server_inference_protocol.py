"""The Open Inference Protocol on a real socket, with the bytes that Triton's Python client puts there.

How the client builds them: github.com/triton-inference-server/client, src/python/library/tritonclient/http
(``_utils.py``, ``_infer_input.py``, ``_infer_result.py``). The client itself (2.73.0) was run against this server by
hand; it is not among the packages of the tests.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok.inputs import Text
from anmok.load import load
from anmok.server.settings import Settings
from anmok.tasks import Classify, Depth, Detect, Embed, Segment
from anmok.wire import result_from_json, result_to_json
from serving import FAKES, RED_BOX, Reply, Running, png, running, scene

HEADER = "inference-header-content-length"
PIXELS = scene({"red": (20, 10, 50, 30), "green": (60, 40, 70, 59)})
TWO_BOXES = png(PIXELS)
DTYPES = {"FP32": np.float32, "INT64": np.int64, "INT16": np.int16, "UINT8": np.uint8}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=(FAKES[0], FAKES[2]))) as found:
        yield found


def texts(values: Sequence[str | bytes]) -> bytes:
    """BYTES: each behind its length in four bytes."""
    coded = [one.encode() if isinstance(one, str) else one for one in values]
    return b"".join(struct.pack("<I", len(one)) + one for one in coded)


def infer(
    server: Running, model: str, tensors: Sequence[tuple[str, list[int], str, bytes]], path: str = "", **rest: Any
) -> Reply:
    """All inputs as bytes behind the JSON, as ``set_data_from_numpy(..., binary_data=True)`` does; without ``outputs``
    all of them are wanted as bytes."""
    rows = [
        {"name": name, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for name, shape, kind, data in tensors
    ]
    content: dict[str, Any] = {"id": "7", "inputs": rows, **rest}
    if "outputs" not in rest:
        content["parameters"] = {"binary_data_output": True, **rest.get("parameters", {})}
    head = json.dumps(content).encode()
    body = head + b"".join(data for *_, data in tensors)
    return server.post(f"/v2/models/{model}{path}/infer", body, inference_header_content_length=str(len(head)))


def arrays(reply: Reply) -> dict[str, Any]:
    """What ``InferResult.as_numpy`` gives for every output; of BYTES a list of bytes."""
    assert reply.status == 200, reply.body
    end = int(reply.headers.get(HEADER, len(reply.body)))
    content, place, found = json.loads(reply.body[:end]), end, {}
    for row in content["outputs"]:
        size = row.get("parameters", {}).get("binary_data_size")
        if size is None:
            values: Any = [one.encode() for one in row["data"]] if row["datatype"] == "BYTES" else row["data"]
        else:
            data = reply.body[place : place + size]
            place += size
            values = untexted(data) if row["datatype"] == "BYTES" else np.frombuffer(data, DTYPES[row["datatype"]])
        if row["datatype"] == "BYTES":
            assert row["shape"] == [len(values)]
            found[row["name"]] = values
        else:
            found[row["name"]] = np.asarray(values, DTYPES[row["datatype"]]).reshape(row["shape"])
    assert place == len(reply.body)
    return found


def untexted(data: bytes) -> list[bytes]:
    values = []
    while data:
        [size] = struct.unpack_from("<I", data)
        values.append(data[4 : 4 + size])
        data = data[4 + size :]
    return values


def pixels(*images: NDArray[np.uint8]) -> tuple[str, list[int], str, bytes]:
    stacked = np.stack(images)
    return "image", list(stacked.shape), "UINT8", stacked.tobytes()


def files(*data: bytes) -> tuple[str, list[int], str, bytes]:
    return "image", [len(data)], "BYTES", texts(data)


LABELS = ("labels", [2], "BYTES", texts(["green", "red"]))


def test_health_and_metadata(server: Running) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/fake/ready", "/v2/models/fake/versions/1/ready"):
        assert server.get(path).status == 200
    metadata = server.get("/v2").json
    assert (metadata["name"], metadata["extensions"]) == ("anmok", ["binary_tensor_data"])
    model = server.get("/v2/models/fake-places").json
    assert model == server.get("/v2/models/fake-places/versions/1").json
    assert model["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "labels", "datatype": "BYTES", "shape": [-1]},
    ]
    assert [(row["name"], row["datatype"], row["shape"]) for row in model["outputs"]] == [
        ("counts", "INT64", [-1]),
        ("boxes", "FP32", [-1, 4]),
        ("scores", "FP32", [-1]),
        ("class_ids", "INT64", [-1]),
        ("labels", "BYTES", [-1]),
        ("result", "BYTES", [-1]),
    ]
    for path in ("", "/ready", "/versions/1", "/versions/1/ready"):
        reply = server.get(f"/v2/models/nobody{path}")
        assert (reply.status, list(reply.json)) == (404, ["error"])


def test_a_model_that_is_not_in_memory_is_not_ready() -> None:
    with running(Settings(models=FAKES[:1], is_lazy=True)) as server:
        reply = server.get("/v2/models/fake/ready")
        assert (reply.status, reply.json) == (503, {"name": "fake", "ready": False})
        assert server.server is not None
        assert server.server.desk.engine.status().models == ()  # asking loads nothing
        infer(server, "fake", [("text", [1], "BYTES", texts(["red"]))])
        assert server.get("/v2/models/fake/ready").json == {"name": "fake", "ready": True}


@pytest.mark.parametrize("path", ["", "/versions/1"])
def test_boxes_of_files_and_of_pixels_as_bytes(server: Running, path: str) -> None:
    boxes = load("fake-places").run([TWO_BOXES, RED_BOX], Detect(("green", "red")))
    red = scene({"red": (20, 10, 50, 30)})
    for image in (files(TWO_BOXES, RED_BOX), pixels(PIXELS, red)):
        reply = infer(server, "fake-places", [image, LABELS], path)
        assert reply.headers["content-type"] == "application/octet-stream"
        found = arrays(reply)
        assert list(found) == ["counts", "boxes", "scores", "class_ids", "labels"]
        assert found["counts"].tolist() == [2, 1]
        np.testing.assert_array_equal(found["boxes"], np.concatenate([one.xyxy for one in boxes]))
        np.testing.assert_array_equal(found["scores"], np.concatenate([one.scores for one in boxes]))
        np.testing.assert_array_equal(found["class_ids"], np.concatenate([one.class_ids for one in boxes]))
        assert found["labels"] == [b"green", b"red"]
    content = json.loads(reply.body[: int(reply.headers[HEADER])])
    assert (content["id"], content["model_name"]) == ("7", "fake-places")


def test_nothing_found_keeps_its_shape(server: Running) -> None:
    found = arrays(infer(server, "fake-places", [files(RED_BOX), ("labels", [1], "BYTES", texts(["blue"]))]))
    assert found["counts"].tolist() == [0]
    assert found["boxes"].shape == (0, 4)


def test_labels_choose_a_task_that_reads_them(server: Running) -> None:
    """``fake`` embeds first of all, and embeds no labels."""
    [scores] = load("fake").run([PIXELS], Classify(("green", "red")))
    found = arrays(infer(server, "fake", [pixels(PIXELS), LABELS]))
    np.testing.assert_array_equal(found["scores"], [scores.scores])
    [vector] = load("fake").run([PIXELS], Embed())
    found = arrays(infer(server, "fake", [pixels(PIXELS)]))
    np.testing.assert_array_equal(found["vectors"], [vector.vector])


def test_maps_and_our_own_json(server: Running) -> None:
    [depth] = load("fake-places").run([PIXELS], Depth())
    [masks] = load("fake-places").run([PIXELS], Segment(("red",)))
    found = arrays(infer(server, "fake-places", [pixels(PIXELS, PIXELS)], parameters={"task": "depth"}))
    np.testing.assert_array_equal(found["depth"], np.stack([depth.depth, depth.depth]))
    asked = {"task": "segment", "ask": '{"labels": ["red"]}'}
    found = arrays(infer(server, "fake-places", [pixels(PIXELS)], parameters=asked))
    [answer] = found["result"]
    assert result_to_json(result_from_json("segment", json.loads(answer))) == result_to_json(masks)


def test_outputs_are_chosen_and_each_written_as_wanted(server: Running) -> None:
    outputs = [
        {"name": "boxes", "parameters": {"binary_data": False}},
        {"name": "counts", "parameters": {"binary_data": True}},
    ]
    found = arrays(infer(server, "fake-places", [files(TWO_BOXES), LABELS], outputs=outputs))
    assert list(found) == ["boxes", "counts"]
    assert found["boxes"].tolist() == [[60, 40, 70, 59], [20, 10, 50, 30]]


def test_all_in_json_as_kserve_sends_it(server: Running) -> None:
    data = base64.b64encode(TWO_BOXES).decode()
    body = {
        "inputs": [
            {"name": "image", "shape": [1], "datatype": "BYTES", "data": [data]},
            {"name": "labels", "shape": [2], "datatype": "BYTES", "data": ["green", "red"]},
        ],
        "parameters": {"threshold": 0.25, "priority": 1},
    }
    reply = server.post("/v2/models/fake-places/infer", body)
    assert (reply.headers["content-type"], reply.headers.get(HEADER)) == ("application/json", None)
    assert reply.headers["x-anmok-ignored"] == "priority"
    assert arrays(reply)["boxes"].tolist() == [[60, 40, 70, 59], [20, 10, 50, 30]]
    rows = [{"name": "image", "shape": [1, 60, 80, 3], "datatype": "UINT8", "data": PIXELS[None].tolist()}]
    found = arrays(server.post("/v2/models/fake/infer", {"inputs": rows}))
    np.testing.assert_array_equal(found["vectors"], [load("fake").run([PIXELS], Embed())[0].vector])
    rows = [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["red", "파란색"]}]
    found = arrays(server.post("/v2/models/fake/infer", {"inputs": rows}))
    expected = load("fake").run([Text("red"), Text("파란색")], Embed())
    np.testing.assert_array_equal(found["vectors"], [one.vector for one in expected])


def test_errors_are_one_sentence(server: Running) -> None:
    cases: list[tuple[Reply, int, str]] = [
        (infer(server, "nobody", [files(RED_BOX)]), 404, "this server has no model called 'nobody'"),
        (infer(server, "fake", [files(RED_BOX)], parameters={"task": "detect"}), 422, "parameters.task: want embed"),
        (infer(server, "fake", [files(b"nothing of the kind")]), 422, "not an image that anmok reads"),
        (infer(server, "fake", [("image", [1, 2], "UINT8", b"ab")]), 422, "inputs.image: want files as BYTES, or RGB"),
        (infer(server, "fake", [("image", [3], "BYTES", texts([RED_BOX]))]), 422, "[3] does not hold 1 values"),
        (infer(server, "fake", [files(RED_BOX)], outputs=[{"name": "x"}]), 422, "unknown output 'x'; embed has vec"),
        (server.post("/v2/models/fake/infer", b"{", x_y="z"), 422, "the body is no JSON"),
        (server.post("/v2/models/fake/infer", b"{}", inference_header_content_length="9"), 422, "want at least 9"),
        (server.get("/v2/models/fake/stats"), 404, "nothing answers at this address"),
    ]
    for reply, status, sentence in cases:
        assert (reply.status, list(reply.json)) == (status, ["error"])
        assert sentence in reply.json["error"]
