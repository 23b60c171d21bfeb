"""Label Studio's machine-learning backend: ``/predict``, ``/setup`` and ``/health``.

The labelling interface of the project says what to look for: ``RectangleLabels`` ask for boxes, ``BrushLabels`` for
masks, of the labels in them. With a ``context`` (a smart point or rectangle that somebody just drew), the object that
it means is cut out, for the brush of the interface, or as a box where it has none. Controls with ``smart="true"`` are
what people draw such a context with, and not what is asked for. Places are in percent of the picture.
Source: github.com/HumanSignal/label-studio-ml-backend at 0009420 (label_studio_ml/api.py), labelstud.io ("Import
pre-annotated data", "Write your own ML backend"), and for brushes label-studio-converter (brush.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.inputs import Box, Item, Point, Prompted
from anmok.results import Detections, Failure, Masks, Result
from anmok.tasks import Ask, Detect, Segment
from anmok.wire import fields
from anmok.wire.intake import Intake, picture
from anmok.wire.own import Call
from anmok.wire.refusals import NotYet, WrongField

_WORD, _RLE_SIZES = 8, (3, 4, 8, 16)  # bits of a value; bits of a run's length by its class
_CONTROLS: Mapping[str, Literal["rectanglelabels", "brushlabels"]] = {
    "RectangleLabels": "rectanglelabels",
    "BrushLabels": "brushlabels",
}
_LONGEST = 200_000  # letters of an interface
_STORED = "/data/"  # how Label Studio names what lies with it


@dataclass(frozen=True, slots=True)
class Interface:
    """The part of a labelling interface that answers go to. ``key`` is where a task keeps its picture."""

    kind: Literal["rectanglelabels", "brushlabels"]
    name: str
    to_name: str
    key: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """What Label Studio says of itself. The token opens its pictures, and is not shown."""

    project: str = ""
    schema: str = ""
    hostname: str = ""
    access_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PredictCall(Call):
    """A ``Call`` with where its answers go. ``label`` is what somebody chose in the interface before drawing."""

    interface: Interface | None = None
    label: str = ""


def interface(config: object, *, is_pointed: bool = False) -> Interface:
    """The rectangle or brush control of a labelling interface (XML) that is to be filled: the first that is no smart
    tool, or, where something was pointed at, the first brush.

    Raises:
        BadRequest: no XML, a document type in it, or no such control over an image.
    """
    images, controls = _controls(config)
    if not controls:
        raise WrongField("label_config", f"want {' or '.join(_CONTROLS)} over an Image")
    plain = [one for one in controls if one.get("smart", "").lower() != "true"]
    brushes = [one for one in plain or controls if one.tag == "BrushLabels"] if is_pointed else []
    control = (brushes or plain or controls)[0]
    to_name = control.get("toName", "")
    labels = tuple(dict.fromkeys(one.get("value", "").strip() for one in control.iter("Label")))
    key = images[to_name].removeprefix("$")
    return Interface(_CONTROLS[control.tag], control.get("name", ""), to_name, key, tuple(filter(None, labels)))


def able(content: object) -> tuple[str, ...]:
    """The tasks of which a model needs one to fill this interface, best first: what ``/predict`` brings, or what
    ``/setup`` does (``schema``).

    Raises:
        BadRequest: no XML, or a document type in it.
    """
    body = fields.an_object(content, "body")
    config = body.get("label_config", body.get("schema"))
    if not config or not _controls(config)[1]:  # a project may be connected before its interface is made
        return "detect", "segment"
    is_pointed = bool(_context(body))
    face = interface(config, is_pointed=is_pointed)
    return ("segment",) if is_pointed or face.kind == "brushlabels" else ("detect", "segment")


def project(content: object) -> str:
    """Which project asks; empty where the body does not say."""
    return str(fields.an_object(content, "body").get("project") or "")[:100]


def predict_call(
    content: object, intake: Intake, hostname: str = "", tasks: Collection[str] = ("detect", "segment")
) -> PredictCall:
    """What ``/predict`` asks of a model that has these ``tasks``. Pictures are ``data:`` addresses, or addresses that
    ``intake.fetch`` opens; one that lies with Label Studio itself (``/data/...``) is looked for at ``hostname``.

    Boxes of a model that only segments are those around its masks.

    Raises:
        BadRequest: anything in the body is not as the contract has it.
    """
    body = fields.an_object(content, "body")
    context = _context(body)
    face = interface(fields.wanted(body, "label_config", ""), is_pointed=bool(context))
    rows = fields.a_list(fields.wanted(body, "tasks", ""), "tasks", intake.items)
    if not rows:
        raise WrongField("tasks", "give at least one")
    files = [_picture(row, f"tasks[{i}]", face, intake, hostname) for i, row in enumerate(rows)]
    if context:
        item, label = _pointed(files[0], context)
        return PredictCall(Segment(), (item, *files[1:]), interface=face, label=label)
    labels = face.labels or None
    is_boxes = face.kind == "rectanglelabels" and "detect" in tasks
    ask: Ask[Any, Any] = Detect(labels) if is_boxes else Segment(labels)
    return PredictCall(ask, tuple(files), interface=face)


def predictions(results: Sequence[Result], call: PredictCall, version: str) -> dict[str, Any]:
    """The answer to ``/predict``, one prediction per task. A picture that could not be read has none."""
    if call.interface is None:
        raise BadRequest("predictions: the call does not say where they go")
    rows = [prediction(result, call.interface, version, call.label) for result in results]
    return {"results": rows, "model_version": version}


def prediction(result: Result, face: Interface, version: str, label: str = "") -> dict[str, Any]:
    """One prediction; ``label`` names what has no name. Empty masks are left out.

    Raises:
        BadRequest: the result is neither boxes nor masks.
    """
    if isinstance(result, Failure):
        return {"model_version": version, "score": 0.0, "result": []}
    if not isinstance(result, Detections | Masks):
        raise BadRequest(f"Label Studio: {type(result).__name__} has no form there")
    height, width = result.size_hw
    whole = {"original_width": width, "original_height": height, "image_rotation": 0}
    places = {"from_name": face.name, "to_name": face.to_name}
    rows = _boxes(result, label) if face.kind == "rectanglelabels" else _brushes(result, label)
    return {
        "model_version": version,
        "score": float(result.scores.mean()) if len(result) else 0.0,
        "result": [{"id": f"r{i}", **whole, **places, **row} for i, row in enumerate(rows)],
    }


def setup(content: object) -> Setup:
    """What ``/setup`` brings; it is answered with ``{"model_version": ...}``."""
    body = fields.an_object(content, "body")
    given = {key: body.get(key) for key in ("project", "schema", "hostname", "access_token")}
    return Setup(**{key: fields.value_as(str, one, key) for key, one in given.items() if one is not None})


def health(model: str) -> dict[str, Any]:
    """``/health``."""
    return {"status": "UP", "model_class": model}


def train() -> NotYet:
    """What ``/train`` answers."""
    return NotYet("train", "training from Label Studio")


def _controls(config: object) -> tuple[dict[str, str], list[ElementTree.Element]]:
    """The names of the images in an interface with what they show, and the controls over them."""
    text: str = fields.value_as(str, config, "label_config")
    if len(text) > _LONGEST:
        raise WrongField("label_config", f"{len(text):,} letters; {_LONGEST:,} are the limit")
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(text)
        root = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError, AssertionError):
        raise WrongField("label_config", "is no XML") from None
    images = {one.get("name", ""): one.get("value", "") for one in root.iter("Image")}
    return images, [one for one in root.iter() if one.tag in _CONTROLS and one.get("toName") in images]


def _context(body: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody just drew; empty where nobody did."""
    context = fields.an_object(body.get("params") or {}, "params").get("context")
    return fields.an_object(context, "params.context") if context else {}


