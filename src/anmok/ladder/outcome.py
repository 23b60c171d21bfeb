"""What a climb found: plain frozen values. ``report.json`` is this as it stands, with ``format`` as its version.

Shares (accuracies, gains, margins) are between 0 and 1. Intervals are 95 % unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from anmok.evidence.intervals import Estimate, Interval
from anmok.ladder.outcome_trust import Priced, Trust

FORMAT = "anmok.ladder/1"
LISTED = 200  # at most, of doubtful labels and of near-duplicates


@dataclass(frozen=True, slots=True)
class Step:
    """One rung at one number of labels, on the sealed test set."""

    key: str  # "0b", "2"
    rung: str  # "zero-shot, templates"
    variant: str  # which choice the inner cross-validation took: "logistic regression, C = 0.01"; may be empty
    shots: int | None  # labels per class; None: all labels of the pool; 0 for zero-shot
    labels: int  # labels used in all, to train and to choose
    draws: int  # support draws averaged
    accuracy: Estimate
    balanced_accuracy: float
    macro_f1: float
    seconds: float  # to fit and choose, features cached
    cold_seconds: float  # the same with the features of the images it needs
    ms_per_image: float  # one picture of the user's, decoded, through net and head
    megabytes: float  # what must ship: net and head
    head_megabytes: float  # of it, what was learned


@dataclass(frozen=True, slots=True)
class Comparison:
    """One planned contrast on the same test images: ``key`` against ``against``."""

    key: str
    against: str
    word: str  # BETTER, WORSE, SAME, CANNOT TELL
    gain: float
    low: float
    high: float
    p_adjusted: float
    disagreement: float
    images_needed: int | None  # test images that would settle it; None where no number can be named
    is_out_of_reach: bool = False  # more than 100,000 would: not to be settled by labelling more


@dataclass(frozen=True, slots=True)
class Control:
    """A predictor that must not work. ``expected`` is what it reaches if all is well."""

    name: str  # majority, shuffled labels, random words, grey image, file order ...
    accuracy: Estimate
    expected: float
    is_suspicious: bool
    against: Comparison | None = None  # how the rung stands against it that it is the control of


@dataclass(frozen=True, slots=True)
class Leak:
    """The label can be guessed without looking: what gives it away, and what a random split would have claimed."""

    control: str  # the column: "number in the name"
    control_random: Estimate  # that control's accuracy, random split
    control_grouped: Estimate  # and across groups
    majority: float
    scheme: str  # the proposed groups: "runs of 64 consecutive numbers"
    groups: int
    rung: str  # the rung that shows what it does to a model
    random_split: Estimate  # that rung, random split of the development pool: what one would have claimed
    group_split: Estimate  # the same, split by groups: what survives


@dataclass(frozen=True, slots=True)
class ClassRow:
    name: str
    images: int  # in the whole data set
    tested: int
    recall: Estimate
    precision: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    truth: str
    predicted: str
    count: int
    examples: tuple[int, ...]  # indices into ``Data.names``


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that the out-of-fold predictions contradict."""

    index: int
    given: str
    suggested: str
    confidence: float


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    first: int
    second: int
    cosine: float
    is_conflict: bool  # under two labels
    first_label: int | None = None  # which: indices into the classes
    second_label: int | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """The images, as used."""

    title: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    pool: int
    test: int
    groups: int  # number of groups that no split may divide
    grouping: str  # how they came about
    licence: str  # of the pictures; empty for the user's own
    data_hash: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    key: str
    best: str
    is_decided: bool
    is_useful: bool  # better than the majority control
    shots_enough: int | None  # labels per class from which the recommended rung is not worse than with all of them
    next_gain: float | None  # what doubling the labels would buy, from the curve; None where it cannot be told
    reason: str
    lead: Interval | None = None  # over the majority control, on the same images
    images_needed: int | None = None  # that would show the recommended rung good enough; None where nothing would
    is_out_of_reach: bool = False  # more than 100,000 would: not to be settled by labelling more


@dataclass(frozen=True, slots=True)
class NotTried:
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Honesty:
    openings: int  # different plans that tested on these data, under any split, this one included
    is_replay: bool  # the same plan on the same data was opened before: not counted again
    labels_to_choose: int
    development: Estimate | None  # nested cross-validation of the recommended rung: "development", not a test
    not_tried: tuple[NotTried, ...]
    assumptions: tuple[str, ...]
    licences: tuple[tuple[str, str], ...]  # what, under which


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything the report shows."""

    model: str
    model_note: str  # what the model is, in one honest sentence
    data: Data
    recommendation: Recommendation
    steps: tuple[Step, ...]  # the ladder: zero-shot and each rung with all labels
    curve: tuple[Step, ...]  # the same rungs at 1, 2, 4, 8, 16 labels a class
    comparisons: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    leak: Leak | None
    per_class: tuple[ClassRow, ...]
    confusions: tuple[Confusion, ...]
    suspects: tuple[Suspect, ...]
    duplicates: tuple[DuplicatePair, ...]
    honesty: Honesty
    margin: float
    seed: int
    plan_hash: str
    reproduce: str  # the command
    follow_up: str  # the command that runs the winner; empty where none was written
    seconds: float
    is_development: bool  # too few labels for a sealed test: everything here is a development estimate
    version: str
    format: str = FORMAT
    trust: Trust | None = None  # how far one answer of the recommended rung can be trusted
    priced: Priced | None = None  # what errors cost, where that was told: the recommendation follows it

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def step(self, key: str) -> Step:
        """The rung with all labels."""
        return next(step for step in self.steps if step.key == key)
