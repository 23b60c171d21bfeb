"""What an ONNX file holds, read without onnx or onnxruntime: nodes, sizes of weights, and files that it refers to.

Only the names, shapes and links of the published schema are read; the weights' bytes are passed over. A file that is
no ONNX is refused here, and so is one that points at files outside its own folder, which not every onnxruntime does.

Source: onnx/onnx, onnx/onnx.proto (numbers of the fields) and docs/ExternalData.md; the encoding of protocol buffers.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from anmok.errors import BadWeights

Message: TypeAlias = Literal["model", "graph", "node", "attribute", "tensor", "sparse", "function", "training"]

# Which fields of a message hold which other message; a tensor may lie in any of them.
_BELOW: Mapping[Message, Mapping[int, Message]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_TENSOR_DIMS, _TENSOR_NAME, _TENSOR_EXTERNAL = 1, 8, 13
_DEEPEST = 60  # messages within messages; subgraphs of subgraphs of published models stay far below


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the graph: what it does, and the names of the tensors that it takes and makes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The main graph's nodes in their order, the names of its weights, and what is true of the whole file."""

    nodes: tuple[Node, ...]
    weights: frozenset[str]
    parameters: int  # numbers in all tensors that are stored
    external: tuple[Path, ...]  # files beside it that hold weights

    def maker(self, tensor: str) -> Node | None:
        """The node that makes a tensor; None for an input, a weight or an unknown name."""
        return next((node for node in self.nodes if tensor in node.outputs), None)


@dataclass(slots=True)
class _Found:
    nodes: list[Node] = field(default_factory=list)
    weights: set[str] = field(default_factory=set)
    parameters: int = 0
    locations: set[str] = field(default_factory=set)


def read(path: Path) -> Graph:
    """The graph of an ``.onnx`` file.

    Raises:
        BadWeights: it is no such file, or weights of it lie outside its folder, or are not there.
    """
    found = _Found()
    try:
        with path.open("rb") as file:  # the mapping closes itself once nothing points into it
            _walk(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), "model", found, 0)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped, and what _fields refuses
        raise BadWeights(f"{path} is no ONNX file ({error})") from None
    if not found.nodes:
        raise BadWeights(f"{path} is no ONNX file (there is no graph in it)")
    external = tuple(_beside(path, location) for location in sorted(found.locations))
    return Graph(tuple(found.nodes), frozenset(found.weights), found.parameters, external)


def check_alone(data: bytes, name: str) -> None:
    """That the bytes are a graph which holds all its weights itself.

    Raises:
        BadWeights: they are none, or it refers to files.
    """
    found = _Found()
    try:
        _walk(memoryview(data), "model", found, 0)
    except ValueError as error:
        raise BadWeights(f"{name} is no ONNX graph ({error})") from None
    if not found.nodes or found.locations:
        fault = "refers to files outside it" if found.locations else "holds no graph"
        raise BadWeights(f"{name} {fault}: want one with its weights inside")


def _beside(path: Path, location: str) -> Path:
    """Where external weights lie: in the folder of the graph or below it, after all links were followed."""
    folder = path.resolve().parent
    wanted = (folder / location).resolve() if "\0" not in location else folder
    if not wanted.is_relative_to(folder) or wanted == folder:
        raise BadWeights(f"{path} keeps weights at {location!r}, outside its own folder: export it with them beside it")
    if not wanted.is_file():
        raise BadWeights(f"{path} keeps weights in {location}, and that file is not there; copy it beside the graph")
    return wanted


def _walk(data: memoryview, kind: Message, found: _Found, depth: int) -> None:
    """Notes what a message holds, and goes into the messages in it."""
    if depth > _DEEPEST:
        raise ValueError("messages lie too deep within one another")
    is_main = kind == "graph" and depth == 1
    below = _BELOW[kind]
    for number, value in _fields(data):
        if number not in below or isinstance(value, int):
            continue
        if is_main and below[number] == "node":
            found.nodes.append(_node(value))
        if below[number] == "tensor":
            _note_tensor(value, found, is_main)
        else:
            _walk(value, below[number], found, depth + 1)


def _node(data: memoryview) -> Node:
    words: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_OP: []}
    for number, value in _fields(data):
        if number in words and isinstance(value, memoryview):
            words[number].append(str(value, "utf-8"))
    return Node("".join(words[_NODE_OP]), tuple(words[_NODE_INPUT]), tuple(words[_NODE_OUTPUT]))


def _note_tensor(data: memoryview, found: _Found, is_weight: bool) -> None:
    dims: list[int] = []
    for number, value in _fields(data):
        if number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == _TENSOR_NAME and is_weight and isinstance(value, memoryview):
            found.weights.add(str(value, "utf-8"))
        elif number == _TENSOR_EXTERNAL and isinstance(value, memoryview):
            entry = {key: str(text, "utf-8") for key, text in _fields(value) if isinstance(text, memoryview)}
            if entry.get(1) == "location":
                found.locations.add(entry.get(2, ""))
    found.parameters += math.prod(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and a whole number or the bytes; floats are passed over.

    Raises:
        ValueError: the bytes are no message.
    """
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield number, value
        elif kind == 2:
            size, place = _varint(data, place)
            if size > len(data) - place:
                raise ValueError("it ends in the middle")
            yield number, data[place : place + size]
            place += size
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError("its bytes are no message")


def _packed(data: memoryview) -> list[int]:
    values, place = [], 0
    while place < len(data):
        value, place = _varint(data, place)
        values.append(value)
    return values


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """A whole number of up to ten bytes, and where the next field begins."""
    value = 0
    for count, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise ValueError("it ends in the middle")