def _picture(task: object, name: str, face: Interface, intake: Intake, hostname: str) -> bytes:
    data = fields.an_object(fields.wanted(fields.an_object(task, name), "data", name), f"{name}.data")
    value, place = fields.wanted(data, face.key, f"{name}.data"), f"{name}.data.{face.key}"
    if isinstance(value, str) and value.startswith(_STORED):
        if not hostname:
            raise WrongField(place, "lies with Label Studio, and no address of it is known")
        value = hostname.rstrip("/") + value
    return picture(value, place, intake)


def _pointed(data: bytes, context: Mapping[str, Any]) -> tuple[Item, str]:
    """The picture with what was drawn in it, and the label that was chosen."""
    points: list[Point] = []
    boxes: list[Box] = []
    label = ""
    for i, one in enumerate(fields.a_list(context.get("result"), "params.context.result", 1000)):
        name = f"params.context.result[{i}]"
        row = fields.an_object(one, name)
        kind = fields.value_as(Literal["keypointlabels", "rectanglelabels"], row.get("type"), f"{name}.type")
        value = fields.an_object(row.get("value"), f"{name}.value")
        width, height = (_number(row, f"original_{side}", name) / 100 for side in ("width", "height"))
        x, y = _number(value, "x", name) * width, _number(value, "y", name) * height
        if kind == "keypointlabels":
            points.append((x, y, 1 if row.get("is_positive", 1) in (1, True) else 0))
        else:
            wide, high = _number(value, "width", name) * width, _number(value, "height", name) * height
            boxes.append((x, y, x + wide, y + high))
        chosen = fields.value_as(tuple[str, ...], value.get(kind, []), f"{name}.value.{kind}")
        label = chosen[0] if chosen else label
    return Prompted(data, tuple(points), tuple(boxes)), label


