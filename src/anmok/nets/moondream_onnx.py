"""Moondream's small models: the graphs of a bundle, run by onnxruntime.

Source: vikhyat/moondream (Apache-2.0) before ddc6d53, clients/python/moondream/onnx_vl.py and preprocess.py. Two things
differ from that client on purpose. It takes the tiles of a picture one too early, so that the whole stands where the
first tile belongs and the last is never used; here each stands in its own place. And its longest memory, 2048 tokens,
is a bound here and not an amount that is always reserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadWeights
from anmok.nets import onnx_session
from anmok.nets.moondream_bundle import Bundle

Array = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]
Size = tuple[int, int]

CONTEXT = 2048
_CROP = 378
_LAYOUTS: tuple[Size, ...] = ((1, 2), (2, 1), (2, 2))  # rows and columns
_SMALL = 1.4  # crops: a picture that is smaller is not cut
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_TYPES_WHOLE = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class _Graph:
    """One graph of the bundle. Its inputs are given in the order that it names them in."""

    def __init__(self, name: str, data: bytes, inputs: tuple[str, ...], device: str) -> None:
        self.name = name
        self._net = onnx_session.opened(data, f"{name}.onnx", device)
        types = {one.name: {**_TYPES, **_TYPES_WHOLE}.get(one.type) for one in self._net.get_inputs()}
        if set(types) != set(inputs) or None in types.values():
            raise BadWeights(f"{name}.onnx takes {', '.join(types) or 'nothing'}; want {', '.join(inputs)} in numbers")
        self._types: dict[str, Any] = {one: types[one] for one in inputs}

    def __call__(self, *values: Any, wanted: tuple[str, ...] = ()) -> list[Floats]:
        feeds = {
            name: np.ascontiguousarray(value, kind)
            for (name, kind), value in zip(self._types.items(), values, strict=True)
        }
        try:
            made: list[Floats] = self._net.run(list(wanted) or None, feeds)
        except onnx_session.failures() as error:
            shapes = ", ".join(str(one.shape) for one in feeds.values())
            raise BadWeights(f"{self.name}.onnx fails on {shapes}: {onnx_session.reason(error)}") from None
        return made


class GraphMemory:
    """Keys and values of what was read, (layers, 2, 1, heads, room, D/heads), of which ``length`` are used."""

    def __init__(self, store: Floats, length: int) -> None:
        self.store = store
        self.length = length

    def copy(self, room: int) -> GraphMemory:
        *outer, _, depth = self.store.shape
        store = np.zeros((*outer, self.length + room, depth), self.store.dtype)
        store[..., : self.length, :] = self.store[..., : self.length, :]
        return GraphMemory(store, self.length)

    def add(self, fresh: Floats) -> None:
        """(layers, 2, 1, heads, T, D/heads) behind the rest."""
        stop = self.length + fresh.shape[-2]
        if stop > self.store.shape[-2]:
            self.store = self.copy(max(fresh.shape[-2], self.length // 2)).store
        self.store[..., self.length : stop, :] = fresh
        self.length = stop


class OnnxMind:
    """``moondream_mind.Mind`` on graphs. Rows are arrays (T, D).

    Args:
        bundle: what was published.
        device: ``cuda`` where this onnxruntime has it; else the CPU does the work.

    Raises:
        MissingDependency: onnxruntime is not installed.
        BadWeights: a graph cannot be opened, or takes something else than it should.
    """

    context = CONTEXT

    def __init__(self, bundle: Bundle, device: str) -> None:
        takes: Mapping[str, tuple[str, ...]] = {
            "text_encoder": ("input_ids",),
            "text_decoder": ("input_embeds", "kv_cache"),
        }
        self._graphs = {
            name: _Graph(name, data, takes.get(name, ("input",)), device) for name, data in bundle.graphs.items()
        }
        self._start = bundle.start
        self.nbytes = sum(len(data) for data in bundle.graphs.values()) + bundle.start.nbytes

    def canvas(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The tiles side by side and the whole below, as ``moondream_tiles.canvas`` has them; without overlap."""
        source = pillow.fromarray(image)
        rows, columns = layout((image.shape[0], image.shape[1]))
        whole = _square(source)
        if (rows, columns) == (1, 1):
            return whole
        out = np.zeros(((rows + 1) * _CROP, columns * _CROP, 3), np.uint8)
        out[rows * _CROP :, :_CROP] = whole
        height, width = image.shape[0] // rows, image.shape[1] // columns  # pixels that are over are left out
        for row, column in np.ndindex(rows, columns):
            left, top = column * width, row * height
            tile = _square(source.crop((left, top, left + width, top + height)))
            out[row * _CROP : (row + 1) * _CROP, column * _CROP : (column + 1) * _CROP] = tile
        return out

    def see(self, canvases: Array) -> Array:
        return np.stack([self._seen(one) for one in canvases])  # (B, N, D)

    def begin(self, bos: int, rows: Array | None) -> GraphMemory:
        """The token is in the bundle's own beginning already."""
        memory = GraphMemory(self._start, self._start.shape[-2]).copy(0 if rows is None else len(rows))
        if rows is not None:
            self._decoded(memory, rows)
        return memory

    def copied(self, memory: GraphMemory, room: int) -> GraphMemory:
        return memory.copy(room)

    def length(self, memory: GraphMemory) -> int:
        return memory.length

    def words(self, ids: Sequence[int]) -> Floats:
        rows: Floats = self._one("text_encoder", [list(ids)])[0]  # (T, D)
        return rows

    def read(self, memory: GraphMemory, rows: Floats) -> tuple[Array, Floats]:
        logits, hidden = self._decoded(memory, rows)
        width = hidden.shape[-1]
        vocabulary = np.asarray(logits, np.float32).reshape(-1, logits.shape[-1])[-1]  # (V,)
        return vocabulary, hidden.reshape(-1, width)[-1]  # (D,)

    def coordinate(self, hidden: Floats) -> float:
        logits = self._one("coord_decoder", hidden).ravel()  # (bins,)
        return int(logits.argmax()) / len(logits)

    def size(self, hidden: Floats) -> tuple[float, float]:
        """At even steps, not of the logarithm as later models have it."""
        logits = self._one("size_decoder", hidden).reshape(2, -1)  # (2, bins)
        width, height = (int(bin) / logits.shape[1] for bin in logits.argmax(1))
        return width, height

    def of_coordinate(self, value: float) -> Floats:
        return self._one("coord_encoder", [value]).reshape(1, -1)  # (1, D)

    def of_size(self, width: float, height: float) -> Floats:
        return self._one("size_encoder", [width, height]).reshape(1, -1)  # (1, D)

    def together(self, rows: Sequence[Floats]) -> Floats:
        return np.concatenate(list(rows))

    def _seen(self, canvas: Array) -> Array:
        """One canvas (3, h, w) to rows (N, D)."""
        rows, columns = max(1, canvas.shape[1] // _CROP - 1), canvas.shape[2] // _CROP
        whole = canvas[:, -_CROP:, :_CROP]  # (3, crop, crop)
        if rows * columns == 1:
            [above] = self._one("vision_encoder", whole[None])  # (N, C)
            below = above
        else:
            large = canvas[:, :-_CROP].reshape(3, rows, _CROP, columns, _CROP)
            tiles = large.transpose(1, 3, 0, 2, 4).reshape(-1, 3, _CROP, _CROP)  # (rows * columns, 3, crop, crop)
            above, *parts = self._one("vision_encoder", np.concatenate([whole[None], tiles]))  # each (N, C)
            below = _pooled(np.stack(parts), rows, columns)  # (N, C)
        joined = np.concatenate([above, below], axis=-1)[None]  # (1, N, 2 C)
        return np.asarray(self._one("vision_projection", joined)[0], np.float32)  # (N, D)

    def _decoded(self, memory: GraphMemory, rows: Floats) -> tuple[Floats, Floats]:
        past = memory.store[..., : memory.length, :]
        logits, hidden, fresh = self._graphs["text_decoder"](
            rows[None], past, wanted=("logits", "hidden", "new_kv_cache")
        )
        memory.add(fresh)
        return logits, hidden

    def _one(self, name: str, value: Any) -> Floats:
        return self._graphs[name](value)[0]


def layout(size_hw: Size) -> Size:
    """Rows and columns of tiles for a picture of that size."""
    height, width = size_hw
    if max(size_hw) < _CROP * _SMALL:
        return 1, 1
    return min(_LAYOUTS, key=lambda one: abs(one[1] / one[0] - width / height))


def _pooled(parts: Floats, rows: int, columns: int) -> Floats:
    """Maps of tiles (rows * columns, N, C), each a square, to the mean of what falls into each cell of one (N, C)."""
    side = int(parts.shape[1] ** 0.5)
    maps = parts.reshape(rows, columns, side, side, -1).transpose(0, 2, 1, 3, 4)  # (rows, side, columns, side, C)
    cells = maps.reshape(side, rows, side, columns, -1)  # the same rows, in side groups of as many as there are tiles
    return np.asarray(cells.mean((1, 3), dtype=np.float32), parts.dtype).reshape(side * side, -1)


def _square(image: pillow.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((_CROP, _CROP), pillow.Resampling.BICUBIC))
