"""The Open Inference Protocol: requests as Triton's client writes them, tensors as JSON and as bytes.

The recorded bodies were written by ``tritonclient`` 2.73.0, ``InferenceServerClient.generate_request_body``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import AnmokError, BadMedia, BadRequest, BadWeights
from anmok.inputs import Text
from anmok.results import DepthMap, Detections, Embedding, Failure, Masks, Scores
from anmok.tasks import Classify, Depth, Detect, Embed
from anmok.wire import Call, Intake, result_from_json
from anmok.wire import inference_protocol as protocol
from anmok.wire.inference_protocol import Request
from wire_samples import RESULTS, corrupted, json_values

INTAKE = Intake(items=3)
HEAD = (
    b'{"id":"7","inputs":[{"name":"image","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":14}},'
    b'{"name":"labels","shape":[2,1],"datatype":"BYTES","parameters":{"binary_data_size":20}}],'
    b'"parameters":{"binary_data_output":true,"top_k":3}}'
)
TAIL = b"\x05\0\0\0abc\0d\x01\0\0\0x" + b"\x03\0\0\0cat" + b"\x09\0\0\0" + "고양이".encode()
PIXELS = (
    b'{"inputs":[{"name":"image","shape":[1,2,2,3],"datatype":"UINT8","data":[0,1,2,3,4,5,6,7,8,9,10,11]}],'
    b'"outputs":[{"name":"result","parameters":{"binary_data":false}},'
    b'{"name":"depth","parameters":{"binary_data":true}}],"parameters":{"task":"depth"}}'
)
TEXT = (
    b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["\\uACE0\\uC591\\uC774"]}],'
    b'"parameters":{"binary_data_output":true}}'
)
LABELS = ("cat", "고양이")
FOUND = Detections(
    np.asarray([[0, 0, 1, 2], [1, 1, 3, 3]], np.float32),
    np.asarray([0.5, 0.25], np.float32),
    np.asarray([1, 0]),
    LABELS,
    (4, 4),
)
NONE = Detections.none(LABELS, (4, 4))
FLAT = DepthMap(np.full((2, 2), 1.5, np.float32), "metric")


def opened(body: bytes, length: int | None = None) -> Request:
    return protocol.opened(body, None if length is None else str(length), INTAKE)


def request(*inputs: dict[str, Any], **rest: Any) -> Request:
    return opened(json.dumps({"inputs": list(inputs), **rest}).encode())


def outputs(body: bytes, length: int | None) -> dict[str, Any]:
    """As Triton's client reads them: numbers as arrays, BYTES as lists."""
    head, tail = json.loads(body[:length]), body[length:] if length is not None else b""
    found, start = {}, 0
    for row in head["outputs"]:
        size = row.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[row["name"]] = row["data"]
            continue
        data, start = tail[start : start + size], start + size
        kinds = {"FP32": "<f4", "INT64": "<i8", "INT16": "<i2"}
        if row["datatype"] in kinds:
            found[row["name"]] = np.frombuffer(data, kinds[row["datatype"]]).reshape(row["shape"]).tolist()
            continue
        texts = []
        while data:
            end = 4 + struct.unpack_from("<I", data)[0]
            texts.append(data[4:end].decode())
            data = data[end:]
        found[row["name"]] = texts
    assert start == len(tail)
    return found


def test_tensors_as_bytes() -> None:
    asked = opened(HEAD + TAIL, len(HEAD))
    assert asked.id == "7"
    assert protocol.call(("detect", "depth"), asked, INTAKE) == Call(Detect(LABELS, top_k=3), (b"abc\0d", b"x"))
    body, length = protocol.answer(asked, "m", "detect", [FOUND, NONE])
    assert length is not None
    assert json.loads(body[:length])["model_name"] == "m"
    assert json.loads(body[:length])["id"] == "7"
    assert outputs(body, length) == {
        "counts": [2, 0],
        "boxes": FOUND.xyxy.tolist(),
        "scores": [0.5, 0.25],
        "class_ids": [1, 0],
        "labels": list(LABELS),
    }


