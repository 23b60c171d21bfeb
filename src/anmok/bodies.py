"""What models of people do alike: whose pose or gaze is asked for, by a prompt or a detector; an answer per picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok import geometry
from anmok.errors import BadRequest
from anmok.geometry import Frame, View
from anmok.inputs import Encoded, Prompted
from anmok.people import Skeleton
from anmok.results import Keypoints
from anmok.tasks import Detect, Detects, Encoder, Pose

Array = NDArray[np.float32]
Picture: TypeAlias = NDArray[np.uint8]  # (H, W, 3)
Person: TypeAlias = tuple[Picture, Array]  # a picture and a box (4,) in it
Locate = Callable[[Sequence[Person]], tuple[Array, Array]]  # N of them to points (N, K, 2) and scores (N, K)

WORD, FACE = "person", "face"  # what a detector calls them


class Finder(Encoder, Detects, Protocol):
    """A detector, as its model file made it."""


def pictured(image: Picture) -> View:
    """The picture as it is, uint8 (3, H, W): people are cut out of it when it is asked about."""
    size = (int(image.shape[0]), int(image.shape[1]))
    return View(np.ascontiguousarray(image.transpose(2, 0, 1)), Frame((1.0, 1.0), (0.0, 0.0), size))


def kept(batch: Array) -> dict[str, NDArray[np.generic]]:
    """Pictures of ``pictured`` (B, 3, H, W) to ``picture`` uint8 (B, H, W, 3)."""
    return {"picture": np.ascontiguousarray(batch.transpose(0, 2, 3, 1))}


def posed(
    states: Sequence[Encoded | Prompted], ask: Pose, detector: Finder, skeleton: Skeleton, locate: Locate
) -> list[Keypoints]:
    """The people of every picture. The boxes of a ``Prompted`` are the people; without any the detector is asked,
    and where it finds nobody the answer is empty. Points that the net puts outside of the picture lie on its edge.

    Raises:
        BadRequest: a prompt has points, a mask or exemplars.
    """
    found = [_boxes(state, ask, detector) for state in states]
    people = [(_picture(state), box) for state, (boxes, _) in zip(states, found, strict=True) for box in boxes]
    count = len(skeleton.names)
    places, scores = np.zeros((0, count, 2), np.float32), np.zeros((0, count), np.float32)
    if people:
        places, scores = locate(people)  # (N, K, 2), (N, K)
    answers: list[Keypoints] = []
    start = 0
    for state, (boxes, sure) in zip(states, found, strict=True):
        own = slice(start, start + len(boxes))
        start = own.stop
        size = encoded(state).place.size_hw
        inside = np.clip(places[own], 0, (size[1], size[0]))
        heights = np.clip(scores[own], 0, 1)
        shown = geometry.clipped(boxes, size)
        answers.append(
            Keypoints(inside, heights, shown, sure, skeleton.names, skeleton.edges, size, threshold=ask.threshold)
        )
    return answers


def _boxes(state: Encoded | Prompted, ask: Pose, detector: Finder) -> tuple[Array, Array]:
    """(N, 4) and how sure (N,). A box that was given is a person for sure; it may reach out of the picture."""
    if isinstance(state, Prompted):
        if state.points or state.mask is not None or state.exemplars:
            raise BadRequest("pose takes boxes around people, no points, masks or exemplars")
        if state.boxes:
            boxes = np.asarray(state.boxes, np.float32)  # (N, 4)
            return boxes, np.ones(len(boxes), np.float32)
    view = detector.prepare(_picture(state))
    maps = {name: array[0] for name, array in detector.encode(view.pixels[None]).items()}
    [found] = detector.detect([Encoded("", maps, view.frame)], Detect((WORD,), threshold=ask.person))
    return found.xyxy, found.scores


def looking(state: Encoded | Prompted) -> tuple[Array, Array] | None:
    """Whose gaze a prompt asks for: eyes (N, 2) and faces (N, 4), or (0, 4) of an eye alone; None: everybody's.

    The middle of a face stands for its eyes, as in vikhyat/moondream, recipes/gaze-detection-video.

    Raises:
        BadRequest: a prompt has a mask or exemplars, several points, or one that says no.
    """
    if not isinstance(state, Prompted):
        return None
    if state.mask is not None or state.exemplars:
        raise BadRequest("gaze takes boxes around faces, or a point on an eye; no masks or exemplars")
    if len(state.points) > 1 or any(sign == 0 for _, _, sign in state.points):
        raise BadRequest("gaze takes one point, on an eye; for several people give a box around each face")
    if not state.points and not state.boxes:
        return None
    boxes = np.asarray(state.boxes, np.float32).reshape(-1, 4)  # (N, 4)
    faces = geometry.clipped(boxes, encoded(state).place.size_hw)
    return np.asarray([point[:2] for point in state.points], np.float32) if state.points else middles(faces), faces


def middles(xyxy: Array) -> Array:
    """Of boxes (N, 4), (N, 2)."""
    return np.asarray((xyxy[:, :2] + xyxy[:, 2:]) / 2, np.float32)


def encoded(state: Encoded | Prompted) -> Encoded:
    """The picture itself."""
    found = state.image if isinstance(state, Prompted) else state
    assert isinstance(found, Encoded)
    return found


def _picture(state: Encoded | Prompted) -> Picture:
    picture: Picture = encoded(state).maps["picture"]  # type: ignore[assignment]
    return picture
