"""The engine as a server uses it: batches, failures, order, deadlines, cancelling, admission, and the end."""

from __future__ import annotations

import gc
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.engine import (
    Batched,
    Busy,
    Closing,
    Engine,
    Expired,
    Limits,
    ModelFailed,
    ModelStatus,
    TooMuch,
)
from anmok.engine.pacing import Pace
from anmok.errors import BadMedia, BadRequest, UnknownModel, Unsupported
from anmok.inputs import Clip, Item, Prompted, Text
from anmok.load import Adapter, Model, load, tiny
from anmok.results import Detections, Embedding, Failure, Masks, Scores, Tracks
from anmok.tasks import Ask, Classify, Detect, Embed, Segment, Track

COLOURS = {"red": (220, 30, 30), "green": (30, 190, 40), "blue": (40, 50, 220)}
NAMES = tuple(COLOURS)
ASK = Classify(NAMES)
PLENTY = 2**30
UNHURRIED = Limits(batch_seconds=60.0)  # so that a slow machine does not make the batches smaller
on_cpu: Callable[[str], Model] = partial(load, device="cpu")


def picture(seed: int, colour: str | None = None, size_hw: tuple[int, int] = (24, 28)) -> NDArray[np.uint8]:
    """Noise around a colour, by default the one that the seed's place in the row says."""
    rng = np.random.default_rng(seed)
    middle = np.asarray(COLOURS[colour or NAMES[seed % len(NAMES)]])
    return np.clip(middle + rng.normal(0, 20, (*size_hw, 3)), 0, 255).astype(np.uint8)


def png(seed: int) -> bytes:
    target = io.BytesIO()
    pillow.fromarray(picture(seed)).save(target, "PNG")
    return target.getvalue()


class Watched(Model):
    """A fake model that notes what reaches it, can be held at its door, and trips over what it is told to."""

    def __init__(self, model: Model, nbytes: int | None = None) -> None:
        super().__init__(model.card, model.kind, model._setup)
        self.seen: list[tuple[int, Ask[Any, Any]]] = []  # items and ask of each call
        self.items: list[Item] = []
        self.encoded = 0
        self.door = threading.Event()
        self.door.set()
        self.arrived = threading.Semaphore(0)  # one for each call
        self.poison: BaseException | None = None  # raised for pictures of one pixel
        self.is_closed = False
        self._nbytes = nbytes

    def run(self, items: Sequence[Item], ask: Any) -> Any:
        self.seen.append((len(items), ask))
        self.items += items
        self.arrived.release()
        assert self.door.wait(10)
        if self.poison is not None and any(isinstance(one, np.ndarray) and one.size == 3 for one in items):
            raise self.poison
        return super().run(items, ask)

    def encode(self, images: Sequence[Any]) -> Any:
        self.encoded += len(images)
        return super().encode(images)

    def close(self) -> None:
        self.is_closed = True
        self.kind = self._looker = cast(Any, None)  # as the real one, without its tidying of all memory

    @property
    def memory_bytes(self) -> int:
        return super().memory_bytes if self._nbytes is None else self._nbytes


class Stable:
    """A loader of watched models: ``stable["fake"]`` is the last one of that name."""

    def __init__(self, nbytes: dict[str, int] | None = None) -> None:
        self.models: dict[str, Watched] = {}
        self.loads: list[str] = []
        self.closed: list[set[str]] = []  # models that were closed when each load began
        self.nbytes = nbytes or {}
        self.door = threading.Event()
        self.door.set()
        self.error: Exception | None = None

    def __call__(self, name: str) -> Model:
        self.loads.append(name)
        self.closed.append({other for other, model in self.models.items() if model.is_closed})
        assert self.door.wait(10)
        if self.error is not None:
            raise self.error
        self.models[name] = Watched(on_cpu(name), self.nbytes.get(name))
        return self.models[name]

    def __getitem__(self, name: str) -> Watched:
        return self.models[name]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("anmok")}


def of(engine: Engine, name: str) -> ModelStatus:
    [found] = [one for one in engine.status().models if one.name == name]
    return found


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)


@contextmanager
def held(model: Watched, engine: Engine, name: str = "fake") -> Iterator[Future[Any]]:
    """The worker stands at the model's door with a first request; at the end it goes through."""
    model.door.clear()
    while model.arrived.acquire(blocking=False):
        pass
    first = engine.submit(name, [picture(0)], Classify(("held",)))
    assert model.arrived.acquire(timeout=10)
    try:
        yield first
    finally:
        model.door.set()


@pytest.fixture
def stable() -> Stable:
    return Stable()


@pytest.fixture
def engine(stable: Stable) -> Iterator[Engine]:
    """One that has loaded ``fake``; nothing of it is left afterwards."""
    with Engine(PLENTY, stable, limits=UNHURRIED) as made:
        made.load("fake").result(10)
        made.run("fake", [picture(0)], ASK)  # a first batch is small
        stable["fake"].seen.clear()
        yield made
    status = made.status()
    assert (status.items, status.nbytes, threads()) == (0, 0, set())


