"""Finding out what an unknown graph takes and gives: by its shapes, and by running it on pictures of no meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.nets.onnx_graph import Graph
from anmok.nets.onnx_session import Array, Layout, Plan, Session

Scoring = Literal["softmax", "sigmoid"]

# Steps that change the form of numbers and not the numbers: looked through on the way to the step that made them.
_FORMS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
_STORED = ("Identity", "Transpose", "Cast", "DequantizeLinear")  # how a matrix of weights may reach its layer
_SCORED: Mapping[str, Scoring] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_EMBEDDINGS = ("embed", "feature", "pool", "penultimate", "hidden", "representation")
_TRIALS = 3  # pictures: one plain, the others noise
_SUM = 1e-3  # how far a softmax in half precision may sum from 1
# Alone and in a batch: the battery promises 1e-5 of a score, and a row's numbers have whatever size they have.
_SAME = 1e-5


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found. ``notes`` are sentences for the card; ``width`` is the number of features."""

    plan: Plan
    scoring: Scoring
    width: int
    parameters: int
    notes: tuple[str, ...]


def probe(
    path: Path, size: int, labels: int, *, scoring: Scoring | None = None, features: str = "", scores: str = ""
) -> Probed:
    """Opens a graph and runs it on three pictures.

    Args:
        path: the ``.onnx`` file.
        size: pixels of the canvas's side, as the card will say.
        labels: how many there are; 0 for a graph that embeds only.
        scoring: what the user says of the scores; None takes what the graph shows.
        features: the tensor that heads shall be trained on; empty takes an embedding output, else what goes into the
            last layer, else the scores.
        scores: the output with the scores; empty takes the one that has as many numbers as there are labels.

    Raises:
        BadRequest: size, labels or names do not fit the graph.
        BadWeights: it cannot be run, or gives numbers that are none.
        Unsupported: it takes something else than a batch of square pictures with three channels.
    """
    session = Session(path)
    layout = _layout(session, size)
    trials = _pictures(size)
    made = [_alone(session, one, layout) for one in trials]
    width = {name: array.size for name, array in made[0].items()}
    answers = _scores_output(session, width, labels, scores) if labels else ""
    tensor, note = _features(session, layout, size, width, answers, features)
    if tensor not in made[0]:
        session = Session(path, (tensor,))
        made = [_alone(session, one, layout) for one in trials]
        if tensor not in made[0]:
            raise BadRequest(f"{path.name}: {tensor!r} is not one row of numbers per picture; name another tensor")
    plan = Plan(layout, session.shape[0] or 0, tensor, answers, is_inner=tensor not in width)
    rows = {name: np.concatenate([one[name] for one in made]) for name in plan.wanted}  # each (3, N)
    bad = [name for name, array in rows.items() if not np.isfinite(array).all()]
    if bad:
        raise BadWeights(f"{path.name}: {bad[0]!r} holds what is no finite number")
    plan, notes = _batched(session, trials, plan, rows)
    found: Scoring = scoring or "softmax"
    notes = (note, *notes)
    if answers:
        found, is_scored = _scoring(session.graph, answers, rows[answers], scoring)
        plan = replace(plan, is_scored=is_scored)
        notes = (f"its outputs are {'chances already' if is_scored else 'logits'}, scored by {found}", *notes)
    return Probed(plan, found, rows[tensor].shape[1], session.graph.parameters, notes)


def _layout(session: Session, size: int) -> Layout:
    """By where the three channels stand; what the file leaves open is tried out."""
    shape, name = session.shape, session.path.name
    if not session.outputs:
        raise Unsupported(f"{name} has no output of float numbers")
    if len(shape) != 4:
        raise Unsupported(f"{name} takes arrays of {len(shape)} axes: want pictures, (N, 3, H, W) or (N, H, W, 3)")
    layout: Layout = "nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw"
    if shape[1] is None and shape[3] is None:
        layout = "nchw" if _runs(session, size, "nchw") else "nhwc"
    channels, sides = (shape[1], shape[2:]) if layout == "nchw" else (shape[3], shape[1:3])
    if channels not in (3, None):
        raise Unsupported(f"{name} takes {channels} channels: want 3 (red, green, blue)")
    if any(side not in (size, None) for side in sides):
        wanted = " x ".join(str(side or "any") for side in sides)
        raise BadRequest(f"{name} takes pictures of {wanted} pixels, not {size} x {size}: give --pixels that fit")
    return layout


def _runs(session: Session, size: int, layout: Layout) -> bool:
    try:
        session.run(_pictures(size)[:1], layout, session.outputs)
    except BadWeights:
        return False
    return True


def _pictures(size: int) -> Array:
    """(3, 3, size, size): a plain one and two of noise, as they look after they were normalised."""
    noise = np.random.default_rng(0).normal(0, 1, (_TRIALS - 1, 3, size, size))
    return np.concatenate([np.zeros((1, 3, size, size)), noise]).astype(np.float32)


def _alone(session: Session, picture: Array, layout: Layout) -> dict[str, Array]:
    """What the graph makes of one picture (3, size, size), where that is one row of numbers: (1, N). A fixed batch is
    filled with copies of it."""
    batch = np.repeat(picture[None], session.shape[0] or 1, axis=0)  # (B, 3, size, size)
    made = session.run(batch, layout, session.outputs)
    rows = {name: array for name, array in made.items() if _is_row(array, len(batch))}
    return {name: np.asarray(array[:1], np.float32).reshape(1, -1) for name, array in rows.items()}


