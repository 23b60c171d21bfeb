"""A student learns what a teacher says: the loss against torch's own, its limits, and whole runs on toy nets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from anmok.errors import BadRequest
from anmok.load import tiny
from anmok.nets.trunk import Trunk
from anmok.train.distil import Blend, Distilled, Teacher, Transfer, blend_for, distil, feature_loss, soft_loss
from anmok.train.opening import How
from anmok.train.recipe import Recipe
from anmok.train.tuning import Start

RECIPE = Recipe(steps=40, rate=3e-4, batch=8, check_every=10, warmup=0.1, precision="float32")
ALONE = torch.full((6,), -1)


class Fixed:
    """Pictures (n, 3, 32, 32) as they are, at every look."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, rows: NDArray[np.int64], step: int | None) -> torch.Tensor:
        return self.pixels[torch.from_numpy(rows)]


def logits(seed: int, classes: int = 5) -> torch.Tensor:
    return 3 * torch.randn(6, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start(trunk: Trunk, inputs: Fixed, classes: int) -> Start:
    with torch.no_grad():
        features = trunk(inputs.pixels).numpy()
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.05, (classes, features.shape[1])).astype(np.float32)
    return Start(weight, np.zeros(classes, np.float32), features.mean(0), features.std(0) + 1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_loss_and_gradient_are_those_of_torchs_kl(temperature: float) -> None:
    ours, again = logits(0).requires_grad_(True), logits(0).requires_grad_(True)
    theirs = logits(1)
    found = soft_loss(ours, theirs, ALONE, Blend(temperature))
    wanted = temperature**2 * functional.kl_div(
        functional.log_softmax(again / temperature, 1),
        functional.softmax(theirs / temperature, 1),
        reduction="batchmean",
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(ours.grad, again.grad, rtol=1e-10, atol=1e-14)
    assert torch.autograd.gradcheck(lambda z: soft_loss(z, theirs, torch.arange(6) % 5, Blend(temperature)), (ours,))


def test_a_label_takes_its_share_and_a_picture_without_one_has_the_teacher_alone() -> None:
    ours, theirs, labels = logits(0), logits(1), torch.tensor([0, 1, 2, -1, -1, -1])
    blend = Blend(2.0, share=0.75)
    apart = torch.stack([soft_loss(ours[i : i + 1], theirs[i : i + 1], ALONE[:1], blend) for i in range(6)])
    wrong = functional.cross_entropy(ours[:3], labels[:3], reduction="none")
    wanted = torch.cat([0.25 * wrong + 0.75 * apart[:3], apart[3:]]).mean()
    torch.testing.assert_close(soft_loss(ours, theirs, labels, blend), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        soft_loss(ours, theirs, labels, Blend(2.0, share=0.0))[None],
        (torch.cat([wrong, apart[3:]])).mean()[None],
        rtol=1e-12,
        atol=0,
    )


def test_at_a_great_temperature_it_is_half_the_variance_of_the_difference() -> None:
    ours, theirs = logits(0), logits(1)
    apart = ours - theirs  # (b, K)
    wanted = 0.5 * (apart - apart.mean(1, keepdim=True)).square().mean(1).mean()
    assert float(soft_loss(ours, theirs, ALONE, Blend(1e4))) == pytest.approx(float(wanted), rel=1e-3)
    assert float(soft_loss(ours, theirs, ALONE, Blend(1.0))) != pytest.approx(float(wanted), rel=0.05)


def test_features_are_compared_by_direction() -> None:
    rows = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert float(feature_loss(rows, 5 * rows)) == pytest.approx(0, abs=1e-7)
    assert float(feature_loss(rows, rows.flip(1))) == pytest.approx(1)
    assert float(feature_loss(rows, -rows)) == pytest.approx(2)


def test_few_classes_are_softened_less() -> None:
    assert (blend_for(20).temperature, blend_for(21).temperature) == (2.0, 4.0)
    assert (blend_for(3).share, blend_for(3).features) == (0.9, 1.0)


def transfer(inputs: Fixed, teacher: Teacher, labels: NDArray[np.int64]) -> Transfer:
    rows = np.arange(len(labels))
    return Transfer(inputs, teacher, labels, rows[labels < 0], rows[labels >= 0], Blend(2.0))


def test_a_constant_teacher_is_learnt_as_the_constant() -> None:
    """Whatever the picture shows. Twenty-four pictures without a label teach; the others' labels, 21, 3 and 1, are as
    the teacher has it: 84, 11 and 4 in a hundred."""
    inputs = Fixed(torch.randn(49, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    trunk = tiny("efficientnet-lite0").kind.trunk()
    said = np.tile(np.array([[2.0, 0.0, -1.0]], np.float32), (49, 1))
    labels = np.repeat([-1, 0, 1, 2], [24, 21, 3, 1])
    begun = start(trunk, inputs, 3)
    found = distil(
        trunk, begun, transfer(inputs, Teacher(said), labels), How("full"), dataclasses.replace(RECIPE, steps=80)
    )
    wanted = np.exp(said[0]) / np.exp(said[0]).sum()
    with torch.no_grad():
        rows = (trunk(inputs.pixels).numpy() - begun.mean) / begun.scale
    answered = rows @ found.weight.T + found.bias
    chances = np.exp(answered) / np.exp(answered).sum(1, keepdims=True)
    assert found.is_better
    np.testing.assert_allclose(chances.mean(0), wanted, rtol=0, atol=0.05)
    assert chances.std(0).max() < 0.1
    assert found.after < found.before


def run(path: Path | None = None, steps: int = 40, stop: int | None = None) -> Distilled:
    """Colours as classes; the teacher knows them, a fifth of the pictures judges."""
    generator = torch.Generator().manual_seed(1)
    labels = np.arange(40) % 3
    colours = torch.eye(3)[torch.from_numpy(labels)][:, :, None, None] * 2
    inputs = Fixed(colours + torch.randn(40, 3, 32, 32, generator=generator))
    said = np.where(np.eye(3)[labels] > 0, 4.0, 0.0).astype(np.float32)
    known = np.where(np.arange(40) < 8, labels, -1)
    features = np.random.default_rng(2).normal(size=(3, 16)).astype(np.float32)[labels]
    trunk = tiny("efficientnet-lite0").kind.trunk()
    told = transfer(inputs, Teacher(said, features), known)

    def report(done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    recipe = dataclasses.replace(RECIPE, steps=steps)
    return distil(trunk, start(trunk, inputs, 3), told, How("last", last=2), recipe, checkpoint=path, report=report)


def test_a_teacher_of_classes_is_learnt_without_one_label() -> None:
    found = run()
    assert found.is_better
    assert found.before > 0.8
    assert found.after < 0.5
    assert found.curve.losses[-1] < 0.5 * found.curve.losses[0]
    assert {name.split(".")[1] for name in found.change.dense} == {"block8", "block9", "readout"}


def test_a_run_that_was_broken_off_goes_on_to_the_same_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anmok.train import trainer

    whole = run()
    monkeypatch.setattr(trainer.train, "__defaults__", (None, None, 0.0))  # a checkpoint at every step
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "S.safetensors", stop=17)
    rest = run(tmp_path / "S.safetensors")
    assert 0 < rest.curve.resumed <= 17
    assert rest.curve.losses == whole.curve.losses
    np.testing.assert_array_equal(rest.weight, whole.weight)


def test_what_makes_a_student_worse_is_not_kept() -> None:
    """The teacher says the opposite of the labels that judge."""
    inputs = Fixed(torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    trunk = tiny("efficientnet-lite0").kind.trunk()
    labels = np.concatenate([np.full(16, -1), np.zeros(8, np.int64)])
    said = np.tile(np.array([[-6.0, 6.0]], np.float32), (24, 1))
    begun = start(trunk, inputs, 2)
    found = distil(trunk, begun, transfer(inputs, Teacher(said), labels), How("full"), RECIPE)
    assert not found.is_better
    assert found.change.tensors() == {}
    np.testing.assert_array_equal(found.weight, begun.weight)
    assert found.after == found.before


def test_shapes_that_do_not_fit_are_refused() -> None:
    inputs = Fixed(torch.zeros(4, 3, 32, 32))
    trunk = tiny("efficientnet-lite0").kind.trunk()
    begun, labels = start(trunk, inputs, 2), np.array([-1, -1, 0, 1])
    told = transfer(inputs, Teacher(np.zeros((4, 3), np.float32)), labels)
    with pytest.raises(BadRequest, match=r"the teacher answered \(4, 3\); want \(4, 2\)"):
        distil(trunk, begun, told, How("full"), RECIPE)
    told = transfer(inputs, Teacher(np.zeros((4, 2), np.float32)), labels)
    with pytest.raises(BadRequest, match="pictures that judge must have a label"):
        distil(trunk, begun, dataclasses.replace(told, judging=np.array([0, 2])), How("full"), RECIPE)
    with pytest.raises(BadRequest, match="temperature above 0"):
        Blend(0.0)
