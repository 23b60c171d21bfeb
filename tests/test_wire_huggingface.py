"""The Inference API's shape, with the real client in front: its bytes in, our bytes out, over no socket."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.inference._generated.types import DepthEstimationOutput, ZeroShotObjectDetectionOutputElement
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pillow

from anmok.errors import AnmokError, BadMedia, BadRequest, BadWeights, Unsupported
from anmok.geometry import Rle
from anmok.inputs import Text
from anmok.results import DepthMap, Detections, Embedding, Failure, Masks, Result, Scores
from anmok.tasks import Classify, Depth, Detect, Embed, Segment
from anmok.wire import Call, Intake, NotYet, huggingface
from wire_samples import CODE, PICTURE, json_values

INTAKE = Intake()
URL = "http://127.0.0.1:1/models/m"
SIZE = (4, 6)
EYE = np.eye(4, 6, dtype=np.bool_)


PICTURES = json.dumps({"inputs": ["data:image/png;base64," + CODE] * 257}).encode()
SCORES = Scores(("cat", "dog", "a crane"), np.asarray([0.2, 0.7, 0.1], np.float32), "softmax")
BOXES = Detections(
    np.asarray([[0.4, 0, 2.6, 3], [1, 1, 6, 4]], np.float32),
    np.asarray([0.75, 0.5], np.float32),
    np.asarray([1, 0]),
    ("cat", "dog"),
    SIZE,
)
MASKS = Masks((Rle.of(EYE), Rle.of(~EYE)), np.asarray([0.75, 0.5], np.float32), np.asarray([0, 1]), ("a", "b"), SIZE)


class Server:
    """Answers every request with the results that a test put in, and keeps what it was asked."""

    def __init__(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self.results: list[Result] = []
        self.calls: list[Call] = []
        self.types: list[str] = []
        self.failure: tuple[int, Any] | None = None

    def respond(self, body: bytes, content_type: str) -> tuple[int, Any]:
        self.types.append(content_type)
        request = huggingface.opened(body, content_type, INTAKE)
        task = huggingface.pipeline(self.tasks, request)
        self.calls.append(huggingface.call(task, request, INTAKE))
        return self.failure or (200, huggingface.answer(task, self.results, request))


@pytest.fixture
def server() -> Iterator[Server]:
    """The client's own HTTP library, whatever it is called in this version, with our functions for a network."""
    server = Server()
    http = sys.modules[type(huggingface_hub.get_session()).__module__.partition(".")[0]]

    def respond(request: Any) -> Any:
        status, content = server.respond(request.read(), request.headers.get("content-type", ""))
        return http.Response(status, json=content)

    huggingface_hub.set_client_factory(lambda: http.Client(transport=http.MockTransport(respond)))
    yield server
    huggingface_hub.close_session()
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.fixture
def client() -> InferenceClient:
    return InferenceClient(model=URL, token="hf_x")


def test_image_classification(server: Server, client: InferenceClient, tmp_path: Any) -> None:
    server.tasks, server.results = ("classify", "embed"), [SCORES]
    found = client.image_classification(PICTURE)
    assert [(one.label, one.score) for one in found] == SCORES.top()
    client.image_classification(PICTURE, top_k=2)
    (tmp_path / "a.png").write_bytes(PICTURE)
    client.image_classification(str(tmp_path / "a.png"))
    assert server.calls == [
        Call(Classify(top_k=5), (PICTURE,)),
        Call(Classify(top_k=2), (PICTURE,)),
        Call(Classify(top_k=5), (PICTURE,)),
    ]
    assert server.types == ["", "application/json", "image/png"]


def test_what_is_let_pass_is_named(server: Server, client: InferenceClient) -> None:
    server.tasks, server.results = ("classify",), [SCORES]
    client.image_classification(PICTURE, function_to_apply="sigmoid")
    assert server.calls[0].ignored == ("function_to_apply",)


def test_zero_shot_image_classification(server: Server, client: InferenceClient) -> None:
    server.tasks, server.results = ("classify", "embed"), [SCORES]
    found = client.zero_shot_image_classification(PICTURE, ["cat", "dog"], hypothesis_template="a {}")
    assert [(one.label, one.score) for one in found] == SCORES.top()
    client.zero_shot_image_classification(PICTURE, ["cat", "dog"])
    assert [call.ask for call in server.calls] == [Classify(("cat", "dog"), ("a {}",)), Classify(("cat", "dog"))]


