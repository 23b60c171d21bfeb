"""The engine as a server uses it: batches, failures, names, lanes and the cache of encodings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.engine import (
    Batched,
    Engine,
    Expired,
    Limits,
    ModelFailed,
)
from anmok.engine.pacing import Pace
from anmok.errors import BadMedia, BadRequest, UnknownModel, Unsupported
from anmok.inputs import Clip, Prompted, Text
from anmok.load import Adapter, tiny
from anmok.results import Embedding, Failure, Masks, Scores, Tracks
from anmok.tasks import Classify, Detect, Embed, Segment, Track
from watched_models import (
    ASK,
    NAMES,
    PLENTY,
    UNHURRIED,
    Stable,
    difference,
    held,
    label,
    of,
    on_cpu,
    picture,
    png,
    threads,
    warmed,
)


@pytest.fixture
def stable() -> Stable:
    return Stable()


@pytest.fixture
def engine(stable: Stable) -> Iterator[Engine]:
    with warmed(stable) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "loader", "ask"),
    [
        ("fake", on_cpu, ASK),
        ("fake-places", on_cpu, Detect(("red", "green", "blue"))),
        ("dinov2-s14", tiny, Embed()),
    ],
)
def test_answers_alone_and_in_a_batch_of_32_agree(name: str, loader: Any, ask: Any) -> None:
    items = [picture(seed, size_hw=(20 + seed % 3, 30)) for seed in range(32)]
    batches: list[Batched] = []
    with Engine(PLENTY, loader, limits=UNHURRIED, observe=batches.append) as engine:
        engine.load(name).result(60)  # the first one imports torch
        alone = [engine.run(name, [item], ask)[0] for item in items]
        batches.clear()
        together = engine.run(name, items, ask)
        assert [batch.items for batch in batches] == [32]
    # The order of sums in a matrix product depends on how many rows it has.
    assert max(difference(a, b) for a, b in zip(alone, together, strict=True)) <= 1e-5


def test_equal_asks_of_many_callers_share_batches_and_each_gets_its_own(
    engine: Engine, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How much is enough for a batch rests on what batches took, which is another test's affair (test_engine_parts).
    monkeypatch.setattr(Pace, "enough", lambda self, limits: limits.batch_items)
    asks = [Classify(("red", "green", "blue")), Classify(("blue", "green", "red"))]
    with held(stable["fake"], engine):
        futures = [engine.submit("fake", [picture(seed)], asks[seed // 3 % 2]) for seed in range(60)]
    assert [label(future.result(10)[0]) for future in futures] == [NAMES[seed % 3] for seed in range(60)]
    assert [cast(Scores, future.result()[0]).labels for future in futures[:6:3]] == [ask.labels for ask in asks]
    assert stable["fake"].seen[1:] == [(30, asks[0]), (30, asks[1])]


def test_a_misspelt_name_costs_nothing(engine: Engine) -> None:
    before = threads()
    for _ in range(50):
        with pytest.raises(UnknownModel, match="fakke"):
            engine.submit("fakke", [picture(0)], ASK)
    assert threads() <= before  # the loader may have ended
    assert len(engine.status().models) == 1
    with pytest.raises(UnknownModel):
        engine.submit("./report/best", [picture(0)], ASK)  # a path is never opened for a caller


def test_what_cannot_be_answered_is_refused_before_it_waits(engine: Engine, stable: Stable) -> None:
    with pytest.raises(Unsupported, match="does not detect"):
        engine.submit("fake", [picture(0)], Detect(("red",)))
    with pytest.raises(BadRequest, match="holds a list"):
        engine.submit("fake", [picture(0)], Classify(NAMES, cast(Any, ["a {}"])))
    with pytest.raises(BadRequest, match="priority 11"):
        engine.submit("fake", [picture(0)], ASK, priority=11)
    with pytest.raises(Expired):
        engine.submit("fake", [picture(0)], ASK, deadline=0.0)
    assert engine.run("fake", [], ASK) == []
    assert stable["fake"].seen == []


def test_one_bad_picture_harms_nobody_else(engine: Engine, stable: Stable) -> None:
    items: list[Any] = [picture(seed) for seed in range(9)]
    with held(stable["fake"], engine):
        good = [engine.submit("fake", [item], ASK) for item in items]
        bad = engine.submit("fake", [b"no picture"], ASK)
        mixed = engine.submit("fake", [items[0], Prompted(items[1], points=((1, 1, 1),)), items[2]], ASK)
    assert [label(future.result(10)[0]) for future in good] == [NAMES[seed % 3] for seed in range(9)]
    [failure] = bad.result(10)
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, BadMedia)
    first, second, third = mixed.result(10)
    assert (label(first), label(third)) == ("red", "blue")
    assert isinstance(second, Failure)
    assert isinstance(second.error, BadRequest)
    status = of(engine, "fake")
    assert (status.retried, status.failed, status.answered) == (1, 2, 13)


@pytest.mark.parametrize("poison", [ZeroDivisionError("oops"), MemoryError(), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_model_raises_the_worker_lives_on(
    engine: Engine, stable: Stable, poison: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    stable["fake"].poison = poison
    one_pixel = np.zeros((1, 1, 3), np.uint8)
    [failure] = engine.run("fake", [one_pixel], ASK)
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, ModelFailed)
    assert failure.error.__cause__ is poison
    assert "oops" not in str(failure.error)  # inner workings are for the log
    assert type(poison).__name__ in caplog.text
    answers = engine.run("fake", [picture(1), one_pixel, picture(2)], ASK)
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False]


def test_an_open_file_is_read_once_though_its_batch_fails(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine):
        good = engine.submit("fake", [io.BytesIO(png(1))], ASK)
        prompted = engine.submit("fake", [Prompted(io.BytesIO(png(2)))], ASK)
        engine.submit("fake", [b"no picture"], ASK)
    assert label(good.result(10)[0]) == "green"
    [refused] = prompted.result(10)  # of classify, not for its file
    assert isinstance(refused, Failure)
    assert "takes no points" in str(refused.error)
    closed = io.BytesIO()
    closed.close()
    for wrong in (closed, io.StringIO("/etc/hostname")):
        with pytest.raises(BadMedia):
            engine.submit("fake", [cast(Any, wrong)], ASK)


def test_a_failing_observer_harms_nothing(stable: Stable, caplog: pytest.LogCaptureFixture) -> None:
    def observe(batched: Batched) -> None:
        raise RuntimeError("no metrics today")

    with Engine(PLENTY, stable, observe=observe) as engine:
        assert label(engine.run("fake", [picture(2)], ASK)[0]) == "blue"
    assert "no metrics today" in caplog.text


def test_what_is_not_a_picture_goes_the_same_way(engine: Engine) -> None:
    [text] = engine.run("fake", [Text("a red thing")], Embed())
    assert isinstance(text, Embedding)
    frame = np.zeros((20, 30, 3), np.uint8)
    frame[5:15, 5:15] = (255, 0, 0)
    [tracks] = engine.run("fake-places", [Clip([frame] * 3)], Track(("red",)))
    assert isinstance(tracks, Tracks)
    assert [frame.ids.tolist() for frame in tracks.frames] == [[1], [1], [1]]


def test_a_model_under_a_name_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    Adapter("fake", on_cpu("fake").maker, ("red", "blue"), "zero-shot").write(folder)
    with Engine(PLENTY, on_cpu, names={"best": str(folder)}) as engine:
        [answer] = engine.run("best", [picture(2)], Classify())
        assert label(answer) == "blue"
    with pytest.raises(UnknownModel):
        Engine(PLENTY, on_cpu, names={"best": str(tmp_path / "none")})


def test_two_lanes_answer_as_one(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(lanes=2, batch_items=4)) as engine:
        futures = [engine.submit("fake", [picture(seed)], ASK) for seed in range(40)]
        assert [label(future.result(10)[0]) for future in futures] == [NAMES[seed % 3] for seed in range(40)]


def test_the_same_bytes_are_encoded_once(stable: Stable) -> None:
    data = [png(seed) for seed in range(4)]
    plain = Engine(PLENTY, on_cpu)
    limits = Limits(cache_bytes=2**20, batch_seconds=60.0)
    with Engine(PLENTY, stable, limits=limits) as engine, plain:
        engine.run("fake", [picture(0)], ASK)  # a first batch is small; an array is not looked up
        first = engine.run("fake", [*data, data[0]], ASK)
        again = engine.run("fake", data, Classify(("blue", "red")))
        assert stable["fake"].encoded == 4  # of five, and nothing the second time
        status = engine.status()
        assert (status.cached_states, status.cache_hits, status.cache_misses) == (4, 4, 5)
        assert status.cached_bytes == 4 * 48 * 4  # four states of 48 float32 each, and no batch behind them
        for answers, ask in ((first[:4], ASK), (again, Classify(("blue", "red")))):
            expected = plain.run("fake", data, ask)
            assert max(difference(a, b) for a, b in zip(answers, expected, strict=True)) == 0
        [bad, good] = engine.run("fake", [b"no picture", data[1]], ASK)
        assert isinstance(bad, Failure)
        assert label(good) == "green"


def test_pointing_at_the_same_picture_again_encodes_nothing(stable: Stable) -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    frame[5:15, 5:15] = (255, 0, 0)
    target = io.BytesIO()
    pillow.fromarray(frame).save(target, "PNG")
    prompts = [Prompted(target.getvalue(), points=((x, 10, 1),)) for x in (8, 12, 25)]
    with Engine(PLENTY, stable, limits=Limits(cache_bytes=2**20)) as engine:
        areas = [engine.run("fake-places", [prompt], Segment())[0] for prompt in prompts]
    assert stable["fake-places"].encoded == 1
    masks = [cast(Masks, area).rles[0].area for area in areas]
    assert masks == [100, 100, 500]
