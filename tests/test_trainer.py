"""The training loop: what a step sees is fixed by seed and step, so a killed run goes on to the very same curve."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anmok.errors import BadData, BadRequest, WrongState
from anmok.train.recipe import Recipe
from anmok.train.trainer import Course, Curve, rows_at, train

RECIPE = Recipe(steps=60, rate=0.01, batch=8, check_every=10, precision="float32", seed=3)


def course(pause: float = 0.0, seed: int = 0, has_judge: bool = True) -> Course:
    """Three noisy classes in the plane, with dropout, so that every random number counts."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    points = (np.eye(3)[labels] @ rng.normal(size=(3, 4)) + rng.normal(size=(48, 4))).astype(np.float32)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    x, y = torch.from_numpy(points), torch.from_numpy(labels)

    def loss(rows: np.ndarray, step: int) -> torch.Tensor:
        time.sleep(pause)
        return nn.functional.cross_entropy(net(x[rows % 32]), y[rows % 32])

    def judge() -> float:
        return nn.functional.cross_entropy(net(x[32:]), y[32:]).item()

    return Course(net, loss, count=32, judge=judge if has_judge else None)


def weights(one: Course) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in one.net.parameters()])


def test_every_pass_sees_every_example_once() -> None:
    seen = np.concatenate([rows_at(step, 10, 4, seed=5) for step in range(5)])  # two passes
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert seen.tolist() == np.concatenate([rows_at(step, 10, 4, seed=5) for step in range(5)]).tolist()
    assert len(rows_at(0, 3, 8, seed=0)) == 8  # a batch larger than the set goes round


