"""The nets of Depth Anything 3 against what the reference answered on the same drawn weights and images.

The reference needs packages that this project does not: its answers are recorded, with its commit, by
``tests/golden/record_depth_anything3.py``.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from anmok.errors import BadRequest, BadWeights
from anmok.geometry import Pixels
from anmok.inputs import Encoded
from anmok.models.depth_anything3 import DepthAnything3, resampled, view
from anmok.nets import camera_tokens, dino_views, dual_dpt
from anmok.nets.camera_tokens import Cameras
from anmok.nets.depth_anything3 import (
    PUBLISHED,
    TINY,
    AnyView,
    AnyViewConfig,
    OneView,
    OneViewConfig,
    fill,
    rename,
    with_far_sky,
)
from anmok.nets.dual_dpt import Mono
from anmok.tasks import Depth, Setup, TextRules
from golden import record_depth_anything3 as record
from golden.record_depth_anything3 import BACKBONES, CASES, Answer, Array, Case

ANSWERS, SIZES = record.recorded()
# Float32 sums in another order, through eight layers and a head: 1.1e-6 was the largest difference seen.
TOLERANCE = 1e-5  # of the answer's largest value
PIXELS = Pixels(504, "short", "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), longest=504)


def config(backbone: str) -> AnyViewConfig | OneViewConfig:
    """The recorded net in our words."""
    facts = BACKBONES[backbone]
    starts = None if facts["starts"] == -1 else facts["starts"]
    body = dino_views.Config(
        width=record.WIDTH,
        hidden=88 if facts["ffn_layer"] == "swiglu" else 4 * record.WIDTH,  # 2/3 of 4 x 32, to the next 8
        depth=record.DEPTH,
        heads=record.HEADS,
        grid=record.GRID,
        is_gated=facts["ffn_layer"] == "swiglu",
        taps=tuple(facts["out_layers"]),
        meets_from=starts,
    )
    head = dual_dpt.Config(inputs=body.tap_width, levels=record.LEVELS, width=record.FUSED)
    if starts is None:
        return OneViewConfig(body, head)
    return AnyViewConfig(body, head, camera_tokens.Config(record.WIDTH, 4, record.CAMERA_HEADS, body.tap_width))


@functools.cache
def net(backbone: str) -> nn.Module:
    """With the drawn weights, from a state with the names of a published file."""
    wanted = config(backbone)
    ours = AnyView(wanted) if isinstance(wanted, AnyViewConfig) else OneView(wanted)
    fill(ours, published(ours), "drawn")
    return nn.Module.eval(ours)


def published(ours: nn.Module) -> dict[str, Tensor]:
    """Drawn weights as the hub's files hold them: prefixed, unread levels included, a shared norm once."""
    shapes = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    state = {f"model.{name}": torch.from_numpy(value) for name, value in record.drawn(everywhere(shapes)).items()}
    return {
        name: tensor
        for name, tensor in state.items()
        if not any(f"output_conv2_aux.{level}.2." in name for level in "123")
    }


