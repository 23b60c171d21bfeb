"""The last rung: what the ladder found, taught to a small net that answers for the user's classes alone.

It learns from the pool's pictures and from those without a label, as far as the teacher's labels are shown to be right
often enough. Copies of test pictures are no part of that.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anmok.catalogue import card
from anmok.errors import AnmokError
from anmok.evidence.calibration import softmax
from anmok.evidence.pseudo import PseudoAudit, audit_pseudo
from anmok.ladder.evaluate import Evaluated, Price, tuned_step
from anmok.ladder.features import look
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import Material
from anmok.ladder.rungs.order import RUNGS
from anmok.ladder.tuning.ground import Ground, seen, with_learned
from anmok.ladder.tuning.lessons import choice
from anmok.ladder.tuning.skipped import Skipped
from anmok.ladder.tuning.spare import spare_pictures
from anmok.ladder.tuning.teacher import Taught, teach
from anmok.load import Head, Model, load
from anmok.tasks import Tunes
from anmok.weights import is_fetched

if TYPE_CHECKING:
    from anmok.train.distil import Distilled, Transfer
    from anmok.train.opening import How
    from anmok.train.recipe import Recipe

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Priced = Callable[[Model, Scene], Price]

KEY = "S"
DEFAULT = "efficientnet-lite0"
FEWEST_LABELS = 100


def climb_student(
    ground: Ground, final: Mapping[str, Evaluated], seconds: float, priced: Priced
) -> Evaluated | Skipped:
    """A distilled student within ``seconds``, or the reason for leaving it out. ``priced`` says what a model costs."""
    reason = _unfit(ground)
    if reason:
        return Skipped(KEY, reason)
    begun = time.perf_counter()
    try:
        opened = ground.student or _opened(ground.plan.student, ground.model.card.name)
    except AnmokError as error:  # no weights, no licence, no such card: the rest of the climb stands without it
        return Skipped(KEY, str(error))
    if isinstance(opened, str):
        return Skipped(KEY, opened)
    if not isinstance(opened.kind, Tunes):
        return Skipped(KEY, f"{opened.card.name} has no weights that can be tuned")
    small = _small_ground(ground, opened, priced)
    early = choice(small, ground.teaching, seconds)  # to ask the teacher takes minutes itself
    if isinstance(early, str):
        return Skipped(KEY, early)
    lesson = _lesson(ground, final)
    left = seconds - (time.perf_counter() - begun)
    chosen = choice(small, lesson.teaching, left)
    if isinstance(chosen, str):
        return Skipped(KEY, chosen)
    how, recipe = chosen
    found = _distilled(small, lesson, how, recipe)
    return _answered(small, lesson, found, time.perf_counter() - begun)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is taught: the teacher, the audit of its labels, and which pictures without a label are kept."""

    taught: Taught
    audit: PseudoAudit
    spare: tuple[Path, ...]  # kept
    offered: int  # pictures without a label that there were
    kept: Labels  # which of the teacher's answers on such pictures
    teaching: Labels  # rows: of the pool, then of ``spare``


def _unfit(ground: Ground) -> str:
    labels = len(ground.paths)
    if ground.scene.is_development:
        return "too few images for a test set of their own"
    if labels < FEWEST_LABELS:
        return f"it wants {FEWEST_LABELS} labelled images to learn from; {labels} are there"
    if len(ground.judging) < 2 * ground.material.classes:
        return "too few groups of images to keep some for judging"
    return ""


def _opened(name: str, teacher: str) -> Model | str:
    """The student that was asked for, or the default where its weights are here; otherwise why there is none."""
    wanted = name or DEFAULT
    if wanted == teacher:
        return f"{wanted} is the model of this ladder already; name another by --student"
    if not name and not is_fetched(card(DEFAULT).source):
        return f"the student's weights are not here: anmok pull {DEFAULT}"
    return load(wanted)


def _small_ground(ground: Ground, student: Model, priced: Priced) -> Ground:
    """The same pool under the student's eyes."""
    told = ground.told("student")
    features = look(ground.paths, student, progress=told).features
    whole = ground.material
    material = Material(features, whole.labels, whole.groups, whole.classes, None, None, whole.seed)
    return dataclasses.replace(ground, model=student, material=material, price=priced(student, ground.scene))


