"""The shape of Hugging Face's Inference API, as ``huggingface_hub.InferenceClient`` speaks it.

A request is the raw bytes of a picture (then often without a Content-Type) or JSON with ``inputs`` and
``parameters``, which for feature extraction stand beside ``inputs``. Keys that mean nothing here are let pass, as
the API does, but named in ``Call.ignored``, so that a server can say so in a header. Pictures are base64.

The API has one address per model and no word for the task in it: a model answers with its own task, unless the body
gives another one away. ``image_to_text`` and ``image_classification`` send the very same bytes, so a model's bare
address never means the former; with the task behind the address (``/models/m/image-to-text``) nothing is guessed.
What the API has no form for (tracks, joints) is answered in our own JSON.
Source: the specifications in huggingface.js (packages/tasks) and requests recorded from huggingface_hub 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import AnmokError, BadRequest
from anmok.inputs import Clip, Item, Prompted, Text
from anmok.results import DepthMap, Detections, Embedding, Failure, Keypoints, Masks, Result, Scores, Tracks
from anmok.tasks import Ask, Classify, Depth, Detect, Embed, Pose, Segment, Track
from anmok.wire import fields, refusals
from anmok.wire.answers import result_to_json
from anmok.wire.intake import Intake, binary, picture, png, sized
from anmok.wire.own import CUT, POINTED, Call, given_of
from anmok.wire.refusals import NotYet, WrongField

_TOP = 5  # labels that image classification shows where nothing is said, as transformers' pipeline does
_TEXTS = 1024  # of one request
_LATER = {
    "image-to-text": "captioning model",
    "visual-question-answering": "model that answers questions",
    "text-to-image": "image generator",
    "image-to-image": "image editor",
    "text-generation": "language model",
    "conversational": "language model",
}
_SEGMENTS = ("mask_threshold", "overlap_mask_area_threshold", "subtask")  # only image segmentation has these
_PICTURES = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "data:image/")  # how PNG, JPEG, GIF and WebP begin in base64


@dataclass(frozen=True, slots=True)
class Request:
    """A body taken apart: ``inputs`` are the bytes of a picture where they came raw, and JSON otherwise; ``rest``
    are the keys beside ``inputs`` and ``parameters``."""

    inputs: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)


def opened(body: bytes, content_type: str, intake: Intake) -> Request:
    """Raw bytes or JSON? JSON where the Content-Type says so, and where it names no image and the body starts with
    ``{``, which no picture does.

    Raises:
        BadRequest: a body that says that it is JSON and is none, or has no ``inputs``.
    """
    kind = content_type.partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (not kind.startswith("image/") and body[:64].lstrip()[:1] == b"{")
    if not is_json:
        return Request(sized(body, "body", max(intake.image_bytes, intake.clip_bytes)))
    content = fields.an_object(fields.parsed(body, limit=intake.body_bytes), "body")
    inputs = content.get("inputs", content.get("image"))
    if inputs is None:
        raise WrongField("inputs", "is missing")
    parameters = fields.an_object(content.get("parameters") or {}, "parameters")
    return Request(inputs, parameters, {key: content[key] for key in content if key not in ("inputs", "parameters")})


def pipeline(tasks: Collection[str], request: Request) -> str:
    """The API's name of what a model with these ``tasks`` of ours is asked: the address says nothing but the model.

    Raises:
        Unsupported: the API has no name for anything that the model does.
    """
    if "question" in request.rest or (isinstance(request.inputs, dict) and "question" in request.inputs):
        return "visual-question-answering"
    if "stream" in request.rest:
        return "text-generation"
    is_named = "candidate_labels" in request.parameters
    names = {
        "classify": "zero-shot-image-classification" if is_named else "image-classification",
        "detect": "zero-shot-object-detection" if is_named else "object-detection",
        "segment": "image-segmentation",
        "depth": "depth-estimation",
        "pose": "keypoint-detection",
        "embed": "feature-extraction",
    }
    if "segment" in tasks and any(key in request.parameters for key in _SEGMENTS):
        return "image-segmentation"
    if "embed" in tasks and (isinstance(request.inputs, list) or "normalize" in request.rest):
        return "feature-extraction"
    if "embed" in tasks and isinstance(request.inputs, str) and not request.parameters:
        return "feature-extraction"  # a text; of a picture the client sends the bytes where there are no parameters
    found = next((name for task, name in names.items() if task in tasks), None)
    if found is None:
        raise NotYet("Inference API", f"route for a model that does {', '.join(sorted(tasks))}")
    return found


def drawn(request: Request) -> str:
    """The API's name of what is asked by a client that wants a picture back (``Accept: image/png``)."""
    inputs = request.inputs
    is_picture = isinstance(inputs, bytes) or (isinstance(inputs, str) and inputs.startswith(_PICTURES))
    return "image-to-image" if is_picture or "prompt" in request.parameters else "text-to-image"


def call(task: str, request: Request, intake: Intake) -> Call:
    """What is asked, with ``task`` as the API names it (``object-detection``).

    Raises:
        NotYet: a task whose models come later.
        BadRequest: anything in the request is not as the API has it.
    """
    if task in _LATER:
        raise NotYet(task, _LATER[task])
    if task not in _ASKS:
        raise WrongField("task", f"unknown; want {', '.join(_ASKS)}")
    read, names = _ASKS[task]
    given = {key: value for key, value in request.parameters.items() if value is not None}
    extra = {key: value for key, value in request.rest.items() if value is not None and key != "image"}
    if task in _VECTORS:
        given, extra = given | extra, {}
    ask = read(given)
    ignored = [key for key in (*given, *extra) if key not in names]
    return Call(ask, _items(task, request.inputs, given, intake), ignored=tuple(ignored))


def answer(task: str, results: Sequence[Result], request: Request) -> Any:
    """The JSON of an answer.

    Raises:
        AnmokError: what a picture failed with.
    """
    for result in results:
        if isinstance(result, Failure):
            raise result.error
    if task in _VECTORS:
        given = {**request.parameters, **request.rest}
        return [_vector(result, given) for result in results]
    [result] = results
    for kind, written in _ANSWERS.items():
        if isinstance(result, kind):
            return written(result)
    raise BadRequest(f"{task}: the Inference API has no form for {type(result).__name__}")


def error_body(error: AnmokError, estimated_seconds: float | None = None) -> dict[str, Any]:
    """An error as the API words it; ``estimated_seconds`` is how long a model still loads."""
    content: dict[str, Any] = {"error": refusals.public_message(error), "error_type": refusals.code(error)}
    return content if estimated_seconds is None else content | {"estimated_time": estimated_seconds}


def _items(task: str, inputs: Any, given: Mapping[str, Any], intake: Intake) -> tuple[Item, ...]:
    if task == "object-tracking":
        return (_clip(inputs, given, intake),)
    if isinstance(inputs, bytes):
        return (sized(inputs, "body", intake.image_bytes),)
    if task not in _VECTORS:
        inputs = inputs.get("image", inputs) if isinstance(inputs, dict) else inputs
        data = picture(inputs, "inputs", intake)
        pointed = given_of(given, POINTED, "parameters") if task == "mask-generation" else {}
        return (Prompted(data, **pointed) if pointed else data,)
    values = [inputs] if isinstance(inputs, str) else fields.a_list(inputs, "inputs", _TEXTS)
    if not values:
        raise WrongField("inputs", "give at least one text")
    is_picture = task == "image-feature-extraction"
    items = tuple(_embedded(one, f"inputs[{i}]", intake, is_picture=is_picture) for i, one in enumerate(values))
    pictures = sum(isinstance(item, bytes) for item in items)
    if pictures > intake.items:
        raise WrongField("inputs", f"{pictures:,} pictures; {intake.items:,} are the limit")
    return items


def _clip(inputs: Any, given: Mapping[str, Any], intake: Intake) -> Clip:
    """A video's bytes, raw or as base64."""
    is_raw = isinstance(inputs, bytes)
    data = sized(inputs, "body", intake.clip_bytes) if is_raw else binary(inputs, "inputs", intake.clip_bytes)
    return Clip(data, **given_of(given, CUT, "parameters"))


def _embedded(value: object, name: str, intake: Intake, *, is_picture: bool) -> Item:
    """A text, or a picture: as a ``data:`` address, or in any form where the task says that it is one."""
    text = fields.value_as(str, value, name)
    return picture(text, name, intake) if is_picture or _is_picture(text) else Text(text)


def _is_picture(text: str) -> bool:
    return text[:11].lower() == "data:image/"


def _classify(given: Mapping[str, Any]) -> Ask[Any, Any]:
    return Classify(top_k=_number(given, "top_k", int, _TOP))


def _zero_shot(given: Mapping[str, Any]) -> Ask[Any, Any]:
    template = given.get("hypothesis_template")
    templates = None if template is None else (fields.value_as(str, template, "parameters.hypothesis_template"),)
    return Classify(_candidates(given), templates)


def _detect(given: Mapping[str, Any]) -> Ask[Any, Any]:
    return Detect(threshold=_number(given, "threshold", float))


def _detect_named(given: Mapping[str, Any]) -> Ask[Any, Any]:
    threshold, top_k = _number(given, "threshold", float), _number(given, "top_k", int)
    return Detect(_candidates(given), threshold=threshold, top_k=top_k)


def _segment(given: Mapping[str, Any]) -> Ask[Any, Any]:
    return Segment(threshold=_number(given, "threshold", float))


def _masks(given: Mapping[str, Any]) -> Ask[Any, Any]:
    return Segment(threshold=_number(given, "threshold", float), candidates=_number(given, "candidates", int, 1))


def _pose(given: Mapping[str, Any]) -> Ask[Any, Any]:
    return Pose(threshold=_number(given, "threshold", float, Pose().threshold))


def _track(given: Mapping[str, Any]) -> Ask[Any, Any]:
    labels = _candidates(given) if "candidate_labels" in given else None
    return Track(labels, threshold=_number(given, "threshold", float))


def _embed(given: Mapping[str, Any]) -> Ask[Any, Any]:
    for key, kind in (("normalize", bool), ("dimensions", int)):
        if key in given:
            fields.value_as(kind, given[key], key)
    return Embed()


def _depth(given: Mapping[str, Any]) -> Ask[Any, Any]:
    return Depth()


def _number(given: Mapping[str, Any], key: str, kind: Any, default: Any = None) -> Any:
    return fields.value_as(kind, given[key], f"parameters.{key}") if key in given else default


def _candidates(given: Mapping[str, Any]) -> tuple[str, ...]:
    """A list, or one text with commas, as transformers' pipelines take both."""
    value = fields.wanted(given, "candidate_labels", "parameters")
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",")]
    labels: tuple[str, ...] = fields.value_as(tuple[str, ...], value, "parameters.candidate_labels")
    return labels