def test_tensors_as_json_and_outputs_by_name() -> None:
    asked = opened(PIXELS)
    call = protocol.call(("detect", "depth"), asked, INTAKE)
    assert call.ask == Depth()
    np.testing.assert_array_equal(np.stack(call.items), np.arange(12).reshape(1, 2, 2, 3))  # type: ignore[arg-type]
    found = outputs(*protocol.answer(asked, "m", "depth", [FLAT]))
    assert found["depth"] == [[[1.5, 1.5], [1.5, 1.5]]]
    whole = result_from_json("depth", json.loads(found["result"][0]))
    assert isinstance(whole, DepthMap)
    np.testing.assert_array_equal(whole.depth, FLAT.depth)


def test_texts() -> None:
    asked = opened(TEXT)
    assert protocol.call(("embed",), asked, INTAKE) == Call(Embed(), (Text("고양이"),))
    body, length = protocol.answer(asked, "m", "embed", [Embedding(np.asarray([1, 2.5], np.float32), "text")])
    assert outputs(body, length) == {"vectors": [[1, 2.5]]}


def test_files_in_json_are_base64_and_the_ask_may_be_one_parameter() -> None:
    code = base64.b64encode(b"file").decode()
    image = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [[code]]}
    asked = request(image, parameters={"ask": '{"labels": ["cat"], "templates": ["a {}"]}', "priority": 1})
    call = protocol.call(("classify",), asked, INTAKE)
    assert call == Call(Classify(("cat",), ("a {}",)), (b"file",), ignored=("priority",))
    body, length = protocol.answer(asked, "m", "classify", [Scores(("cat",), np.ones(1, np.float32), "sigmoid")])
    assert length is None
    assert outputs(body, length) == {"scores": [1.0], "labels": ["cat"]}


@pytest.mark.parametrize("task", sorted(RESULTS))
@given(data=st.data())
def test_every_answer_has_a_form(task: str, data: st.DataObject) -> None:
    result = data.draw(RESULTS[task])
    asked = Request("", {}, {}, {}, data.draw(st.booleans()))
    named = outputs(*protocol.answer(asked, "m", task, [result]))
    assert named
    whole = outputs(*protocol.answer(Request("", {}, {}, {"result": False}, True), "m", task, [result]))
    assert type(result_from_json(task, json.loads(whole["result"][0]))) is type(result)


def test_nothing_found_is_still_an_answer() -> None:
    none = Detections.none((), (4, 4))
    body, length = protocol.answer(Request("", {}, {}, {"boxes": True}, True), "m", "detect", [none])
    assert length == len(body)
    assert outputs(body, length) == {"boxes": []}


def tensor(**other: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} | other


def pixels(*shape: int, **other: Any) -> dict[str, Any]:
    return tensor(datatype="UINT8", shape=list(shape), data=[0] * int(np.prod(shape))) | other


