"""Box sessions: proposals judged key by key, what people drew written as labels, precision and recall of the model."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from anmok.engine import Busy, Engine
from anmok.errors import BadData, BadRequest, UnknownModel
from anmok.inputs import Source
from anmok.labelling import BoxSession, BoxTask, ServedFinder
from anmok.load import tiny
from anmok.metrics.annotations import YOLO, read_coco, read_text, read_voc
from anmok.results import Detections, Failure
from anmok.tasks import Detect
from scenes import save, scene

PLACES = tiny("fake-places")
LABELS = ("red", "blue")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 pictures with a red square, every second with a blue one too; treat as read-only."""
    root = tmp_path_factory.mktemp("boxes") / "photos"
    for i in range(36):
        squares = [("red", i % 8 * 5, 4), *([("blue", 40, 30)] if i % 2 else [])]
        save(root / ("sub" if i % 3 else ".") / f"{i:02d}.png", scene(*squares))
    return root


def opened(photos: Path, store: Path, **others: object) -> BoxSession:
    session = BoxSession.open(photos, LABELS, store=store, model=PLACES, **others)  # type: ignore[arg-type]
    assert session.settled(30)
    return session


def test_proposals_are_judged_and_written(photos: Path, tmp_path: Path) -> None:
    with opened(photos, tmp_path) as session:
        task = next(one for one in session.next(9) if len(one.boxes) == 2)
        red, blue = (next(box for box in task.boxes if box.label == label) for label in LABELS)
        assert (red.state, red.xyxy[1::2], task.size_hw) == ("proposed", (4.0, 14.0), (48, 64))
        session.reject(task, blue.id)
        session.move(task, red.id, (1, 2, 11, 12))
        after = session.add(task, (50, 20, 99, 30), "blue")
        assert [(box.id, box.state) for box in after.boxes] == [
            (red.id, "moved"),
            (blue.id, "rejected"),
            ("a0", "added"),
        ]
        assert after.boxes[-1].xyxy == (50, 20, 64, 30)  # cut at the picture's edge
        assert session.results() == {}
        session.done(task)
        found = session.results()[task.path]
        np.testing.assert_array_equal(found.xyxy, [[1, 2, 11, 12], [50, 20, 64, 30]])
        assert found.names == ("red", "blue")
        assert session.verdict().boxes == {"red": 1, "blue": 1}
        assert task.id not in [one.id for one in session.next(40)]


def test_done_accepts_what_is_left_and_undo_goes_back_stroke_by_stroke(photos: Path, tmp_path: Path) -> None:
    with opened(photos, tmp_path) as session:
        [task] = session.next()
        session.add(task, (0, 20, 5, 25), "blue")
        assert {box.state for box in session.done(task).boxes} == {"accepted", "added"}
        back = session.undo()
        assert back.boxes[0].state == "proposed"
        assert session.next()[0].id == task.id
        assert session.undo().boxes == task.boxes
        with pytest.raises(BadRequest, match="nothing to undo"):
            session.undo()
        again = session.add(task, (0, 20, 5, 25), "blue")
        assert again.boxes[-1].id == "a1"  # no id comes twice
    with opened(photos, tmp_path) as session:
        assert session.next()[0] == again


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_three_forms_read_back(photos: Path, tmp_path: Path, form: str) -> None:
    with opened(photos, tmp_path / "store") as session:
        for task in session.next(6):
            session.done(task)
        results = session.results()
        assert session.export(tmp_path / "out", form) == sum(map(len, results.values()))
    out = tmp_path / "out"
    back = (
        read_coco(out / "annotations.json")
        if form == "coco"
        else read_voc(out)
        if form == "voc"
        else read_text(out / "labels", YOLO, images=photos, names=out / "classes.txt")
    )
    assert len(back) == sum(map(len, results.values()))
    for name, found in results.items():
        image = next(i for i, file in enumerate(back.files) if file.removesuffix(".png") == name.removesuffix(".png"))
        boxes = back.xyxy[back.image_ids == image]
        np.testing.assert_allclose(boxes, found.xyxy, atol=1e-3)  # a thousandth of a pixel: YOLO's and VOC's digits


def test_precision_and_recall_are_of_the_measuring_images(photos: Path, tmp_path: Path) -> None:
    """On every measuring image the blue box is rejected, a missed one is drawn, and the red one is moved: by one pixel
    (IoU 0.82: right) or by eight (0.11: wrong), in turns."""
    with opened(photos, tmp_path) as session:
        shifts: list[int] = []
        blues = 0
        for task in session.next(36):
            if task.stream == "measure":
                shifts.append(8 if len(shifts) % 2 else 1)
                session.add(task, (0, 40, 5, 45), "red")
            for box in task.boxes:
                if task.stream == "teach" or box.label == "blue":
                    session.reject(task, box.id)  # on a teaching image it must not count
                    blues += task.stream == "measure"
                else:
                    left, top, right, bottom = box.xyxy
                    session.move(task, box.id, (left, top + shifts[-1], right, bottom + shifts[-1]))
            session.done(task)
        standing = session.verdict()
    turns, right_ones = len(shifts), shifts.count(1)
    assert standing.done == {"teach": 36 - turns, "measure": turns}
    assert standing.precision is not None
    assert standing.recall is not None
    assert (standing.precision.n, standing.recall.n) == (turns + blues, 2 * turns)
    assert standing.precision.value == pytest.approx(right_ones / (turns + blues))
    assert standing.recall.value == pytest.approx(right_ones / (2 * turns))


