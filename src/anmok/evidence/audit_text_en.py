"""The sentences of an audit in English."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anmok.evidence.audit import Audit, Part
from anmok.evidence.audit_gate import Gate
from anmok.evidence.audit_rows import Note
from anmok.evidence.intervals import Estimate
from anmok.evidence.leaks import GroupScheme

COLUMNS = {
    "number": "number in the file name",
    "first_number": "first number in the file name",
    "order": "place in the listing",
    "time": "time of capture",
    "folder": "folder",
    "camera": "camera",
    "bytes": "size of the file",
    "dimensions": "width and height",
    "wording": "words in the file name",
    "label_in_name": "class name in the file name",
    "together": "all of these together",
}
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
HEADINGS = {
    "why": "Where the difference comes from",
    "controls": "Can the label be guessed without looking?",
    "random": "split at random",
    "grouped": "split by groups",
    "groups": "Groups",
    "next": "What next",
    "notes": "Taken for granted",
    "required": "Required",
    "beats": "* beats chance",
}


def percent(share: float) -> str:
    """``83.0 %``."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """``-3.9``, with a sign."""
    return f"{100 * share:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")


def span(estimate: Estimate) -> str:
    """``74.0 to 81.5 %``."""
    return f"{100 * estimate.interval.low:.1f} to {100 * estimate.interval.high:.1f} %"


def headline(audit: Audit) -> str:
    """The verdict in one sentence."""
    claimed, first = percent(audit.claimed), audit.surviving.get("accuracy")
    if first is None:
        return f"{claimed} was claimed; what survives cannot be told from these predictions."
    survives = f"{percent(first.value)} survives ({span(first)})"
    if audit.word == "FALLS":
        return f"The claim falls: {claimed} was claimed, {survives}."
    if audit.word == "STANDS":
        return f"The claim stands: {claimed} was claimed, {survives}."
    return f"Cannot tell: {claimed} was claimed, {survives}."


def measure(audit: Audit) -> str:
    """How the surviving accuracy was found, and what it rests on."""
    first = audit.surviving.get("accuracy")
    if first is None:
        return _nothing(audit)
    if audit.basis == "estimated":
        text = (
            f"Estimated, not measured: {_too_few(audit)}. The {_images(first.n, 'test image')} count as if "
            "whole groups had been held out"
        )
    else:
        text = f"Measured on {_images(first.n, 'test image')}"
        if audit.standing.tested.size > first.n:
            text += " without a copy or a group-mate in training"
    if first.effective_n < 0.9 * first.n:
        text += f"; they tell as much as {first.effective_n:.0f} independent images"
    return f"{text}."


def part(audit: Audit, one: Part) -> str:
    """One reason of the difference."""
    images = _images(one.images, "test image")
    have = "has" if one.images == 1 else "have"
    if one.code == "file":
        return "the file's own rows give another accuracy than it states"
    if one.code == "copies":
        return f"{images} {have} a copy or near-copy among the images that were learnt from"
    if one.code == "mates":
        return f"{images} {have} group-mates among the images that were learnt from"
    if one.code == "neighbours":
        strongest = audit.leaks.strongest
        by = f"the {COLUMNS[strongest.name]} gives the label away" if strongest else "the group gives the label away"
        return f"{by}: neighbours of {images} may lie in training"
    return f"the best of {audit.tried} models on one test set looks that much too good"


def straddling(audit: Audit) -> str:
    """The groups that were used, and how many the split tears."""
    if audit.group is None:
        return "No groups were given, and the metadata do not ask for any."
    count = len(set(audit.group.tolist()))
    source = "Yours" if audit.has_own_groups else "Copies of one picture"
    if audit.scheme is not None:
        source = f"{'Yours, and ' if audit.has_own_groups else ''}{scheme(audit.scheme)}"
        source = source[0].upper() + source[1:]
    torn = f"; {audit.straddling} lie on both sides of the split" if audit.rows.has_split else ""
    return f"{source}: {count} groups in all{torn}."


def scheme(one: GroupScheme) -> str:
    """The proposed groups in words."""
    return one.description_en


def leaks(audit: Audit) -> list[str]:
    """What the controls mean."""
    found, report = [], audit.leaks
    if report.naming:
        found.append(
            "File names tell the label: harmless to a model that sees pixels alone, fatal where names or "
            "stamps are in the picture."
        )
    if report.class_ordered:
        found.append("Files are numbered class by class: nobody can tell from the numbers which belong together.")
    if report.still_leaking:
        found.append(
            f"Your groups are too small: across them, the {_columns(report.still_leaking)} still tells the label."
        )
    if report.curable and report.recommended is None:
        found.append(
            f"The {_columns(report.curable)} tells the label at any length of run: say with --groups what "
            "was made together."
        )
    return found


def following(audit: Audit) -> list[str]:
    """What to do."""
    found = []
    if audit.basis != "measured":
        where = "the groups in verdict.json (--out)" if audit.group is not None else "what was made together (--groups)"
        found.append(f"To measure it: split by {where}, train again and predict the new test part.")
    elif audit.word == "FALLS":
        found.append(f"Report {percent(audit.surviving['accuracy'].value)}, and split by groups from now on.")
    if audit.needed is not None and audit.word == "CANNOT TELL":
        groups = f", in about {audit.needed.groups} new groups," if audit.needed.groups else ""
        found.append(
            f"About {_images(audit.needed.more, 'more labelled test image')}{groups} would settle it "
            f"(±{100 * audit.needed.half_width:.1f} points)."
        )
    return found or ["Nothing: the number can be reported with its interval."]


def gate(one: Gate, value: float | None, is_met: bool) -> str:
    """One requirement and whether it is met."""
    found = "cannot be told" if value is None else f"{value:.3f}"
    return f"{one.text}: {found}, {'met' if is_met else 'not met'}"


def computed(audit: Audit) -> str:
    """What a reader would believe who knows of no groups."""
    first = audit.computed["accuracy"]
    images = _images(first.n, "test image")
    return f"{percent(first.value)} of {images}, which would mean {span(first)} if nothing were wrong"


def majority(audit: Audit, share: float) -> str:
    """The yardstick of the controls."""
    return f"always the commonest class: {percent(share)}"


def note(one: Note) -> str:
    """What was assumed or left out."""
    v = one.values
    sayings: dict[str, Callable[[], str]] = {
        "by_order": lambda: f"{v[0]} numbered rows were matched to the images in sorted order.",
        "labels_differ": lambda: (
            f"{v[0]} labels differ from the class folder ({v[1]}); the predictions' label counted."
        ),
        "unlisted_dropped": lambda: f"{v[0]} images of the folder are not in the predictions and were left out.",
        "unlisted_train": lambda: f"{v[0]} images of the folder have no prediction: taken for the training images.",
        "class_numbers": lambda: f"Predicted class numbers were read in sorted order: {v[0]}.",
        "no_answer": lambda: f"{v[0]} test images have no answer and count as wrong.",
        "no_split": lambda: "The split is unknown: give a split column, or every leak counts as if it had been random.",
        "validation_only": lambda: "There are no test rows; validation rows were judged, on which models are chosen.",
        "unreadable": lambda: f"{v[0]} images cannot be read and were left out; the first: {v[1]}.",
    }
    return sayings[one.code]()


def _nothing(audit: Audit) -> str:
    if audit.group is None:
        return "The metadata give the label away, and no groups were found that stop it."
    return f"{_too_few(audit)[0].upper()}{_too_few(audit)[1:]}, and the groups do not say what that is worth."


def _too_few(audit: Audit) -> str:
    if not audit.rows.has_split:
        return "nobody knows which images were learnt from"
    clean, n = int(audit.standing.is_clean.sum()), audit.standing.tested.size
    share = (
        f"none of the {n:,} test images is"
        if clean == 0
        else f"only {clean} of the {n:,} test images {'is' if clean == 1 else 'are'}"
    )
    return f"{share} without a copy or a group-mate in training"


def _columns(names: Sequence[str]) -> str:
    return ", the ".join(COLUMNS[name] for name in names)


def _images(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
