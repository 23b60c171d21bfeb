"""People in a picture: their joints, and where they look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.results.basic import Result, frozen
from anmok.results.places import check_boxes, check_points


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
        check_points(self.xy, self.size_hw, "Keypoints.xy")
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


@dataclass(frozen=True, eq=False, slots=True)
class Gazes(Result):
    """Where each of N people looks.

    ``eyes`` is float32 (N, 2), where a gaze begins, and ``targets`` float32 (N, 2), where it ends: pixels of the
    caller's picture, inside it. ``is_inside`` bool (N,) says whether it ends in the picture at all; where not, the
    target is 0, 0 and means nothing. ``scores`` float32 (N,) in [0, 1] is how sure the model is that it ends in the
    picture. ``faces`` is float32 (N, 4), or (0, 4) where it was an eye that was pointed at.

    Raises:
        BadRequest: shapes that do not go together, or a place outside the picture.
    """

    eyes: NDArray[np.float32]
    targets: NDArray[np.float32]
    is_inside: NDArray[np.bool_]
    scores: NDArray[np.float32]
    faces: NDArray[np.float32]
    size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        count = len(self.scores)
        is_inside = np.array(self.is_inside, np.bool_)
        if is_inside.shape != (count,):
            raise BadRequest(f"Gazes.is_inside: want shape {(count,)}, got {is_inside.shape}")
        is_inside.flags.writeable = False
        object.__setattr__(self, "is_inside", is_inside)
        object.__setattr__(self, "eyes", frozen(self.eyes, (count, 2), "Gazes.eyes"))
        targets = frozen(self.targets, (count, 2), "Gazes.targets")
        object.__setattr__(self, "targets", frozen(targets * is_inside[:, None], (count, 2), "Gazes.targets"))
        object.__setattr__(self, "scores", frozen(self.scores, (count,), "Gazes.scores"))
        faces = count if len(self.faces) else 0
        object.__setattr__(self, "faces", frozen(self.faces, (faces, 4), "Gazes.faces"))
        check_points(self.eyes, self.size_hw, "Gazes.eyes")
        check_points(self.targets, self.size_hw, "Gazes.targets")
        check_boxes(self.faces, self.size_hw)

    def __len__(self) -> int:
        return len(self.scores)

    def to_dict(self) -> dict[str, Any]:
        people: list[dict[str, Any]] = []
        rows = zip(
            self.eyes.tolist(), self.targets.tolist(), self.is_inside.tolist(), self.scores.tolist(), strict=True
        )
        for index, (eye, target, is_inside, score) in enumerate(rows):
            face = {"face": self.faces[index].tolist()} if len(self.faces) else {}
            people.append({"eye": eye, "target": target if is_inside else None, "score": score} | face)
        return {"size": list(self.size_hw), "people": people}