def _number(content: Mapping[str, Any], key: str, name: str) -> float:
    number: float = fields.value_as(float, fields.wanted(content, key, name), f"{name}.{key}")
    return number


def _boxes(result: Detections | Masks, label: str) -> list[dict[str, Any]]:
    height, width = result.size_hw
    percent = result.xyxy * (100 / np.asarray([width, height, width, height]))  # (N, 4)
    rows = []
    for (left, top, right, bottom), name, score in zip(
        percent.tolist(), result.names, result.scores.tolist(), strict=True
    ):
        value = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
        value["rectanglelabels"] = [name or label or "object"]
        rows.append({"type": "rectanglelabels", "score": score, "value": value})
    return rows


def _brushes(result: Detections | Masks, label: str) -> list[dict[str, Any]]:
    if isinstance(result, Detections):
        raise BadRequest("Label Studio: BrushLabels need a model that segments; this one finds boxes")
    rows = []
    for rle, name, score in zip(result.rles, result.names, result.scores.tolist(), strict=True):
        if not rle.counts:
            continue
        value = {"format": "rle", "rle": brush(rle), "brushlabels": [name or label or "object"]}
        rows.append({"type": "brushlabels", "score": score, "value": value})
    return rows


def brush(rle: Rle) -> list[int]:
    """A mask as Label Studio's bytes: the RGBA pixels (255 where the mask is) row by row, as runs.

    A stream of bits: the number of values (32 bits), the word size less one (5), four sizes of lengths less one
    (4 each); then runs, each with a bit that says whether it repeats one value or spells its values out, two bits
    for its class of length, the length less one, and the value. All our runs repeat.
    """
    flat = rle.mask().ravel()  # (H * W,), row by row
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])) * 4  # RGBA: four equal values per pixel
    values = (np.arange(lengths.size) % 2 == 1) ^ bool(flat[0])
    bits = [_bits(flat.size * 4, 32), _bits(_WORD - 1, 5), *(_bits(size - 1, 4) for size in _RLE_SIZES)]
    for length, value in zip(lengths.tolist(), values.tolist(), strict=True):
        while length:
            part = min(length, 1 << _RLE_SIZES[-1])
            kind = next(i for i, size in enumerate(_RLE_SIZES) if part <= 1 << size)
            bits += [_bits(1, 1), _bits(kind, 2), _bits(part - 1, _RLE_SIZES[kind]), _bits(255 * value, _WORD)]
            length -= part
    stream = np.concatenate(bits)
    return np.packbits(stream).tolist()


def _bits(value: int, size: int) -> NDArray[np.uint8]:
    return np.asarray([value >> shift & 1 for shift in range(size - 1, -1, -1)], np.uint8)


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser before any entity is looked at."""
        raise WrongField("label_config", "has a document type; a labelling interface needs none")
