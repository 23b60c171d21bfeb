"""What is going to be measured, fixed before the test set is opened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from anmok.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """Equal plans on equal data and split are one opening of the test set; any change is another.

    ``groups``: ``auto`` finds near-duplicates and, where the file order or the metadata give the label away, proposes
    groups; ``duplicates`` leaves the proposals out; ``none`` trusts every image to stand alone.
    """

    model: str
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 10
    margin: float = 0.01
    test_share: float = 0.3
    seed: int = 0
    groups: str = "auto"
    descriptions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    rungs: tuple[str, ...] = ("0a", "0b", "0c", "0d", "1", "2", "3")

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1 or list(self.shots) != sorted(set(self.shots)):
            raise BadRequest(f"shots {self.shots}: want increasing whole numbers from 1")
        if not 0 < self.margin < 0.5:
            raise BadRequest(f"margin {self.margin}: want a share between 0 and 0.5, such as 0.01")
        if self.draws < 1 or not 0 < self.test_share <= 0.5:
            raise BadRequest(f"draws {self.draws}, test share {self.test_share}: want 1 or more, and 0 to 0.5")
        if self.groups not in ("auto", "duplicates", "none"):
            raise BadRequest(f"groups {self.groups!r}: want auto, duplicates or none")

    def described(self, classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...] | None:
        """The user's own sentences for each class, its name where it has none; nothing where no class has any."""
        own = dict(self.descriptions)
        return tuple(own.get(name, (name,)) for name in classes) if own else None

    def digest(self, data_hash: str, split_hash: str) -> str:
        """The key of an opening."""
        text = json.dumps([asdict(self), data_hash, split_hash], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