def _scores(result: Scores) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in result.top()]


def _boxes(result: Detections) -> list[dict[str, Any]]:
    """Whole pixels, as the specification has them, and beside them the exact box."""
    rows = []
    for label, score, xyxy in zip(result.names, result.scores.tolist(), result.xyxy.tolist(), strict=True):
        box = dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(edge) for edge in xyxy), strict=True))
        rows.append({"label": label, "score": score, "box": box, "xyxy": xyxy})
    return rows


def _segments(result: Masks) -> list[dict[str, Any]]:
    """Black and white pictures of the whole size; a mask without a name is an ``object``."""
    rows = zip(result.names, result.scores.tolist(), result.rles, strict=True)
    return [
        {"label": label or "object", "score": score, "mask": png(_grey(rle.mask().astype(np.uint8) * 255))}
        for label, score, rle in rows
    ]


def _distances(result: DepthMap) -> dict[str, Any]:
    """``predicted_depth`` row by row, and ``depth`` as a picture in which near is bright."""
    near = np.round(result.nearness * 255).astype(np.uint8)
    return {"predicted_depth": result.depth.tolist(), "depth": png(_grey(near))}


def _vector(result: Result, given: Mapping[str, Any]) -> list[float]:
    if not isinstance(result, Embedding):
        raise BadRequest(f"feature-extraction: {type(result).__name__} is no vector")
    if given.get("dimensions") not in (None, result.vector.size):
        raise WrongField("dimensions", f"this model's vectors have {result.vector.size} numbers, and are not cut")
    length = float(np.linalg.norm(result.vector)) if given.get("normalize") is True else 1.0
    vector: list[float] = (result.vector / (length or 1.0)).tolist()
    return vector


