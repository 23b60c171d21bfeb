"""The real ``huggingface_hub.InferenceClient``, unmodified, against a server on a real socket."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image as pillow

import anmok.server.engines
from anmok.inputs import Clip, Prompted, Text
from anmok.load import Model, load
from anmok.server.settings import Key, Served, Settings
from anmok.tasks import Classify, Depth, Detect, Embed, Pose, Segment, Track
from anmok.wire import result_from_json
from serving import FAKES, RED_BOX, Running, png, running, scene

OWN_LABELS = ("red", "green", "blue", "white", "black", "grey")
RED = png(scene({"red": (0, 0, 80, 60)}))
TWO_BOXES = png(scene({"red": (20, 10, 50, 30), "green": (60, 40, 70, 59)}))
CODE = base64.b64encode(TWO_BOXES).decode()
SECRET = "a key of the tests, long enough"
LIMITED = "another key of the tests"


def closed_set(name: str, **settings: Any) -> Model:
    """As ``load``, with a classifier and a detector among the fakes that have labels of their own."""
    model = load(name, **settings)
    if name == "fake-sigmoid":
        model.kind.vocabulary = OWN_LABELS
    if name == "fake-places":
        detect = model.kind.detect
        model.kind.detect = lambda states, ask: detect(states, replace(ask, labels=ask.labels or OWN_LABELS[:3]))
    return model


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", closed_set)
        with running(Settings(models=FAKES[:3])) as found:
            yield found
            huggingface_hub.close_session()


def client(server: Running, name: str, **settings: Any) -> InferenceClient:
    return InferenceClient(model=f"{server.address}/models/{name}", **settings)


def pairs(rows: Any) -> list[tuple[str, float]]:
    return [(row.label, row.score) for row in rows]


def test_image_classification(server: Running, tmp_path: Path) -> None:
    asked = client(server, "fake-sigmoid")
    [five], [two] = ([closed_set("fake-sigmoid").run([RED_BOX], Classify(top_k=k))[0].top()] for k in (5, 2))
    (tmp_path / "a.png").write_bytes(RED_BOX)
    assert pairs(asked.image_classification(RED_BOX)) == five
    assert pairs(asked.image_classification(str(tmp_path / "a.png"))) == five
    assert pairs(asked.image_classification(tmp_path / "a.png", top_k=2)) == two
    assert (len(five), len(two)) == (5, 2)


def test_zero_shot_image_classification(server: Running, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED_BOX)
    [scores] = load("fake").run([RED_BOX], Classify(("red", "blue"), ("a {} thing",)))
    found = client(server, "fake").zero_shot_image_classification(
        tmp_path / "a.png", ["red", "blue"], hypothesis_template="a {} thing"
    )
    assert pairs(found) == scores.top()
    # With labels in the request, one that has its own answers for those.
    found = client(server, "fake-sigmoid").zero_shot_image_classification(RED_BOX, ["a red box", "a green box"])
    assert [row.label for row in found] == ["a red box", "a green box"]


def test_object_detection(server: Running) -> None:
    asked = client(server, "fake-places")
    [boxes] = load("fake-places").run([TWO_BOXES], Detect(OWN_LABELS[:3]))
    found = asked.object_detection(TWO_BOXES)
    assert pairs(found) == list(zip(boxes.names, boxes.scores.tolist(), strict=True))
    corners = [(row.box.xmin, row.box.ymin, row.box.xmax, row.box.ymax) for row in found]
    assert corners == [(20, 10, 50, 30), (60, 40, 70, 59)]
    assert [row["xyxy"] for row in found] == boxes.xyxy.tolist()
    assert asked.object_detection(TWO_BOXES, threshold=1.0) == found  # boxes that are filled to the last pixel


def test_image_segmentation(server: Running) -> None:
    """A model that also detects is asked for masks by what only segmentation has, or by the task in its address."""
    [masks] = load("fake-places").run([TWO_BOXES], Segment())
    by_hint = client(server, "fake-places").image_segmentation(TWO_BOXES, mask_threshold=0.5)
    by_address = client(server, "fake-places/image-segmentation").image_segmentation(TWO_BOXES, threshold=0.5)
    assert [row.label for row in by_hint] == [row.label for row in by_address] == ["object"] * 3
    for row, other, rle in zip(by_hint, by_address, masks.rles, strict=True):
        assert isinstance(row.mask, pillow.Image)
        assert isinstance(other.mask, pillow.Image)
        np.testing.assert_array_equal(np.asarray(row.mask) == 255, rle.mask())
        np.testing.assert_array_equal(np.asarray(row.mask), np.asarray(other.mask))


def test_feature_extraction(server: Running) -> None:
    asked = client(server, "fake")
    expected = np.stack([one.vector for one in load("fake").run([Text("a red thing"), Text("blue")], Embed())])
    np.testing.assert_array_equal(asked.feature_extraction(["a red thing", "blue"]), expected)
    np.testing.assert_array_equal(asked.feature_extraction("blue", dimensions=3), expected[1:])
    found = asked.feature_extraction("blue", normalize=True)
    np.testing.assert_allclose(np.linalg.norm(found), 1, atol=1e-6)  # float32
    with pytest.raises(HfHubHTTPError, match="dimensions: this model's vectors have 3 numbers, and are not cut"):
        asked.feature_extraction("blue", dimensions=2)
    with pytest.raises(ValueError, match="Unexpected binary input"):
        asked.feature_extraction(RED_BOX)  # type: ignore[arg-type]  # the client's own refusal: hence our own route


MESSAGES = [{"role": "user", "content": "What is this?"}]
LATER: dict[str, tuple[Callable[[InferenceClient], Any], str]] = {
    "question": (
        lambda it: it.visual_question_answering(RED_BOX, "What is this?"),
        "visual-question-answering: this server has no model that answers questions yet",
    ),
    "question with top_k": (
        lambda it: it.visual_question_answering(RED_BOX, "What is this?", top_k=2),
        "visual-question-answering: this server has no model that answers questions yet",
    ),
    "prompt": (lambda it: it.text_to_image("a cat", width=64), "text-to-image: this server has no image generator yet"),
    "edit": (lambda it: it.image_to_image(RED_BOX, "blue"), "image-to-image: this server has no image editor yet"),
    "edit without a prompt": (lambda it: it.image_to_image(RED_BOX), "image-to-image: this server has no image editor"),
    "edit with a negative prompt": (
        lambda it: it.image_to_image(RED_BOX, negative_prompt="blue"),
        "image-to-image: this server has no image editor yet",
    ),
    "chat": (lambda it: it.chat_completion(MESSAGES), "chat/completions: this server has no language model yet"),
    "streamed chat": (
        lambda it: list(it.chat_completion(MESSAGES, stream=True)),
        "chat/completions: this server has no language model yet",
    ),
}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("model", ["fake", "fake-places"])
def test_what_comes_later_names_what_is_missing(server: Running, name: str, model: str) -> None:
    call, sentence = LATER[name]
    with pytest.raises(HfHubHTTPError, match=sentence) as caught:
        call(client(server, model))
    assert caught.value.response.status_code == 501
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_image_to_text_is_asked_by_its_address(server: Running) -> None:
    """On a model's bare address it sends what image classification sends, byte for byte, and gets labels."""
    with pytest.raises(HfHubHTTPError, match="image-to-text: this server has no captioning model yet") as caught:
        client(server, "fake-sigmoid/image-to-text").image_to_text(RED_BOX)
    assert caught.value.response.status_code == 501
    found = client(server, "fake-sigmoid").image_to_text(RED)
    assert (found.generated_text, found["label"]) == (None, "red")
    reply = server.post("/models/fake-sigmoid", RED_BOX)
    assert reply.headers["x-anmok-task"] == "image-classification"


