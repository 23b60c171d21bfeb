"""The file in which Moondream's small models are published: graphs, tokenizer and settings behind one another.

``MOON``, one byte of version, then members: length of the name (4 bytes), the name, length of the content (8 bytes),
the content; numbers with the highest byte first. ``.mf.gz`` is the same in gzip. Nothing is written to disk.

Source: vikhyat/moondream (Apache-2.0) before ddc6d53, clients/python/moondream/moonfile.py and onnx_vl.py.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadWeights
from anmok.nets import onnx_graph
from anmok.nets.moondream_mind import Ids, Phrases

GRAPHS = (
    "vision_encoder",
    "vision_projection",
    "text_encoder",
    "text_decoder",
    "coord_encoder",
    "coord_decoder",
    "size_encoder",
    "size_decoder",
)
_OTHERS = {"tokenizer.json": 2**26, "config.json": 2**20, "initial_kv_cache.npy": 2**26}  # bytes at most
_MEMBERS = {f"{name}.onnx": 2**32 for name in GRAPHS} | _OTHERS

_MAGIC, _VERSION = b"MOON", 1
_MOST_MEMBERS = 64
_LONGEST_NAME = 255  # bytes
_MOST_BYTES = 6 * 2**30  # unpacked; the largest that was published has 2.6
_CHUNK = 2**24  # bytes that are asked for at once: a length alone reserves no memory
_LONGEST_PHRASE = 64  # tokens


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """``graphs`` are ONNX files; ``start`` (layers, 2, 1, heads, 1, D/heads) is what the first token left in the
    memory."""

    graphs: Mapping[str, bytes]
    tokenizer: str
    phrases: Phrases
    start: NDArray[np.floating[Any]]


def read(path: Path) -> Bundle:
    """Raises:
    BadWeights: it is no such file, is damaged, is larger than it may be, or lacks a part.
    """
    try:
        with closing(cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb"))) as stream:
            return opened(stream, path.name)
    except (OSError, EOFError, zlib.error) as error:
        raise BadWeights(f"{path.name} is damaged ({error}); fetch it again") from None


def opened(stream: IO[bytes], name: str) -> Bundle:
    """As ``read``, of a file that is open; ``name`` is what messages call it."""
    members: dict[str, bytes] = {}
    for member, content in _members(stream, name):
        if member in members:
            raise BadWeights(f"{name} holds {member} twice; fetch it again")
        members[member] = content
    missing = [member for member in _MEMBERS if member not in members]
    if missing:
        raise BadWeights(f"{name} lacks {missing[0]}; fetch it again")
    graphs = {graph: members.pop(f"{graph}.onnx") for graph in GRAPHS}
    for graph, data in graphs.items():
        onnx_graph.check_alone(data, f"{name}: {graph}.onnx")
    return Bundle(
        graphs,
        _text(members["tokenizer.json"], f"{name}: tokenizer.json"),
        _phrases(_text(members["config.json"], f"{name}: config.json"), f"{name}: config.json"),
        _start(members["initial_kv_cache.npy"], f"{name}: initial_kv_cache.npy"),
    )


def packed(members: Mapping[str, bytes]) -> bytes:
    """A bundle of these members, not compressed."""
    parts = [_MAGIC, bytes([_VERSION])]
    for name, content in members.items():
        encoded = name.encode()
        parts += [struct.pack("!I", len(encoded)), encoded, struct.pack("!Q", len(content)), content]
    return b"".join(parts)


def _members(stream: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Those that are known, by the last part of their names; others are passed over."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise BadWeights(f"{name} is no Moondream bundle: it does not begin with {_MAGIC.decode()}")
    version = stream.read(1)
    if version != bytes([_VERSION]):
        raise BadWeights(
            f"{name}: version {version[0] if version else 'missing'} of the format; {_VERSION} is read here"
        )
    left = _MOST_BYTES
    for number in range(_MOST_MEMBERS + 1):
        head = stream.read(4)
        if not head:
            return
        if number == _MOST_MEMBERS:
            raise BadWeights(f"{name} has more than {_MOST_MEMBERS} members")
        member = PurePosixPath(_name(stream, head, name)).name
        (size,) = struct.unpack("!Q", _exactly(stream, 8, name))
        left -= size
        if left < 0 or size > _MEMBERS.get(member, _MOST_BYTES):
            raise BadWeights(f"{name}: {member} of {size:,} bytes is larger than it may be")
        if member in _MEMBERS:
            yield member, _exactly(stream, size, name)
        else:
            _skip(stream, size, name)


def _name(stream: IO[bytes], head: bytes, name: str) -> str:
    (length,) = struct.unpack("!I", head + _exactly(stream, 4 - len(head), name))
    if not 0 < length <= _LONGEST_NAME:
        raise BadWeights(f"{name}: a member's name of {length:,} bytes; {_LONGEST_NAME} are the most")
    return _text(_exactly(stream, length, name), f"{name}: a member's name")


def _exactly(stream: IO[bytes], size: int, name: str) -> bytes:
    out = bytearray()
    while len(out) < size:
        part = stream.read(min(_CHUNK, size - len(out)))
        if not part:
            raise BadWeights(f"{name} ends in the middle; fetch it again")
        out += part
    return bytes(out)


def _skip(stream: IO[bytes], size: int, name: str) -> None:
    for start in range(0, size, _CHUNK):
        _exactly(stream, min(_CHUNK, size - start), name)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadWeights(f"{name} is no text in UTF-8") from None


def _phrases(text: str, name: str) -> Phrases:
    try:
        content = json.loads(text)
        special, templates = content["special_tokens"], content["templates"]
        # Bundles were published before their models could detect or point.
        query, detect, point = (_around(templates.get(task)) for task in ("query", "detect", "point"))
        if query is None:
            raise ValueError("no prompt for a question")
        captions = {length: _ids(ids) for length, ids in (templates.get("caption") or {}).items()}
        [eos] = _ids([special["eos"]])
        [bos] = _ids([special.get("bos", eos)])
        return Phrases(bos, eos, None, query, captions, detect, point)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadWeights(f"{name} does not say how to ask ({type(error).__name__}: {error}); fetch it again") from None


def _around(template: Any) -> tuple[Ids, Ids] | None:
    return None if template is None else (_ids(template["prefix"]), _ids(template["suffix"]))


def _ids(values: Any) -> Ids:
    ids = tuple(values)
    if len(ids) > _LONGEST_PHRASE or not all(isinstance(one, int) and 0 <= one < 2**31 for one in ids):
        raise ValueError(f"{str(ids)[:60]} are no tokens")
    return ids


def _start(data: bytes, name: str) -> NDArray[np.floating[Any]]:
    """Its shape is compared with the bytes before anything is reserved for it."""
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        rest = data[stream.tell() :]
        if dtype.kind != "f" or is_fortran or int(np.prod(shape, dtype=np.int64)) * dtype.itemsize != len(rest):
            raise ValueError("not as many numbers as it says")
        found = np.frombuffer(rest, dtype).reshape(shape)  # (layers, 2, 1, heads, 1, D/heads)
    except (ValueError, OSError) as error:
        raise BadWeights(f"{name} is damaged ({error}); fetch it again") from None
    if found.ndim != 6 or found.shape[1:3] != (2, 1) or not found.size or not np.isfinite(found).all():
        raise BadWeights(f"{name} holds {found.shape}; want keys and values (layers, 2, 1, heads, tokens, D)")
    return found
