"""Depth to points and files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import trimesh

from anmok.clouds import Cloud, cloud_of, guessed_intrinsics, save, unprojected
from anmok.errors import BadRequest
from anmok.results import DepthMap

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def flat(kind: str = "metric") -> DepthMap:
    return DepthMap(np.full((6, 8), 2.0, np.float32), kind)  # type: ignore[arg-type]


def test_the_guessed_camera_sees_what_it_says() -> None:
    camera = guessed_intrinsics((300, 400), 90.0)
    assert camera[0, 0] == pytest.approx(200.0)
    assert camera[:2, 2].tolist() == [200.0, 150.0]
    corner = unprojected(np.ones((300, 400)), camera)[0, -1]
    assert math.degrees(math.atan(corner[0])) == pytest.approx(45.0, abs=0.1)  # half a pixel inside the edge


def test_points_go_back_to_their_pixels() -> None:
    camera = np.asarray([[7.0, 0, 3.5], [0, 9.0, 2.5], [0, 0, 1]])
    depth = np.random.default_rng(1).uniform(0.5, 5, (6, 8))
    points = unprojected(depth, camera)
    seen = points @ camera.T
    seen = seen[..., :2] / seen[..., 2:]
    x, y = np.meshgrid(np.arange(8) + 0.5, np.arange(6) + 0.5)
    np.testing.assert_allclose(seen, np.stack([x, y], -1), atol=1e-5)


def test_a_cloud_keeps_colours_and_drops_what_is_unsure() -> None:
    whole = cloud_of(flat(), IMAGE)
    assert len(whole) == 48
    np.testing.assert_array_equal(whole.colours, IMAGE.reshape(-1, 3))
    assert whole.points[:, 2].tolist() == [2.0] * 48
    assert len(cloud_of(flat(), IMAGE, step=2)) == 12
    confidence = np.arange(48, dtype=np.float32).reshape(6, 8)
    sure = DepthMap(np.full((6, 8), 2.0, np.float32), "metric", confidence=confidence)
    assert len(cloud_of(sure, IMAGE, least_confidence=40)) == 8
    nowhere = DepthMap(np.zeros((6, 8), np.float32), "metric")
    assert len(cloud_of(nowhere, IMAGE)) == 0


def test_own_camera_and_points_come_first() -> None:
    camera = np.asarray([[7.0, 0, 3.5], [0, 9.0, 2.5], [0, 0, 1]], np.float32)
    estimated = DepthMap(np.full((6, 8), 2.0, np.float32), "metric", intrinsics=camera)
    np.testing.assert_allclose(cloud_of(estimated, IMAGE).points, unprojected(estimated.depth, camera).reshape(-1, 3))
    own = np.random.default_rng(2).uniform(1, 2, (6, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        cloud_of(DepthMap(own[..., 2], "disparity", points=own), IMAGE).points, own.reshape(-1, 3)
    )


@pytest.mark.parametrize(("suffix", "turn"), [(".ply", (1, 1, 1)), (".glb", (1, -1, -1))])
def test_files_hold_points_and_colours(suffix: str, turn: tuple[int, int, int], tmp_path: Path) -> None:
    cloud, path = cloud_of(flat(), IMAGE), tmp_path / f"cloud{suffix}"
    save(cloud, path)
    loaded = trimesh.load(path)
    shape = next(iter(loaded.geometry.values())) if isinstance(loaded, trimesh.Scene) else loaded
    np.testing.assert_allclose(shape.vertices, cloud.points * turn, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(shape.colors)[:, :3], cloud.colours)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_makes_no_cloud_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="relative disparity has no geometry"):
        cloud_of(flat("disparity"), IMAGE)
    with pytest.raises(BadRequest, match="picture of"):
        cloud_of(flat(), IMAGE[:5])
    with pytest.raises(BadRequest, match=r"\.ply or \.glb"):
        save(cloud_of(flat(), IMAGE), tmp_path / "cloud.xyz")
    with pytest.raises(BadRequest, match="no points"):
        save(Cloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)), tmp_path / "cloud.ply")
    with pytest.raises(BadRequest, match="fov"):
        guessed_intrinsics((3, 4), 0.5)
