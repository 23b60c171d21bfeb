"""Moondream's bundles: the file and whatever may be wrong with it, and its graphs against the net they were made of."""

from __future__ import annotations

import functools
import gzip
import io
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from anmok.errors import BadWeights, Unsupported
from anmok.geometry import Pixels, normalise
from anmok.models.moondream import Moondream
from anmok.nets import moondream as net
from anmok.nets import moondream_bundle, moondream_onnx, moondream_toy
from anmok.nets.moondream_mind import TorchMind
from anmok.nets.moondream_onnx import OnnxMind
from anmok.tasks import Pointing, Setup, TextRules
from battery import picture

PHRASES = moondream_toy.PHRASES
HALF = (0.5, 0.5, 0.5)
PIXELS = Pixels(378, "squash", "bicubic", HALF, HALF)


@functools.cache
def toy() -> net.Moondream:
    torch.manual_seed(0)
    return net.Moondream(moondream_toy.CONFIG).eval()


@functools.cache
def whole() -> bytes:
    return moondream_toy.bundle(toy())


@functools.cache
def members() -> dict[str, bytes]:
    found, stream = {}, io.BytesIO(whole()[5:])
    while head := stream.read(4):
        name = stream.read(struct.unpack("!I", head)[0]).decode()
        found[name] = stream.read(struct.unpack("!Q", stream.read(8))[0])
    return found


@functools.cache
def minds() -> tuple[TorchMind, OnnxMind]:
    bundle = moondream_bundle.opened(io.BytesIO(whole()), "toy")
    return TorchMind(toy(), "cpu", torch.float32), OnnxMind(bundle, "cpu")


def changed(**content: bytes | None) -> bytes:
    """The toy with other members, by the stems of their names; None leaves one out."""
    kept = {name: content.get(Path(name).stem, data) for name, data in members().items()}
    return moondream_bundle.packed({name: data for name, data in kept.items() if data is not None})


# The graphs ------------------------------------------------------------------------------------------------


def test_graphs_read_as_the_net_does() -> None:
    ours, graphs = minds()
    rows = np.random.default_rng(0).normal(size=(49, 64)).astype(np.float32)
    seen = ours.copied(ours.begin(0, None), 0)  # in a bundle the first token was read before there was a picture
    with torch.inference_mode():
        ours._net.text(torch.from_numpy(rows), seen, True)
    memories = [seen, graphs.copied(graphs.begin(0, rows), 2)]
    for ids in ((1, 266, 2, 60, 61, 3), (80,), (81,), (82, 83), (84,)):
        (logits, hidden), (theirs, state) = (
            one.read(memory, one.words(ids)) for one, memory in zip((ours, graphs), memories, strict=True)
        )
        np.testing.assert_allclose(theirs, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state, hidden.numpy(), rtol=1e-4, atol=1e-5)
    assert [ours.length(memories[0]), graphs.length(memories[1])] == [61, 61]
    np.testing.assert_allclose(
        graphs.begin(0, None).store, ours.begin(0, None).used.unsqueeze(2).numpy(), rtol=1e-5, atol=1e-6
    )


def test_graphs_read_and_write_places_as_the_net_does_but_for_the_steps_of_sizes() -> None:
    ours, graphs = minds()
    hidden = torch.randn(64, generator=torch.Generator().manual_seed(1))
    assert graphs.coordinate(hidden.numpy()) == ours.coordinate(hidden)
    np.testing.assert_allclose(graphs.of_coordinate(0.3), ours.of_coordinate(0.3).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(graphs.of_size(0.3, 0.7), ours.of_size(0.3, 0.7).numpy(), rtol=1e-4, atol=1e-5)
    bins = [np.log2(one) * 63 / 10 + 63 for one in ours.size(hidden)]
    np.testing.assert_allclose(np.asarray(graphs.size(hidden.numpy())) * 64, bins, rtol=0, atol=1e-4)


LAYOUTS = {(378, 378): (1, 1), (529, 300): (1, 1), (530, 300): (2, 1), (300, 900): (1, 2), (600, 600): (2, 2)}


@pytest.mark.parametrize("size_hw", LAYOUTS, ids=lambda size: "x".join(map(str, size)))
def test_pictures_are_cut_as_that_client_did(size_hw: tuple[int, int]) -> None:
    rows, columns = LAYOUTS[size_hw]
    assert moondream_onnx.layout(size_hw) == (rows, columns)
    canvas = minds()[1].canvas(picture(size_hw, 1))
    assert canvas.shape == ((378, 378, 3) if rows * columns == 1 else ((rows + 1) * 378, columns * 378, 3))


@pytest.mark.parametrize("size_hw", [size for size, layout in LAYOUTS.items() if layout != (1, 1)])
def test_each_tile_stands_in_its_own_place(size_hw: tuple[int, int]) -> None:
    ours, graphs = minds()
    image = picture(size_hw, 1)
    rows, columns = LAYOUTS[size_hw]
    image[: size_hw[0] // rows, : size_hw[1] // columns] = (255, 0, 0)  # the first tile is unlike the others
    canvas = normalise(graphs.canvas(image), PIXELS)  # (3, h, w)
    eye = ours._net.vision
    squares = [canvas[:, r * 378 :][:, :378, c * 378 :][:, :, :378] for r in range(rows) for c in range(columns)]
    with torch.inference_mode():
        whole = eye.seen(torch.from_numpy(canvas[None, :, -378:, :378].copy()))  # (1, 49, C)
        seen = eye.seen(torch.from_numpy(np.stack(squares))).reshape(rows, columns, 7, 7, -1)
        joined = torch.cat([torch.cat(list(row), 1) for row in seen])  # (rows * 7, columns * 7, C)
        small = torch.nn.functional.adaptive_avg_pool2d(joined.permute(2, 0, 1), 7).flatten(1).T  # (49, C)
        wanted = eye.proj_mlp(torch.cat([whole[0], small], -1)).numpy()
    np.testing.assert_allclose(graphs.see(canvas[None])[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_small_picture_is_seen_as_the_net_sees_it() -> None:
    ours, graphs = minds()
    canvas = normalise(graphs.canvas(picture((100, 300), 2)), PIXELS)[None]
    np.testing.assert_allclose(graphs.see(canvas), ours.see(canvas), rtol=1e-4, atol=1e-5)


def test_halves_are_taken_where_a_graph_takes_halves() -> None:
    """As the published ones do."""
    inputs = [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT16, (64,))]
    outputs = [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT16, (64,))]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["input"], ["output"])], "g", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    data = changed(coord_decoder=model.SerializeToString())
    mind = OnnxMind(moondream_bundle.opened(io.BytesIO(data), "toy"), "cpu")
    hidden = np.zeros(64, np.float32)
    hidden[16] = 1.0
    assert mind.coordinate(hidden) == 0.25


