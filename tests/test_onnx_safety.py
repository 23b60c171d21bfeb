"""What a graph file may not do: read outside its folder, bring its own operators, or be no graph."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from anmok.catalogue import local
from anmok.errors import BadWeights, MissingDependency, Unsupported, WeightsUnavailable
from anmok.load import Model, load, own
from anmok.nets import onnx_graph
from anmok.nets.onnx_session import Session
from anmok.tasks import Classify
from toy_onnx import (  # noqa: F401  # fixtures
    FLOAT,
    LABELS,
    PIXELS,
    SAME,
    SIZE,
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
