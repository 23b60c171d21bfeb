"""Answers written as they come: a line of JSON each, and whatever else was asked for. A killed run keeps its lines."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TextIO, get_args

import numpy as np
from PIL import Image as pillow

from anmok import draw, media
from anmok.clouds import cloud_of, pinhole, save
from anmok.errors import BadRequest
from anmok.files import cannot_write, write_beside, write_text
from anmok.gallery import label_studio
from anmok.metrics.annotations import from_results, write_coco
from anmok.results import AnomalyMap, DepthMap, Detections, Keypoints, Masks, Matte, NormalMap, PartMap, Result

Form = Literal["coco", "label-studio"]
FORMS: tuple[str, ...] = get_args(Form)
LINES = "results.jsonl"
_SHEET = "sheet"
_THUMBNAIL = 320  # pixels
_LONGEST_JPEG = 65_500  # pixels
_DENSE: dict[type[Result], str] = {
    DepthMap: "depth",
    NormalMap: "normals",
    PartMap: "parts",
    Matte: "alpha",
    AnomalyMap: "map",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept beside ``results.jsonl``."""

    pictures: bool = True
    crops: bool = False
    forms: tuple[str, ...] = ()
    cloud: str = ""  # a suffix, for depth
    focal_px: float | None = None  # of the camera, for the cloud; None: as the model says, or a guess
    arrays: bool = False  # dense maps as .npy

    def __post_init__(self) -> None:
        unknown = [form for form in self.forms if form not in FORMS]
        if unknown:
            raise BadRequest(f"--to {unknown[0]}: want {' or '.join(FORMS)}")
        if self.cloud not in ("", ".ply", ".glb"):
            raise BadRequest(f"--cloud {self.cloud.removeprefix('.')}: want ply or glb")


class Gallery:
    """Use it in a ``with`` block; what has to wait for the last picture is written on the way out.

    Args:
        folder: made where it is not there; files of an earlier run are replaced one by one. No picture that is
            added may lie in it.
        kept: what to write.
        maker: who answered; stands in the exported predictions.

    Raises:
        CannotWrite: the disk refuses.
    """

    def __init__(self, folder: Path, kept: Kept, maker: str) -> None:
        self.folder = folder
        self.kept = kept
        self._maker = maker
        self._names = {_SHEET}
        self._sheet: list[tuple[str, pillow.Image]] = []
        self._placed: list[tuple[str, Detections | Masks]] = []
        self._lines: TextIO | None = None

    def __enter__(self) -> Gallery:
        with cannot_write(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines = (self.folder / LINES).open("w", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()
        if kind is None:
            self._finish()

    def add(self, source: Path, result: Result) -> None:
        """One answer. Reads the picture again only where something is drawn or cut out of it.

        Raises:
            BadRequest: the picture lies in the folder itself, where it might be written over.
        """
        if source.absolute().parent == self.folder.absolute():
            raise BadRequest(f"{self.folder} holds the pictures themselves; give another folder")
        assert self._lines is not None
        name = self._name(source)
        with cannot_write(self.folder):
            line = {"image": str(source), **result.facts()}
            if self.kept.arrays and type(result) in _DENSE:
                line["array"] = f"{name}.npy"
            print(json.dumps(line, ensure_ascii=False), file=self._lines, flush=True)
        if isinstance(result, Detections | Masks) and self.kept.forms:
            self._placed.append((str(source), result))
        if self.kept.arrays:
            self._array(name, result)
        if not (self.kept.pictures or self.kept.crops or self.kept.cloud):
            return
        image = media.read(source)
        if self.kept.pictures:
            drawn = draw.plot(result, image)
            self._look_at(drawn, name)
            self._thumb(source.name, drawn)
        if self.kept.crops:
            self._crop(name, image, result)
        if self.kept.cloud and isinstance(result, DepthMap):
            given = None if self.kept.focal_px is None else pinhole(result.size_hw, self.kept.focal_px)
            save(cloud_of(result, image, given), self.folder / f"{name}{self.kept.cloud}")

    def _name(self, source: Path) -> str:
        """The picture's stem, with a number where an earlier one had it too; some disks ignore capitals."""
        numbers = itertools.chain([""], (f"-{count}" for count in itertools.count(2)))
        name = next(name for name in (source.stem + number for number in numbers) if name.lower() not in self._names)
        self._names.add(name.lower())
        return name

    def _thumb(self, caption: str, picture: pillow.Image) -> None:
        if len(self._sheet) < draw.MOST:
            small = picture.copy()
            small.thumbnail((_THUMBNAIL, _THUMBNAIL))
            self._sheet.append((caption, small))

    def _crop(self, name: str, image: media.Image, result: Result) -> None:
        """Each box as a picture of its own; of a mask only what it covers, on transparent ground."""
        if not isinstance(result, Detections | Masks | Keypoints):
            return
        for index, box in enumerate(result.xyxy.tolist()):
            left, top, right, bottom = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
            part = image[top:bottom, left:right]
            if not part.size:
                continue
            if isinstance(result, Masks):
                alpha = result.rles[index].crop()[:, :, None].astype(np.uint8) * np.uint8(255)
                part = np.concatenate([part, alpha], axis=2)  # (h, w, 4)
            label = result.names[index] if isinstance(result, Detections | Masks) else "person"
            safe = "".join(letter if letter.isalnum() else "-" for letter in label) or "object"
            folder = self.folder / "crops" / safe
            with cannot_write(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._save(pillow.fromarray(np.ascontiguousarray(part)), folder / f"{name}-{index}.png")

    def _array(self, name: str, result: Result) -> None:
        attribute = _DENSE.get(type(result))
        if attribute is None:
            return
        with write_beside(self.folder / f"{name}.npy") as beside, beside.open("wb") as file:
            np.save(file, getattr(result, attribute), allow_pickle=False)

    def _look_at(self, picture: pillow.Image, name: str) -> None:
        """As JPEG without loss of colour: a twentieth of the time of PNG, which was the longest step of all."""
        if max(picture.size) > _LONGEST_JPEG:
            self._save(picture, self.folder / f"{name}.png")
            return
        with write_beside(self.folder / f"{name}.jpg") as beside:
            picture.save(beside, "JPEG", quality=90, subsampling=0)

    def _save(self, picture: pillow.Image, path: Path) -> None:
        """Exact, with transparency; runs alone are sought (zlib's Z_RLE), at two thirds of the time for a photo."""
        with write_beside(path) as beside:
            picture.save(beside, "PNG", compress_level=1, compress_type=3)

    def _finish(self) -> None:
        if len(self._sheet) > 1:
            with write_beside(self.folder / f"{_SHEET}.jpg") as beside:
                draw.contact_sheet(self._sheet).save(beside, "JPEG", quality=88)
        for form in self.kept.forms:
            if form == "coco":
                files, results = [file for file, _ in self._placed], [result for _, result in self._placed]
                write_coco(from_results(files, results), self.folder / "coco.json")
            else:
                self._label_studio()

    def _label_studio(self) -> None:
        tasks = [label_studio.task(Path(file), result, self._maker) for file, result in self._placed]
        write_text(self.folder / "label-studio.json", json.dumps(tasks, ensure_ascii=False))
        labels = next((result.labels for _, result in self._placed if result.labels), ("object",))
        has_masks = any(isinstance(result, Masks) for _, result in self._placed)
        write_text(self.folder / "label-studio.xml", label_studio.config(labels, has_masks=has_masks))
