"""Bodies: keypoints of the people in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.results.basic import Result, frozen
from anmok.results.places import check_boxes


@dataclass(frozen=True, eq=False, slots=True)
class Keypoints(Result):
    """The joints of N people, K points each.

    ``xy`` is float32 (N, K, 2), pixels of the caller's picture, inside it; ``scores`` float32 (N, K) is the model's
    confidence in each point; ``xyxy`` float32 (N, 4) and ``box_scores`` float32 (N,) are the people's boxes.
    ``names`` (K) and ``edges`` (pairs of indices that a skeleton joins) belong to the set of points.
    """

    xy: NDArray[np.float32]
    scores: NDArray[np.float32]
    xyxy: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    size_hw: tuple[int, int]
    threshold: float = 0.3

    def __post_init__(self) -> None:
        people, points = len(self.box_scores), len(self.names)
        object.__setattr__(self, "xy", frozen(self.xy, (people, points, 2), "Keypoints.xy"))
        object.__setattr__(self, "scores", frozen(self.scores, (people, points), "Keypoints.scores"))
        object.__setattr__(self, "xyxy", frozen(self.xyxy, (people, 4), "Keypoints.xyxy"))
        object.__setattr__(self, "box_scores", frozen(self.box_scores, (people,), "Keypoints.box_scores"))
        check_boxes(self.xyxy, self.size_hw)
        if (self.xy < 0).any() or (self.xy > (self.size_hw[1], self.size_hw[0])).any():
            raise BadRequest("Keypoints.xy: a point lies outside the picture")
        if any(not 0 <= end < points for edge in self.edges for end in edge):
            raise BadRequest(f"Keypoints.edges: want pairs of numbers from 0 to {points - 1}")

    def __len__(self) -> int:
        return len(self.box_scores)

    @property
    def is_visible(self) -> NDArray[np.bool_]:
        """bool (N, K): at least as sure as the threshold."""
        return self.scores >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        people = []
        for index in range(len(self)):
            rows = zip(self.names, self.xy[index].tolist(), self.scores[index].tolist(), strict=True)
            points = [{"name": name, "x": x, "y": y, "score": score} for name, (x, y), score in rows]
            box = self.xyxy[index].tolist()
            people.append({"box": box, "score": float(self.box_scores[index]), "keypoints": points})
        return {"size": list(self.size_hw), "people": people}