def test_object_detection(server: Server, client: InferenceClient) -> None:
    server.tasks, server.results = ("detect",), [BOXES]
    first, second = client.object_detection(PICTURE, threshold=0.25)
    assert (first.label, first.score, second.label) == ("dog", 0.75, "cat")
    assert (first.box.xmin, first.box.ymin, first.box.xmax, first.box.ymax) == (0, 0, 3, 3)
    np.testing.assert_array_equal(np.asarray(first["xyxy"], np.float32), BOXES.xyxy[0])
    client.object_detection(PICTURE)
    assert [call.ask for call in server.calls] == [Detect(threshold=0.25), Detect()]


def test_image_segmentation(server: Server, client: InferenceClient) -> None:
    server.tasks, server.results = ("segment",), [MASKS]
    first, second = client.image_segmentation(PICTURE, threshold=0.5, subtask="instance")
    assert (first.label, first.score, second.label) == ("a", 0.75, "b")
    assert isinstance(first.mask, pillow.Image)  # the client opens it
    assert (first.mask.mode, first.mask.size) == ("L", (6, 4))
    np.testing.assert_array_equal(np.asarray(first.mask), EYE * np.uint8(255))
    assert server.calls == [Call(Segment(threshold=0.5), (PICTURE,), ignored=("subtask",))]


def test_a_mask_without_a_name_is_an_object() -> None:
    nameless = Masks(MASKS.rles, MASKS.scores, np.asarray([-1, -1]), (), SIZE)
    rows = huggingface.answer("mask-generation", [nameless], huggingface.Request(PICTURE))
    assert [row["label"] for row in rows] == ["object", "object"]


def test_feature_extraction(server: Server, client: InferenceClient) -> None:
    server.tasks = ("classify", "embed")
    server.results = [Embedding(np.asarray([3, 4], np.float32), "text")]
    np.testing.assert_array_equal(client.feature_extraction("고양이"), np.asarray([[3, 4]], np.float32))
    np.testing.assert_allclose(client.feature_extraction("a", normalize=True), [[0.6, 0.8]], atol=1e-7)  # one rounding
    server.results *= 2
    assert client.feature_extraction(["a", "b"], truncate=True).shape == (2, 2)
    assert server.calls == [
        Call(Embed(), (Text("고양이"),)),
        Call(Embed(), (Text("a"),)),
        Call(Embed(), (Text("a"), Text("b")), ignored=("truncate",)),
    ]


def test_the_client_raises_with_our_sentence(server: Server, client: InferenceClient) -> None:
    server.tasks, server.results = ("classify",), [SCORES]
    server.failure = (503, huggingface.error_body(BadWeights("/x/y: torn"), 12.5))
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="503 Service Unavailable") as caught:
        client.image_classification(PICTURE)
    assert json.loads(caught.value.response.content) == {
        "error": "the model's weights cannot be used; the server's log says why",
        "error_type": "bad_weights",
        "estimated_time": 12.5,
    }


def test_what_the_client_has_no_method_for() -> None:
    request = huggingface.opened(
        json.dumps({"inputs": CODE, "parameters": {"candidate_labels": "cat, dog", "top_k": 3}}).encode(), "", INTAKE
    )
    assert huggingface.pipeline(("detect",), request) == "zero-shot-object-detection"
    call = huggingface.call("zero-shot-object-detection", request, INTAKE)
    assert call == Call(Detect(("cat", "dog"), top_k=3), (PICTURE,))
    content = json.dumps(huggingface.answer("zero-shot-object-detection", [BOXES], request))
    assert ZeroShotObjectDetectionOutputElement.parse_obj_as_list(content)[1].box.xmax == 6
    raw = huggingface.opened(PICTURE, "", INTAKE)
    assert huggingface.pipeline(("depth",), raw) == "depth-estimation"
    assert huggingface.call("depth-estimation", raw, INTAKE) == Call(Depth(), (PICTURE,))
    near = DepthMap(np.asarray([[1, 2, 3], [3, 2, 1]], np.float32), "disparity")
    depth = DepthEstimationOutput.parse_obj_as_instance(json.dumps(huggingface.answer("depth-estimation", [near], raw)))
    assert depth.predicted_depth == [[1, 2, 3], [3, 2, 1]]
    picture = np.asarray(pillow.open(io.BytesIO(base64.b64decode(depth.depth))))
    assert picture.tolist() == [[0, 128, 255], [255, 128, 0]]
    assert huggingface.call("mask-generation", raw, INTAKE).ask == Segment()
    body = json.dumps({"inputs": ["data:image/png;base64," + CODE, "a cat"]}).encode()
    mixed = huggingface.call("feature-extraction", huggingface.opened(body, "", INTAKE), INTAKE)
    assert mixed.items == (PICTURE, Text("a cat"))
    older = json.dumps({"image": CODE, "parameters": {"candidate_labels": ["a", "b"]}}).encode()
    assert (
        huggingface.call("zero-shot-image-classification", huggingface.opened(older, "", INTAKE), INTAKE).ignored == ()
    )


