"""Processes that die: of a picture, of a signal, of too much memory. Nobody else is harmed, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from anmok.engine import Engine, Limits, ModelFailed
from anmok.errors import BadMedia, Closing, WorkerDied
from anmok.inputs import Clip
from anmok.isolation import Apart, Bounds, process
from anmok.isolation.codec import unpacked
from anmok.load import Model, load
from anmok.results import Embedding, Failure
from anmok.tasks import Depth, Embed
from apart_values import until
from test_isolation_program import (
    FATAL,
    HANG,
    HOARD,
    KILL,
    KILL_ONCE,
    MARK,
    NO_MEMORY,
    RAISE,
    SEGFAULT,
    SLEEP,
)

# Every life counts as a healthy one: the pauses stay short, however many processes die in this file.
QUICK = Bounds(program="test_isolation_program", first_pause=0.02, healthy_seconds=0.0)
PLENTY = 2**30
ASK = Embed()
GOOD = np.full((2, 2, 3), 200, np.uint8)


def order(what: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture of one pixel, (1, 1, 3)."""
    return np.full((1, 1, 3), what, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def mark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The processes find what they run, and a file to write."""
    path = tmp_path_factory.mktemp("marks") / "mark"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv(MARK, str(path))
        yield path


@pytest.fixture(scope="module")
def apart(mark: Path) -> Iterator[Apart]:
    with Apart(device="cpu", bounds=QUICK, groups={"fake-places": "group", FATAL: "group"}) as found:
        yield found


@pytest.fixture(scope="module")
def model(apart: Apart) -> Model:
    return apart("fake")


def pid_of(apart: Apart, name: str) -> int:
    """Of a process that is there."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        for status in apart.status():
            if status.name == name and status.pid is not None:
                return status.pid
        time.sleep(0.005)
    raise AssertionError(f"no process {name}")


def deaths(apart: Apart, name: str = "fake") -> int:
    return next(status.deaths for status in apart.status() if status.name == name)


def test_an_idle_process_that_is_killed_is_started_again_with_its_models(apart: Apart, model: Model) -> None:
    before, pid, died = model.run([GOOD], ASK)[0], pid_of(apart, "fake"), deaths(apart)
    os.kill(pid, signal.SIGKILL)
    [after] = model.run([GOOD], ASK)
    assert after.vector.tobytes() == before.vector.tobytes()
    assert pid_of(apart, "fake") != pid
    assert deaths(apart) == died + 1


def test_a_call_that_lost_its_process_is_asked_once_more(apart: Apart, model: Model, mark: Path) -> None:
    died = deaths(apart)
    assert len(model.run([GOOD, order(KILL_ONCE)], ASK)) == 2
    assert mark.exists()
    assert deaths(apart) == died + 1


@pytest.mark.parametrize(
    ("what", "cause"),
    [(KILL, "killed by SIGKILL"), (SEGFAULT, "killed by SIGSEGV"), (NO_MEMORY, "it ran out of memory")],
)
def test_a_picture_that_kills_twice_is_refused_and_the_next_one_answered(
    apart: Apart, model: Model, what: int, cause: str
) -> None:
    died = deaths(apart)
    with pytest.raises(WorkerDied, match=cause) as caught:
        model.run([order(what)], ASK)
    assert caught.value.retry_after >= 1
    assert len(model.run([GOOD], ASK)) == 1
    assert deaths(apart) == died + 2
    [worker] = [one for (name, _), one in apart._workers.items() if name == "fake"]
    assert worker._row == 2  # the one that lives, after one that was healthy


def test_an_error_that_is_not_ours_comes_with_its_trace(apart: Apart, model: Model) -> None:
    died = deaths(apart)
    with pytest.raises(ZeroDivisionError, match="of the model") as caught:
        model.run([order(RAISE)], ASK)
    assert "in obey" in caught.value.__notes__[0]
    with pytest.raises(BadMedia):
        model.run([b"no picture"], ASK)
    assert deaths(apart) == died


def test_a_process_that_sends_nonsense_is_replaced(
    apart: Apart, model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    died, heard = deaths(apart), iter([{"d": ["Embedding", []]}])
    monkeypatch.setattr(process, "unpacked", lambda tree, *rest, **named: unpacked(next(heard, tree), *rest, **named))
    assert len(model.run([GOOD], ASK)) == 1
    assert deaths(apart) == died + 1
    assert "it sent an answer that is none (ValueError: 0 values for a Embedding)" in caplog.text


def test_a_process_that_holds_too_much_is_killed(apart: Apart, model: Model) -> None:
    died, pid = deaths(apart), pid_of(apart, "fake")
    with Apart(device="cpu", bounds=replace(QUICK, memory_bytes=250 * 2**20)) as bounded:
        hoarding = bounded("fake")
        with pytest.raises(WorkerDied, match=r"it held \d+ MB of memory, and 262 MB are its bound"):
            hoarding.run([order(HOARD)], ASK)
        assert len(hoarding.run([GOOD], ASK)) == len(model.run([GOOD], ASK)) == 1
        assert deaths(bounded) == 2
    assert (deaths(apart), pid_of(apart, "fake")) == (died, pid)


def test_a_stream_ends_with_its_process(apart: Apart, model: Model) -> None:
    died = deaths(apart)
    stream = model.stream(Clip([order(200), order(201), order(KILL), order(202)]), ASK)
    assert isinstance(next(stream), Embedding)
    assert isinstance(next(stream), Embedding)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert len(list(model.stream(Clip([GOOD, GOOD]), ASK))) == 2
    assert deaths(apart) == died + 1


def test_a_caller_waits_for_a_short_pause_and_is_refused_in_a_long_one() -> None:
    with Apart(device="cpu", bounds=replace(QUICK, first_pause=30.0, patience_seconds=1.0)) as apart:
        model = apart("fake")
        started = time.monotonic()
        with pytest.raises(WorkerDied, match="not started yet") as caught:
            model.run([order(KILL)], ASK)
        with pytest.raises(WorkerDied):
            model.run([GOOD], ASK)
        with pytest.raises(WorkerDied):
            model.stream(Clip([GOOD]), ASK)
        assert 20 < caught.value.retry_after <= 30
        assert time.monotonic() - started < 10
        [status] = apart.status()
        assert status.pid is None
        assert 20 < status.retry_after < 30


def test_a_load_that_kills_is_refused_and_its_group_goes_on(apart: Apart) -> None:
    with apart("fake-places") as model:
        before = model.run([GOOD], Depth())
        with pytest.raises(WorkerDied, match="it ended with 3"):
            apart(FATAL)
        [after] = model.run([GOOD], Depth())
        assert after.depth.tobytes() == before[0].depth.tobytes()
        assert deaths(apart, "group") == 2
        assert [status.models for status in apart.status() if status.name == "group"] == [("fake-places",)]


def test_a_poisonous_item_of_a_batch_fails_alone(apart: Apart) -> None:
    died = deaths(apart)
    limits = Limits(batch_items=8, batch_seconds=60.0)
    with Engine(PLENTY, loader=apart, limits=limits) as engine:
        engine.load("fake").result()
        answers = engine.run("fake", [GOOD, order(KILL), GOOD, order(RAISE), GOOD], ASK)
        assert [type(one) for one in answers] == [Embedding, Failure, Embedding, Failure, Embedding]
        assert isinstance(answers[1], Failure)
        assert isinstance(answers[1].error, WorkerDied)
        assert isinstance(answers[3], Failure)
        assert isinstance(answers[3].error, ModelFailed)
        assert "/" not in str(answers[1].error)
        [status] = engine.status().models
        assert (status.batches, status.items, status.retried, status.failed) == (2, 5, 1, 2)
        assert deaths(apart) == died + 4  # twice of the batch, twice of the picture


def test_requests_in_the_queue_outlive_a_killed_process_and_the_other_model_sees_nothing() -> None:
    limits = Limits(batch_items=2, batch_seconds=60.0)
    with Apart(device="cpu", bounds=QUICK) as apart, Engine(PLENTY, loader=apart, limits=limits) as engine:
        for loaded in [engine.load(name) for name in ("fake", "fake-sigmoid")]:
            loaded.result()
        pids = {name: pid_of(apart, name) for name in ("fake", "fake-sigmoid")}
        slow: Future[Any] = engine.submit("fake", [order(SLEEP)], ASK)
        futures = [engine.submit("fake", [GOOD], ASK) for _ in range(40)]
        beside = [engine.submit("fake-sigmoid", [GOOD], ASK) for _ in range(40)]
        time.sleep(0.05)
        os.kill(pids["fake"], signal.SIGKILL)  # in the middle of the slow one
        answers = [future.result(20)[0] for future in [slow, *futures, *beside]]
        assert all(isinstance(one, Embedding) for one in answers)
        assert len({one.vector.tobytes() for one in answers[1:]}) == 1
        assert pid_of(apart, "fake") != pids["fake"]
        assert pid_of(apart, "fake-sigmoid") == pids["fake-sigmoid"]
        assert (deaths(apart), deaths(apart, "fake-sigmoid")) == (1, 0)


def test_requests_are_refused_and_not_lost_where_the_pause_is_long() -> None:
    bounds = replace(QUICK, first_pause=30.0, patience_seconds=0.5)
    with Apart(device="cpu", bounds=bounds) as apart, Engine(PLENTY, loader=apart) as engine:
        engine.load("fake").result()
        futures = [engine.submit("fake", [item], ASK) for item in (order(HANG), *[GOOD] * 20)]
        time.sleep(0.05)
        os.kill(pid_of(apart, "fake"), signal.SIGKILL)
        answers: list[Any] = [future.result(10)[0] for future in futures]
        assert all(isinstance(one, Failure) and isinstance(one.error, WorkerDied) for one in answers)
        assert all(20 < one.error.retry_after <= 30 for one in answers)


def test_an_engine_sends_a_process_away_with_its_model() -> None:
    with (
        Apart(device="cpu", bounds=QUICK) as apart,
        Engine(PLENTY, loader=apart, limits=Limits(cache_bytes=2**20)) as engine,
    ):
        [answer] = engine.run("fake", [GOOD], ASK)
        assert isinstance(answer, Embedding)
        [status] = engine.status().models
        assert status.nbytes == load("fake", device="cpu").memory_bytes
        assert engine.status().cached_states == 0  # encodings stay in the process
        assert len(list(engine.stream("fake", Clip([GOOD] * 3), ASK))) == 3
        pid = pid_of(apart, "fake")
        engine.unload("fake")
        assert apart.status() == ()
        assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_hangs_does_not_hold_up_the_end() -> None:
    with Apart(device="cpu", bounds=QUICK) as apart:
        engine = Engine(PLENTY, loader=apart)
        engine.load("fake").result()
        before = threading.active_count()
        future: Future[Any] = engine.submit("fake", [order(HANG)], ASK)
        time.sleep(0.1)
        engine.close(drain=False, seconds=0.2)
        with pytest.raises(Closing):
            future.result(1)
        pid = pid_of(apart, "fake")  # at work
        started = time.monotonic()
        apart.close()
        assert time.monotonic() - started < 3
        assert not Path(f"/proc/{pid}").exists()
        ends = time.monotonic() + 5
        while threading.active_count() >= before and time.monotonic() < ends:
            time.sleep(0.01)
        assert threading.active_count() < before  # the thread that was at work as well


def test_a_process_that_is_stopped_lets_its_model_be_closed(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At work or not: it is asked to let go of its model, and then it is ended."""
    monkeypatch.setattr(process, "_END", 0.2)
    refused: list[Exception] = []
    with Apart(device="cpu", bounds=QUICK) as apart:
        model = apart("fake")
        os.kill(pid_of(apart, "fake"), signal.SIGSTOP)

        def ask() -> None:
            try:
                model.run([GOOD], ASK)
            except Closing as error:
                refused.append(error)

        worker = cast(Any, model)._worker
        idle = worker._holders
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        until(lambda: worker._holders > idle)  # it is at work, however busy the machine
        started = time.monotonic()
        model.close()
    asking.join(10)
    assert time.monotonic() - started < 5  # two waits of 0.2 s
    assert len(refused) == 1