def _is_row(array: NDArray[np.generic], batch: int) -> bool:
    """Whether there is one row of numbers per picture: (B, N), (B, N, 1, 1) and the like."""
    return array.ndim > 1 and len(array) == batch and max(array.shape[1:]) == array[0].size > 0


def _scores_output(session: Session, width: Mapping[str, int], labels: int, chosen: str) -> str:
    """The output with a number per label: the one that was named, or the first that has so many."""
    name = session.path.name
    known = ", ".join(f"{output} ({count})" for output, count in width.items()) or "none that is a row of numbers"
    if chosen and chosen not in width:
        raise BadRequest(f"{name} has no output {chosen!r} with one row per picture; it has {known}")
    fitting = [output for output, count in width.items() if count == labels and chosen in ("", output)]
    if not fitting:
        raise BadRequest(f"{name} does not give {labels} numbers, one per label; its outputs are {known}")
    return fitting[0]


def _features(
    session: Session, layout: Layout, size: int, width: Mapping[str, int], scores: str, chosen: str
) -> tuple[str, str]:
    """The tensor that heads are trained on, and the sentence about it."""
    name = session.path.name
    if chosen:
        known = {output for node in session.graph.nodes for output in node.outputs}
        if chosen not in width and chosen not in known:
            raise BadRequest(f"{name} has no tensor {chosen!r}; its outputs are {', '.join(session.outputs)}")
        return chosen, f"features are {chosen!r}, as was asked for"
    others = [output for output in width if output != scores]
    named = [output for output in others if any(word in output.lower() for word in _EMBEDDINGS)]
    if named or (others and not scores):
        best = (named or others)[0]
        return best, f"features are its output {best!r}"
    if not scores:
        raise BadRequest(f"{name} has no output with one row of numbers per picture: name a tensor by --features")
    inner = _before_last_layer(session.graph, scores)
    if inner and _is_to_be_had(session, layout, size, inner):
        return inner, f"features are what goes into its last layer, {inner!r}"
    return scores, "it shows no embedding, so its scores are the features too: heads on them know no more than they do"


def _before_last_layer(graph: Graph, scores: str) -> str:
    """The tensor that the last matrix is multiplied with; empty where the graph does not end in one."""
    node = graph.maker(scores)
    while node is not None and node.op not in ("Gemm", "MatMul"):
        made = [name for name in node.inputs if graph.maker(name) is not None]
        if node.op not in (*_FORMS, *_SCORED, "LogSoftmax", "Add") or len(made) != 1:
            return ""
        node = graph.maker(made[0])
    if node is None or len(node.inputs) < 2:
        return ""
    matrix = graph.maker(node.inputs[1])
    is_learned = matrix is None or matrix.op in _STORED
    return node.inputs[0] if is_learned and graph.maker(node.inputs[0]) is not None else ""


def _is_to_be_had(session: Session, layout: Layout, size: int, tensor: str) -> bool:
    """Whether a tensor inside the graph is one row per picture."""
    try:
        tapped = Session(session.path, (tensor,))
        return tensor in _alone(tapped, _pictures(size)[0], layout)
    except BadWeights:
        return False


def _batched(session: Session, trials: Array, plan: Plan, alone: Mapping[str, Array]) -> tuple[Plan, tuple[str, ...]]:
    """The plan, with pictures one by one where a batch would change what they get.

    Raises:
        Unsupported: the graph wants several at once, and they change one another's answers.
    """
    if plan.batch == 1 or _is_batchable(session, trials, plan, alone):
        return plan, ()
    if plan.batch:
        raise Unsupported(
            f"{session.path.name} takes {plan.batch} pictures at once, and their answers depend on one another: "
            "export it for one picture"
        )
    note = "its answers depend on what else is in a batch, so pictures go through it one by one"
    return replace(plan, batch=1), (note,)


def _is_batchable(session: Session, trials: Array, plan: Plan, alone: Mapping[str, Array]) -> bool:
    try:
        together = session.rows(trials, plan)
    except (BadWeights, ValueError):  # ValueError: the first axis of an output is not that of the pictures
        return False
    return all(
        together[name].shape == rows.shape
        and bool(np.abs(together[name] - rows).max() <= _SAME * max(1.0, float(np.abs(rows).max())))
        for name, rows in alone.items()
    )


def _scoring(graph: Graph, scores: str, rows: Array, said: Scoring | None) -> tuple[Scoring, bool]:
    """How the scores are made, and whether the graph has done it: its last step says so, or rows that sum to 1."""
    node = graph.maker(scores)
    while node is not None and node.op in _FORMS:
        node = graph.maker(node.inputs[0])
    shown = _SCORED.get(node.op) if node is not None else None
    if shown is None and rows.shape[1] > 1 and (rows >= 0).all() and (np.abs(rows.sum(1) - 1) < _SUM).all():
        shown = "softmax"
    if shown and said and shown != said:
        raise BadRequest(f"its scores have gone through a {shown} within the graph: --scoring {shown}")
    found: Scoring = shown or said or "softmax"
    if found == "softmax" and rows.shape[1] == 1:
        raise BadRequest("one label and a softmax: every picture would score 1; give two labels, or --scoring sigmoid")
    return found, shown is not None