def test_health_and_info(server: Running) -> None:
    endpoint = client(server, "fake", provider="hf-inference")
    assert endpoint.health_check() is True
    info = endpoint.get_endpoint_info()
    assert (info["model_id"], info["model_sha"], info["tasks"]) == ("fake", None, ["embed", "classify"])
    assert client(server, "nobody", provider="hf-inference").health_check() is False


def test_errors_have_their_status_and_sentence(server: Running) -> None:
    with pytest.raises(HfHubHTTPError, match="this server has no model called 'nobody'; it has fake, ") as caught:
        client(server, "nobody").image_classification(RED_BOX)
    assert caught.value.response.status_code == 404
    with pytest.raises(HfHubHTTPError, match=r"top_k 0: must be at least 1"):
        client(server, "fake").image_classification(RED_BOX, top_k=0)
    with pytest.raises(HfHubHTTPError, match="not an image that anmok reads") as caught:
        client(server, "fake-sigmoid").image_classification(b"nothing of the kind")
    assert set(caught.value.response.json()) == {"error", "error_type"}
    assert caught.value.response.headers["x-request-id"] in str(caught.value)


def test_503_says_how_long_the_model_still_loads_and_429_when_to_come_back() -> None:
    keys = (Key.of(SECRET, "team"), replace(Key.of(LIMITED, "limited"), requests_per_minute=1))
    settings = Settings(models=FAKES[:1], keys=keys, is_lazy=True)
    with running(settings) as server:
        hasty = client(server, "fake", token=SECRET, headers={"x-anmok-wait": "no"})
        with pytest.raises(HfHubHTTPError, match="fake is being loaded; try again in") as caught:
            hasty.image_classification(RED_BOX)
        response = caught.value.response
        assert (response.status_code, response.json()["error_type"]) == (503, "loading")
        assert 0 < response.json()["estimated_time"] <= int(response.headers["retry-after"])
        allowed = client(server, "fake", token=LIMITED)
        assert len(allowed.feature_extraction("red")) == 1
        with pytest.raises(HfHubHTTPError, match="this key's 1 requests a minute are used up") as caught:
            allowed.feature_extraction("red")
        response = caught.value.response
        assert (response.status_code, response.json()["error_type"]) == (429, "busy")
        assert 50 <= int(response.headers["retry-after"]) <= 60  # one a minute
        with pytest.raises(HfHubHTTPError, match="this server needs an API key") as caught:
            client(server, "fake", token="wrong").feature_extraction("red")
        assert caught.value.response.status_code == 401


