"""Models beside the ladder's own that whoever climbs has loaded already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from anmok.errors import BadWeights, DoesNotFit, LicenceRequired, MissingDependency, Refused, WeightsUnavailable
from anmok.load import Model

# Why a model is not here. Its rungs are left out with that reason; a slip in its name is told at once instead.
NOT_HERE: Final = (BadWeights, DoesNotFit, LicenceRequired, MissingDependency, Refused, WeightsUnavailable)


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """``student`` is distilled into, ``vlm`` is asked; or the words why it could not be loaded, with which its rungs
    are left out. Where there is none, that of the plan is loaded when its turn comes."""

    student: Model | str | None = None
    vlm: Model | str | None = None
