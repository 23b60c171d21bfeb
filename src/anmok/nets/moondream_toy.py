"""A bundle at toy size with random weights, for tests: what ``moondream_bundle`` reads, made of a torch net.

Needs onnx, which nothing else here does. The decoder is the published one in small: the first ``prefix`` tokens see one
another, later ones what came before them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

from anmok.errors import MissingDependency
from anmok.nets import moondream_bundle
from anmok.nets.moondream import TINY, FeedForward, Moondream, Projections, Sight
from anmok.nets.moondream_mind import Phrases, TorchMind
from anmok.nets.moondream_tiles import Cutting

_OPSET: Final = 20
_FORMAT: Final = 9  # version of ONNX files that goes with it

# Squares of 54 pixels are seen as 7 x 7 patches; without overlap, as those models were cut.
CONFIG: Final = replace(
    TINY,
    sight=Sight(width=16, depth=1, heads=2, hidden=24, inner=32, cutting=Cutting(crop=378, patch=54, margin=0)),
    speech=replace(TINY.speech, context=2048),
)


_MARKS: Final = ("<|endoftext|>", *(f"<|md_reserved_{i}|>" for i in range(9)))
_WORDS: Final = ("query", "describe", "detect", "point", "short", "normal", "long")  # tokens 266 to 272
PHRASES: Final = Phrases(
    bos=0,
    eos=0,
    answer=3,
    query=((1, 266, 2), (3, 3)),
    captions={"short": (1, 267, 2, 270, 3), "normal": (1, 267, 2, 271, 3), "long": (1, 267, 2, 272, 3)},
    detect=((1, 268, 2), (3,)),
    point=((1, 269, 2), (3,)),
)


class Sheet:
    """A graph that is being written: each step gives the name of what it makes."""

    def __init__(self, inputs: Mapping[str, tuple[str, Sequence[int | str]]]) -> None:
        self._onnx = _package()
        self._inputs = inputs
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def weight(self, array: Any) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def step(self, kind: str, *inputs: str, settings: Mapping[str, Any] | None = None) -> str:
        """One node with one output."""
        return self.steps(kind, *inputs, count=1, settings=settings)[0]

    def steps(self, kind: str, *inputs: str, count: int, settings: Mapping[str, Any] | None = None) -> list[str]:
        made = [f"t{len(self._nodes)}_{i}" for i in range(count)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), made, **(settings or {})))
        return made

    def whole(self, *values: int) -> str:
        return self.weight(np.asarray(values, np.int64))

    def linear(self, x: str, layer: nn.Linear) -> str:
        product = self.step("MatMul", x, self.weight(layer.weight.detach().numpy().T))
        return self.step("Add", product, self.weight(layer.bias.detach().numpy()))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        weights = (self.weight(one.detach().numpy()) for one in (layer.weight, layer.bias))
        return self.step("LayerNormalization", x, *weights, settings={"axis": -1, "epsilon": layer.eps})

    def feed_forward(self, x: str, layer: FeedForward) -> str:
        inner = self.step("Gelu", self.linear(x, layer.fc1), settings={"approximate": "tanh"})
        return self.linear(inner, layer.fc2)

    def split(self, x: str, layer: Projections) -> list[str]:
        """(B, T, D) to queries, keys and values (B, heads, T, D/heads)."""
        packed = self.linear(x, layer.qkv)  # (B, T, 3 D)
        apart = self.step("Reshape", packed, self.whole(0, -1, 3, layer.heads, layer.qkv.in_features // layer.heads))
        turned = self.step("Transpose", apart, settings={"perm": [2, 0, 3, 1, 4]})  # (3, B, heads, T, D/heads)
        parts = self.steps("Split", turned, count=3, settings={"axis": 0, "num_outputs": 3})
        return [self.step("Squeeze", part, self.whole(0)) for part in parts]

    def attended(self, parts: Sequence[str], layer: Projections, bias: str = "") -> str:
        """Queries, keys and values (B, heads, T, D/heads) to (B, T, D)."""
        q, k, v = parts
        width = layer.qkv.in_features
        scale = self.weight(np.float32((width // layer.heads) ** -0.5))
        fit = self.step("MatMul", q, self.step("Transpose", k, settings={"perm": [0, 1, 3, 2]}))
        fit = self.step("Mul", fit, scale)  # (B, heads, T, S)
        fit = self.step("Add", fit, bias) if bias else fit
        mixed = self.step("MatMul", self.step("Softmax", fit, settings={"axis": -1}), v)
        turned = self.step("Transpose", mixed, settings={"perm": [0, 2, 1, 3]})  # (B, T, heads, D/heads)
        return self.linear(self.step("Reshape", turned, self.whole(0, -1, width)), layer.proj)

    def written(self, outputs: Mapping[str, str]) -> bytes:
        """The graph with outputs of these names."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        nodes = [*self._nodes, *(helper.make_node("Identity", [made], [name]) for name, made in outputs.items())]
        types = {"float": kinds.FLOAT, "int64": kinds.INT64}
        takes = [
            helper.make_tensor_value_info(name, types[kind], shape) for name, (kind, shape) in self._inputs.items()
        ]
        gives = [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in outputs]
        graph = helper.make_graph(nodes, "toy", takes, gives, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_FORMAT)
        data: bytes = model.SerializeToString()
        return data