def test_the_learning_rate_rises_in_a_line_and_falls_to_nothing() -> None:
    recipe = Recipe(steps=100, rate=1.0, warmup=0.1)
    rates = [recipe.factor(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_it_learns_and_keeps_the_best_weights() -> None:
    one = course()
    curve = train(one, RECIPE)
    assert np.mean(curve.losses[-10:]) < np.mean(curve.losses[:10]) - 0.2
    assert [step for step, _ in curve.checks] == [10, 20, 30, 40, 50, 60]
    best = min(curve.checks, key=lambda check: check[1])
    assert curve.best == best[0]
    assert one.judge is not None
    assert one.judge() == pytest.approx(best[1], abs=1e-6)


def test_two_runs_are_equal_and_another_seed_is_not() -> None:
    first, second, third = course(), course(), course()
    a, b = train(first, RECIPE), train(second, RECIPE)
    c = train(third, Recipe(steps=60, rate=0.01, batch=8, check_every=10, precision="float32", seed=4))
    assert a.losses == b.losses
    np.testing.assert_array_equal(weights(first), weights(second))
    assert a.losses != c.losses


def test_parts_of_a_batch_add_up_to_it() -> None:
    """Without dropout: it draws other numbers for other shapes."""
    losses = []
    for parts in (1, 3):
        one = course(has_judge=False)
        one.net[2].p = 0.0  # type: ignore[union-attr, assignment]
        recipe = Recipe(steps=20, rate=0.01, batch=8, accumulation=parts, precision="float32")
        losses.append((train(one, recipe).losses, weights(one)))
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(losses[0][1], losses[1][1], rtol=0, atol=1e-5)


def test_patience_ends_a_run_that_no_longer_improves() -> None:
    one = course()
    values = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    stubborn = Course(one.net, one.loss, one.count, judge=lambda: next(values))
    curve = train(stubborn, Recipe(steps=60, rate=0.01, batch=8, check_every=10, patience=2, precision="float32"))
    assert curve.checks == ((10, 3.0), (20, 2.0), (30, 2.5), (40, 2.4))
    assert curve.best == 20
    assert len(curve.losses) == 40


def test_bfloat16_learns_too_and_leaves_the_weights_in_float32() -> None:
    one = course()
    curve = train(one, Recipe(steps=60, rate=0.01, batch=8, check_every=60, precision="bfloat16"))
    assert curve.precision == "bfloat16"
    assert {p.dtype for p in one.net.parameters()} == {torch.float32}
    exact = train(course(), Recipe(steps=60, rate=0.01, batch=8, check_every=60, precision="float32"))
    np.testing.assert_allclose(curve.losses, exact.losses, rtol=0, atol=0.05)
    assert curve.losses != exact.losses


def test_rates_go_by_the_longest_prefix() -> None:
    one = course(has_judge=False)
    before = [p.detach().clone() for p in one.net.parameters()]
    still = Course(one.net, one.loss, one.count, rates={"": 1.0, "0.": 0.0})
    train(still, Recipe(steps=5, rate=0.01, batch=8, precision="float32"))
    moved = [float((p - old).detach().abs().max()) for p, old in zip(one.net.parameters(), before, strict=True)]
    assert moved[:2] == [0.0, 0.0]
    assert min(moved[2:]) > 0.01


def test_a_weight_that_nothing_flows_to_fails_the_run() -> None:
    one = course(has_judge=False)
    idle = nn.ModuleDict({"used": one.net, "idle": nn.Linear(2, 2)})
    with pytest.raises(BadData, match=r"no gradient reaches idle\.weight \(2 such\)"):
        train(Course(idle, one.loss, one.count), RECIPE)


def test_a_loss_that_is_no_number_fails_the_run() -> None:
    one = course(has_judge=False)
    broken = Course(one.net, lambda rows, step: one.loss(rows, step) * float("nan"), one.count)
    with pytest.raises(BadData, match="the loss is nan at step 1"):
        train(broken, RECIPE)


def test_what_cannot_be_trained_is_refused() -> None:
    one = course()
    with pytest.raises(BadRequest, match="no examples"):
        train(Course(one.net, one.loss, 0), RECIPE)
    one.net.requires_grad_(False)
    with pytest.raises(BadRequest, match="nothing to train"):
        train(one, RECIPE)
    with pytest.raises(BadRequest, match="parts"):
        Recipe(steps=1, rate=0.1, batch=2, accumulation=3)


@pytest.mark.parametrize("stop", [1, 7, 10, 31, 59])
def test_a_run_goes_on_to_the_same_curve(tmp_path: Path, stop: int) -> None:
    """Interrupted after any step, here by an error in the loss; the file of the step before is what is left."""
    path, whole, cut = tmp_path / "run.safetensors", course(), course()
    wanted = train(whole, RECIPE)

    def fails(rows: np.ndarray, step: int) -> torch.Tensor:
        if step == stop:
            raise KeyboardInterrupt
        return cut.loss(rows, step)

    with pytest.raises(KeyboardInterrupt):
        train(Course(cut.net, fails, cut.count, cut.judge), RECIPE, path, save_every=0.0)
    fresh = course(seed=99)  # other weights than the run began with
    found = train(fresh, RECIPE, path)
    assert found.resumed == stop
    assert found.losses == wanted.losses
    assert found.checks == wanted.checks
    np.testing.assert_array_equal(weights(fresh), weights(whole))


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_trainer import RECIPE, course
from anmok.train.trainer import train
print("begun", flush=True)
train(course(pause=0.02), RECIPE, Path(sys.argv[1]), save_every=0.0)
"""


def test_a_killed_process_leaves_a_run_that_goes_on_to_the_same_curve(tmp_path: Path) -> None:
    path, whole = tmp_path / "run.safetensors", course()
    wanted = train(whole, RECIPE)
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not path.is_file():
            time.sleep(0.01)
        time.sleep(0.3 * float(np.random.default_rng().random()))
        process.kill()
    fresh = course()
    found = train(fresh, RECIPE, path)
    assert 1 <= found.resumed < 60
    assert found.losses == wanted.losses
    np.testing.assert_array_equal(weights(fresh), weights(whole))
    assert [one.name for one in tmp_path.iterdir() if "part" not in one.name] == ["run.safetensors"]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    first, second = course(), course(pause=60)
    wanted = train(first, RECIPE, path)
    found = train(second, RECIPE, path)
    assert found.resumed == 60
    assert found.losses == wanted.losses
    np.testing.assert_array_equal(weights(second), weights(first))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    train(course(), RECIPE, path)
    with pytest.raises(WrongState, match="of another run"):
        train(course(), Recipe(steps=61, rate=0.01, batch=8), path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(BadData, match="no checkpoint that can be read"):
        train(course(), RECIPE, path)


TOGETHER = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_trainer import course, weights
from anmok.train.recipe import Recipe
from anmok.train.trainer import train
one = course(has_judge=False)
one.net[2].p = 0.0
curve = train(one, Recipe(steps=20, rate=0.01, batch=9, precision="float32"))
np.savez(f"{sys.argv[1]}-{__import__('os').environ['RANK']}.npz", losses=curve.losses, weights=weights(one))
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """A batch of nine in shares of five and four."""
    one = course(has_judge=False)
    one.net[2].p = 0.0  # type: ignore[union-attr, assignment]
    wanted: Curve = train(one, Recipe(steps=20, rate=0.01, batch=9, precision="float32"))
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    arguments = [str(script), str(tmp_path / "found"), str(Path(__file__).parent)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        found = np.load(tmp_path / f"found-{rank}.npz")
        np.testing.assert_allclose(found["losses"], wanted.losses, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["weights"], weights(one), rtol=0, atol=1e-5)
