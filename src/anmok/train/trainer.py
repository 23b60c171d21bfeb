"""The one training loop: seeded, in float32 or bfloat16, with a judge that may end it, to be taken up after a kill.

Which examples a step sees, and every random number in it, depend on the seed and the step alone. So a run that goes on
from a checkpoint makes the very steps that it would have made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anmok.errors import BadData, BadRequest
from anmok.train.checkpoint import Checkpoint, Progress, averages, restore
from anmok.train.processes import Processes
from anmok.train.recipe import Recipe

Rows = NDArray[np.int64]
Report = Callable[[int, int], None]

_SAVED_EVERY = 20.0  # seconds: what a kill can cost


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What is trained on what.

    ``loss`` gives the mean loss (scalar) of some examples at a step; anything random in it must come from torch's
    generator, which is seeded before, or from the step's number. ``rates`` are factors on the recipe's learning rate,
    by the longest prefix of a parameter's name that is listed. ``judge`` says how bad the net is, on examples that it
    does not learn from; the net of the least is kept.
    """

    net: nn.Module
    loss: Callable[[Rows, int], Tensor]
    count: int  # examples
    judge: Callable[[], float] | None = None
    rates: Mapping[str, float] | None = None
    about: str = ""  # whatever else makes two runs different: hashes of pictures and weights


@dataclass(frozen=True, slots=True)
class Curve:
    """How it went."""

    losses: tuple[float, ...]  # one per step
    checks: tuple[tuple[int, float], ...]  # step, what the judge said
    best: int  # the step whose weights were kept
    seconds: float  # of this process; what a killed one spent is not in it
    resumed: int  # step that it went on from; 0 where it began anew
    precision: str


def train(
    course: Course,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Report | None = None,
    save_every: float = _SAVED_EVERY,
) -> Curve:
    """Trains the parameters of the net that require a gradient; the net then has the weights that were kept.

    Args:
        course: what is trained.
        recipe: how.
        checkpoint: a file that the run goes on from, if it is there, and writes to.
        report: is told steps done and in all.
        save_every: seconds between two checkpoints.

    Raises:
        BadRequest: nothing to train, or nothing to train on.
        BadData: a trainable weight gets no gradient, the loss is no number, or the checkpoint cannot be read.
        WrongState: the checkpoint is of another run.
        CannotWrite: the checkpoint cannot be written.
    """
    run = _Run(course, recipe, checkpoint, save_every)
    start = time.perf_counter()
    resumed = run.resume()
    while not run.progress.is_over:
        run.step()
        if report is not None:
            report(run.progress.step, recipe.steps)
    run.keep_best()
    progress = run.progress
    return Curve(
        losses=tuple(progress.losses),
        checks=tuple(progress.checks),
        best=progress.step if progress.best is None else progress.best[0],
        seconds=time.perf_counter() - start,
        resumed=resumed,
        precision=str(run.dtype).removeprefix("torch."),
    )


def rows_at(step: int, count: int, batch: int, seed: int) -> Rows:
    """The examples of a step, ``batch`` of ``count``: pass after pass over all of them, each in an order of its own."""
    places = np.arange(step * batch, (step + 1) * batch)
    passes, within = np.divmod(places, count)
    orders = {int(n): np.random.default_rng([seed, int(n)]).permutation(count) for n in np.unique(passes)}
    return np.asarray([orders[int(n)][i] for n, i in zip(passes, within, strict=True)], np.int64)


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """bfloat16 where it is asked for, or where the processor has units for it; elsewhere it would be slower."""
    if recipe.precision != "auto":
        return torch.float32 if recipe.precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_units = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_units else torch.float32


