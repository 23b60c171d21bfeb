"""The Open Inference Protocol, version 2, as Triton and KServe speak it: tensors as JSON or as bytes behind it.

Inputs are ``image`` (BYTES: files, base64 where they stand in JSON; or UINT8 pixels (N, H, W, 3), RGB) or ``text``
(BYTES), and ``labels`` (BYTES) beside them. The other fields of the ask are ``parameters``, or one parameter ``ask``
with their JSON; ``task`` says which task where a model has several, and is else the first, or with labels the first
that reads them. Every task can give ``result``, its answer in our
own JSON; most have tensors of their own.
Source: github.com/kserve/open-inference-protocol (inference_rest.md), and Triton's binary tensor extension
(triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import AnmokError
from anmok.inputs import Item, Text
from anmok.media import max_pixels
from anmok.wire import fields, refusals
from anmok.wire.answers import result_to_json
from anmok.wire.intake import Intake, picture, sized
from anmok.wire.own import Call, ask_from_json
from anmok.wire.refusals import WrongField
from anmok.wire.tensors import OUTPUTS, Tensor, tensors_of

_NUMPY = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_KINDS = {"?": "b", "u": "iu", "i": "iu", "f": "iuf"}  # what a JSON number may be, by what is wanted
_TENSORS, _RESULT = 16, "result"
_LABELLED = ("classify", "detect", "point", "segment")  # tasks whose pictures may come with labels
_RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")


@dataclass(frozen=True, slots=True)
class Request:
    """A body taken apart. ``outputs`` are the names that were asked for, all where there are none, each with
    whether it goes as bytes."""

    id: str
    tensors: Mapping[str, Tensor]
    parameters: Mapping[str, Any]
    outputs: Mapping[str, bool]
    is_binary: bool


def opened(body: bytes, header_length: str | None, intake: Intake) -> Request:
    """A body whose JSON ends after ``header_length`` bytes (the header ``Inference-Header-Content-Length``), or
    is all JSON.

    Raises:
        BadRequest: anything in it is not as the protocol has it.
    """
    if header_length is not None and not (header_length.isascii() and header_length.isdecimal()):
        raise WrongField("Inference-Header-Content-Length", "want a number of bytes")
    end = len(body) if header_length is None else int(header_length[:20])
    if end > len(body) or len(body) > intake.body_bytes:
        raise WrongField("body", f"{len(body):,} bytes; want at least {end:,}, at most {intake.body_bytes:,}")
    content = fields.an_object(fields.parsed(body[:end], limit=intake.body_bytes), "body")
    fields.known(content, ("id", "parameters", "inputs", "outputs"), "body")
    parameters = fields.an_object(content.get("parameters", {}), "parameters")
    tensors: dict[str, Tensor] = {}
    for i, value in enumerate(fields.a_list(fields.wanted(content, "inputs", ""), "inputs", _TENSORS)):
        tensor, end = _tensor(fields.an_object(value, f"inputs[{i}]"), f"inputs[{i}]", body, end)
        if tensor.name in tensors:
            raise WrongField(f"inputs[{i}].name", "given twice")
        tensors[tensor.name] = tensor
    if end != len(body):
        raise WrongField("body", f"{len(body) - end:,} bytes that belong to no input")
    is_binary = fields.value_as(bool, parameters.get("binary_data_output", False), "parameters.binary_data_output")
    outputs = _wanted_outputs(content.get("outputs", []), is_binary=is_binary)
    name = fields.value_as(str, content.get("id", ""), "id")
    return Request(name, tensors, parameters, outputs, is_binary)


def call(tasks: Sequence[str], request: Request, intake: Intake) -> Call:
    """What a model with these ``tasks`` is asked.

    Raises:
        BadRequest: an input or a parameter that means nothing here.
    """
    given = {key: value for key, value in request.parameters.items() if key not in _RESERVED}
    task = fields.value_as(str, given.pop("task", _task(tasks, request)), "parameters.task")
    if task not in tasks:
        raise WrongField("parameters.task", f"want {' or '.join(tasks)}")
    fields.known(request.tensors, ("image", "text", "labels"), "inputs")
    whole = given.pop("ask", None)
    if whole is not None:
        text = fields.value_as(str, whole, "parameters.ask")
        given |= fields.an_object(fields.parsed(text.encode(), limit=intake.body_bytes), "parameters.ask")
    if "labels" in request.tensors:
        given["labels"] = [_text(one, "inputs.labels") for one in request.tensors["labels"].strings()]
    items = _items(request.tensors, intake)
    ignored = tuple(key for key in request.parameters if key in _RESERVED and key != "binary_data_output")
    return Call(ask_from_json(task, given), items, ignored=ignored)


def _task(tasks: Sequence[str], request: Request) -> str:
    """The first task, or where labels are given the first that reads labels."""
    reading = [task for task in tasks if task in _LABELLED] if "labels" in request.tensors else []
    return (*reading, *tasks)[0]


def answer(request: Request, model: str, task: str, results: Sequence[Any]) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where tensors follow as bytes (the same header).

    Raises:
        BadRequest: an output that the task does not have, or pictures of several sizes in one tensor.
        AnmokError: what a picture failed with.
    """
    names = tuple(request.outputs) or tuple(name for name, _, _ in OUTPUTS.get(task, ())) or (_RESULT,)
    made = {} if names == (_RESULT,) else {tensor.name: tensor for tensor in tensors_of(task, results)}
    if _RESULT in names:
        texts = [json.dumps(result_to_json(one), ensure_ascii=False).encode() for one in results]
        made[_RESULT] = Tensor(_RESULT, "BYTES", (len(texts),), texts)
    rows, tail, is_any = [], [], False
    for name in names:
        if name not in made:
            raise WrongField("outputs", f"unknown output {name[:40]!r}; {task} has {', '.join((*made, _RESULT))}")
        is_binary = request.outputs.get(name, request.is_binary)
        row, data = _written(made[name], is_binary=is_binary)
        is_any |= is_binary
        rows.append(row)
        tail.append(data)
    content = {"model_name": model, "id": request.id, "outputs": rows}
    head = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return head + b"".join(tail), len(head) if is_any else None


