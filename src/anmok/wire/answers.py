"""Answers <-> JSON, so that a client gets the object that the server had.

What goes out is the result's own ``to_dict``, and beside it (``is_whole``) what that leaves out for people's sake:
all labels in their order, thresholds, names of points that nobody showed. float32 values are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Embedding,
    Failure,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Piece,
    Points,
    Reply,
    Result,
    Scores,
    Tracked,
    Tracks,
)
from anmok.results.maps import unpacked
from anmok.wire.refusals import error_of, public_class, public_message

# What a malformed answer makes of the readers below, all of which only index, convert and construct.
_TRIPS = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError)


def result_to_json(result: Result, *, is_whole: bool = True) -> dict[str, Any]:
    """``to_dict``, and with ``is_whole`` all that ``result_from_json`` needs for the same object.

    A ``Scores`` that shows its best K only sends those. The message of a ``Failure`` names nothing of this machine.
    """
    if isinstance(result, Tracks) and is_whole:
        return {"frames": [result_to_json(piece) for piece in result.frames], "broken": list(result.broken)}
    content = result.to_dict()
    if isinstance(result, Failure):
        return content | {"error": public_class(result.error), "message": public_message(result.error)}
    return content | (_rest(result) if is_whole else {})


def result_from_json(task: str, content: object) -> Result:
    """The inverse of ``result_to_json``; of a bare ``to_dict`` as much as it says.

    ``track`` gives ``Tracks``, or ``Tracked`` for one frame of a stream; ``chat`` a ``Reply``, or a ``Piece`` of a
    stream. Where the server answered with a ``Failure``, that comes back. ``read_as`` is empty where every label was
    read as it is.

    Raises:
        BadRequest: it is no answer to that task.
    """
    if task not in _READERS or not isinstance(content, Mapping):
        raise BadRequest(f"this is no answer that anmok knows: {type(content).__name__} to {task[:40]!r}")
    try:
        if "error" in content:
            return Failure(str(content.get("source", "")), error_of(str(content["error"]), str(content["message"])))
        return _READERS[task](content)
    except _TRIPS as error:
        raise BadRequest(f"this is no answer to {task} ({type(error).__name__})") from None


def answers_to_json(model: str, results: Sequence[Result], *, is_whole: bool = True) -> dict[str, Any]:
    """The reply to a whole request of our own dialect: one answer per item, in their order."""
    return {"model": model, "answers": [result_to_json(result, is_whole=is_whole) for result in results]}


def answers_from_json(task: str, content: object) -> list[Result]:
    """The inverse of ``answers_to_json``.

    Raises:
        BadRequest: it is no such reply.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("answers"), list):
        raise BadRequest(f"this is no reply to {task[:40]}: want model and answers")
    return [result_from_json(task, one) for one in content["answers"]]


def _rest(result: Result) -> dict[str, Any]:
    if isinstance(result, Scores):
        order = np.argsort(-result.scores, kind="stable")[: result.top_k]
        decided = {} if result.decided is None else {"decided": result.decided}
        return {"order": order.tolist(), "threshold": result.threshold, "top_k": result.top_k} | decided
    if isinstance(result, Detections | Points | Masks):
        return {"labels": list(result.labels), "class_ids": result.class_ids.tolist()}
    if isinstance(result, Tracked):
        return _rest(result.masks) | {"seconds": result.seconds}
    if isinstance(result, Keypoints):
        edges = [list(edge) for edge in result.edges]
        return {"names": list(result.names), "edges": edges, "threshold": result.threshold}
    if isinstance(result, Reply):
        frames = [list(one) for one in result.frames]
        times = {"seconds_to_first": result.seconds_to_first, "seconds": result.seconds}
        return times | ({"frames": frames} if frames else {})
    if isinstance(result, Piece):
        return {} if result.reply is None else {"reply": result_to_json(result.reply)}
    return {"names": list(result.names)} if isinstance(result, PartMap) else {}