def test_the_doubtful_come_first(photos: Path, tmp_path: Path) -> None:
    class Unsure:
        name = "unsure"

        def find(self, images: Sequence[Source], ask: Detect) -> list[Detections | Failure]:
            scores = [len(image) % 97 / 97 for image in images if isinstance(image, bytes)]
            box = np.array([[0, 0, 5, 5]], np.float32)
            return [
                Detections(box, np.array([score], np.float32), np.zeros(1, np.int64), LABELS, (48, 64))
                for score in scores
            ]

    with BoxSession.open(photos, LABELS, store=tmp_path, model=Unsure()) as session:
        assert session.settled(30)
        tasks = [task for task in session.next(30) if task.stream == "teach"]
        doubts = [abs(task.boxes[0].score - 0.5) for task in tasks]
        assert doubts == sorted(doubts)
        assert len(doubts) >= 15
    with pytest.raises(BadRequest, match="model 'unsure', now ''"):
        BoxSession.open(photos, LABELS, store=tmp_path, model=None)


def test_proposals_are_made_once(photos: Path, tmp_path: Path) -> None:
    with opened(photos, tmp_path) as session:
        assert session.verdict().proposed == 36
    size = (tmp_path / "boxes.jsonl").stat().st_size
    with opened(photos, tmp_path) as session:
        assert session.verdict().proposed == 36
        task = session.next()[0]
        assert task.is_ready
        session.done(task, seconds=3.0)
        assert session.verdict().paces[0].median == 3.0
    lines = (tmp_path / "boxes.jsonl").read_bytes()[size:].splitlines()
    assert [json.loads(line)["do"] for line in lines] == ["done"]


def test_two_people_never_get_one_image(photos: Path, tmp_path: Path) -> None:
    with opened(photos, tmp_path) as session:
        mine, theirs = session.next(12, by="a"), session.next(30, by="b")
        assert not {task.id for task in mine} & {task.id for task in theirs}
        assert len(mine) + len(theirs) == 36


def test_without_a_model_people_draw(photos: Path, tmp_path: Path) -> None:
    with BoxSession.open(photos, LABELS, store=tmp_path) as session:
        assert session.settled(30)
        [task] = session.next()
        assert (task.boxes, task.size_hw) == ((), (48, 64))
        session.add(task, (1, 1, 9, 9), "red")
        session.done(task)
        assert len(session.results()[task.path]) == 1
        assert session.verdict().precision is None


def test_an_engine_proposes_and_may_be_busy(photos: Path, tmp_path: Path) -> None:
    class Full(Engine):
        refused = 0

        def run(self, *given: object, **named: object) -> list[Detections | Failure]:  # type: ignore[override]
            if self.refused < 2:
                self.refused += 1
                raise Busy("the queue is full", 0.01)
            return super().run(*given, **named)  # type: ignore[arg-type]

    engine = Full(2**20, lambda name: tiny(name))
    with engine:
        finder = ServedFinder(engine, "fake-places")
        with BoxSession.open(photos, LABELS, store=tmp_path, model=finder) as session:
            assert session.settled(30)
            standing = session.verdict()
    assert (engine.refused, standing.proposed, standing.trouble) == (2, 36, "")


def test_bad_strokes_are_one_line(photos: Path, tmp_path: Path) -> None:
    class Slow:
        name = "slow"

        def find(self, images: Sequence[Source], ask: Detect) -> list[Detections | Failure]:
            time.sleep(0.3)
            return [Detections.none(LABELS, (48, 64)) for _ in images]

    with BoxSession.open(photos, LABELS, store=tmp_path / "slow", model=Slow()) as session:
        task: BoxTask = session.next(20)[-1]
        assert not task.is_ready
        with pytest.raises(BadRequest, match="not looked at it yet"):
            session.done(task)
    with opened(photos, tmp_path) as session:
        [task] = session.next()
        for call, said in (
            (lambda: session.accept(task, "p9"), "has no box 'p9'"),
            (lambda: session.accept("nothing", "p0"), "no image has the id"),
            (lambda: session.add(task, (70, 0, 80, 9), "red"), "covers nothing of a picture of 64 x 48"),
            (lambda: session.add(task, (9, 9, 1, 1), "red"), "covers nothing"),
            (lambda: session.add(task, (0, 0, float("nan"), 9), "red"), "in pixels"),
            (lambda: session.add(task, (0, 0, 9, 9), "green"), "label 'green'"),
            (lambda: session.export(tmp_path, "txt"), "form 'txt'"),
        ):
            with pytest.raises(BadRequest, match=said):
                call()
        with pytest.raises(BadData, match="no image is done"):
            session.export(tmp_path)
    with pytest.raises(UnknownModel):
        BoxSession.open(photos, LABELS, store=tmp_path / "x", model="owl")
