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
from numpy.typing import NDArray

from anmok.geometry import Rle
from anmok.results import Detections, Masks

BOX_NAME, MASK_NAME, IMAGE_NAME = "label", "brush", "image"
_WORD, _RLE_SIZES = 8, (3, 4, 8, 16)  # bits of a value; bits of a run's length by its class


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


def brush(rle: Rle) -> list[int]:
    """A mask as Label Studio's bytes: the RGBA pixels (255 where the mask is) row by row, as runs.

    A stream of bits: the number of values (32 bits), the word size less one (5), four sizes of lengths less one
    (4 each); then runs, each with a bit that says whether it repeats one value or spells its values out, two bits
    for its class of length, the length less one, and the value. All our runs repeat.
    """
    flat = rle.mask().ravel()  # (H * W,), row by row
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])) * 4  # RGBA: four equal values per pixel
    values = (np.arange(lengths.size) % 2 == 1) ^ bool(flat[0])
    bits = [_bits(flat.size * 4, 32), _bits(_WORD - 1, 5), *(_bits(size - 1, 4) for size in _RLE_SIZES)]
    for length, value in zip(lengths.tolist(), values.tolist(), strict=True):
        while length:
            part = min(length, 1 << _RLE_SIZES[-1])
            kind = next(i for i, size in enumerate(_RLE_SIZES) if part <= 1 << size)
            bits += [_bits(1, 1), _bits(kind, 2), _bits(part - 1, _RLE_SIZES[kind]), _bits(255 * value, _WORD)]
            length -= part
    stream = np.concatenate(bits)
    return np.packbits(stream).tolist()


def _bits(value: int, size: int) -> NDArray[np.uint8]:
    return np.asarray([value >> shift & 1 for shift in range(size - 1, -1, -1)], np.uint8)