def _scores(content: Mapping[str, Any]) -> Scores:
    rows = content["scores"]
    order = np.asarray(content.get("order", range(len(rows))), np.int64)
    rows = [rows[i] for i in np.argsort(order, kind="stable").tolist()]
    labels, values = _texts(row["label"] for row in rows), _floats([row["score"] for row in rows])
    if content["scoring"] not in ("softmax", "sigmoid") or len(order) != len(labels) or not labels:
        raise ValueError
    top_k = content.get("top_k")
    threshold = float(content.get("threshold", 0.0))
    top_k = None if top_k is None else int(top_k)
    decided = content.get("decided")
    if decided is not None and not isinstance(decided, str):
        raise ValueError
    return Scores(labels, values, content["scoring"], threshold, top_k, _read(content, labels), decided)


def _embedding(content: Mapping[str, Any]) -> Embedding:
    if content["space"] not in ("image", "features", "text"):
        raise ValueError
    return Embedding(_floats(content["vector"]).reshape(-1), content["space"])


def _detections(content: Mapping[str, Any]) -> Detections:
    rows = content["detections"]
    labels, ids = _classes(content, rows)
    boxes = _floats([row["box"] for row in rows]).reshape(-1, 4)
    return Detections(
        boxes, _floats([row["score"] for row in rows]), ids, labels, _size(content), _read(content, labels)
    )


def _points(content: Mapping[str, Any]) -> Points:
    rows = content["points"]
    labels, ids = _classes(content, rows)
    xy = _floats([row["point"] for row in rows]).reshape(-1, 2)
    return Points(xy, _floats([row["score"] for row in rows]), ids, labels, _size(content), _read(content, labels))


def _gazes(content: Mapping[str, Any]) -> Gazes:
    people = content["people"]
    targets = [person["target"] for person in people]
    return Gazes(
        eyes=_floats([person["eye"] for person in people]).reshape(-1, 2),
        targets=_floats([(0.0, 0.0) if target is None else target for target in targets]).reshape(-1, 2),
        is_inside=np.asarray([target is not None for target in targets], np.bool_),
        scores=_floats([person["score"] for person in people]),
        faces=_floats([person["face"] for person in people if "face" in person]).reshape(-1, 4),
        size_hw=_size(content),
    )


def _masks(content: Mapping[str, Any]) -> Masks:
    return _masks_of(content, content["masks"])


def _masks_of(content: Mapping[str, Any], rows: list[Any]) -> Masks:
    labels, ids = _classes(content, rows)
    rles = tuple(Rle.from_coco(row["rle"]) for row in rows)
    return Masks(rles, _floats([row["score"] for row in rows]), ids, labels, _size(content), _read(content, labels))


def _tracks(content: Mapping[str, Any]) -> Result:
    if "frames" in content:
        return Tracks(tuple(_tracked(piece) for piece in content["frames"]), tuple(int(i) for i in content["broken"]))
    return _tracked(content)


def _tracked(content: Mapping[str, Any]) -> Tracked:
    rows = content["objects"]
    ids = np.asarray([row["id"] for row in rows], np.int64)
    return Tracked(int(content["frame"]), float(content["seconds"]), ids, _masks_of(content, rows))


def _depth(content: Mapping[str, Any]) -> DepthMap:
    maps = {key: _map(content[key]) for key in ("confidence", "points") if content.get(key) is not None}
    camera = content.get("intrinsics")
    intrinsics = None if camera is None else _floats(camera)
    return DepthMap(_map(content["depth"]), content["kind"], intrinsics=intrinsics, **maps)


def _keypoints(content: Mapping[str, Any]) -> Keypoints:
    people = content["people"]
    names = content.get("names") or [point["name"] for point in (people[0]["keypoints"] if people else [])]
    shape = (len(people), len(names))
    points = [point for person in people for point in person["keypoints"]]
    return Keypoints(
        xy=_floats([[point["x"], point["y"]] for point in points]).reshape(*shape, 2),
        scores=_floats([point["score"] for point in points]).reshape(shape),
        xyxy=_floats([person["box"] for person in people]).reshape(-1, 4),
        box_scores=_floats([person["score"] for person in people]),
        names=_texts(names),
        edges=tuple((int(start), int(end)) for start, end in content.get("edges", ())),
        size_hw=_size(content),
        threshold=float(content.get("threshold", 0.3)),
    )