def _grey(levels: NDArray[np.uint8]) -> pillow.Image:
    return pillow.fromarray(levels)


_Reader = Callable[[Mapping[str, Any]], Ask[Any, Any]]
_ASKS: Mapping[str, tuple[_Reader, tuple[str, ...]]] = {
    "image-classification": (_classify, ("top_k",)),
    "zero-shot-image-classification": (_zero_shot, ("candidate_labels", "hypothesis_template")),
    "object-detection": (_detect, ("threshold",)),
    "zero-shot-object-detection": (_detect_named, ("candidate_labels", "threshold", "top_k")),
    "image-segmentation": (_segment, ("threshold",)),
    "mask-generation": (_masks, ("threshold", "candidates", *POINTED)),
    "feature-extraction": (_embed, ("normalize", "dimensions")),
    "image-feature-extraction": (_embed, ("normalize", "dimensions")),
    "depth-estimation": (_depth, ()),
    "keypoint-detection": (_pose, ("threshold",)),
    "object-tracking": (_track, ("candidate_labels", "threshold", *CUT)),
}
_VECTORS = ("feature-extraction", "image-feature-extraction")
_ANSWERS: Mapping[type[Result], Callable[[Any], Any]] = {
    Scores: _scores,
    Detections: _boxes,
    Masks: _segments,
    DepthMap: _distances,
    Keypoints: result_to_json,
    Tracks: result_to_json,
}