def label(answer: Any) -> str:
    assert isinstance(answer, Scores)
    return str(answer.labels[int(answer.scores.argmax())])


def difference(one: Any, other: Any) -> float:
    """The largest between two answers of a kind."""
    assert type(one) is type(other)
    if isinstance(one, Scores):
        return float(np.abs(one.scores - other.scores).max())
    if isinstance(one, Embedding):
        return float(np.abs(one.vector - other.vector).max())
    assert isinstance(one, Detections)
    assert one.class_ids.tolist() == other.class_ids.tolist()
    return float(max(np.abs(one.xyxy - other.xyxy).max(initial=0), np.abs(one.scores - other.scores).max(initial=0)))


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
        engine.load(name).result(20)
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


def test_higher_priority_goes_first_equal_keeps_its_order_and_waiting_counts(stable: Stable) -> None:
    clock = Clock()
    with Engine(PLENTY, stable, limits=Limits(batch_items=1, level_seconds=2.0), clock=clock) as engine:
        engine.load("fake").result(10)
        with held(stable["fake"], engine):
            sent = [("old low", -1), ("plain a", 0), ("plain b", 0)]
            futures = [engine.submit("fake", [picture(0)], Classify((name,)), priority=p) for name, p in sent]
            clock.now += 1.0
            futures.append(engine.submit("fake", [picture(0)], Classify(("urgent",)), priority=3))
            clock.now += 1.5  # 2.5 s after the old one: more than its one level is worth
            futures.append(engine.submit("fake", [picture(0)], Classify(("late",)), priority=0))
        for future in futures:
            future.result(10)
    order = [ask.labels[0] for _, ask in stable["fake"].seen[1:]]  # type: ignore[attr-defined]
    assert order == ["urgent", "plain a", "plain b", "old low", "late"]


def test_a_large_request_lets_others_have_their_turn(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(batch_items=8, batch_seconds=60.0, level_seconds=5.0)) as engine:
        engine.load("fake").result(10)
        with held(stable["fake"], engine):
            large = engine.submit("fake", [picture(seed) for seed in range(30)], ASK)
            urgent = engine.submit("fake", [picture(0)], Classify(("urgent",)), priority=1)
        assert [label(answer) for answer in large.result(10)] == [NAMES[seed % 3] for seed in range(30)]
        urgent.result(10)
        assert [count for count, _ in stable["fake"].seen[1:]] == [1, 8, 8, 8, 6]


def test_a_deadline_is_kept_while_the_worker_is_stuck(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine):
        late = engine.submit("fake", [picture(1)], ASK, deadline=0.02)
        patient = engine.submit("fake", [picture(2)], ASK, deadline=60)
        with pytest.raises(Expired, match="fake: the deadline passed"):
            late.result(5)
        assert of(engine, "fake").queued == 1
    assert label(patient.result(10)[0]) == "blue"
    assert sum(count for count, _ in stable["fake"].seen) == 2  # the net never saw it
    assert of(engine, "fake").expired == 1


def test_an_earlier_deadline_wakes_who_sleeps_towards_a_later_one(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine):
        engine.submit("fake", [picture(1)], ASK, deadline=60)
        time.sleep(0.05)
        soon = engine.submit("fake", [picture(1)], ASK, deadline=0.02)
        with pytest.raises(Expired):
            soon.result(5)


def test_late_work_is_dropped_when_it_is_taken(stable: Stable) -> None:
    clock = Clock()
    with Engine(PLENTY, stable, clock=clock) as engine:
        engine.run("fake", [picture(0)], ASK, deadline=20)
        time.sleep(0.05)  # the reaper of deadlines now sleeps for 20 real seconds, and what follows is the worker's
        stable["fake"].seen.clear()
        with held(stable["fake"], engine):
            late = engine.submit("fake", [picture(1)], ASK, deadline=30)
            clock.now += 31
        with pytest.raises(Expired):
            late.result(10)
        assert len(stable["fake"].seen) == 1


def test_a_caller_who_leaves_takes_his_request_with_him(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine) as first:
        futures = [engine.submit("fake", [png(seed)], ASK) for seed in range(4)]
        assert futures[1].cancel()
        status = engine.status()
        assert (status.items, status.models[0].queued) == (4, 3)  # three, and the one at the door
        assert futures[0].cancel()
        assert first.cancel()  # in work: its answer will be thrown away
        assert engine.status().items == 2
    assert [label(future.result(10)[0]) for future in futures[2:]] == ["blue", "red"]
    for future in (first, futures[0], futures[1]):
        with pytest.raises(CancelledError):
            future.result(10)
    assert [count for count, _ in stable["fake"].seen] == [1, 2]
    assert of(engine, "fake").cancelled == 3
    assert not futures[2].cancel()  # it is answered