def _parts(content: Mapping[str, Any]) -> PartMap:
    """Without ``names`` those of the answer, in its order."""
    names = _texts(content.get("names") or [row["part"] for row in content["parts"]])
    parts = np.full(_size(content), -1, np.int16)
    for row in content["parts"]:
        rle = Rle.from_coco(row["rle"])
        if rle.size_hw != parts.shape:
            raise ValueError
        left, top, width, height = rle.box_xywh
        parts[top : top + height, left : left + width][rle.crop()] = names.index(row["part"])
    return PartMap(parts, names)


def _said(content: Mapping[str, Any]) -> Result:
    if "piece" not in content:
        return _reply(content)
    return Piece(_text(content["piece"]), _reply(content["reply"]) if content.get("reply") is not None else None)


def _reply(content: Mapping[str, Any]) -> Reply:
    tokens_in, tokens_out, of_images = (int(content[key]) for key in ("tokens_in", "tokens_out", "image_tokens"))
    first, seconds = (float(content[key]) for key in ("seconds_to_first", "seconds"))
    frames = tuple(tuple(float(at) for at in one) for one in content.get("frames", ()))
    unknown = tuple(content.get("unknown", ()))
    text, finish, of_sounds = _text(content["text"]), content["finish"], int(content.get("sound_tokens", 0))
    return Reply(text, finish, tokens_in, tokens_out, of_images, first, seconds, frames, unknown, of_sounds)


def _anomaly(content: Mapping[str, Any]) -> AnomalyMap:
    threshold, p_value = (content.get(key) for key in ("threshold", "p_value"))
    return AnomalyMap(
        float(content["score"]),
        _map(content["map"]),
        None if threshold is None else float(threshold),
        None if p_value is None else float(p_value),
    )


def _normals(content: Mapping[str, Any]) -> NormalMap:
    return NormalMap(_map(content["normals"]))


def _matte(content: Mapping[str, Any]) -> Matte:
    return Matte(_map(content["alpha"]))


def _map(content: Mapping[str, Any]) -> NDArray[np.float32]:
    """A dense map; the shape is looked at before anything is unpacked."""
    if math.prod(int(side) for side in content["shape"]) > 3 * _MOST:
        raise ValueError
    return unpacked(dict(content))


def _classes(content: Mapping[str, Any], rows: list[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The labels and each row's number among them; of a bare ``to_dict`` those that were found."""
    if "labels" in content:
        return _texts(content["labels"]), np.asarray(content["class_ids"], np.int64).reshape(-1)
    found = [row.get("label", "") for row in rows]
    labels = _texts(content["read_as"] if content.get("read_as") else dict.fromkeys(name for name in found if name))
    return labels, np.asarray([labels.index(name) if name else -1 for name in found], np.int64)


def _read(content: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    read_as = content.get("read_as")
    return _texts(read_as[label] for label in labels) if read_as else ()


def _size(content: Mapping[str, Any]) -> tuple[int, int]:
    height, width = content["size"]
    size = int(height), int(width)
    if not 0 < size[0] * size[1] <= _MOST or min(size) < 1:
        raise ValueError
    return size


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(values: Any) -> tuple[str, ...]:
    texts = tuple(values)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return texts


def _floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


_MOST = 200_000_000  # pixels that an answer may speak of
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Result]] = {
    "chat": _said,
    "classify": _scores,
    "depth": _depth,
    "detect": _detections,
    "embed": _embedding,
    "gaze": _gazes,
    "inspect": _anomaly,
    "matte": _matte,
    "normals": _normals,
    "parse": _parts,
    "point": _points,
    "pose": _keypoints,
    "segment": _masks,
    "track": _tracks,
}
