"""The small print: how often the test set was opened, what was not tried and why, what all of it rests on."""

from __future__ import annotations

from anmok.evidence.intervals import Estimate
from anmok.ladder import ledger
from anmok.ladder.measure import Measured
from anmok.ladder.outcome import Honesty, NotTried
from anmok.ladder.plan import BRIEF, Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import available
from anmok.ladder.rungs.order import ASKED, CLOSER, LEARNED, RUNGS, TUNED
from anmok.ladder.tuning.prompted import HOLDS
from anmok.ladder.zero_shot import TextSide
from anmok.load import Model


def honesty(
    scene: Scene,
    model: Model,
    not_tried: tuple[NotTried, ...],
    chosen: int,
    development: Estimate | None,
    count: ledger.Count,
    asked: Model | None = None,
) -> Honesty:
    """``chosen``: labels that some choice used. ``development``: the recommended rung by nested cross-validation.
    ``asked``: the vision-language model of rungs V0 and V."""
    licences = [(model.card.name, model.card.licence.name)]
    licences += [] if asked is None else [(asked.card.name, asked.card.licence.name)]
    if scene.dataset.licence:
        licences.append((scene.dataset.title, scene.dataset.licence))
    licences += [] if scene.made is None else scene.made.licences
    return Honesty(
        openings=count.openings,
        is_replay=count.is_replay,
        labels_to_choose=chosen,
        development=development,
        not_tried=not_tried,
        assumptions=(
            "the images to come are like these: same camera, same things, same shares of the classes",
            "the labels are right",
            f"images stand alone but for these groups: {scene.grouping.description}",
            *_of_made(scene),
        ),
        licences=tuple(licences),
    )


def _of_made(scene: Scene) -> tuple[str, ...]:
    if scene.made is None:
        return ()
    return (f"made pictures were learned from and never tested on: {scene.made.provenance}",)


def not_tried(plan: Plan, text: TextSide, measured: Measured) -> tuple[NotTried, ...]:
    """Every rung that has no figure, with the reason."""
    possible = (*available(text.towers, plan.synthetic is not None), *CLOSER, *(ASKED if plan.vlm else ()))
    begun = {*measured.final, *(one.key for one in measured.skipped)}
    left_out = [key for key in BRIEF if key in LEARNED and key not in plan.rungs]
    stopped = [key for key in possible if key in plan.rungs and key not in begun]
    found = [NotTried(f"rung {key}", "left out by the plan") for key in left_out]
    found += [NotTried(f"rung {key}", "stopped before it") for key in stopped]
    if text.reason:
        found.append(NotTried("zero-shot and rung 3", text.reason))
    elif "0c" not in measured.final:
        found.append(NotTried("rung 0c, own descriptions", "none were given: --descriptions FILE"))
    if plan.written is None and not text.reason:
        found.append(NotTried("rung 0e, written descriptions", "no language model was named: --describe"))
    if plan.synthetic is None and "R" in plan.rungs:
        found.append(NotTried("rung R, real + synthetic", "no made pictures: --synthetic FOLDER or --synthesise"))
    found += [NotTried(f"rung {one.key} ({RUNGS[one.key].name})", one.why) for one in measured.skipped]
    if not plan.vlm:
        found.append(NotTried("rungs V0 and V, a vision-language model", "none was named: --vlm"))
    if "V" in measured.final:
        found.append(NotTried("recommending rung V", "it needs labelled images at hand, which no folder of ours holds"))
    if "S" in measured.final:
        lost = "it knows these classes alone: no other names, and no search by a text"
        found.append(NotTried("what the student can no longer do", lost))
    tunable = [key for key in TUNED if text.towers is not None or key not in HOLDS]
    further = [key for key in (*possible, *tunable) if key not in plan.rungs and key not in BRIEF]
    if further:
        names = ", ".join(f"{key} ({RUNGS[key].name})" for key in sorted(further))
        found.append(NotTried(f"rungs {names}", "they take longer: --budget 2h"))
    return tuple(found)