def server_metadata(version: str) -> dict[str, Any]:
    """``/v2``."""
    return {"name": "anmok", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(name: str, tasks: Sequence[str], version: str = "1") -> dict[str, Any]:
    """``/v2/models/<name>``: the inputs of all its tasks, and the outputs of the first."""
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    inputs += [{"name": "text", "datatype": "BYTES", "shape": [-1]}] if "embed" in tasks else []
    inputs += [{"name": "labels", "datatype": "BYTES", "shape": [-1]}] if {*_LABELLED} & {*tasks} else []
    outputs = OUTPUTS.get(tasks[0], ()) if tasks else ()
    rows = [{"name": one, "datatype": kind, "shape": list(shape)} for one, kind, shape in outputs]
    rows.append({"name": _RESULT, "datatype": "BYTES", "shape": [-1]})
    return {"name": name, "versions": [version], "platform": "anmok", "inputs": inputs, "outputs": rows}


def live(*, is_live: bool) -> dict[str, Any]:
    """``/v2/health/live``."""
    return {"live": is_live}


def ready(*, is_ready: bool, model: str = "") -> dict[str, Any]:
    """``/v2/health/ready``, or ``/v2/models/<model>/ready``."""
    return {"name": model, "ready": is_ready} if model else {"ready": is_ready}


def error_body(error: AnmokError) -> dict[str, Any]:
    """An error as the protocol has it."""
    return {"error": refusals.public_message(error)}


def _wanted_outputs(value: object, *, is_binary: bool) -> dict[str, bool]:
    outputs = {}
    for i, one in enumerate(fields.a_list(value, "outputs", _TENSORS)):
        name = f"outputs[{i}]"
        row = fields.an_object(one, name)
        fields.known(row, ("name", "parameters"), name)
        parameters = fields.an_object(row.get("parameters", {}), f"{name}.parameters")
        fields.known(parameters, ("binary_data",), f"{name}.parameters")
        wish = fields.value_as(bool, parameters.get("binary_data", is_binary), f"{name}.parameters.binary_data")
        outputs[fields.value_as(str, fields.wanted(row, "name", name), f"{name}.name")] = wish
    return outputs


def _tensor(row: dict[str, Any], name: str, body: bytes, start: int) -> tuple[Tensor, int]:
    """One input, and where the bytes of the next begin."""
    fields.known(row, ("name", "shape", "datatype", "parameters", "data"), name)
    called = fields.value_as(str, fields.wanted(row, "name", name), f"{name}.name")
    shape = fields.value_as(tuple[int, ...], fields.wanted(row, "shape", name), f"{name}.shape")
    kind = fields.value_as(str, fields.wanted(row, "datatype", name), f"{name}.datatype")
    parameters = fields.an_object(row.get("parameters", {}), f"{name}.parameters")
    fields.known(parameters, ("binary_data_size", "content_type"), f"{name}.parameters")
    if kind != "BYTES" and kind not in _NUMPY:
        raise WrongField(f"{name}.datatype", f"want BYTES, {', '.join(_NUMPY)}")
    if min(shape, default=0) < 0:
        raise WrongField(f"{name}.shape", "want numbers from 0")
    size = parameters.get("binary_data_size")
    if size is None:
        values, end = _from_json(kind, fields.wanted(row, "data", name), f"{name}.data"), start
    else:
        end = start + fields.value_as(int, size, f"{name}.parameters.binary_data_size")
        if not start <= end <= len(body) or "data" in row:
            raise WrongField(f"{name}.parameters.binary_data_size", "these bytes are not in the body, or data is too")
        values = _from_bytes(kind, body[start:end], name)
    if math.prod(shape) != len(values):
        raise WrongField(f"{name}.shape", f"{list(shape)[:8]} does not hold {len(values):,} values")
    return Tensor(called, kind, shape, values), end


def _from_json(kind: str, value: object, name: str) -> Any:
    """Flat or nested lists to a flat array, or a list of texts."""
    if not isinstance(value, list):
        raise WrongField(name, f"want a list, got {fields.kind_of(value)}")
    if kind == "BYTES":
        while value and isinstance(value[0], list):
            value = [one for row in value for one in (row if isinstance(row, list) else [row])]
        return [fields.value_as(str, one, name) for one in value]
    wanted = np.dtype(_NUMPY[kind])
    try:
        found = np.asarray(value).ravel()
        is_right = not found.size or found.dtype.kind in _KINDS[wanted.kind if wanted.kind != "b" else "?"]
        with np.errstate(over="ignore"):
            array = found.astype(wanted) if is_right else found
    except (ValueError, TypeError, OverflowError):  # rows of several lengths, or too deep
        is_right = False
    if not is_right or (wanted.kind in "iu" and not np.array_equal(array, found)):
        raise WrongField(name, f"want values of {kind}, in rows of equal length")
    return array


def _from_bytes(kind: str, data: bytes, name: str) -> Any:
    """Little-endian values, or texts each behind its length in four bytes."""
    if kind != "BYTES":
        dtype = np.dtype(_NUMPY[kind])
        if len(data) % dtype.itemsize or (kind == "BOOL" and data.strip(b"\0\1")):
            raise WrongField(name, f"{len(data):,} bytes are no values of {kind}")
        return np.frombuffer(data, dtype)
    values, start = [], 0
    while start < len(data):
        end = start + 4 + (struct.unpack_from("<I", data, start)[0] if start + 4 <= len(data) else len(data))
        if end > len(data):
            raise WrongField(name, "a text is longer than the bytes that are there")
        values.append(data[start + 4 : end])
        start = end
    return values


def _items(tensors: Mapping[str, Tensor], intake: Intake) -> tuple[Item, ...]:
    if ("image" in tensors) is ("text" in tensors):
        raise WrongField("inputs", "want image or text")
    if "text" in tensors:
        items: list[Item] = [Text(_text(one, "inputs.text")) for one in tensors["text"].strings()]
    elif tensors["image"].datatype == "BYTES":
        items = [_file(one, intake) for one in tensors["image"].strings()]
    else:
        items = [*_pixels(tensors["image"])]
    if not 0 < len(items) <= intake.items:
        raise WrongField("inputs", f"{len(items):,} items; want 1 to {intake.items:,}")
    return tuple(items)


def _file(value: str | bytes, intake: Intake) -> bytes:
    if isinstance(value, str):
        return picture(value, "inputs.image", intake)
    return sized(value, "inputs.image", intake.image_bytes)


def _pixels(tensor: Tensor) -> NDArray[np.uint8]:
    """uint8 (N, H, W, 3)."""
    shape = tensor.shape if len(tensor.shape) == 4 else (1, *tensor.shape)
    if tensor.datatype != "UINT8" or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise WrongField("inputs.image", "want files as BYTES, or RGB pixels as UINT8 [N, H, W, 3]")
    if shape[1] * shape[2] > max_pixels():
        raise WrongField("inputs.image", f"{shape[2]} x {shape[1]} is over the limit of {max_pixels():,} pixels")
    return np.asarray(tensor.values, np.uint8).reshape(shape)


def _text(value: str | bytes, name: str) -> str:
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        raise WrongField(name, "not UTF-8") from None


def _written(tensor: Tensor, *, is_binary: bool) -> tuple[dict[str, Any], bytes]:
    """The JSON of an output, and its bytes where it goes as bytes."""
    row: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if not is_binary:
        values = tensor.values
        if tensor.datatype == "BYTES":
            return row | {"data": [_text(one, tensor.name) for one in tensor.strings()]}, b""
        return row | {"data": np.asarray(values).ravel().tolist()}, b""
    if tensor.datatype == "BYTES":
        texts = [one.encode() if isinstance(one, str) else one for one in tensor.strings()]
        data = b"".join(struct.pack("<I", len(one)) + one for one in texts)
    else:
        data = np.ascontiguousarray(tensor.values, _NUMPY[tensor.datatype]).tobytes()
    return row | {"parameters": {"binary_data_size": len(data)}}, data
