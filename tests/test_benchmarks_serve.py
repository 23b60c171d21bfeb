"""The benchmark of the server: its client counts right, its servers are weighed and ended, its claims are honest."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks.serve import measure, pictures
from benchmarks.serve.comparing import Results
from benchmarks.serve.load import Outcome, Plan, Run, steady_rate
from benchmarks.serve.measure import Cell
from benchmarks.serve.overload import Overload, printed, recovery
from benchmarks.serve.peers import OURS, PEERS
from benchmarks.serve.processes import Running
from benchmarks.serve.tables import claims
from benchmarks.serve.tables import printed as table

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"
UNHINTED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"
CELL = Cell("anmok", "mini", 1, 32, 0, 95.0, 0.3, 0.4, 0.5, 0, 500_000_000, 1.9, 0.02, 0.02, 1.0)


def asked(tmp_path: Path, plan: Plan, answer: Callable[[int], bytes]) -> Outcome:
    """The plan against a server that says ``answer(n)`` to its nth request; nothing ends the connection."""
    for number in range(3):
        body = f"picture {number}"
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        (tmp_path / f"{number:03}.http").write_text(head + body, encoding="utf-8", newline="")
    count = 0
    handlers: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        handlers.append(asyncio.current_task())
        while head := await reader.read(4096):
            assert head.startswith(b"POST / HTTP/1.1\r\n")
            said = answer(count)
            count += 1
            await asyncio.sleep(0.002)
            if not said:
                break
            writer.write(said)
        writer.close()
        await writer.wait_closed()

    async def both() -> Outcome:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            out = await Run(replace(plan, port=port, requests=str(tmp_path))).outcome()
            await asyncio.gather(*(one for one in handlers if one is not None))  # they see that the client has gone
            return out

    return asyncio.run(both())


def test_busy_clients_are_counted(tmp_path: Path) -> None:
    out = asked(tmp_path, Plan(0, "", clients=3, seconds=0.3, is_warm=True), lambda _: OK)
    assert out.statuses.keys() == {"200"}
    assert out.lost == out.unanswered == out.held == out.unhinted == 0
    assert out.sent == len(out.points)  # what was under way at the end is waited for
    assert 0.002 <= out.p50 <= out.p90 <= out.p99
    assert 30 < out.rate <= 3 / 0.002  # three clients, two milliseconds and more each
    assert {key: base64.b64decode(body) for key, body in out.samples.items()} == dict.fromkeys("012", b"[]")


def test_an_open_loop_asks_at_its_rate_whatever_comes(tmp_path: Path) -> None:
    out = asked(tmp_path, Plan(0, "", seconds=0.5, rate=200), lambda n: (OK, BUSY, UNHINTED)[n % 3])
    assert 60 <= out.sent <= 140  # Poisson of mean 100: four standard deviations
    assert sum(out.statuses.values()) == out.sent
    assert out.unhinted == out.statuses["503"]
    assert out.lost == out.unanswered == 0


def test_a_connection_that_ends_before_its_answer_is_a_loss(tmp_path: Path) -> None:
    out = asked(tmp_path, Plan(0, "", seconds=0.3, rate=100), lambda n: OK if n % 4 else b"")
    assert out.lost == out.statuses["0"] > 0
    assert out.statuses["200"] + out.lost == out.sent


def test_a_server_that_answers_in_bursts_is_not_flattered() -> None:
    bursts = [second + 0.001 * i for second in range(7) for i in range(32)]  # 32 a second
    for start in range(32):  # wherever the window begins and ends
        # One burst's length, 31 ms, over the four seconds or more between the ends.
        assert steady_rate(bursts[start : len(bursts) - 31 + start], 6.0) == pytest.approx(32, rel=0.01)
    assert steady_rate([0.1 * i for i in range(50)], 5.0) == pytest.approx(10, rel=1e-9)
    assert steady_rate(bursts[:32], 4.0) == 8  # one burst: no more than was counted
    assert steady_rate([1.0], 4.0) == 0.25


def test_recovery_is_when_most_answers_are_quick_again() -> None:
    slow = [(0.2 * i, 1.0) for i in range(10)]  # until 1.8 s
    well = [(2.0 + 0.2 * i, 0.1) for i in range(20)]
    found = recovery([(-1.0, 0.1), *slow, *well], 0.15)
    assert found is not None
    assert found == pytest.approx(1.2)  # the first two seconds of which more than half are well
    assert recovery(slow, 0.15) is None
    assert recovery([*well, (6.0, 1.0)], 0.15) == 2.0  # one slow answer
    assert recovery([(0.0, 0.1), *((1 + one, two) for one, two in slow)], 0.15) is None  # ill for good


def test_pictures_are_photos_in_size_and_always_the_same() -> None:
    files = pictures.jpegs(3)
    assert files == pictures.jpegs(3)
    assert len(set(files)) == 3
    assert all(50_000 < len(data) < 75_000 for data in files)
    assert 9_000 < len(pictures.small_jpeg()) <= 10_000
    with pillow.open(io.BytesIO(files[0])) as image:
        assert image.size == (500, 375)


@pytest.mark.parametrize("peer", [OURS, *PEERS], ids=lambda peer: peer.name)
def test_every_server_is_asked_with_the_whole_picture(peer: measure.Peer) -> None:
    head, _, body = peer.request("vit-b32", b"\xff\xd8picture").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"POST {peer.path('vit-b32')} HTTP/1.1"
    assert f"Content-Length: {len(body)}" in lines
    assert b"\xff\xd8picture" in body or base64.b64encode(b"\xff\xd8picture") in body


def test_vectors_are_found_in_every_answer() -> None:
    answers = {
        "anmok": [1, 2],
        "litserve": [1, 2],
        "bentoml": [[1, 2]],
        "ray": [1, 2],
        "roboflow": {"embeddings": [[1, 2]], "time": 0.1},
        "infinity": {"data": [{"embedding": [1, 2]}]},
    }
    for peer in (OURS, *PEERS):
        assert peer.read(json.dumps(answers[peer.name]).encode()).tolist() == [1, 2]


def test_answers_are_compared_with_the_offline_ones() -> None:
    rows = np.array([[1, 0], [0, 1]], np.float32)

    def sample(values: object) -> str:
        return base64.b64encode(json.dumps(values).encode()).decode()

    assert measure.likeness(OURS, {"0": sample([2, 0]), "1": sample([0, 3])}, rows) == pytest.approx(1, abs=1e-12)
    assert measure.likeness(OURS, {"0": sample([1, 0]), "1": sample([1, 1])}, rows) == pytest.approx(0.5**0.5)
    assert measure.likeness(OURS, {"0": sample([1, 0, 0])}, rows) == 0  # of another length
    assert measure.likeness(OURS, {}, rows) == 0


def test_a_tree_of_processes_is_weighed_and_ended(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True); print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    running = Running([sys.executable, "-c", code], {}, tmp_path, log)
    try:
        for _ in range(500):
            if len(running.pids()) == 2 and log.read_text() == "up\n":
                break
            time.sleep(0.01)
        assert len(running.pids()) == 2  # the daemon as well, which has a session of its own
        assert 2**20 < running.memory_bytes() < 2**29
        assert running.cpu_seconds() >= 0
    finally:
        running.stop()
    assert running.pids() == []


def results(cells: list[Cell]) -> Results:
    out = Results("a machine", 5.0, cells=cells)
    out.offline["mini"] = [{"run": 100.0, "map": 110.0} for _ in {cell.repeat for cell in cells}]
    return out


def test_claims_are_made_where_every_repeat_agrees() -> None:
    theirs = replace(CELL, peer="litserve", rate=50.0)
    out = results([CELL, theirs, replace(CELL, repeat=1), replace(theirs, repeat=1, rate=100.0)])
    out.missing["ray"] = "not installed: no such package"
    out.overhead.append({"http": 0.0035, "engine": 0.001, "overhead": 0.0025})
    said = list(claims(out))
    assert said[0] == "mini: 95.0 (95.0 to 95.0) % of the offline rate at 32 clients; 90 % met"
    assert said[1] == "mini: not told from litserve, 1.42 (0.95 to 1.90) times its rate at 32 clients"
    assert said[2] == "fake: 2.50 ms over the engine at one client; 2 ms missed"
    assert said[3] == "ray: nothing is claimed against it"
    assert "| litserve | 1 | 32 | 75.0 (50.0 to 100.0) |" in table(out)


def test_a_peer_with_other_answers_is_no_measure() -> None:
    out = results([CELL, replace(CELL, peer="infinity", rate=10.0, cosine=0.99)])
    assert list(claims(out))[1] == "mini: nothing is claimed against infinity: its vectors are others"


def test_an_overload_without_loss_is_told_from_one_with() -> None:
    out = Overload("mini", capacity=50, asked=500, seconds=10, memory=[(1.0, 100), (6.0, 110)], recovered_seconds=2.0)
    out.statuses = {"200": 500, "429": 4500}
    assert "every request has its answer: met" in printed(out)
    assert "2.0 s after the load: met" in printed(out)
    assert "+10.0 % of the first's" in printed(out)
    out.lost = 1
    out.recovered_seconds = None
    assert "every request has its answer: missed" in printed(out)
    assert "never after the load: missed" in printed(out)