def everywhere(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """With the three levels of the ray branch that the reference has and never reads."""
    unread = {
        name.replace("_aux.3.", f"_aux.{level}."): shape
        for name, shape in shapes.items()
        for level in "012"
        if "_aux.3." in name
    }
    return shapes | unread


def answered(case: Case) -> dict[str, Tensor]:
    """Our answer in the reference's words."""
    images = torch.from_numpy(record.images(case))
    with torch.inference_mode():
        if case.backbone == "alone":
            maps = net(case.backbone)(images[:, 0])
            far = with_far_sky(maps)
            parts = {"head depth": maps.depth, "head sky": maps.sky, "depth": far, "sky": maps.sky}
            return {name: value[:, None] for name, value in parts.items()}
        known = Cameras(*(torch.from_numpy(part) for part in record.cameras(case))) if case.has_cameras else None
        scene = net(case.backbone)(images, known, needs_rays=True)
    return {
        "depth": scene.depth,
        "depth_conf": scene.confidence,
        "head depth": scene.depth,
        "head depth_conf": scene.confidence,
        "head ray": scene.rays.rays,
        "head ray_conf": scene.rays.confidence,
        "extrinsics": scene.cameras.extrinsics,
        "intrinsics": scene.cameras.intrinsics,
    }


def difference(got: Array, wanted: Answer) -> float:
    """The largest, as a share of the largest value."""
    assert got.shape == wanted.shape
    return float(np.abs(record.kept(got) - wanted.values).max() / wanted.largest)


@pytest.mark.parametrize("name", list(CASES))
def test_answers_equal_the_reference(name: str) -> None:
    parts = answered(CASES[name])
    wanted = {key.partition(": ")[2]: answer for key, answer in ANSWERS.items() if key.partition(": ")[0] == name}
    assert parts.keys() == wanted.keys()
    found = {part: difference(value.numpy(), wanted[part]) for part, value in parts.items()}
    assert max(found.values()) < TOLERANCE, found


def test_the_cases_tell_apart_what_they_should() -> None:
    """Views answer differently, fields of view are real, and references are not always the first view."""
    parts = answered(CASES["three views"])
    assert parts["extrinsics"][0].std(0).max() > 0.1
    assert parts["intrinsics"][..., 0, 0].min() > 20  # of 42 pixels: no field of view is 0
    assert parts["depth"][0].std(0).max() > 0.1
    far = answered(CASES["alone"])
    assert 0.01 < (far["depth"] != far["head depth"]).float().mean() < 0.5  # some sky was moved


def test_the_reference_view_matters_and_order_does_not() -> None:
    """The same views in another order give the same depth: each is what it was, wherever it stood."""
    case = CASES["three views"]
    images = torch.from_numpy(record.images(case))
    with torch.inference_mode():
        plain = net("plain")(images, None, needs_rays=False)
        turned = net("plain")(images[:, [2, 0, 1]], None, needs_rays=False)
        alone = net("plain")(images[:, :1], None, needs_rays=False)
    difference = (turned.depth[:, [1, 2, 0]] - plain.depth).abs().max() / plain.depth.max()
    assert difference < 1e-5  # sums in another order
    assert (alone.depth - plain.depth[:, :1]).abs().max() / plain.depth.max() > 1e-3


@pytest.mark.parametrize("kind", list(PUBLISHED))
def test_names_shapes_and_epsilons_are_those_of_the_reference(kind: str) -> None:
    wanted = PUBLISHED[kind]
    with torch.device("meta"):  # sizes without numbers
        ours = AnyView(wanted) if isinstance(wanted, AnyViewConfig) else OneView(wanted)
    shapes = everywhere({name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()})
    names = record.digest([f"{name} {shape}" for name, shape in shapes.items()])
    assert (len(shapes), names, record.epsilons(ours)) == SIZES[kind]


def test_a_file_without_the_prefix_and_with_every_norm_loads_too() -> None:
    state = {name.removeprefix("model."): tensor for name, tensor in published(net("plain")).items()}
    first = "head.scratch.output_conv2_aux.0.2.weight"
    assert rename(state).keys() == net("plain").state_dict().keys()
    repeated = state | {first.replace("0.2", f"{level}.2"): state[first] for level in "123"}
    repeated |= {"gs_head.norm.weight": torch.zeros(1), "gs_adapter.scale": torch.zeros(1)}
    assert rename(repeated).keys() == rename(state).keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.head.norm.weight": torch.zeros(3)}, "size mismatch for head.norm.weight"),
        ({"model.head.extra": torch.zeros(3)}, 'Unexpected key.* "head.extra"'),
        ({"model.head.norm.weight": None}, 'Missing key.* "head.norm.weight"'),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: dict[str, Tensor | None], said: str) -> None:
    state = {**published(net("plain")), **change}
    whole = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(BadWeights, match=f"drawn: .*{said}"):
        fill(AnyView(config("plain")), whole, "drawn")


def test_sides_of_part_of_a_patch_are_refused() -> None:
    with pytest.raises(BadRequest, match="an image of 28 x 30 pixels: this net reads sides of whole 14s"):
        net("alone")(torch.zeros(1, 3, 28, 30))


