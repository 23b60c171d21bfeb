"""Answers as pre-annotations for Label Studio.

Source: the JSON format of labelstud.io ("Import pre-annotated data"): ``rectanglelabels`` in percent of the picture,
``brushlabels`` as the run-length code that ``label-studio-converter`` (brush.py) defines. Pictures are named as
Label Studio serves files of its own machine: with ``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true``,
``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/`` and their folder added as a local storage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from anmok.results import Detections, Masks
from anmok.wire.label_studio import brush

BOX_NAME, MASK_NAME, IMAGE_NAME = "label", "brush", "image"


def config(labels: tuple[str, ...], *, has_masks: bool) -> str:
    """The labelling interface that the answers belong to, to be pasted into a project's settings."""
    from xml.sax.saxutils import quoteattr

    rows = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    kind, name = ("BrushLabels", MASK_NAME) if has_masks else ("RectangleLabels", BOX_NAME)
    return (
        f'<View>\n  <Image name="{IMAGE_NAME}" value="$image"/>\n'
        f'  <{kind} name="{name}" toName="{IMAGE_NAME}">\n{rows}  </{kind}>\n</View>\n'
    )


def task(picture: Path, result: Detections | Masks, maker: str) -> dict[str, Any]:
    """One picture with its prediction. Empty masks are left out."""
    height, width = result.size_hw
    whole = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": IMAGE_NAME}
    rows = _boxes(result) if isinstance(result, Detections) else _brushes(result)
    return {
        "data": {IMAGE_NAME: f"/data/local-files/?d={quote(picture.absolute().as_posix().lstrip('/'))}"},
        "predictions": [
            {
                "model_version": maker,
                "score": float(result.scores.mean()) if len(result) else 0.0,
                "result": [{"id": f"r{i}", **whole, **row} for i, row in enumerate(rows)],
            }
        ],
    }


def _boxes(result: Detections) -> list[dict[str, Any]]:
    height, width = result.size_hw
    percent = result.xyxy * (100 / np.asarray([width, height, width, height]))  # (N, 4)
    rows = []
    for (left, top, right, bottom), label, score in zip(
        percent.tolist(), result.names, result.scores.tolist(), strict=True
    ):
        value = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
        value["rectanglelabels"] = [label]
        rows.append({"type": "rectanglelabels", "from_name": BOX_NAME, "score": score, "value": value})
    return rows


def _brushes(result: Masks) -> list[dict[str, Any]]:
    rows = []
    for rle, label, score in zip(result.rles, result.names, result.scores.tolist(), strict=True):
        if not rle.counts:
            continue
        value = {"format": "rle", "rle": brush(rle), "brushlabels": [label or "object"]}
        rows.append({"type": "brushlabels", "from_name": MASK_NAME, "score": score, "value": value})
    return rows
