"""Results of a batch as named tensors, for the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anmok.errors import BadRequest
from anmok.results import DepthMap, Detections, Embedding, Failure, Matte, NormalMap, PartMap, Points, Result, Scores
from anmok.wire.refusals import WrongField


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """``values`` is an array, flat or of that shape; of BYTES a list, bytes where they came as bytes and text where
    they stood in JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any

    def strings(self) -> list[str | bytes]:
        """The values of BYTES.

        Raises:
            WrongField: it is a tensor of numbers.
        """
        if self.datatype != "BYTES":
            raise WrongField(f"inputs.{self.name}", f"want BYTES, got {self.datatype}")
        return list(self.values)


# By task: name, datatype, shape; N pictures, M things in all of them, K labels, D numbers, H and W pixels.
OUTPUTS: Mapping[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "classify": (("scores", "FP32", (-1, -1)), ("labels", "BYTES", (-1,))),  # (N, K)
    "embed": (("vectors", "FP32", (-1, -1)),),  # (N, D)
    "detect": (
        ("counts", "INT64", (-1,)),  # (N,), how many of the M belong to each picture
        ("boxes", "FP32", (-1, 4)),  # (M, 4), left, top, right, bottom in pixels
        ("scores", "FP32", (-1,)),  # (M,)
        ("class_ids", "INT64", (-1,)),  # (M,), in labels
        ("labels", "BYTES", (-1,)),  # (K,)
    ),
    "point": (
        ("counts", "INT64", (-1,)),  # (N,), as above
        ("points", "FP32", (-1, 2)),  # (M, 2), x and y in pixels
        ("scores", "FP32", (-1,)),  # (M,)
        ("class_ids", "INT64", (-1,)),  # (M,), in labels
        ("labels", "BYTES", (-1,)),  # (K,)
    ),
    "depth": (("depth", "FP32", (-1, -1, -1)),),  # (N, H, W)
    "normals": (("normals", "FP32", (-1, -1, -1, 3)),),  # (N, H, W, 3)
    "parse": (("parts", "INT16", (-1, -1, -1)), ("names", "BYTES", (-1,))),  # (N, H, W)
    "matte": (("alpha", "FP32", (-1, -1, -1)),),  # (N, H, W)
}


def tensors_of(task: str, results: Sequence[Result]) -> list[Tensor]:
    """The tensors that ``OUTPUTS`` names; none of a task that it does not name.

    Raises:
        BadRequest: pictures of several sizes where one tensor holds them all, or answers of another task.
        AnmokError: what a picture failed with.
    """
    for result in results:
        if isinstance(result, Failure):
            raise result.error
    if task not in OUTPUTS:
        return []
    kind, values = _VALUES[task]
    if not results or not all(isinstance(result, kind) for result in results):
        raise BadRequest(f"{task}: these are no answers to it")
    tensors = []
    for (name, datatype, _), value in zip(OUTPUTS[task], values(results), strict=True):
        shape = (len(value),) if datatype == "BYTES" else value.shape
        tensors.append(Tensor(name, datatype, shape, value))
    return tensors


def _scores(results: Sequence[Scores]) -> list[Any]:
    return [_stacked([one.scores for one in results]), list(results[0].labels)]


def _vectors(results: Sequence[Embedding]) -> list[Any]:
    return [_stacked([one.vector for one in results])]


def _finds(results: Sequence[Detections] | Sequence[Points]) -> list[Any]:
    return [
        np.asarray([len(one) for one in results], np.int64),
        np.concatenate([one.xy if isinstance(one, Points) else one.xyxy for one in results]),
        np.concatenate([one.scores for one in results]),
        np.concatenate([one.class_ids for one in results]),
        list(results[0].labels),
    ]


def _depth(results: Sequence[DepthMap]) -> list[Any]:
    return [_stacked([one.depth for one in results])]


def _normals(results: Sequence[NormalMap]) -> list[Any]:
    return [_stacked([one.normals for one in results])]


def _parts(results: Sequence[PartMap]) -> list[Any]:
    return [_stacked([one.parts for one in results]), list(results[0].names)]


def _alpha(results: Sequence[Matte]) -> list[Any]:
    return [_stacked([one.alpha for one in results])]


def _stacked(arrays: Sequence[Any]) -> Any:
    if len({one.shape for one in arrays}) > 1:
        raise BadRequest("pictures of several sizes do not fit into one tensor: send one at a time, or ask for result")
    return np.stack(arrays)


_VALUES: Mapping[str, tuple[type[Result], Callable[[Any], list[Any]]]] = {
    "classify": (Scores, _scores),
    "embed": (Embedding, _vectors),
    "detect": (Detections, _finds),
    "point": (Points, _finds),
    "depth": (DepthMap, _depth),
    "normals": (NormalMap, _normals),
    "parse": (PartMap, _parts),
    "matte": (Matte, _alpha),
}