# The file --------------------------------------------------------------------------------------------------


def setup(path: Path, dtype: str = "float32") -> Setup:
    files = {path.name: path}
    return Setup("t", "bundle-0.5b", PIXELS, TextRules(), "softmax", ("en",), dtype=dtype, files=files)


def test_a_bundle_is_read_plain_and_packed_alike(tmp_path: Path) -> None:
    plain, packed = tmp_path / "toy.mf", tmp_path / "toy.mf.gz"
    plain.write_bytes(whole())
    packed.write_bytes(gzip.compress(whole(), 1))
    models = [Moondream.from_files(setup(path)) for path in (plain, packed)]
    view = models[0].prepare(picture((40, 50), 0))
    first, second = (model.encode(view.pixels[None])["rows"] for model in models)
    np.testing.assert_array_equal(first, second)
    for model in models:
        assert model._phrases == PHRASES.__class__(
            0, 0, None, PHRASES.query, PHRASES.captions, PHRASES.detect, PHRASES.point
        )
        assert model.nbytes == sum(len(members()[f"models/{name}.onnx"]) for name in moondream_bundle.GRAPHS) + 2 * 512
    with pytest.raises(Unsupported, match="leave dtype at float32"):
        Moondream.from_files(setup(plain, "bfloat16"))


def test_what_a_bundle_was_published_without_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.mf"
    old = json.loads(members()["config.json"])
    del old["templates"]["point"], old["special_tokens"]["bos"]
    path.write_bytes(changed(config=json.dumps(old).encode()))
    model = Moondream.from_files(setup(path))
    [rows] = model.encode(np.zeros((1, 3, 378, 378), np.float32))["rows"]
    from anmok.inputs import Encoded

    state = Encoded("t", {"rows": rows}, model.prepare(picture((40, 50), 0)).frame)
    with pytest.raises(Unsupported, match="t was published before it could do that"):
        model.point([state], Pointing(("cat",)))


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def member(name: bytes, size: int, content: bytes = b"") -> bytes:
    return b"MOON\x01" + struct.pack("!I", len(name)) + name + struct.pack("!Q", size) + content


def elsewhere() -> bytes:
    """A graph whose weight lies in a file."""
    model = onnx.load_from_string(members()["models/text_encoder.onnx"])
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    model.graph.initializer[0].ClearField("raw_data")
    data: bytes = model.SerializeToString()
    return data


def settings(**content: Any) -> bytes:
    return json.dumps({**json.loads(members()["config.json"]), **content}).encode()