def test_a_base_url_is_ignored_by_the_client_where_the_model_is_a_name(server: Running) -> None:
    """The trap that our pages warn of: the picture goes to the public hub, or here to where nobody listens."""
    assert server.server is not None
    before = server.server.desk.engine.status().models
    with pytest.raises(Exception, match="Connection refused"):
        InferenceClient(base_url=server.address).image_classification(RED_BOX, model="fake")
    assert server.server.desk.engine.status().models == before
    chat = InferenceClient(base_url=f"{server.address}/models/fake")
    with pytest.raises(HfHubHTTPError, match="no language model yet"):
        chat.chat_completion(MESSAGES)


def test_zero_shot_object_detection(server: Running) -> None:
    body = {"inputs": CODE, "parameters": {"candidate_labels": ["green", "red"], "top_k": 1, "color": 3}}
    for path in ("/models/fake-places", "/models/fake-places/zero-shot-object-detection"):
        reply = server.post(path, body)
        assert (reply.headers["x-anmok-task"], reply.headers["x-anmok-ignored"]) == (
            "zero-shot-object-detection",
            "color",
        )
        [row] = reply.json
        assert (row["label"], row["box"]) == ("green", {"xmin": 60, "ymin": 40, "xmax": 70, "ymax": 59})


def test_mask_generation(server: Running) -> None:
    everything = server.post("/models/fake-places/mask-generation", TWO_BOXES).json
    assert len(everything) == 3
    point = {"points": [[65, 50, 1]], "candidates": 3}
    rows = server.post("/models/fake-places/mask-generation", {"inputs": CODE, "parameters": point}).json
    [masks] = load("fake-places").run([Prompted(TWO_BOXES, points=((65, 50, 1),))], Segment(candidates=3))
    assert [row["score"] for row in rows] == masks.scores.tolist()
    for row, rle in zip(rows, masks.rles, strict=True):
        mask = np.asarray(pillow.open(io.BytesIO(base64.b64decode(row["mask"]))))
        np.testing.assert_array_equal(mask == 255, rle.mask())
    wrong = server.post("/models/fake-places/mask-generation", {"inputs": CODE, "parameters": {"points": [[1, 2]]}})
    assert (wrong.status, wrong.json["error"]) == (422, "parameters.points[0]: want 3 values, got 2")


