"""ONNX graphs of the user's own: read, tried out, run, and held to what the battery asks of every model.

The graphs are made here and their numbers computed a second time in numpy.
"""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from anmok.errors import BadRequest, BadWeights, Unsupported, WrongState
from anmok.inputs import Encoded, Text
from anmok.load import Model, load, own
from anmok.nets.onnx_probe import probe
from anmok.nets.onnx_session import Plan, Session
from anmok.tasks import Classify, Embed, Encoder
from battery import odd_pictures
from toy_onnx import (  # noqa: F401  # fixtures
    FLOAT,
    LABELS,
    PIXELS,
    SAME,
    SIZE,
    Array,
    by_hand,
    canvases,
    cards_fixture,
    graph,
    pictures,
    saved,
    screws_fixture,
    softmax,
    weights,
)

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