def _lesson(ground: Ground, final: Mapping[str, Evaluated]) -> Lesson:
    spare = spare_pictures(ground)
    taught = teach(ground, final, spare)
    rows, material = taught.audited, ground.material
    audit = audit_pseudo(softmax(taught.logits[rows]), material.labels[rows], material.groups[rows])
    kept = np.zeros(0, np.int64)
    if audit.chosen is not None and len(spare.paths):
        sure = softmax(taught.spare_logits).max(1)  # (s,)
        kept = np.flatnonzero(sure >= audit.chosen.confidence)
    paths = tuple(spare.paths[i] for i in kept.tolist())
    more = len(ground.paths) + np.arange(len(paths))
    teaching = np.concatenate([ground.teaching, more]).astype(np.int64)
    return Lesson(taught, audit, paths, len(ground.scene.dataset.spare), kept, teaching)


def _distilled(ground: Ground, lesson: Lesson, how: How, recipe: Recipe) -> Distilled:
    from anmok.train.distil import distil

    trunk: Any = ground.kind.trunk()
    path = ground.checkpoints / f"{KEY}.safetensors"
    transfer = _transfer(ground, lesson, trunk, how)
    told = ground.told(RUNGS[KEY].name)
    return distil(trunk, ground.start, transfer, how, recipe, checkpoint=path, report=told)


def _transfer(ground: Ground, lesson: Lesson, trunk: Any, how: How) -> Transfer:
    from anmok.train import examples
    from anmok.train.distil import UNLABELLED, Teacher, Transfer, blend_for

    paths, seed, prepare = [*ground.paths, *lesson.spare], ground.plan.seed, ground.kind.prepare
    boundary = trunk.boundary(how.last) if how.kind == "last" else 0
    inputs: Any = examples.Pictures(paths, prepare, seed)
    if boundary > 0:
        inputs = examples.Activations(trunk, boundary, paths, prepare, seed, ground.told("activations"))
    taught = lesson.taught
    teacher = Teacher(
        np.concatenate([taught.logits, taught.spare_logits[lesson.kept]]),
        np.concatenate([taught.features, taught.spare_features[lesson.kept]]),
    )
    labels = np.concatenate([ground.material.labels, np.full(len(lesson.spare), UNLABELLED)]).astype(np.int64)
    blend = blend_for(ground.material.classes)
    return Transfer(inputs, teacher, labels, lesson.teaching, ground.judging, blend, boundary)


def _answered(ground: Ground, lesson: Lesson, found: Distilled, seconds: float) -> Evaluated:
    """The held-out pictures through the student, as whoever loads the result will see them."""
    start = ground.start
    head = Head(found.weight, found.bias, mean=start.mean, scale=start.scale)
    change = {name: tensor.numpy() for name, tensor in found.change.tensors().items()} or None
    model = with_learned(ground.model, ground.material.classes, head, change)
    logits = head.logits(seen(model, ground.tested))  # (m, K)
    predicted = logits.argmax(1)[None]  # (1, m)
    learned = sum(array.nbytes for array in (change or {}).values())
    # A net that was changed whole ships changed, not twice.
    net = sum(p.numel() * p.element_size() for p in ground.kind.trunk().state_dict().values())
    price = Price(ground.price.ms_per_image, max(0, net - learned) / 1e6)
    kept = (len(ground.paths), learned + head.nbytes)
    step = tuned_step(KEY, _variant(ground, lesson, found), (ground.held, price), predicted, seconds, kept)
    correct = predicted == ground.held.labels
    return Evaluated(step, predicted, correct, logits, head, len(found.curve.checks) + 1, change, ground.model)


def _variant(ground: Ground, lesson: Lesson, found: Distilled) -> str:
    """Who taught whom, and what was made of the pictures without a label."""
    said = f"{ground.model.card.name} taught by rung {lesson.taught.name}, {len(found.curve.losses)} steps"
    if not found.is_better:
        said = f"{ground.model.card.name}, no step was better than its own head"
    if lesson.offered and lesson.audit.chosen is None:
        said += f"; {lesson.offered} unlabelled images left out: their labels would be right too seldom"
    elif lesson.offered:
        said += f"; {len(lesson.spare)} of {lesson.offered} unlabelled images"
    if lesson.audit.doubtful:
        names = ", ".join(ground.scene.dataset.classes[i] for i in lesson.audit.doubtful[:3])
        said += f"; look at the labels of {names}"
    return said
