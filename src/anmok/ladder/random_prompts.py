"""What sentences around a class's name are worth: each way to ask, beside random words of the same length.

Source: Roth et al., "Waffling around for Performance: Visual Classification with Random Words and Broad Concepts"
(ICCV 2023, arXiv:2306.07282). A longer prompt may do better for its length alone; only what is gained over random
words is the sentences' doing. The random words are drawn ``DRAWS`` times, since they too can be lucky.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anmok import words
from anmok.errors import AnmokError
from anmok.evidence.compare import trial
from anmok.evidence.intervals import accuracy
from anmok.evidence.verdict import judge
from anmok.ladder.evaluate import Held
from anmok.ladder.measure import Measured
from anmok.ladder.outcome import Comparison, Control
from anmok.ladder.plan import Plan
from anmok.ladder.verdicts import compared
from anmok.ladder.zero_shot import head_of
from anmok.load import Model
from anmok.tasks import Classify
from anmok.train.describing import waffle

DRAWS = 5
AS_LONG = "random words, as long as "  # and the rung's key

Sentences = tuple[tuple[str, ...], ...]


def prompt_controls(
    model: Model, classes: tuple[str, ...], plan: Plan, measured: Measured, held: Held
) -> tuple[Control, ...]:
    """One control for each way to ask with sentences (0b, 0c, 0e) that was measured; none without a text tower."""
    found = []
    commonest = int(np.bincount(measured.material.labels, minlength=len(classes)).argmax())
    level = accuracy(held.labels == commonest, held.groups).value
    try:
        names = words.english(classes, model.card.languages)
        for key, like in _sentences(names, classes, model, plan).items():
            if key in measured.final:
                correct = _answered(model, classes, names, like, held, plan.seed) == held.labels  # (DRAWS, m)
                against = _held_against(key, measured.final[key].correct, correct, held, plan)
                found.append(Control(AS_LONG + key, accuracy(correct, held.groups), level, False, against))
    except AnmokError:  # no text tower, or names that it cannot read
        return ()
    return tuple(found)


def _sentences(names: tuple[str, ...], classes: tuple[str, ...], model: Model, plan: Plan) -> dict[str, Sentences]:
    """What the rungs with sentences say of each class."""
    templates = model.card.text.templates
    found = {"0b": tuple(tuple(one.replace("{}", name) for one in templates) for name in names)}
    described = plan.described(classes)
    if described is not None:
        found["0c"] = described
    if plan.written is not None:
        found["0e"] = plan.written.of(classes)
    return found


def _answered(
    model: Model, classes: tuple[str, ...], names: tuple[str, ...], like: Sentences, held: Held, seed: int
) -> NDArray[np.int64]:
    """(DRAWS, m): what is said under each draw of random words."""
    towers, rows = model.towers, []
    for draw in range(DRAWS):
        ask = Classify(classes, descriptions=waffle(names, like, seed + draw))
        rows.append(head_of(towers, towers.text_vectors(ask)).logits(held.features).argmax(1))  # (m,)
    return np.stack(rows)


def _held_against(key: str, rung: NDArray[np.bool_], control: NDArray[np.bool_], held: Held, plan: Plan) -> Comparison:
    tried = trial([(AS_LONG + key, control), (key, rung)], held.groups, seed=plan.seed)
    return compared(judge(tried.contrasts([(AS_LONG + key, key)])[0], plan.margin))
