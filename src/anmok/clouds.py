"""Depth to points in space, and points to files that other programs open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest, MissingDependency
from anmok.files import write_beside
from anmok.media import Image
from anmok.results import DepthMap

DEFAULT_FOV = 60.0  # degrees, across the longer side: a phone's main camera, where nobody knows better
SUFFIXES = (".ply", ".glb")


@dataclass(frozen=True, eq=False, slots=True)
class Cloud:
    """N points in the camera's frame as OpenCV has it (x right, y down, z forward).

    ``points`` is float32 (N, 3), in metres where the depth was, else on its relative scale; ``colours`` uint8 (N, 3).
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)


def guessed_intrinsics(size_hw: tuple[int, int], fov: float = DEFAULT_FOV) -> NDArray[np.float32]:
    """float32 (3, 3), pixels: a camera that sees ``fov`` degrees across the longer side, centred, square pixels."""
    if not 1.0 <= fov <= 179.0:
        raise BadRequest(f"fov {fov}: want degrees from 1 to 179")
    return pinhole(size_hw, max(size_hw) / 2 / math.tan(math.radians(fov) / 2))


def pinhole(size_hw: tuple[int, int], focal_px: float) -> NDArray[np.float32]:
    """float32 (3, 3), pixels: centred, with square pixels and a focal length that is known."""
    height, width = size_hw
    return np.asarray([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], np.float32)


def unprojected(depth: NDArray[np.floating], intrinsics: NDArray[np.floating]) -> NDArray[np.float32]:
    """Depth along the optical axis (H, W) and a camera (3, 3) to points (H, W, 3), OpenCV's frame.

    A pixel's ray goes through its centre, half a pixel from its corner.
    """
    height, width = depth.shape
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]  # (W,)
    y = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]  # (H,)
    points = np.empty((height, width, 3), np.float32)
    points[..., 0] = x[None, :] * depth
    points[..., 1] = y[:, None] * depth
    points[..., 2] = depth
    return points


def cloud_of(
    result: DepthMap,
    image: Image,
    intrinsics: NDArray[np.floating] | None = None,
    *,
    least_confidence: float | None = None,
    step: int = 1,
) -> Cloud:
    """The points of a depth map, in the colours of its picture (H, W, 3).

    The camera is ``intrinsics``, or the model's own estimate, or a guess of 60 degrees. Every ``step``-th pixel of
    every ``step``-th row is taken, of those at least as sure as ``least_confidence``.

    Raises:
        BadRequest: relative disparity, which has no geometry; or a picture of another size.
    """
    if result.kind == "disparity" and result.points is None:
        raise BadRequest(
            "relative disparity has no geometry (1 / x is no depth): take a metric model, such as "
            "depth-anything-v2-s-indoor"
        )
    if image.shape[:2] != result.size_hw:
        raise BadRequest(f"the depth is of a picture of {result.size_hw} (hw), not of {image.shape[:2]}")
    camera = intrinsics if intrinsics is not None else result.intrinsics
    camera = guessed_intrinsics(result.size_hw) if camera is None else camera
    points = result.points if result.points is not None else unprojected(result.depth, camera)
    keep = np.isfinite(points).all(-1) & (points[..., 2] > 0)  # (H, W)
    if least_confidence is not None and result.confidence is not None:
        keep &= result.confidence >= least_confidence
    thin = np.zeros_like(keep)
    thin[::step, ::step] = True
    keep &= thin
    return Cloud(points[keep], image[keep])


def save(cloud: Cloud, path: Path) -> None:
    """A ``.ply`` (frame as it is) or a ``.glb`` (glTF's frame: y up, z towards the viewer).

    Raises:
        BadRequest: another suffix, or no points.
        MissingDependency: trimesh is not installed.
        CannotWrite: nothing half-written is left.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadRequest(f"{path}: a cloud is written as .ply or .glb")
    if not len(cloud):
        raise BadRequest(f"{path}: no points to write")
    trimesh = _trimesh()
    is_gltf = path.suffix.lower() == ".glb"
    points = cloud.points * np.asarray((1, -1, -1), np.float32) if is_gltf else cloud.points
    shape = trimesh.PointCloud(points, colors=cloud.colours)
    data = trimesh.Scene([shape]).export(file_type="glb") if is_gltf else shape.export(file_type="ply")
    with write_beside(path) as beside:
        beside.write_bytes(data)


def _trimesh() -> Any:
    try:
        import trimesh
    except ModuleNotFoundError:
        raise MissingDependency("clouds are written by trimesh: pip install 'anmok[spatial]'") from None
    return trimesh