@pytest.mark.parametrize(
    ("inputs", "rest", "message"),
    [
        ([], {}, "inputs: want image or text"),
        ([tensor(), tensor()], {}, r"inputs\[1\].name: given twice"),
        ([tensor(), tensor(name="text")], {}, "inputs: want image or text"),
        ([tensor(name="picture")], {}, "inputs: unknown key 'picture'; want image, text, labels"),
        ([tensor(datatype="BF16")], {}, r"inputs\[0\].datatype: want BYTES, BOOL"),
        ([tensor(shape=[-1])], {}, r"inputs\[0\].shape: want numbers from 0"),
        ([tensor(shape=[2])], {}, r"inputs\[0\].shape: \[2\] does not hold 1 values"),
        ([tensor(shape=[0], data=[])], {}, "inputs: 0 items; want 1 to 3"),
        ([tensor(shape=[4], data=["AAAA"] * 4)], {}, "inputs: 4 items; want 1 to 3"),
        ([tensor(data=None)], {}, r"inputs\[0\].data: is missing"),
        ([tensor(data=["/etc/passwd"])], {}, "inputs.image: want base64"),
        ([tensor(data="AAAA")], {}, r"inputs\[0\].data: want a list, got a text"),
        ([tensor(data=[[3]])], {}, r"inputs\[0\].data: want a text, got a number"),
        ([tensor(data=[3])], {}, r"inputs\[0\].data: want a text, got a number"),
        ([tensor(dtype="x")], {}, r"inputs\[0\]: unknown key 'dtype'; did you mean 'datatype'"),
        ([tensor(parameters={"shared_memory_region": "a"})], {}, r"inputs\[0\].parameters: unknown key 'shared_memory"),
        ([tensor(parameters={"binary_data_size": 9})], {}, r"inputs\[0\].parameters.binary_data_size: these bytes"),
        ([pixels(2, 2, 3, data=[0] * 11 + [256])], {}, r"inputs\[0\].data: want values of UINT8"),
        ([pixels(2, 2, 3, data=[0] * 11 + [-1])], {}, r"inputs\[0\].data: want values of UINT8"),
        ([pixels(2, 2, 3, data=[0.5] * 12)], {}, r"inputs\[0\].data: want values of UINT8"),
        ([pixels(2, 2, 3, data=[[1], [1, 2]])], {}, r"inputs\[0\].data: want values of UINT8"),
        ([pixels(2, 2, 3, data=["1"] * 12)], {}, r"inputs\[0\].data: want values of UINT8"),
        ([pixels(2, 2, 4)], {}, "inputs.image: want files as BYTES, or RGB pixels"),
        ([pixels(0, 2, 2, 3)], {}, "inputs.image: want files as BYTES, or RGB pixels"),
        ([pixels(1, 2, 2, 3, datatype="INT8")], {}, "inputs.image: want files as BYTES, or RGB pixels"),
        ([tensor(), pixels(1, name="labels")], {}, "inputs.labels: want BYTES, got UINT8"),
        ([tensor()], {"parameters": {"task": "depth"}}, "parameters.task: want detect"),
        ([tensor()], {"parameters": {"treshold": 1}}, "ask: unknown key 'treshold'; did you mean 'threshold'"),
        ([tensor()], {"parameters": {"ask": "["}}, "the body is no JSON"),
        ([tensor()], {"parameters": {"ask": {}}}, "parameters.ask: want a text, got an object"),
        ([tensor()], {"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output: want true or false"),
        ([tensor()], {"outputs": [{}]}, r"outputs\[0\].name: is missing"),
        (
            [tensor()],
            {"outputs": [{"name": "a", "parameters": {"classification": 3}}]},
            r"outputs\[0\].parameters: unkn",
        ),
        ([tensor()], {"model": "m"}, "body: unknown key 'model'; want id, parameters, inputs, outputs"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(inputs: list[Any], rest: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        protocol.call(("detect",), request(*inputs, **rest), INTAKE)


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (HEAD + TAIL, len(HEAD) - 1, "the body is no JSON"),
        (HEAD + TAIL[:-1], len(HEAD), r"inputs\[1\].parameters.binary_data_size: these bytes are not in the body"),
        (HEAD + TAIL + b"x", len(HEAD), "body: 1 bytes that belong to no input"),
        (HEAD + TAIL.replace(b"\x03\0\0\0cat", b"\x99\0\0\0cat"), len(HEAD), r"inputs\[1\]: a text is longer"),
        (b"{}", 10**30, "body: 2 bytes; want at least"),
        (b"{}", None, "inputs: is missing"),
    ],
)
def test_wrong_bytes_are_told_what_is_wrong(body: bytes, length: int | None, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        opened(body, length)


def test_pixels_as_bytes() -> None:
    levels = np.arange(24, dtype=np.uint8)
    row = {"name": "image", "datatype": "UINT8", "shape": [2, 2, 2, 3], "parameters": {"binary_data_size": 24}}
    head = json.dumps({"inputs": [row]}).encode()
    items = protocol.call(("depth",), opened(head + levels.tobytes(), len(head)), INTAKE).items
    np.testing.assert_array_equal(np.stack(items), levels.reshape(2, 2, 2, 3))  # type: ignore[arg-type]


def test_texts_as_bytes_are_utf8() -> None:
    row = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    head = json.dumps({"inputs": [row]}).encode()
    with pytest.raises(BadRequest, match="inputs.text: not UTF-8"):
        protocol.call(("embed",), opened(head + b"\x01\0\0\0\xff", len(head)), INTAKE)


def test_pixels_over_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_PIXELS", "3")
    with pytest.raises(BadRequest, match="inputs.image: 2 x 2 is over the limit of 3 pixels"):
        protocol.call(("detect",), request(pixels(2, 2, 3)), INTAKE)


def test_answers_of_another_task_are_refused() -> None:
    with pytest.raises(BadRequest, match="depth: these are no answers to it"):
        protocol.answer(Request("", {}, {}, {}, False), "m", "depth", [FOUND])


def test_a_header_that_is_no_number_is_refused() -> None:
    for wrong in ("", "-1", "1.5", "²"):
        with pytest.raises(BadRequest, match="Inference-Header-Content-Length: want a number of bytes"):
            protocol.opened(b"{}", wrong, INTAKE)


def test_numbers_as_bytes_fill_their_type() -> None:
    for datatype, data in (("FP32", b"\0" * 5), ("BOOL", b"\x02")):
        row = {"name": "image", "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": len(data)}}
        head = json.dumps({"inputs": [row]}).encode()
        with pytest.raises(BadRequest, match=rf"inputs\[0\]: {len(data)} bytes are no values of {datatype}"):
            opened(head + data, len(head))


def test_answers_that_have_no_tensor() -> None:
    masks = Masks.none(("a",), (3, 3))
    whole = outputs(*protocol.answer(Request("", {}, {}, {}, False), "m", "segment", [masks]))
    assert json.loads(whole["result"][0])["size"] == [3, 3]
    small = DepthMap(np.ones((1, 2), np.float32), "metric")
    with pytest.raises(BadRequest, match="several sizes do not fit into one tensor"):
        protocol.answer(Request("", {}, {}, {}, False), "m", "depth", [small, FLAT])
    both = protocol.answer(Request("", {}, {}, {"result": False}, False), "m", "depth", [small, FLAT])
    assert len(outputs(*both)["result"]) == 2
    with pytest.raises(BadRequest, match="outputs: unknown output 'boxes'; depth has depth, result"):
        protocol.answer(Request("", {}, {}, {"boxes": False}, False), "m", "depth", [FLAT])
    with pytest.raises(BadMedia, match="torn"):
        protocol.answer(Request("", {}, {}, {}, False), "m", "depth", [Failure("a", BadMedia("torn"))])


@given(st.data())
def test_no_body_breaks_anything(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([json.loads(PIXELS), json.loads(TEXT), json.loads(HEAD)]))
    content = corrupted(good, data.draw) if data.draw(st.booleans()) else data.draw(json_values)
    head = json.dumps(content).encode()
    tail = data.draw(st.just(TAIL) | st.binary(max_size=40))
    length = data.draw(st.none() | st.just(len(head)) | st.integers(0, 99))
    with contextlib.suppress(AnmokError):
        asked = opened(head + tail if length is not None else head, length)
        protocol.call(("detect", "embed"), asked, INTAKE)


def test_metadata_and_health() -> None:
    assert protocol.server_metadata("1.2") == {"name": "anmok", "version": "1.2", "extensions": ["binary_tensor_data"]}
    content = protocol.model_metadata("m", ("depth",))
    assert content["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [row["name"] for row in content["outputs"]] == ["depth", "result"]
    names = [row["name"] for row in protocol.model_metadata("m", ("classify", "embed"))["inputs"]]
    assert names == ["image", "text", "labels"]
    assert protocol.live(is_live=True) == {"live": True}
    assert protocol.ready(is_ready=False) == {"ready": False}
    assert protocol.ready(is_ready=True, model="m") == {"name": "m", "ready": True}
    assert protocol.error_body(BadWeights("/x")) == {
        "error": "the model's weights cannot be used; the server's log says why"
    }