def test_an_interrupted_run_leaves_nothing_behind(
    engine: Engine, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with held(stable["fake"], engine):
        with monkeypatch.context() as patch:
            patch.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.run("fake", [picture(1)], ASK)
        assert engine.status().items == 1  # the one at the door


def test_a_future_does_not_keep_what_was_sent_in(engine: Engine, stable: Stable) -> None:
    item = picture(1)
    gone = weakref.ref(item)
    future = engine.submit("fake", [item], ASK)
    future.result(10)
    stable["fake"].items.clear()
    del item
    until(lambda: gone() is None)
    assert future.done()


def test_nothing_of_a_request_waits_for_the_collector_of_circles(engine: Engine, stable: Stable) -> None:
    """Beside a net it comes by once in thousands of requests, and a map of depth has some megabytes."""
    engine.run("fake", [picture(1)], ASK)
    gc.collect()
    gc.disable()
    try:
        future = engine.submit("fake", [picture(1)], ASK)
        future.result(10)
        gone = weakref.ref(future)
        del future
        until(lambda: gone() is None)
    finally:
        gc.enable()


def test_the_rest_of_a_large_request_is_dropped_when_its_caller_leaves(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(batch_items=2)) as engine:
        engine.load("fake").result(10)
        stable["fake"].door.clear()
        future = engine.submit("fake", [picture(seed) for seed in range(9)], ASK)
        assert stable["fake"].arrived.acquire(timeout=10)
        assert future.cancel()
        assert engine.status().items == 0
        stable["fake"].door.set()
        engine.run("fake", [picture(0)], ASK)
        assert [count for count, _ in stable["fake"].seen] == [2, 1]


def test_a_full_queue_says_when_to_come_back(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(queue_items=6, queue_bytes=10_000)) as engine:
        engine.load("fake").result(10)
        engine.run("fake", [picture(0)], ASK)
        with held(stable["fake"], engine):
            kept = engine.submit("fake", [picture(seed, size_hw=(4, 4)) for seed in range(5)], ASK)
            with pytest.raises(Busy, match="queue is full") as refused:
                engine.submit("fake", [picture(0)], ASK)
            assert (refused.value.status, refused.value.retry_after) == (429, 0.1)  # a fake is soon done
            kept.cancel()
            full = engine.submit("fake", [bytes(7_000)], ASK)
            with pytest.raises(Busy):
                engine.submit("fake", [bytes(3_000)], ASK)
            assert engine.status().rejected == 2
            full.cancel()
            with pytest.raises(TooMuch, match="7 items"):
                engine.submit("fake", [picture(0)] * 7, ASK)
            with pytest.raises(TooMuch, match="bytes"):
                engine.submit("fake", [bytes(10_001)], ASK)
        assert TooMuch.status == 413


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


def test_draining_answers_all_and_leaves_no_thread(stable: Stable) -> None:
    engine = Engine(PLENTY, stable)
    stable.door.clear()
    futures = [engine.submit("fake", [picture(seed)], ASK, deadline=60) for seed in range(5)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    until(lambda: engine.status().is_closing)
    with pytest.raises(Closing):
        engine.submit("fake", [picture(0)], ASK)
    with pytest.raises(Closing):
        engine.load("fake")
    stable.door.set()
    closing.join(10)
    assert [label(future.result(0)[0]) for future in futures] == [NAMES[seed % 3] for seed in range(5)]
    assert threads() == set()
    assert stable["fake"].is_closed
    engine.close()  # a second time changes nothing


def test_closing_at_once_refuses_what_waits_and_answers_what_is_in_work(stable: Stable) -> None:
    engine = Engine(PLENTY, stable)
    engine.load("fake").result(10)
    with held(stable["fake"], engine) as first:
        waiting = engine.submit("fake", [picture(1)], ASK)
        threading.Timer(0.05, stable["fake"].door.set).start()
        engine.close(drain=False)
    assert isinstance(first.result(0)[0], Scores)
    with pytest.raises(Closing):
        waiting.result(0)
    assert threads() == set()


def test_a_stuck_model_and_a_stuck_load_do_not_hold_up_the_end(stable: Stable) -> None:
    engine = Engine(PLENTY, stable)
    engine.load("fake").result(10)
    with held(stable["fake"], engine) as first:
        stable.door.clear()
        waiting = engine.submit("fake-sigmoid", [picture(1)], ASK)
        load = engine.load("fake-sigmoid")
        until(lambda: stable.loads == ["fake", "fake-sigmoid"])
        engine.close(seconds=0.05)
        for future in (first, waiting, load):
            with pytest.raises(Closing):
                cast("Future[Any]", future).result(0)
        stable.door.set()
    until(lambda: threads() == set())
    assert stable["fake-sigmoid"].is_closed
    assert engine.status().items == 0


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