def tokenizer() -> str:
    """A tokenizer.json of marks, single bytes, and the words of the prompts."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*_MARKS, *letters, *_WORDS))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(mark, special=True) for mark in _MARKS])
    text: str = made.to_str()
    return text


def bundle(net: Moondream) -> bytes:
    """A net of ``CONFIG``'s kind, its tokenizer.json and how it is asked, as a ``.mf`` file.

    Raises:
        MissingDependency: onnx is not installed.
    """
    width = net.text.config.width
    graphs = {
        "vision_encoder": _eye(net),
        "vision_projection": _projection(net),
        "text_encoder": _words(net),
        "text_decoder": _tongue(net),
        "coord_encoder": _encoder(1, net.region.coord_features, net.region.coord_encoder),
        "size_encoder": _encoder(2, net.region.size_features, net.region.size_encoder),
        "coord_decoder": _decoder(net.region.coord_decoder, (-1,), width),
        "size_decoder": _decoder(net.region.size_decoder, (2, -1), width),
    }
    stream = io.BytesIO()
    np.save(stream, _start(net))
    members = {f"models/{name}.onnx": data for name, data in graphs.items()}
    members |= {"tokenizer.json": tokenizer().encode(), "config.json": json.dumps(_settings()).encode()}
    return moondream_bundle.packed({**members, "initial_kv_cache.npy": stream.getvalue(), "README.md": b"a toy"})


def _eye(net: Moondream) -> bytes:
    """Squares (B, 3, crop, crop) to features (B, N, C)."""
    eye = net.vision
    cutting = eye.config.cutting
    grid, patch = cutting.grid, cutting.patch
    sheet = Sheet({"input": ("float", ("B", 3, cutting.crop, cutting.crop))})
    cut = sheet.step("Reshape", "input", sheet.whole(0, 3, grid, patch, grid, patch))
    turned = sheet.step("Transpose", cut, settings={"perm": [0, 2, 4, 1, 3, 5]})
    x = sheet.linear(sheet.step("Reshape", turned, sheet.whole(0, grid * grid, -1)), eye.patch_emb)  # (B, N, C)
    x = sheet.step("Add", x, sheet.weight(eye.pos_emb.detach().numpy()))
    for block in eye.layers:
        x = sheet.step("Add", x, sheet.attended(sheet.split(sheet.norm(x, block.ln1), block.attn), block.attn))
        x = sheet.step("Add", x, sheet.feed_forward(sheet.norm(x, block.ln2), block.mlp))
    return sheet.written({"output": sheet.norm(x, eye.post_ln)})


def _projection(net: Moondream) -> bytes:
    sheet = Sheet({"input": ("float", (1, "N", 2 * net.vision.config.width))})
    return sheet.written({"output": sheet.feed_forward("input", net.vision.proj_mlp)})


def _words(net: Moondream) -> bytes:
    sheet = Sheet({"input_ids": ("int64", (1, "T"))})
    table = sheet.weight(net.text.wte.detach().numpy())
    return sheet.written({"output": sheet.step("Gather", table, "input_ids")})  # (1, T, D)


def _tongue(net: Moondream) -> bytes:
    """Rows (1, T, D) and a memory (layers, 2, 1, heads, P, D/heads)."""
    tongue = net.text
    config = tongue.config
    shape = (config.depth, 2, 1, config.heads, "P", config.width // config.heads)
    sheet = Sheet({"input_embeds": ("float", (1, "T", config.width)), "kv_cache": ("float", shape)})
    bias, turn = _order(sheet, net)
    x, fresh = "input_embeds", []
    for number, block in enumerate(tongue.layers):
        normed = sheet.norm(x, block.ln)
        q, k, v = sheet.split(normed, block.attn)
        q, k = (_turned(sheet, one, turn) for one in (q, k))
        past = sheet.step("Gather", "kv_cache", sheet.weight(np.int64(number)))  # (2, 1, heads, P, D/heads)
        olds = (sheet.step("Gather", past, sheet.weight(np.int64(i))) for i in range(2))
        keys, values = (
            sheet.step("Concat", old, new, settings={"axis": 2}) for old, new in zip(olds, (k, v), strict=True)
        )  # (1, heads, P + T, D/heads)
        both = (sheet.step("Unsqueeze", one, sheet.whole(0, 1)) for one in (k, v))
        fresh.append(sheet.step("Concat", *both, settings={"axis": 1}))  # (1, 2, 1, heads, T, D/heads)
        x = sheet.step("Add", x, sheet.attended((q, keys, values), block.attn, bias))
        x = sheet.step("Add", x, sheet.feed_forward(normed, block.mlp))
    last = sheet.step("Gather", x, sheet.weight(np.int64(-1)), settings={"axis": 1})  # (1, D)
    logits = sheet.linear(sheet.norm(last, tongue.post_ln), tongue.lm_head)  # (1, V)
    memory = sheet.step("Concat", *fresh, settings={"axis": 0})
    return sheet.written({"hidden": x, "new_kv_cache": memory, "logits": logits})


def _order(sheet: Sheet, net: Moondream) -> tuple[str, tuple[str, str]]:
    """What is added so that only what may be seen is (T, P + T), and cosines and sines of the new places (T, q)."""
    config = net.text.config
    old = sheet.step("Shape", "kv_cache", settings={"start": 4, "end": 5})  # (1,)
    new = sheet.step("Shape", "input_embeds", settings={"start": 1, "end": 2})
    every = sheet.weight(np.arange(config.context))
    zero, end = sheet.whole(0), sheet.step("Add", old, new)
    places = sheet.step("Slice", every, old, end, zero)  # (T,)
    seen = sheet.step("Slice", every, zero, end, zero)  # (P + T,)
    prefix = sheet.weight(np.int64(1 + net.vision.config.cutting.grid**2))
    rows = sheet.step("Unsqueeze", places, sheet.whole(1))  # (T, 1)
    together = sheet.step("And", sheet.step("Less", rows, prefix), sheet.step("Less", seen, prefix))  # (T, P + T)
    may = sheet.step("Or", together, sheet.step("LessOrEqual", seen, rows))
    bias = sheet.step("Where", may, sheet.weight(np.float32(0)), sheet.weight(np.float32(-1e9)))
    angles = net.text.angles(torch.arange(config.context)).numpy()  # (context, q)
    cos, sin = (sheet.step("Gather", sheet.weight(table), places) for table in (np.cos(angles), np.sin(angles)))
    return bias, (cos, sin)


def _turned(sheet: Sheet, x: str, turn: tuple[str, str]) -> str:
    """``moondream._turned`` of (1, heads, T, d)."""
    cos, sin = turn
    first, second, third, fourth = sheet.steps("Split", x, count=4, settings={"axis": -1, "num_outputs": 4})
    left = sheet.step("Sub", sheet.step("Mul", first, cos), sheet.step("Mul", second, sin))
    right = sheet.step("Add", sheet.step("Mul", first, sin), sheet.step("Mul", second, cos))
    return sheet.step("Concat", left, right, third, fourth, settings={"axis": -1})


def _encoder(count: int, frequencies: Tensor, layer: nn.Linear) -> bytes:
    """Numbers (count,) to a row (D,)."""
    sheet = Sheet({"input": ("float", (count,))})
    angles = sheet.step("MatMul", "input", sheet.weight(2 * np.pi * frequencies.detach().numpy()))  # (F,)
    waves = sheet.step("Concat", sheet.step("Cos", angles), sheet.step("Sin", angles), settings={"axis": 0})
    return sheet.written({"output": sheet.linear(waves, layer)})


def _decoder(layer: FeedForward, shape: tuple[int, ...], width: int) -> bytes:
    """A hidden state (D,) to logits of that shape."""
    sheet = Sheet({"input": ("float", (width,))})
    logits = sheet.feed_forward("input", layer)
    return sheet.written({"output": sheet.step("Reshape", logits, sheet.whole(*shape))})


def _settings() -> dict[str, Any]:
    phrases = PHRASES
    around = {"query": phrases.query, "detect": phrases.detect, "point": phrases.point}
    templates: dict[str, Any] = {
        task: {"prefix": ids[0], "suffix": ids[1]} for task, ids in around.items() if ids is not None
    }
    templates["caption"] = dict(phrases.captions)
    return {"special_tokens": {"bos": phrases.bos, "eos": phrases.eos}, "templates": templates}


def _start(net: Moondream) -> NDArray[np.float32]:
    memory = TorchMind(net, "cpu", torch.float32).begin(PHRASES.bos, None)
    found: NDArray[np.float32] = memory.used.unsqueeze(2).numpy()  # (layers, 2, 1, heads, 1, D/heads)
    return found


def _package() -> Any:
    try:
        import onnx
    except ModuleNotFoundError:
        raise MissingDependency("graphs at toy size are written with onnx: pip install onnx") from None
    return onnx