def test_depth_estimation(server: Running) -> None:
    [depth] = load("fake-places").run([TWO_BOXES], Depth())
    for path in ("/models/fake-places/depth-estimation", "/models/fake-places/pipeline/depth-estimation"):
        reply = server.post(path, TWO_BOXES).json
        np.testing.assert_array_equal(np.asarray(reply["predicted_depth"], np.float32), depth.depth)
        assert pillow.open(io.BytesIO(base64.b64decode(reply["depth"]))).size == (80, 60)


def test_image_feature_extraction(server: Running) -> None:
    [vector] = load("fake").run([RED_BOX], Embed())
    data = base64.b64encode(RED_BOX).decode()
    bodies: list[Any] = [RED_BOX, {"inputs": data}, {"inputs": [data]}, {"inputs": ["data:image/png;base64," + data]}]
    for body in bodies:
        reply = server.post("/models/fake/image-feature-extraction", body)
        assert reply.json == [vector.vector.tolist()]
    [vector_of_text] = server.post("/models/fake", {"inputs": "a red thing"}).json
    assert len(vector_of_text) == 3


def test_joints_and_tracks_are_answered_in_our_own_json(server: Running) -> None:
    [joints] = load("fake-places").run([RED_BOX], Pose())
    reply = server.post("/models/fake-places/keypoint-detection", RED_BOX).json
    found = result_from_json("pose", reply)
    assert found.to_dict() == joints.to_dict()
    clip = film(4)
    parameters = {"candidate_labels": ["red"]}
    reply = server.post(
        "/models/fake-places/object-tracking", {"inputs": base64.b64encode(clip).decode(), "parameters": parameters}
    ).json
    [tracks] = load("fake-places").run([Clip(clip)], Track(("red",)))
    assert result_from_json("track", reply).to_dict() == tracks.to_dict()
    assert len(reply["frames"]) == 4
    assert len(server.post("/models/fake-places/object-tracking", clip).json["frames"]) == 4  # without cues, empty


def film(frames: int) -> bytes:
    """A GIF in which a red box goes right by ten pixels a frame."""
    pictures = [pillow.fromarray(scene({"red": (10 * i, 10, 10 * i + 20, 30)})) for i in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


@pytest.mark.parametrize("content_type", ["", "image/png", "application/octet-stream", "image/jpeg; charset=x", "x"])
def test_a_picture_is_read_whatever_it_is_called(server: Running, content_type: str) -> None:
    headers = {"content_type": content_type} if content_type else {}
    reply = server.post("/models/fake-sigmoid", RED, **headers)
    assert (reply.status, reply.json[0]["label"], len(reply.json)) == (200, "red", 5)


def test_a_model_of_one_task_answers_with_it() -> None:
    """Its bare address needs no hint: here, one that embeds alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", closed_set)
        with running(Settings(models=(Served("fake-places", "places"),))) as server:
            reply = server.post("/models/places", RED_BOX)
            assert (reply.headers["x-anmok-task"], reply.json[0]["label"]) == ("object-detection", "red")
            assert server.post("/models/fake-places", RED_BOX).status == 404
