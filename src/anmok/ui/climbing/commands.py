"""A climb as something to copy: the command line where it has the same climb, and Python, which always has."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from anmok.catalogue import Card, card
from anmok.ladder import Plan
from anmok.ladder.plan import rungs_for
from anmok.ladder.stakes import Stakes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visitor asked for. ``photos`` and ``labels`` are names as he knows them; ``served`` that of the model."""

    photos: str
    labels: str
    served: str
    card: Card
    plan: Plan
    language: str


def reproduce(wanted: Wanted) -> str:
    """The command that climbs again; Python where the command line would climb further."""
    return shell(wanted) or python(wanted)


def follow_up(wanted: Wanted) -> str:
    """The command that runs the winner, from where its zip was unpacked."""
    return shlex.join(["anmok", "classify", "new.jpg", "--head", "best", *_terms(wanted.card)])


def shell(wanted: Wanted) -> str:
    """Empty where the plan leaves rungs out, which the command line cannot."""
    plan, usual = wanted.plan, Plan(wanted.plan.model)
    told = {"has_student": bool(plan.student), "has_vlm": bool(plan.vlm)}
    has_budget = plan.rungs == rungs_for(has_budget=True, **told)  # even of as many minutes as usual
    if not has_budget and (plan.rungs, plan.budget) != (rungs_for(has_budget=False, **told), usual.budget):
        return ""
    words = ["anmok", "ladder", wanted.photos]
    words += ["--labels", wanted.labels] if wanted.labels else []
    words += ["--model", plan.model]
    words += ["--margin", f"{plan.margin:g}"] if plan.margin != usual.margin else []
    words += ["--groups", plan.groups] if plan.groups != usual.groups else []
    words += ["--seed", str(plan.seed)] if plan.seed else []
    words += ["--budget", f"{plan.budget:g}s"] if has_budget else []
    words += ["--student", plan.student] if plan.student else []
    words += ["--vlm", plan.vlm] if plan.vlm else []
    words += [] if plan.stakes is None else _at_stake(plan.stakes)
    words += ["--lang", wanted.language] if wanted.language != "en" else []
    return shlex.join([*words, "--out", "report", *_all_terms(wanted)])


def _at_stake(stakes: Stakes) -> list[str]:
    words = [] if stakes.max_overkill is None else ["--max-overkill", f"{stakes.max_overkill:.10g}"]
    words += ["--prevalence", ",".join(f"{name}={share:.10g}" for name, share in stakes.prevalence)] * bool(
        stakes.prevalence
    )
    return [*words, *(["--good", stakes.good] if stakes.good else [])]


def python(wanted: Wanted) -> str:
    """A script that writes the same report."""
    plan, usual = wanted.plan, Plan(wanted.plan.model)
    names = ("margin", "seed", "groups", "rungs", "budget", "student", "vlm", "stakes")
    given = {name: getattr(plan, name) for name in names}
    told = "".join(f", {name}={value!r}" for name, value in given.items() if value != getattr(usual, name))
    terms = f", accept_licences={(wanted.card.licence.id,)!r}" if _terms(wanted.card) else ""
    labels = f", labels=Path({wanted.labels!r})" if wanted.labels else ""
    return "\n".join(
        [
            "from pathlib import Path",
            "",
            "import anmok",
            "from anmok.ladder import Plan, climb, dataset",
            "from anmok.ladder.report import write_report",
            "from anmok.ladder.show import predictions, thumbnails",
            *(["from anmok.ladder.stakes import Stakes"] if plan.stakes is not None else []),
            "",
            f"photos = dataset.read(Path({wanted.photos!r}){labels})",
            f"plan = Plan({plan.model!r}{told})",
            f"climbed = climb(photos, anmok.load(plan.model{terms}), plan)",
            'report = Path("report")',
            "tables = predictions(climbed)",
            f"write_report(climbed.outcome, thumbnails(climbed), report, lang={wanted.language!r}, predictions=tables)",
            'climbed.best.write(report / "best")',
            "",
        ]
    )


def _all_terms(wanted: Wanted) -> list[str]:
    """Of the model and of those that the plan names beside it, each once."""
    cards = [wanted.card, *(card(name) for name in (wanted.plan.student, wanted.plan.vlm) if name)]
    licences = dict.fromkeys(one.licence.id for one in cards if not one.licence.is_accepted_by_default)
    return [word for licence in licences for word in ("--accept-licence", licence)]


def _terms(one: Card) -> list[str]:
    return [] if one.licence.is_accepted_by_default else ["--accept-licence", one.licence.id]
