"""ONNX graphs of the user's own: read, tried out, run, and held to what the battery asks of every model.

The graphs are made here and their numbers computed a second time in numpy.
"""

from __future__ import annotations

import json
import sys
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from anmok import geometry
from anmok.catalogue import local
from anmok.errors import BadRequest, BadWeights, MissingDependency, Unsupported, WeightsUnavailable, WrongState
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Text
from anmok.load import Model, load, own
from anmok.nets import onnx_graph
from anmok.nets.onnx_probe import probe
from anmok.nets.onnx_session import Plan, Session
from anmok.tasks import Classify, Embed, Encoder
from battery import odd_pictures, picture

Array = NDArray[np.float32]

SIZE, LABELS = 8, ("나사", "nut", "washer")
PIXELS = Pixels(SIZE, "squash", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
FLOAT = TensorProto.FLOAT
# Two computations of a sum of 64 products in float32, in another order.
SAME = 2e-6


def weights(seed: int = 0, classes: int = len(LABELS)) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    drawn = {
        "filters": rng.normal(0, 0.4, (5, 3, 3, 3)),
        "shift": rng.normal(0, 0.4, 5),
        "matrix": rng.normal(0, 1.0, (classes, 5)),
        "bias": rng.normal(0, 0.3, classes),
    }
    return {name: array.astype(np.float32) for name, array in drawn.items()}


def graph(
    path: Path,
    *,
    shape: Sequence[int | str] = ("n", 3, SIZE, SIZE),
    last: str = "",
    outputs: Sequence[str] = ("scores",),
    seed: int = 0,
    classes: int = len(LABELS),
    nodes: Sequence[onnx.NodeProto] = (),
) -> Path:
    """Convolution, mean over the picture, matrix: a classifier as small as one can be. ``last`` is a step after it."""
    is_last = shape[-1] == 3
    first = [helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])] if is_last else []
    steps = [
        *first,
        helper.make_node("Conv", ["turned" if is_last else "pixels", "filters", "shift"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["lit"]),
        helper.make_node("GlobalAveragePool", ["lit"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits" if last else "scores"], transB=1),
        *([helper.make_node(last, ["logits"], ["scores"])] if last else []),
        *nodes,
    ]
    values = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(array, name) for name, array in weights(seed, classes).items()]
    made = helper.make_graph(steps, "g", [helper.make_tensor_value_info("pixels", FLOAT, shape)], values, stored)
    return saved(path, made)


def saved(path: Path, made: onnx.GraphProto, **more: Any) -> Path:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    path.write_bytes(helper.make_model(made, opset_imports=opsets, ir_version=8, **more).SerializeToString())
    return path


def by_hand(batch: Array, seed: int = 0) -> tuple[Array, Array]:
    """(B, 3, 8, 8) to features (B, 5) and logits (B, 3), in double precision."""
    w = {name: array.astype(np.float64) for name, array in weights(seed).items()}
    padded = np.pad(batch.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (B, 3, 8, 8, 3, 3)
    maps = np.einsum("bchwij,kcij->bkhw", windows, w["filters"]) + w["shift"][:, None, None]
    features = np.maximum(maps, 0).mean((2, 3))  # (B, 5)
    return features.astype(np.float32), (features @ w["matrix"].T + w["bias"]).astype(np.float32)


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)


@pytest.fixture(autouse=True)
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANMOK_CARDS", str(tmp_path / "cards"))
    return tmp_path / "cards"


@pytest.fixture
def screws(tmp_path: Path) -> Model:
    own.from_onnx(graph(tmp_path / "screws.onnx"), PIXELS, LABELS, own.Naming("screws"))
    return load("screws")


def pictures() -> list[NDArray[np.uint8]]:
    return [picture(size, seed) for seed, size in enumerate(((61, 83), (8, 8), (40, 30), (1, 1), (90, 31)))]


def canvases() -> Array:
    return np.stack([geometry.prepare(image, PIXELS) for image in pictures()])


# The numbers -----------------------------------------------------------------------------------------------


def test_scores_and_features_are_the_graph_s(screws: Model) -> None:
    features, logits = by_hand(canvases())
    answers = screws.run(pictures(), Classify())
    assert all(answer.labels == LABELS and answer.scoring == "softmax" for answer in answers)
    np.testing.assert_allclose([answer.scores for answer in answers], softmax(logits), rtol=0, atol=SAME)
    plain = screws.run(pictures(), Embed("features"))
    np.testing.assert_allclose([one.vector for one in plain], features, rtol=0, atol=SAME)
    unit = screws.run(pictures(), Embed())
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose([one.vector for one in unit], features / norms, rtol=0, atol=SAME)
    assert isinstance(screws.kind, Encoder)
    assert screws.memory_bytes > 4 * sum(array.size for array in weights().values())


@pytest.mark.parametrize("last", ["", "Softmax", "LogSoftmax"])
def test_a_softmax_is_never_taken_twice(last: str, tmp_path: Path) -> None:
    one = own.from_onnx(graph(tmp_path / "g.onnx", last=last), PIXELS, LABELS, own.Naming("one"))
    assert one.scoring == "softmax"
    assert ("chances already" in one.summary) == (last == "Softmax")
    answers = load("one").run(pictures(), Classify())
    np.testing.assert_allclose([a.scores for a in answers], softmax(by_hand(canvases())[1]), rtol=0, atol=SAME)


@pytest.mark.parametrize("last", ["", "Sigmoid"])
def test_a_sigmoid_is_never_taken_twice(last: str, tmp_path: Path) -> None:
    reading = own.Reading(scoring=None if last else "sigmoid")
    one = own.from_onnx(graph(tmp_path / "g.onnx", last=last), PIXELS, LABELS, own.Naming("one"), reading)
    assert one.scoring == "sigmoid"
    answers = load("one").run(pictures(), Classify())
    wanted = 1 / (1 + np.exp(-by_hand(canvases())[1]))
    np.testing.assert_allclose([answer.scores for answer in answers], wanted, rtol=0, atol=SAME)


def test_a_softmax_that_no_node_shows_is_told_by_its_sums(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Exp", ["logits_"], ["raised"]),
        helper.make_node("ReduceSum", ["raised", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["raised", "sum"], ["scores"]),
    ]
    made = onnx.load(graph(tmp_path / "g.onnx"))
    made.graph.node[-1].output[0] = "logits_"
    made.graph.node.extend(nodes)
    made.graph.initializer.append(numpy_helper.from_array(np.asarray([1]), "axis"))
    onnx.save(made, tmp_path / "g.onnx")
    own.from_onnx(tmp_path / "g.onnx", PIXELS, LABELS, own.Naming("one"))
    answers = load("one").run(pictures(), Classify())
    np.testing.assert_allclose([a.scores for a in answers], softmax(by_hand(canvases())[1]), rtol=0, atol=SAME)


def test_some_of_the_labels(screws: Model) -> None:
    logits = by_hand(canvases())[1]
    answers = screws.run(pictures(), Classify(("washer", "나사")))
    np.testing.assert_allclose([a.scores for a in answers], softmax(logits[:, [2, 0]]), rtol=0, atol=SAME)
    assert screws.classify(pictures()[0], ["Nut"]).scores.tolist() == [1.0]
    apart = unicodedata.normalize("NFD", "나사")  # as some systems write the names of files
    assert screws.classify(pictures()[0], [apart]).labels == (apart,)
    with pytest.raises(Unsupported, match="screws was not trained on 'bolt'; it knows 3 labels, such as 나사, nut"):
        screws.classify(pictures()[0], ["nut", "bolt"])
    with pytest.raises(Unsupported, match="no text tower, so templates"):
        screws.run(pictures(), Classify(LABELS, templates=("a {}",)))


# What the battery asks of every model ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [("n", 3, SIZE, SIZE), (1, 3, SIZE, SIZE), (4, 3, SIZE, SIZE), ("n", "h", "w", 3)])
def test_a_batch_equals_its_parts_in_any_order(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    own.from_onnx(graph(tmp_path / "g.onnx", shape=shape), PIXELS, LABELS, own.Naming("one"))
    model, five = load("one"), pictures()
    alone = [model.run([image], Classify())[0].scores for image in five]
    np.testing.assert_allclose(alone, softmax(by_hand(canvases())[1]), rtol=0, atol=SAME)
    assert np.ptp([row[0] for row in alone]) > 1e-3
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2], [4, 3, 2, 1, 0]):
        together = model.run([five[i] for i in order], Classify())
        for i, answer in zip(order, together, strict=True):
            np.testing.assert_allclose(answer.scores, alone[i], rtol=0, atol=1e-5)  # the battery's promise


def test_odd_pictures_are_answered(screws: Model) -> None:
    for answer in screws.run(list(odd_pictures().values()), Classify()):
        assert answer.scores.sum() == pytest.approx(1.0, abs=1e-5)
        assert json.loads(answer.to_json()) == answer.to_dict()


def test_a_state_answers_as_its_picture_does_and_only_to_its_maker(screws: Model) -> None:
    image = pictures()[0]
    [state] = screws.encode([image])
    assert state.features.dtype == np.float32
    np.testing.assert_array_equal(screws.classify(state).scores, screws.classify(image).scores)
    with pytest.raises(WrongState, match="encode it again"):
        screws.classify(Encoded("another", state.maps))
    with pytest.raises(Unsupported, match="no text tower"):
        screws.embed(Text("a nut"))


def test_two_loads_agree_and_another_graph_has_another_maker(screws: Model, tmp_path: Path) -> None:
    again = load("screws")
    assert again.maker == screws.maker
    np.testing.assert_array_equal(again.classify(pictures()[0]).scores, screws.classify(pictures()[0]).scores)
    other = graph(tmp_path / "other.onnx", seed=1)
    own.from_onnx(other, PIXELS, LABELS, own.Naming("screws", is_replacing=True))
    assert load("screws").maker != screws.maker  # features in a cache are not mistaken for the new graph's


def test_threads_share_a_session(tmp_path: Path) -> None:
    session = Session(graph(tmp_path / "g.onnx"))
    plan = Plan("nchw", 0, "scores", "scores")
    batch = canvases()
    wanted = session.rows(batch, plan)["scores"]
    got: list[Array] = []
    threads = [threading.Thread(target=lambda: got.append(session.rows(batch, plan)["scores"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    for rows in got:
        np.testing.assert_array_equal(rows, wanted)


def test_answers_that_depend_on_batch_mates_are_had_one_by_one(tmp_path: Path) -> None:
    """As of a batch norm that was exported in training mode: here the mean of the batch is taken away."""
    made = onnx.load(graph(tmp_path / "g.onnx"))
    made.graph.node[-1].output[0] = "raw"
    made.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["mean", "half"], ["some"]),
            helper.make_node("Sub", ["raw", "some"], ["scores"]),
        ]
    )
    made.graph.initializer.append(numpy_helper.from_array(np.asarray(0.5, np.float32), "half"))
    onnx.save(made, tmp_path / "g.onnx")
    one = own.from_onnx(tmp_path / "g.onnx", PIXELS, LABELS, own.Naming("one"))
    assert "depend on what else is in a batch" in one.summary
    answers = load("one").run(pictures(), Classify())
    np.testing.assert_allclose(
        [a.scores for a in answers], softmax(by_hand(canvases())[1] / np.float32(2)), rtol=0, atol=SAME
    )


# Finding out -------------------------------------------------------------------------------------------------


def test_features_are_found_named_or_missing(tmp_path: Path) -> None:
    inner = probe(graph(tmp_path / "a.onnx", last="Softmax"), SIZE, 3)
    assert (inner.plan.features, inner.plan.is_inner, inner.width) == ("flat", True, 5)
    pooled = probe(graph(tmp_path / "b.onnx", outputs=("scores", "pooled")), SIZE, 3)
    assert (pooled.plan.features, pooled.plan.is_inner, pooled.width) == ("pooled", False, 5)
    asked = probe(graph(tmp_path / "c.onnx"), SIZE, 3, features="scores")
    assert (asked.plan.features, asked.width) == ("scores", 3)
    nodes = [helper.make_node("Sin", ["scores"], ["wave"])]  # ends in no matrix: nothing can be told
    bare = probe(graph(tmp_path / "d.onnx", outputs=("wave",), nodes=nodes), SIZE, 3)
    assert bare.plan.features == bare.plan.scores == "wave"
    assert "heads on them know no more" in bare.notes[-1]
    embeds = probe(graph(tmp_path / "e.onnx", outputs=("flat",)), SIZE, 0)
    assert (embeds.plan.features, embeds.plan.scores) == ("flat", "")
    assert embeds.parameters == sum(array.size for array in weights().values())


def test_the_output_with_the_scores_can_be_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sigmoid", ["scores"], ["other"])]
    path = graph(tmp_path / "g.onnx", outputs=("other", "scores"), nodes=nodes)
    assert probe(path, SIZE, 3).plan.scores == "other"
    assert probe(path, SIZE, 3, scores="scores").plan.scores == "scores"
    with pytest.raises(BadRequest, match="no output 'third' with one row per picture; it has other"):
        probe(path, SIZE, 3, scores="third")


@pytest.mark.parametrize(
    ("settings", "labels", "error", "said"),
    [
        ({}, 4, BadRequest, "does not give 4 numbers, one per label; its outputs are scores \\(3\\)"),
        ({"shape": ("n", 3, 16, 16)}, 3, BadRequest, "takes pictures of 16 x 16 pixels, not 8 x 8"),
        ({"shape": ("n", 3, 8, 16)}, 3, BadRequest, "takes pictures of 8 x 16 pixels"),
        ({"shape": ("n", 3, 8)}, 3, Unsupported, "arrays of 3 axes"),
        ({"classes": 1}, 1, BadRequest, "one label and a softmax"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], labels: int, error: type[Exception], said: str, tmp_path: Path
) -> None:
    if settings.get("shape") == ("n", 3, 8):
        path = saved(tmp_path / "g.onnx", flat_graph(("n", 3, 8)))
    else:
        path = graph(tmp_path / "g.onnx", **settings)
    with pytest.raises(error, match=said):
        probe(path, SIZE, labels)


def flat_graph(shape: Sequence[int | str], kind: int = FLOAT, inputs: int = 1) -> onnx.GraphProto:
    """Takes anything and gives it back flat."""
    values = [helper.make_tensor_value_info(f"in{i}", kind, shape) for i in range(inputs)]
    nodes = [helper.make_node("Flatten", [f"in{i}"], [f"out{i}"]) for i in range(inputs)]
    return helper.make_graph(
        nodes, "g", values, [helper.make_tensor_value_info(f"out{i}", kind, None) for i in range(inputs)]
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (flat_graph(("n", 1, 8, 8)), "takes 1 channels: want 3"),
        (flat_graph(("n", 3, 8, 8), inputs=2), "takes in0, in1: want a graph with one input"),
        (flat_graph(("n", 3, 8, 8), TensorProto.UINT8), "takes uint8: want float numbers"),
    ],
)
def test_graphs_that_take_no_pictures_are_refused(made: onnx.GraphProto, said: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=said):
        probe(saved(tmp_path / "g.onnx", made), SIZE, 0)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Log", ["scores"], ["bad"])]  # of a negative number
    path = graph(tmp_path / "g.onnx", outputs=("bad",), nodes=nodes)
    with pytest.raises(BadWeights, match="'bad' holds what is no finite number"):
        probe(path, SIZE, 3, features="bad")


def test_half_precision_goes_in_and_comes_out(tmp_path: Path) -> None:
    path = saved(tmp_path / "g.onnx", flat_graph(("n", 3, SIZE, SIZE), TensorProto.FLOAT16))
    own.from_onnx(path, PIXELS, (), own.Naming("half"))
    vector = load("half").embed(pictures()[0], space="features").vector
    np.testing.assert_array_equal(vector, canvases()[0].astype(np.float16).astype(np.float32).ravel())


# Safety ------------------------------------------------------------------------------------------------------


def outside(path: Path, location: str) -> Path:
    """The graph, its matrix kept in another file."""
    made = onnx.load(graph(path))
    [tensor] = [one for one in made.graph.initializer if one.name == "matrix"]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(made.SerializeToString())
    return path


def test_weights_beside_the_graph_come_along(tmp_path: Path, cards: Path) -> None:
    (tmp_path / "more").mkdir()
    path = outside(tmp_path / "g.onnx", "more/g.data")
    with pytest.raises(BadWeights, match="keeps weights in more/g.data, and that file is not there"):
        own.from_onnx(path, PIXELS, LABELS, own.Naming("one"))
    (tmp_path / "more" / "g.data").write_bytes(weights()["matrix"].tobytes())
    one = own.from_onnx(path, PIXELS, LABELS, own.Naming("one"))
    assert one.params == sum(array.size for array in weights().values())
    assert (cards / "one" / "more" / "g.data").read_bytes() == weights()["matrix"].tobytes()
    (tmp_path / "more" / "g.data").unlink()
    answers = load("one").run(pictures(), Classify())
    np.testing.assert_allclose([a.scores for a in answers], softmax(by_hand(canvases())[1]), rtol=0, atol=SAME)
    (cards / "one" / "more" / "g.data").write_bytes(weights(1)["matrix"].tobytes())
    with pytest.raises(BadWeights, match="is not what its card was made of"):
        load("one")


@pytest.mark.parametrize("location", ["../g.data", "/etc/hostname", "more/../../g.data", ".", "", "linked.data"])
def test_weights_outside_the_folder_are_never_read(location: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "g.data").write_bytes(weights()["matrix"].tobytes())
    (tmp_path / "in" / "linked.data").symlink_to(tmp_path / "g.data")
    path = outside(tmp_path / "in" / "g.onnx", location)
    with pytest.raises(BadWeights, match="outside its own folder"):
        onnx_graph.read(path)
    with pytest.raises(BadWeights, match="outside its own folder"):
        Session(path)


def test_weights_in_every_corner_of_a_file_are_seen(tmp_path: Path) -> None:
    """In constants, in the branches of an If, in functions and in attributes of nodes within them."""
    tensor = TensorProto(name="c", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../away"
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("c", FLOAT, [1])])
    choice = helper.make_node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch)
    values = [helper.make_tensor_value_info("d", FLOAT, None)]
    yes = [helper.make_tensor_value_info("yes", TensorProto.BOOL, [])]
    function = helper.make_function("com.example", "F", [], ["c"], [constant], [helper.make_opsetid("", 17)])
    plain = helper.make_graph([helper.make_node("F", [], ["d"], domain="com.example")], "g", [], values)
    for path in (
        saved(tmp_path / "a.onnx", helper.make_graph([choice], "g", yes, values)),
        saved(tmp_path / "b.onnx", plain, functions=[function]),
    ):
        with pytest.raises(BadWeights, match="outside its own folder"):
            onnx_graph.read(path)


def test_the_numbers_of_the_fields_are_the_schema_s() -> None:
    fields = {
        ("ModelProto", "graph"): 7,
        ("ModelProto", "training_info"): 20,
        ("ModelProto", "functions"): 25,
        ("FunctionProto", "node"): 7,
        ("FunctionProto", "attribute_proto"): 11,
        ("GraphProto", "node"): 1,
        ("GraphProto", "initializer"): 5,
        ("GraphProto", "output"): 12,
        ("GraphProto", "sparse_initializer"): 15,
        ("NodeProto", "attribute"): 5,
        ("AttributeProto", "t"): 5,
        ("AttributeProto", "g"): 6,
        ("AttributeProto", "tensors"): 10,
        ("AttributeProto", "graphs"): 11,
        ("AttributeProto", "sparse_tensor"): 22,
        ("AttributeProto", "sparse_tensors"): 23,
        ("TensorProto", "external_data"): 13,
    }
    for (message, name), number in fields.items():
        assert getattr(onnx, message).DESCRIPTOR.fields_by_name[name].number == number
    # Nothing else in the schema holds a tensor, a graph or a node.
    holders = {
        (message.name, one.name)
        for message in onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values()
        for one in message.fields
        if one.message_type is not None
        and one.message_type.name in ("TensorProto", "GraphProto", "NodeProto", "SparseTensorProto", "AttributeProto")
    }
    known = {key for key in fields if key[1] not in ("training_info", "functions", "output", "external_data")}
    assert holders - known == {
        ("SparseTensorProto", "values"),
        ("SparseTensorProto", "indices"),
        ("TrainingInfoProto", "initialization"),
        ("TrainingInfoProto", "algorithm"),
    }


def test_custom_operators_are_not_loaded(tmp_path: Path) -> None:
    made = helper.make_graph(
        [helper.make_node("Call", ["pixels"], ["scores"], domain="com.example")],
        "g",
        [helper.make_tensor_value_info("pixels", FLOAT, ("n", 3, SIZE, SIZE))],
        [helper.make_tensor_value_info("scores", FLOAT, None)],
    )
    with pytest.raises(BadWeights, match=r"cannot be opened: .*com.example.*libraries of custom operators"):
        Session(saved(tmp_path / "g.onnx", made))


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    whole = graph(tmp_path / "whole.onnx").read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:n] for n in (0, 1, 2, 5, len(whole) // 2, len(whole) - 1)]
    for number, content in enumerate([*cut, b"\x80" * 64, b"PK\x03\x04", *(rng.bytes(n) for n in range(1, 200, 7))]):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        with pytest.raises(BadWeights):
            Session(path)
    with pytest.raises(WeightsUnavailable, match="no such file"):
        own.from_onnx(tmp_path / "gone.onnx", PIXELS, LABELS, own.Naming("one"))


def test_another_precision_than_the_graph_s_is_refused(screws: Model) -> None:
    with pytest.raises(Unsupported, match="leave dtype at float32"):
        load("screws", dtype="bfloat16")


def test_a_device_that_the_runtime_lacks_is_said(screws: Model, caplog: pytest.LogCaptureFixture) -> None:
    kind = type(screws.kind)
    files = {"own.json": local.weights_folder("screws") / "own.json"}
    setup = replace(screws._setup, device="cuda", files=files)
    kind.from_files(setup)
    assert "runs on the CPU: this onnxruntime has no CUDA" in caplog.text


def test_without_onnxruntime_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graph(tmp_path / "g.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"pip install 'anmok\[onnx\]'"):
        Session(path)
