"""How labelling stands: two labellers, pace, outlook, and what is exported of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from anmok.engine import Busy, Engine
from anmok.errors import BadMedia, BadRequest
from anmok.evidence.intervals import wilson
from anmok.inputs import Source
from anmok.labelling import LabelSession, Look, Served, Standing
from anmok.labelling.agreement import agreement, cohens_kappa, pace
from anmok.labelling.outlook import LEAST, curve_of
from anmok.ladder import dataset
from anmok.load import tiny
from anmok.results import Failure, Result
from labelled_numbers import FAKE, LABELS, drawn, labelled, rows, truth_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Treat as read-only."""
    return drawn(tmp_path_factory.mktemp("labelling") / "photos")


def test_two_labellers_share_one_image_in_ten(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        mine, theirs = [], []
        for i in range(60):
            mine += labelled(session, 1, truth_of, by="a")
            wrong = i % 10 == 5
            theirs += labelled(session, 1, lambda task, wrong=wrong: LABELS[(truth_of(task) == "red") ^ wrong], by="b")
        both = {task.id for task in mine} & {task.id for task in theirs}
        shared = {session._photos.ids[i] for i in session._streams.shared}
        assert both
        assert both <= shared
        [found] = session.verdict().agreements
        assert (found.first, found.second, found.images) == ("a", "b", len(both))
        assert len(found.disagreements) == round(found.images * (1 - found.raw))
        assert session.verdict().disputed == len(found.disagreements)
        assert {pace.by: pace.strokes for pace in session.verdict().paces} == {"a": 60, "b": 60}
        odd = found.disagreements[0].path
        again = next(task for task in mine if task.path == odd)
        session.answer(again, found.disagreements[0].second, by="a")  # they have talked
        assert session.verdict().disputed == len(found.disagreements) - 1


def test_what_lies_before_one_is_not_given_to_another(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        mine, theirs = session.next(9, by="a"), session.next(9, by="b")
        shared = {session._photos.ids[i] for i in session._streams.shared}
        assert {task.id for task in mine} & {task.id for task in theirs} <= shared
        assert session.next(9, by="a") == mine
        assert session.next(4, by="a") == mine[:4]


def test_kappa_is_the_one_computed_by_hand() -> None:
    # Cohen's own kind of table: 20 both yes, 5 and 10 apart, 15 both no. p = 0.7, by chance 0.5: kappa 0.4.
    pairs = [("x", "y", "y")] * 20 + [("x", "y", "n")] * 5 + [("x", "n", "y")] * 10 + [("x", "n", "n")] * 15
    found = agreement("a", "b", pairs, ("y", "n"), seed=0)
    assert found is not None
    assert found.raw == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.kappa_interval is not None
    # The textbook's standard error is 0.1279 (Fleiss, Cohen & Everitt 1969): 0.15 to 0.65.
    assert found.kappa_interval.low == pytest.approx(0.15, abs=0.04)
    assert found.kappa_interval.high == pytest.approx(0.65, abs=0.04)
    assert len(found.disagreements) == 15
    assert math.isnan(cohens_kappa(np.array([[[5, 0], [0, 0]]]))[0])
    assert agreement("a", "b", [("x", "y", "y")] * 5, ("y", "n"), seed=0).kappa is None  # type: ignore[union-attr]
    same = agreement("a", "b", [("x", "y", "y")] * 5 + [("x", "n", "n")] * 5, ("y", "n"), seed=0)
    assert same is not None
    assert same.kappa_interval is not None
    assert same.kappa == 1
    assert same.kappa_interval.low < 0.6  # ten images prove little, although no resample disagrees
    assert agreement("a", "b", [], ("y", "n"), seed=0) is None


def test_pace_knows_pauses() -> None:
    found = pace("a", [2, 2, 3, 3600])
    assert (found.strokes, found.median) == (4, 2.5)
    assert found.per_minute == pytest.approx(60 * 4 / 67)


def test_outlook_tells_or_says_that_it_cannot(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    features = rng.normal(size=(200, 30)).astype(np.float32)
    features[:, :4] += 0.9 * labels[:, None]
    few = curve_of(features[: LEAST - 1], labels[: LEAST - 1], 2, 0)
    assert few.why == "few_labels"
    assert curve_of(features[:50], np.zeros(50, np.int64), 2, 0).why == "one_class"
    early, late = (curve_of(features[:n], labels[:n], 2, 0) for n in (40, 200))
    assert early.errors[0] > early.errors[-1]
    assert 0 < late.gain < early.gain < 0.25
    assert early.low <= early.gain <= early.high


def test_the_next_labels_narrow_the_interval(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=FAKE) as session:
        assert session.verdict().outlook.half_width_now is None
        labelled(session, 90, truth_of)
        standing = session.verdict(wait=60)
    outlook = standing.outlook
    assert outlook.half_width_now is not None
    assert outlook.half_width_then is not None
    n = sum(standing.measure.values())
    assert outlook.half_width_now == pytest.approx(wilson(n, n).half_width)
    assert outlook.half_width_then == pytest.approx(wilson(n + 50 / 3, n + 50 / 3).half_width)
    assert outlook.curve.why == ""
    assert outlook.curve.gain == pytest.approx(0, abs=1e-9)  # colours are learnt already


def test_without_a_model_nothing_is_claimed(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        labelled(session, 30, truth_of)
        standing = session.verdict(wait=1)
    assert (standing.head.why, standing.zero_shot.why, standing.outlook.curve.why) == ("no_model",) * 2 + ("no_head",)
    assert standing.seen == 0


def test_the_export_is_what_the_ladder_reads(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path, model=None) as session:
        done = labelled(session, 60, truth_of)
        session.answer(done[0], "unsure")
        out = session.export()
        standing: Standing = session.verdict()
    everything = dataset.read(pictures, labels=out.labels)
    assert everything.classes == ("blue", "red")
    assert everything.labels is not None
    assert len(everything.paths) == 59
    found = dict(zip(everything.names, (everything.classes[i] for i in everything.labels), strict=True))
    assert found == {task.path: truth_of(task) for task in done[1:]}
    sealed = dataset.read(pictures, labels=out.teach, test=out.test)
    assert sealed.is_test is not None
    assert sealed.labels is not None
    assert int(sealed.is_test.sum()) == out.tested == sum(standing.measure.values())
    assert int((~sealed.is_test).sum()) == out.taught == sum(standing.teach.values())
    tested = {path.resolve(): sealed.classes[i] for path, i, is_test in rows(sealed) if is_test}
    wanted = {(pictures / task.path).resolve(): truth_of(task) for task in done if task.stream == "measure"}
    assert tested == wanted
    assert out.one_sided == ()


def test_an_export_replaces_itself_and_nothing_else(pictures: Path, tmp_path: Path) -> None:
    with LabelSession.open(pictures, LABELS, store=tmp_path / "store", model=None) as session:
        labelled(session, 6, lambda task: "red")
        for _ in range(2):
            out = session.export()
            assert sum(path.is_file() for path in out.test.rglob("*")) == out.tested == 2
        assert out.one_sided == ()
        (tmp_path / "mine" / "test" / "cats").mkdir(parents=True)
        with pytest.raises(BadRequest, match="may be yours"):
            session.export(tmp_path / "mine")
        assert (tmp_path / "mine" / "test" / "cats").is_dir()


def test_an_engine_looks(pictures: Path, tmp_path: Path) -> None:
    """In the queue of everybody else; its zero-shot is the model's own, and a full queue only takes longer."""

    class Full(Engine):
        refused = 0

        def run(self, *given: object, **named: object) -> list[Result | Failure]:  # type: ignore[override]
            if self.refused < 2:
                self.refused += 1
                raise Busy("the queue is full", 0.01)
            return super().run(*given, **named)  # type: ignore[arg-type]

    engine = Full(2**20, lambda name: tiny(name))
    with engine:
        with LabelSession.open(pictures, LABELS, store=tmp_path / "a", model=Served(engine, "fake")) as session:
            labelled(session, 30, truth_of)
            standing = session.verdict(wait=60)
        with LabelSession.open(pictures, LABELS, store=tmp_path / "b", model=FAKE) as session:
            labelled(session, 30, truth_of)
            assert session.verdict(wait=60).zero_shot == standing.zero_shot
    assert (engine.refused, standing.seen, standing.trouble) == (2, 240, "")
    assert standing.zero_shot.estimate is not None
    with LabelSession.open(pictures, LABELS, store=tmp_path / "a", model=Served(engine, "fake")) as session:
        standing = session.verdict(wait=60)
        assert "shutting down" in standing.trouble
        assert session.next()  # people can go on


def test_a_model_that_fails_is_told_of(pictures: Path, tmp_path: Path) -> None:
    class Broken:
        def look(self, images: Sequence[Source], labels: tuple[str, ...]) -> list[Look | Failure]:
            raise BadMedia("a lens cap")

    with LabelSession.open(pictures, LABELS, store=tmp_path, model=Broken()) as session:
        assert not session.settled(30)
        assert session.verdict().trouble == "a lens cap"
        labelled(session, 3, truth_of)
        assert sum(session.verdict().teach.values()) == 2
