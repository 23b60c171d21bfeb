"""What was followed through a clip: one piece per frame, which streams, and the whole of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.results.basic import Result
from anmok.results.places import Masks


@dataclass(frozen=True, eq=False, slots=True)
class Tracked(Result):
    """One frame: where each object is. An object that is hidden has an empty mask, one that is lost is left out.

    ``frame`` counts from 0, ``seconds`` from the start of the clip; ``ids`` is int64 (N,), an object's number for
    the whole clip, in the order of ``masks``.
    """

    frame: int
    seconds: float
    ids: NDArray[np.int64]
    masks: Masks

    def __post_init__(self) -> None:
        ids = np.array(self.ids, dtype=np.int64)
        if ids.shape != (len(self.masks),) or len(set(ids.tolist())) < len(ids):
            raise BadRequest(f"Tracked.ids: want {len(self.masks)} different numbers")
        ids.flags.writeable = False
        object.__setattr__(self, "ids", ids)

    def to_dict(self) -> dict[str, Any]:
        content = self.masks.to_dict()
        objects = content.pop("masks")
        for number, one in zip(self.ids.tolist(), objects, strict=True):
            one["id"] = number
        return {"frame": self.frame, "seconds": round(self.seconds, 6), **content, "objects": objects}

    @classmethod
    def from_dict(cls, content: dict[str, Any], labels: tuple[str, ...] = ()) -> Tracked:
        """The inverse of ``to_dict``; ``labels`` are those that were asked for.

        Raises:
            BadRequest: it is no such piece.
        """
        try:
            objects = content["objects"]
            height, width = content["size"]
            rles = tuple(Rle.from_coco(one["rle"]) for one in objects)
            scores = np.asarray([one["score"] for one in objects], np.float32)
            named = [labels.index(one["label"]) if labels and "label" in one else -1 for one in objects]
            class_ids = np.asarray(named, np.int64)
            ids = np.asarray([one["id"] for one in objects], np.int64)
            read = content.get("read_as", {})
            read_as = tuple(read[label] for label in labels) if read else ()
            masks = Masks(rles, scores, class_ids, labels, (int(height), int(width)), read_as)
            return cls(int(content["frame"]), float(content["seconds"]), ids, masks)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadRequest(f"this is no frame of a track ({type(error).__name__}: {error})") from None


@dataclass(frozen=True, eq=False, slots=True)
class Tracks(Result):
    """A whole clip, frame by frame; ``broken`` are the frames that could not be decoded."""

    frames: tuple[Tracked, ...]
    broken: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Every object that was seen, in order of appearance."""
        seen: dict[int, None] = {}
        for piece in self.frames:
            seen.update(dict.fromkeys(piece.ids.tolist()))
        return tuple(seen)

    def of(self, object_id: int) -> list[tuple[int, Rle]]:
        """Frame number and mask of one object, where it has one that is not empty."""
        return [
            (piece.frame, rle)
            for piece in self.frames
            for number, rle in zip(piece.ids.tolist(), piece.masks.rles, strict=True)
            if number == object_id and rle.counts
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"frames": [piece.to_dict() for piece in self.frames], "broken": list(self.broken)}
