"""A value for every pixel of the caller's picture: depth, normals, parts, opacity."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.results.basic import Result, frozen

_SAMPLE = 65_536  # pixels that fix the range of what is looked at

Kind = Literal["disparity", "depth", "metric"]


@dataclass(frozen=True, eq=False, slots=True)
class DepthMap(Result):
    """How far everything is.

    ``depth`` is float32 (H, W). ``kind`` says what its numbers are: ``disparity``, relative and larger when nearer,
    of unknown scale and shift (1 / x is no depth); ``depth``, relative and larger when farther, of unknown scale;
    ``metric``, metres along the optical axis. ``confidence`` is float32 (H, W) on the model's own scale, larger when
    surer. ``intrinsics`` is float32 (3, 3), pixels of the caller's picture, where the model estimated the camera.
    ``points`` is float32 (H, W, 3), camera frame of OpenCV (x right, y down, z forward), where the model gives it.
    """

    depth: NDArray[np.float32]
    kind: Kind
    confidence: NDArray[np.float32] | None = None
    intrinsics: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("disparity", "depth", "metric"):
            raise BadRequest(f"DepthMap.kind {self.kind!r}: want disparity, depth or metric")
        if self.depth.ndim != 2:
            raise BadRequest(f"DepthMap.depth: want (H, W), got {self.depth.shape}")
        size = (int(self.depth.shape[0]), int(self.depth.shape[1]))
        wanted = {"depth": size, "confidence": size, "intrinsics": (3, 3), "points": (*size, 3)}
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is not None:
                object.__setattr__(self, name, frozen(array, shape, f"DepthMap.{name}"))

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.depth.shape[0], self.depth.shape[1]

    @property
    def unit(self) -> Literal["m", "relative"]:
        return "m" if self.kind == "metric" else "relative"

    @property
    def nearness(self) -> NDArray[np.float32]:
        """float32 (H, W) from 0 (farthest) to 1 (nearest), for looking at; a flat map is 0.5 everywhere."""
        near = self.depth if self.kind == "disparity" else 1.0 / np.maximum(self.depth, 1e-6)
        step = max(1, round((near.size / _SAMPLE) ** 0.5))
        low, high = np.percentile(near[::step, ::step], [1, 99])  # a few stray pixels must not take the whole range
        if high - low < 1e-12:
            return np.full(self.size_hw, 0.5, np.float32)
        return np.asarray(np.clip((near - low) / (high - low), 0, 1), np.float32)

    def facts(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "size": list(self.size_hw),
            "kind": self.kind,
            "unit": self.unit,
            "nearest": float(self.depth.max() if self.kind == "disparity" else self.depth.min()),
            "farthest": float(self.depth.min() if self.kind == "disparity" else self.depth.max()),
        }
        if self.intrinsics is not None:
            answer["intrinsics"] = self.intrinsics.tolist()
        return answer

    def to_dict(self) -> dict[str, Any]:
        answer = self.facts() | {"depth": packed(self.depth)}
        if self.confidence is not None:
            answer["confidence"] = packed(self.confidence)
        if self.points is not None:
            answer["points"] = packed(self.points)
        return answer


@dataclass(frozen=True, eq=False, slots=True)
class NormalMap(Result):
    """Which way every surface faces: unit vectors float32 (H, W, 3), x right, y up, z towards the camera.

    A wall seen from straight ahead is (0, 0, 1). Where the model gave no direction, all three are 0.
    """

    normals: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.normals.ndim != 3:
            raise BadRequest(f"NormalMap.normals: want (H, W, 3), got {self.normals.shape}")
        height, width = self.normals.shape[:2]
        object.__setattr__(self, "normals", frozen(self.normals, (height, width, 3), "NormalMap.normals"))
        x, y, z = np.moveaxis(self.normals, -1, 0)  # (H, W) each: numpy's norm is slow along an axis of three
        lengths = np.sqrt(x * x + y * y + z * z)  # (H, W)
        if not np.all((lengths < 1e-3) | (np.abs(lengths - 1) < 1e-3)):
            raise BadRequest("NormalMap.normals: want vectors of length 1, or 0 where there is none")

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.normals.shape[0], self.normals.shape[1]

    def facts(self) -> dict[str, Any]:
        return {"size": list(self.size_hw), "axes": "x right, y up, z near"}

    def to_dict(self) -> dict[str, Any]:
        return self.facts() | {"normals": packed(self.normals)}


@dataclass(frozen=True, eq=False, slots=True)
class PartMap(Result):
    """Which part every pixel belongs to: ``parts`` is int16 (H, W), counting in ``names``; 0 is what is no part."""

    parts: NDArray[np.int16]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        given = self.parts  # looked at before it is cut down to 16 bits
        if given.ndim != 2 or not given.size or given.min() < 0 or given.max() >= len(self.names):
            raise BadRequest(f"PartMap.parts: want (H, W) with numbers from 0 to {len(self.names) - 1}")
        parts = np.array(given, dtype=np.int16)
        parts.flags.writeable = False
        object.__setattr__(self, "parts", parts)

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.parts.shape[0], self.parts.shape[1]

    def share(self, name: str) -> float:
        """Of the picture's pixels, how many belong to that part."""
        return float(np.mean(self.parts == self.names.index(name)))

    def to_dict(self) -> dict[str, Any]:
        found = []
        for index in np.unique(self.parts).tolist():
            rle = Rle.of(self.parts == index)
            found.append({"part": self.names[index], "area": rle.area, "box": list(rle.xyxy), "rle": rle.to_coco()})
        return {"size": list(self.size_hw), "parts": found}


@dataclass(frozen=True, eq=False, slots=True)
class Matte(Result):
    """What stands in front: ``alpha`` is float32 (H, W), 1 where the picture is all foreground, 0 where none."""

    alpha: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.alpha.ndim != 2:
            raise BadRequest(f"Matte.alpha: want (H, W), got {self.alpha.shape}")
        height, width = self.alpha.shape
        object.__setattr__(self, "alpha", frozen(self.alpha, (height, width), "Matte.alpha"))
        if self.alpha.min() < 0 or self.alpha.max() > 1:
            raise BadRequest("Matte.alpha: want values from 0 to 1")

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.alpha.shape[0], self.alpha.shape[1]

    def facts(self) -> dict[str, Any]:
        return {"size": list(self.size_hw)}

    def to_dict(self) -> dict[str, Any]:
        return self.facts() | {"alpha": packed(self.alpha)}


def packed(array: NDArray[np.float32]) -> dict[str, Any]:
    """A dense map as plain JSON values: base64 of the zlib stream of its little-endian float32 values."""
    data = zlib.compress(np.ascontiguousarray(array, "<f4").tobytes(), 1)
    return {"dtype": "float32", "shape": list(array.shape), "zlib": base64.b64encode(data).decode("ascii")}


def unpacked(content: dict[str, Any]) -> NDArray[np.float32]:
    """The inverse of ``packed``.

    Raises:
        BadRequest: it is no such map, or the bytes do not fill the shape.
    """
    try:
        shape = tuple(int(side) for side in content["shape"])
        size = 4 * math.prod(shape)
        reader = zlib.decompressobj()
        data = reader.decompress(base64.b64decode(content["zlib"]), max(size, 0) + 1)  # no more than the shape holds
    except (KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
        raise BadRequest(f"map: not a shape with packed values ({error})") from None
    if len(data) != size or min(shape, default=1) < 1:
        raise BadRequest(f"map: the bytes do not fill an array of shape {shape}")
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