BAD = {
    "empty": (lambda: b"", "does not begin with MOON"),
    "another magic": (lambda: b"PK\x03\x04" + whole()[4:], "does not begin with MOON"),
    "no version": (lambda: b"MOON", "version missing"),
    "another version": (lambda: b"MOON\x02" + whole()[5:], "version 2 of the format; 1 is read here"),
    "nothing in it": (lambda: b"MOON\x01", "lacks vision_encoder.onnx"),
    "half a length": (lambda: b"MOON\x01\x00\x00", "ends in the middle"),
    "no name": (lambda: b"MOON\x01" + bytes(4), "name of 0 bytes"),
    "a long name": (lambda: b"MOON\x01\xff\xff\xff\xff", "name of 4,294,967,295 bytes; 255 are the most"),
    "a name that is no text": (lambda: member(b"\xff\xfe", 0), "member's name is no text"),
    "half a name": (lambda: b"MOON\x01\x00\x00\x00\x10vision", "ends in the middle"),
    "a length that lies": (lambda: member(b"x/vision_encoder.onnx", 2**31, b"abc"), "ends in the middle"),
    "a huge member": (
        lambda: member(b"other", 2**63),
        "other of 9,223,372,036,854,775,808 bytes is larger than it may be",
    ),
    "a huge tokenizer": (lambda: member(b"tokenizer.json", 2**27), "tokenizer.json of 134,217,728 bytes is larger"),
    "many members": (
        lambda: moondream_bundle.packed({f"m{i}": b"" for i in range(65)}),
        "more than 64 members",
    ),
    "twice": (lambda: whole() + member(b"a/config.json", 2, b"{}")[5:], "holds config.json twice"),
    "one missing": (lambda: changed(size_decoder=None), "lacks size_decoder.onnx"),
    "no tokenizer": (lambda: changed(tokenizer=b"{}"), "tokenizer"),
    "text that is none": (lambda: changed(tokenizer=b"\xff\xff"), "tokenizer.json is no text in UTF-8"),
    "no settings": (lambda: changed(config=b"[]"), "config.json does not say how to ask"),
    "no JSON": (lambda: changed(config=b"{"), "config.json does not say how to ask"),
    "no question": (lambda: changed(config=settings(templates={})), "no prompt for a question"),
    "words for tokens": (
        lambda: changed(config=settings(templates={"query": {"prefix": ["a"], "suffix": []}})),
        "are no tokens",
    ),
    "a long prompt": (
        lambda: changed(config=settings(templates={"query": {"prefix": [1] * 65, "suffix": []}})),
        "are no tokens",
    ),
    "another end": (
        lambda: changed(config=settings(special_tokens={"eos": 7})),
        "is not the one that the weights go with",
    ),
    "no graph": (lambda: changed(text_encoder=b"abc"), "text_encoder.onnx holds no graph"),
    "letters for a graph": (lambda: changed(text_encoder=b"MOON" * 9), "text_encoder.onnx is no ONNX graph"),
    "an empty graph": (lambda: changed(text_encoder=b""), "text_encoder.onnx holds no graph"),
    "weights in a file": (lambda: changed(text_encoder=elsewhere()), "text_encoder.onnx refers to files outside it"),
    "another graph": (
        lambda: changed(text_decoder=members()["models/text_encoder.onnx"]),
        "text_decoder.onnx takes input_ids; want input_embeds, kv_cache",
    ),
    "no array": (lambda: changed(initial_kv_cache=b"abc"), "initial_kv_cache.npy is damaged"),
    "objects": (lambda: changed(initial_kv_cache=npy(np.asarray([{}], object))), "initial_kv_cache.npy is damaged"),
    "an array of another shape": (
        lambda: changed(initial_kv_cache=npy(np.zeros((2, 3)))),
        r"holds \(2, 3\); want keys",
    ),
    "no finite number": (
        lambda: changed(initial_kv_cache=npy(np.full((2, 2, 1, 2, 1, 32), np.nan, np.float32))),
        "want keys and values",
    ),
    "an array that is cut": (
        lambda: changed(initial_kv_cache=members()["initial_kv_cache.npy"][:-4]),
        "not as many numbers as it says",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_none_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    made, message = BAD[case]
    path = tmp_path / "bad.mf"
    path.write_bytes(made())
    with pytest.raises(BadWeights, match=message) as caught:
        Moondream.from_files(setup(path))
    assert "\n" not in str(caught.value)
    assert str(path.parent) not in str(caught.value)


def test_a_file_may_end_nowhere_but_at_its_end(tmp_path: Path) -> None:
    path, packed = tmp_path / "cut.mf", tmp_path / "cut.mf.gz"
    data, small = whole(), gzip.compress(whole(), 1)
    for share in (0.01, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(data[: int(len(data) * share)])
        packed.write_bytes(small[: int(len(small) * share)])
        for cut in (path, packed):
            with pytest.raises(BadWeights, match=r"ends in the middle|lacks|damaged"):
                moondream_bundle.read(cut)
    broken = bytearray(small)
    broken[len(small) // 2] ^= 0xFF
    packed.write_bytes(bytes(broken))
    with pytest.raises(BadWeights, match="cut.mf.gz"):
        moondream_bundle.read(packed)
    packed.write_bytes(data)
    with pytest.raises(BadWeights, match=r"cut.mf.gz is damaged \(Not a gzipped file"):
        moondream_bundle.read(packed)


def test_a_length_alone_reserves_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "liar.mf"
    path.write_bytes(member(b"vision_encoder.onnx", 2**32, b"abc"))
    tracemalloc.start()
    with pytest.raises(BadWeights, match="ends in the middle"):
        moondream_bundle.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25