@pytest.mark.parametrize(
    ("task", "body", "content_type", "message"),
    [
        ("image-classification", b"{}", "", "inputs: is missing"),
        ("image-classification", b"[1]", "application/json; charset=utf-8", "body: want an object, got a list"),
        ("image-classification", b"GIF", "Application/JSON", "the body is no JSON"),
        ("image-classification", b"", "image/png", "body: the file is empty"),
        ("image-classification", b"{broken", "", "the body is no JSON"),
        ("image-classification", b'{"inputs": "?"}', "", "inputs: want base64"),
        ("image-classification", b'{"inputs": "http://a/b.png"}', "", "inputs: this server opens no addresses"),
        ("image-classification", b'{"inputs": "AAAA", "parameters": 3}', "", "parameters: want an object"),
        ("image-classification", b'{"inputs": "AAAA", "parameters": {"top_k": "3"}}', "", "parameters.top_k: want a"),
        ("image-classification", b'{"inputs": "AAAA", "parameters": {"top_k": 0}}', "", "top_k 0: must be at least 1"),
        ("zero-shot-image-classification", b'{"inputs": "AAAA"}', "", "parameters.candidate_labels: is missing"),
        ("feature-extraction", b'{"inputs": []}', "", "inputs: give at least one text"),
        ("feature-extraction", b'{"inputs": [3]}', "", r"inputs\[0\]: want a text, got a number"),
        ("feature-extraction", b'{"inputs": "a", "normalize": 1}', "", "normalize: want true or false"),
        ("feature-extraction", PICTURES, "", "inputs: 257 pictures; 256 are the limit"),
        ("speech", b'{"inputs": "a"}', "", "task: unknown; want image-classification"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(task: str, body: bytes, content_type: str, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        huggingface.call(task, huggingface.opened(body, content_type, INTAKE), INTAKE)


def test_a_brace_in_a_picture_that_says_so_is_no_json() -> None:
    assert huggingface.opened(b"{...", "image/x-portable-anymap", INTAKE).inputs == b"{..."


def test_later_tasks_name_what_is_missing() -> None:
    request = huggingface.Request(PICTURE)
    with pytest.raises(NotYet, match="image-to-text: this server has no captioning model yet") as caught:
        huggingface.call("image-to-text", request, INTAKE)
    assert (caught.value.status, caught.value.missing) == (501, "captioning model")
    with pytest.raises(Unsupported, match="Inference API: this server has no route for a model that does track yet"):
        huggingface.pipeline(("track",), request)


def test_a_failed_picture_raises_its_error() -> None:
    with pytest.raises(BadMedia, match="torn"):
        huggingface.answer("image-classification", [Failure("a", BadMedia("torn"))], huggingface.Request(PICTURE))


def test_answers_of_another_kind_are_refused() -> None:
    vector = Embedding(np.ones(2, np.float32), "image")
    with pytest.raises(BadRequest, match="object-detection: the Inference API has no form for Embedding"):
        huggingface.answer("object-detection", [vector], huggingface.Request(PICTURE))
    with pytest.raises(BadRequest, match="feature-extraction: Scores is no vector"):
        huggingface.answer("feature-extraction", [SCORES], huggingface.Request("a"))


@given(
    st.sampled_from(["", "application/json", "image/png", "text/plain", ";;", "é"]),
    st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()),
    json_values,
    json_values,
)
def test_no_body_breaks_anything(content_type: str, body: bytes, inputs: Any, parameters: Any) -> None:
    bodies = (body, json.dumps({"inputs": inputs, "parameters": parameters}).encode())
    for one in bodies:
        with contextlib.suppress(AnmokError):
            request = huggingface.opened(one, content_type, INTAKE)
            for task in ("image-classification", "zero-shot-object-detection", "feature-extraction"):
                with contextlib.suppress(AnmokError):
                    huggingface.call(task, request, INTAKE)
            huggingface.pipeline(("embed", "classify"), request)