def test_the_reference_view_is_the_least_extreme() -> None:
    """By hand: of the three lengths 1, 2 and 3 of one direction the middle one is in the middle of every respect."""
    tokens = torch.tensor([[3.0, 4.0], [6.0, 8.0], [9.0, 12.0]])[None] / 5  # (1, 3, 2)
    order, back = dino_views.reference_first(tokens.expand(2, -1, -1))
    assert order.tolist() == [[1, 0, 2]] * 2
    assert torch.gather(order, 1, back).tolist() == [[0, 1, 2]] * 2
    assert dino_views.reference_first(tokens[:, 1:])[0].tolist() == [[0, 1]]  # two views: no choice


def test_rotations_and_quaternions_are_scipys() -> None:
    turns = Rotation.random(50, rng=np.random.default_rng(0))
    half_turns = Rotation.from_quat([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for rotations in (turns, half_turns):
        wanted = torch.from_numpy(rotations.as_matrix())
        found = camera_tokens.quaternion(wanted)
        canonical = torch.from_numpy(rotations.as_quat(canonical=True))
        assert torch.allclose(found, canonical, atol=1e-12)  # float64
        assert torch.allclose(camera_tokens.rotation(3 * found), wanted, atol=1e-12)
    assert torch.equal(camera_tokens.rotation(torch.zeros(4)), torch.eye(3))


def test_cameras_survive_their_nine_numbers() -> None:
    case = CASES["three views with cameras"]
    extrinsics, intrinsics = (torch.from_numpy(part) for part in record.cameras(case))
    numbers = camera_tokens.described(Cameras(extrinsics, intrinsics), case.size_hw)
    back = camera_tokens.cameras_of(numbers, case.size_hw)
    assert torch.allclose(back.extrinsics, extrinsics[:, :, :3], atol=1e-5)  # float32, numbers around 1
    assert torch.allclose(back.intrinsics, intrinsics, rtol=1e-5)


def test_cameras_are_seen_from_the_first_as_the_reference_hands_them_over() -> None:
    """Its arithmetic restated: ``DepthAnything3._normalize_extrinsics`` of depth_anything_3/api.py."""
    case = Case("plain", 1, 4, 14, 14)
    extrinsics, intrinsics = record.cameras(case)
    from_first = extrinsics[0] @ np.linalg.inv(extrinsics[0, 0])
    centres = np.linalg.inv(from_first)[:, :3, 3]
    unit = np.sort(np.linalg.norm(centres, axis=1))[1]  # of four the second, which is what torch calls the median
    from_first[:, :3, 3] /= unit
    found, factor = camera_tokens.from_the_first(Cameras(torch.from_numpy(extrinsics), torch.from_numpy(intrinsics)))
    np.testing.assert_allclose(found.extrinsics[0], from_first[:, :3], rtol=0, atol=1e-5)  # float32, numbers around 1
    np.testing.assert_allclose(factor, [unit], rtol=1e-5)
    still, factor = camera_tokens.from_the_first(Cameras(torch.eye(4).expand(1, 2, 4, 4), torch.eye(3)))
    assert torch.equal(still.extrinsics, torch.eye(4)[:3].expand(1, 2, 3, 4))
    assert factor.tolist() == pytest.approx([0.1])


def test_sky_goes_behind_the_rest_of_its_own_image() -> None:
    depth = torch.arange(1.0, 101.0).reshape(1, 10, 10).repeat(3, 1, 1)
    sky = torch.zeros(3, 10, 10)
    sky[0, :2] = 0.3  # the 20 nearest pixels
    sky[1, 0] = 0.3  # ten are too few
    sky[2] = 0.3  # so is nothing else
    far = with_far_sky(Mono(depth, sky))
    # 99 % of the way from the 21st to the 100th of 80 values, 79 steps of 1.
    assert torch.allclose(far[0, :2], torch.tensor(21 + 0.99 * 79), rtol=1e-6)
    assert torch.equal(far[0, 2:], depth[0, 2:])
    assert torch.equal(far[1:], depth[1:])


@pytest.mark.parametrize("size", record.PICTURES)
def test_preprocessing_equals_the_reference(size: tuple[int, int]) -> None:
    seen = view(record.picture(size), PIXELS)
    wanted = ANSWERS[f"picture {size}"]
    assert seen.pixels.shape == wanted.shape
    # No value is off by a level, which would be 0.017 (of all, 1 in 40,000 is, where the mean lies half between
    # two); the rest is the rounding of the division by 255.
    np.testing.assert_allclose(record.kept(seen.pixels), wanted.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(720, 1280), (83, 61), (90, 1800), (3, 900), (1, 1), (1200, 40)])
def test_what_is_drawn_is_found_where_it_was(size: tuple[int, int]) -> None:
    """A bright box in the middle third, within half a pixel of the coarser of picture and canvas."""
    height, width = size
    box = np.asarray([[width // 3, height // 3], [-(-2 * width // 3), -(-2 * height // 3)]], np.float32)  # xy, xy
    image = np.zeros((*size, 3), np.uint8)
    image[height // 3 : -(-2 * height // 3), width // 3 : -(-2 * width // 3)] = 255
    seen = view(image, PIXELS)
    light = seen.pixels[0] - seen.pixels[0].min()
    weights = light / light.sum() if light.any() else np.full_like(light, 1 / light.size)  # a single bright pixel
    middle = np.asarray([np.arange(line.size) @ line + 0.5 for line in (weights.sum(0), weights.sum(1))])  # x, y
    unit = np.maximum(1, 1 / np.asarray(seen.frame.scale_xy))
    assert np.all(np.abs(seen.frame.to_image(middle) - box.mean(0)) < 0.5 * unit)


def test_resampling_keeps_a_flat_picture_and_its_size() -> None:
    flat = np.full((30, 50, 3), 77, np.uint8)
    for size in ((30, 50), (7, 50), (90, 11), (1, 1), (61, 99)):
        assert np.array_equal(resampled(flat, size), np.full((*size, 3), 77, np.uint8))


def setup(kind: str, files: dict[str, Path] | None = None, dtype: str = "float32") -> Setup:
    return Setup("da3-test", kind, PIXELS, TextRules(), "softmax", (), files=files or {}, dtype=dtype)


def toy(kind: str, dtype: str = "float32") -> DepthAnything3:
    """A tiny net that sees pictures at the published size."""
    torch.manual_seed(0)
    wanted = TINY[kind.partition("-")[0]]
    ours = AnyView(wanted) if isinstance(wanted, AnyViewConfig) else OneView(wanted)
    return DepthAnything3(setup(kind, dtype=dtype), ours)


def states(model: DepthAnything3, images: list[NDArray[np.uint8]]) -> list[Encoded]:
    """One by one, as ``load`` makes them."""
    seen = [model.prepare(image) for image in images]
    answers = [model.encode(one.pixels[None]) for one in seen]
    return [
        Encoded("", {name: rows[0] for name, rows in answer.items()}, one.frame)
        for answer, one in zip(answers, seen, strict=True)
    ]


@pytest.mark.parametrize("kind", ["anyview-s", "mono-l", "metric-l"])
def test_files_give_the_nets_answer(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the model file, from a file as the hub has it, at the caller's size."""
    backbone = "plain" if kind.startswith("anyview") else "alone"
    monkeypatch.setitem(PUBLISHED, kind, config(backbone))  # type: ignore[arg-type]
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in published(net(backbone)).items()}, file)
    model = DepthAnything3.from_files(setup(kind, {"model.safetensors": file}))
    assert model.nbytes == 4 * sum(p.numel() for p in net(backbone).parameters())
    image = np.ascontiguousarray(record.picture((504, 378))[::-1])  # of the right size: seen as it is
    [state], batch = states(model, [image]), model.prepare(image).pixels[None]
    with torch.inference_mode():
        if backbone == "alone":
            wanted = with_far_sky(net(backbone)(torch.from_numpy(batch)))
        else:
            wanted = net(backbone)(torch.from_numpy(batch)[:, None], None, needs_rays=True).depth[:, 0]
    [found] = model.depth([state], Depth())
    assert found.kind == "depth"
    np.testing.assert_array_equal(found.depth, wanted[0].numpy())
    assert (found.confidence is not None) == (backbone == "plain") == (found.intrinsics is not None)


def test_depth_comes_back_where_it_was() -> None:
    """A ramp over the canvas is a ramp over the picture, but for half a cell at its edges, where nothing is beyond."""
    model = toy("mono-l")
    frame = model.prepare(record.picture((720, 1280))).frame  # seen as 280 x 504
    rows, columns = (np.mgrid[0:280, 0:504] + 0.5).astype(np.float32)
    for ramp, axis in ((rows, 0), (columns, 1)):
        [found] = model.depth([Encoded("", {"depth": ramp}, frame)], Depth())
        wanted = (np.arange((720, 1280)[axis]) + 0.5) * (280 / 720, 504 / 1280)[axis]
        wanted = wanted.clip(0.5, (279.5, 503.5)[axis])
        # Float32 in the resampling; corners that stay corners would be half a cell off.
        np.testing.assert_allclose(found.depth.mean(1 - axis, np.float64), wanted, rtol=0, atol=0.01)


def test_metres_need_the_focal_length_and_are_of_the_callers_pixels() -> None:
    """A camera of 1200 pixels focal length whose picture is halved has one of 600: metres are 600 / 300 times as
    much as the net says. Seen twice as large, the same camera has 2400, and nothing changes."""
    model = toy("metric-l")
    image = record.picture((1008, 756))
    double = np.repeat(np.repeat(image, 2, 0), 2, 1)
    near, far = states(model, [image, double])
    [plain] = model.depth([near], Depth())
    [metric] = model.depth([near], Depth(focal_px=1200.0))
    [other] = model.depth([far], Depth(focal_px=2400.0))
    assert (plain.kind, metric.kind) == ("depth", "metric")
    np.testing.assert_allclose(metric.depth, 2 * plain.depth, rtol=1e-6)
    np.testing.assert_allclose(other.depth[::2, ::2].mean(), metric.depth.mean(), rtol=1e-3)
    assert metric.intrinsics is not None
    np.testing.assert_array_equal(metric.intrinsics, [[1200, 0, 378], [0, 1200, 504], [0, 0, 1]])
    assert plain.intrinsics is None


def test_intrinsics_are_in_the_callers_pixels() -> None:
    model = toy("anyview-s")
    [state] = states(model, [record.picture((720, 1280))])
    seen = np.asarray(state.maps["intrinsics"])  # of 280 x 504 pixels
    np.testing.assert_array_equal(seen[:2, 2], [252, 140])
    [found] = model.depth([state], Depth())
    assert found.intrinsics is not None
    np.testing.assert_allclose(found.intrinsics[:, 2], [640, 360, 1], rtol=1e-6)
    np.testing.assert_allclose(np.diag(found.intrinsics)[:2], np.diag(seen)[:2] * [1280 / 504, 720 / 280], rtol=1e-6)
    [told] = model.depth([state], Depth(focal_px=900.0))
    assert told.intrinsics is not None
    np.testing.assert_array_equal(told.intrinsics, [[900, 0, 640], [0, 900, 360], [0, 0, 1]])


@pytest.mark.parametrize("kind", ["anyview-s", "mono-l"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_picture_answers_the_same_in_any_company(kind: str, dtype: str) -> None:
    model = toy(kind, dtype)
    image = record.picture((40, 60))
    images = [image, np.ascontiguousarray(image[:, ::-1]), 255 - image]
    batch = np.stack([model.prepare(image).pixels for image in images])
    alone, together = [model.encode(one[None]) for one in batch], model.encode(batch)
    for name, rows in together.items():
        for row, one in zip(rows, alone, strict=True):
            # Sums in another order: of float32 the last digits, of bfloat16 the third.
            np.testing.assert_allclose(row, one[name][0], rtol=1e-5 if dtype == "float32" else 0.05)
            assert np.isfinite(row).all()
    assert np.abs(together["depth"][0] - together["depth"][1]).max() > 1e-3


@pytest.mark.parametrize("kind", list(TINY))
def test_the_toys_are_small(kind: str) -> None:
    model = DepthAnything3.tiny(setup(f"{kind}-l"), 0)
    assert model.nbytes < 1_000_000
    assert model.prepare(record.picture((60, 83))).pixels.shape == (3, 84, 112)