class _Run:
    def __init__(self, course: Course, recipe: Recipe, checkpoint: Path | None, save_every: float) -> None:
        named = {name: p for name, p in course.net.named_parameters() if p.requires_grad}
        if not named:
            raise BadRequest("nothing to train: no weight of the net requires a gradient")
        if course.count < 1:
            raise BadRequest("nothing to train on: there are no examples")
        self.course, self.recipe, self.path = course, recipe, checkpoint
        self.named = named
        self.progress = Progress()
        first = next(iter(named.values()))
        self.processes = Processes(first.device)
        self.dtype = precision_of(recipe, first.device)
        self.optimizer, self.names = _optimizer(named, recipe, course.rates or {})
        self.digest = recipe.digest(course.about)
        self.best: dict[str, Tensor] = {}
        self._is_checked = False
        self._save_every = save_every
        self._saved_at = time.monotonic()

    def resume(self) -> int:
        if self.path is None or not self.path.is_file():
            return 0
        found = Checkpoint.read(self.path, self.digest)
        if set(found.weights) != set(self.named):
            raise BadData(f"{self.path} has other weights than this net; delete it to begin anew")
        with torch.no_grad():
            for name, tensor in found.weights.items():
                self.named[name].copy_(tensor)
        restore(self.optimizer, self.names, found.averages)
        self.progress, self.best = found.progress, dict(found.best)
        return found.progress.step

    def step(self) -> None:
        step, recipe = self.progress.step, self.recipe
        torch.manual_seed(int(np.random.default_rng([recipe.seed, step, self.processes.rank]).integers(2**62)))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate * group["share"] * recipe.factor(step)
        self.course.net.train()
        self.progress.losses.append(self._gradient(step))
        torch.nn.utils.clip_grad_norm_(list(self.named.values()), recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        is_last = self.progress.step == recipe.steps
        if self.course.judge is not None and (is_last or self.progress.step % recipe.check_every == 0):
            self._check(self.course.judge)
        self.progress.is_over = self.progress.is_over or is_last
        self._save()

    def keep_best(self) -> None:
        if self.best:
            with torch.no_grad():
                for name, tensor in self.best.items():
                    self.named[name].copy_(tensor)
        self.course.net.eval()

    def _gradient(self, step: int) -> float:
        """The whole batch's mean loss, its gradient left with the parameters."""
        rows = rows_at(step, self.course.count, self.recipe.batch, self.recipe.seed)
        mine = self.processes.share(rows)
        total = 0.0
        for part in np.array_split(mine, self.recipe.accumulation):
            if len(part) == 0:
                continue
            with torch.autocast(self.processes.device.type, self.dtype, enabled=self.dtype != torch.float32):
                loss = self.course.loss(part, step) * (len(part) / len(rows))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self.processes.add(self.named.values())
        if not self._is_checked:
            self._check_gradients()
        total = self.processes.total(total)
        if not math.isfinite(total):
            raise BadData(f"training: the loss is {total} at step {step + 1}; take a smaller learning rate")
        return total

    def _check_gradients(self) -> None:
        """A weight that nothing flows to would be shipped as trained: a pattern that names it is a mistake."""
        dead = [name for name, p in self.named.items() if p.grad is None]
        if dead:
            raise BadData(f"training: no gradient reaches {dead[0]} ({len(dead)} such); it must not be trained")
        self._is_checked = True

    def _check(self, judge: Callable[[], float]) -> None:
        self.course.net.eval()
        with torch.no_grad():
            value = float(judge())
        progress = self.progress
        progress.checks.append((progress.step, value))
        if progress.best is None or value < progress.best[1]:
            progress.best = (progress.step, value)
            self.best = {name: p.detach().clone() for name, p in self.named.items()}
        since = sum(step > progress.best[0] for step, _ in progress.checks)
        progress.is_over = 0 < self.recipe.patience <= since

    def _save(self) -> None:
        is_due = time.monotonic() - self._saved_at >= self._save_every or self.progress.is_over
        if self.path is None or not is_due or self.processes.rank > 0:
            return
        weights = {name: p.detach() for name, p in self.named.items()}
        found = averages(self.optimizer, self.names)
        Checkpoint(self.digest, self.progress, weights, self.best, found).write(self.path)
        self._saved_at = time.monotonic()


def _optimizer(
    named: Mapping[str, nn.Parameter], recipe: Recipe, rates: Mapping[str, float]
) -> tuple[torch.optim.Optimizer, list[str]]:
    """One group per pair of learning rate and decay; norms and biases do not decay. With the names in its order."""
    groups: dict[tuple[float, float], list[str]] = {}
    for name, parameter in named.items():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((_rate(name, rates), decay), []).append(name)
    listed: list[dict[str, Any]] = [
        {"params": [named[name] for name in names], "share": share, "weight_decay": decay}
        for (share, decay), names in groups.items()
    ]
    order: Sequence[str] = [name for names in groups.values() for name in names]
    return torch.optim.AdamW(listed, lr=recipe.rate), list(order)


def _rate(name: str, rates: Mapping[str, float]) -> float:
    fitting = [prefix for prefix in rates if name.startswith(prefix)]
    return rates[max(fitting, key=len)] if fitting else 1.0
