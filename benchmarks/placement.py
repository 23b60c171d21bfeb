"""How well `anmok plan` foretells: the simulated p99 beside that of the real engine, on the very same arrivals.

    python benchmarks/placement.py                      # seven scenes, five runs each
    python benchmarks/placement.py --requests 300 --runs 1
    python benchmarks/placement.py --net dinov2-s14     # that net at toy size: measured, foretold, and served

The engine is the real one, with its threads, queues, micro-batches and clock. Its models only wait: a batch takes
`a + c * items` seconds on a device that shares itself evenly among the batches at work, which is what the simulation
supposes. So this measures the simulation of the policy, not whether a GPU shares itself evenly, and not whether a line
fits the times of a net. Requests come when the simulation let them come, so the two p99 are of the same requests.

With `--net` the whole chain is tried: the net is measured as `anmok plan` measures, and its own p99 is compared, at
three loads. Whatever else runs on the machine is in the figures then.

For each scene: the median of measured / predicted over the runs, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.engine import Engine, Limits
from anmok.load import Model, tiny
from anmok.placement import Cost, Stream, Waits, fitted, measure, simulate
from anmok.placement.measuring import picture
from anmok.placement.simulating import arrivals, counted, horizon
from anmok.results import Result
from anmok.tasks import Ask, Depth, Embed

ASKS: dict[str, Ask[Any, Any]] = {"embed": Embed(), "depth": Depth()}
PICTURE = np.full((8, 8, 3), 128, np.uint8)
LIMITS = Limits()
QUICK, SLOW, FLAT = Cost(0.010, 0.002), Cost(0.040, 0.010), Cost(0.030, 0.0005)  # up to 432, 86 and 696 a second
SCENES: dict[str, tuple[Stream, ...]] = {
    "one model, load 0.1": (Stream("fake", "embed", 40, QUICK),),
    "one model, load 0.5": (Stream("fake", "embed", 216, QUICK),),
    "one model, load 0.8": (Stream("fake", "embed", 345, QUICK),),
    "one slow model, load 0.5": (Stream("fake", "embed", 43, SLOW),),
    "one model of flat cost": (Stream("fake", "embed", 200, FLAT),),
    "two models, load 0.5": (Stream("fake", "embed", 108, QUICK), Stream("fake-places", "depth", 22, SLOW)),
    "three models, load 0.75": (
        Stream("fake", "embed", 108, QUICK),
        Stream("fake-sigmoid", "embed", 174, FLAT),
        Stream("fake-places", "depth", 22, SLOW),
    ),
}


class Shared:
    """A device that gives each of ``n`` batches at work 1 / n of itself."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._given = 0.0  # seconds of work that each batch was given since the beginning
        self._count = 0
        self._then = time.perf_counter()

    def work(self, seconds: float) -> None:
        """Returns when it has given the caller so many seconds."""
        with self._changed:
            self._catch_up()
            end = self._given + seconds
            self._count += 1
            self._changed.notify_all()  # for the others it takes longer now
            while self._given < end:
                self._changed.wait((end - self._given) * self._count)
                self._catch_up()
            self._count -= 1
            self._changed.notify_all()

    def _catch_up(self) -> None:
        now = time.perf_counter()
        if self._count:
            self._given += (now - self._then) / self._count
        self._then = now


class Waiting(Model):
    """Takes its time on the device, and answers with what it has answered once before."""

    def __init__(self, model: Model, device: Shared, costs: dict[str, Cost]) -> None:
        super().__init__(model.card, model.kind, model._setup)
        self._device = device
        self._costs = costs
        self._answers: dict[str, Result] = {task: super(Waiting, self).run([PICTURE], ASKS[task])[0] for task in costs}

    def run(self, items: Sequence[Any], ask: Ask[Any, Any]) -> list[Any]:
        self._device.work(self._costs[ask.task].seconds(len(items)))
        return [self._answers[ask.task]] * len(items)


@dataclass
class Played:
    """The arrivals of a scene on the real engine: seconds until the answer, by stream."""

    streams: tuple[Stream, ...]
    limits: Limits = LIMITS
    pictures: tuple[Any, ...] = (PICTURE,)
    net: str = ""  # served instead of what only waits

    def waits(self, requests: int, seed: int) -> list[Waits]:
        """Plays them in real time."""
        seconds = horizon(self.streams, self.limits, requests)
        times = arrivals(self.streams, seconds, seed)
        taken = [np.full(len(one), np.inf) for one in times]
        with Engine(2**30, self._loader(Shared()), limits=self.limits) as engine:
            for stream in self.streams:
                engine.load(stream.model).result()
            for stream in self.streams if self.net else ():
                engine.run(stream.model, [self.pictures[0]], ASKS[stream.task])  # warms the net up
            self._play(engine, times, taken)
        return [
            Waits(np.sort(one[counted(when, seconds)]), float("nan")) for one, when in zip(taken, times, strict=True)
        ]

    def _loader(self, device: Shared) -> Any:
        if self.net:
            return lambda name: tiny(name)
        costs: dict[str, dict[str, Cost]] = {}
        for stream in self.streams:
            costs.setdefault(stream.model, {})[stream.task] = stream.cost
        return lambda name: Waiting(tiny(name), device, costs[name])

    def _play(self, engine: Engine, times: list[NDArray[np.float64]], taken: list[NDArray[np.float64]]) -> None:
        rows = sorted((at, stream, k) for stream, one in enumerate(times) for k, at in enumerate(one.tolist()))
        began = time.perf_counter() + 0.05
        futures: list[Future[Any]] = []
        for at, stream, k in rows:
            pause = began + at - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            one = self.streams[stream]
            future = engine.submit(one.model, [self.pictures[k % len(self.pictures)]], ASKS[one.task])

            def note(_: object, place: NDArray[np.float64] = taken[stream], k: int = k, at: float = at) -> None:
                place[k] = time.perf_counter() - began - at

            future.add_done_callback(note)
            futures.append(future)
        for future in futures:
            future.result()


def compare(played: Played, *, requests: int, runs: int) -> list[tuple[list[float], list[float]]]:
    """For each stream, the measured and the predicted p99 of each run, in seconds."""
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in played.streams]
    for seed in range(runs):
        predicted = simulate(played.streams, LIMITS, requests=requests, seed=seed).waits
        measured = played.waits(requests, seed)
        for (real, told), one, other in zip(found, measured, predicted, strict=True):
            real.append(one.quantile(0.99))
            told.append(other.quantile(0.99))
    return found


def scenes_of(net: str) -> dict[str, Played]:
    """The net at toy size, measured here, at three loads."""
    pixels = (320, 240)
    one = measure(net, "embed", lambda: tiny(net), LIMITS, pixels=pixels)
    cost = fitted(one)
    print(f"{net} at toy size on {one.device}: {1000 * cost.fixed:.2f} ms + {1000 * cost.each:.2f} ms an item")
    print("    measured " + ", ".join(f"{t.items}: {1000 * t.seconds:.1f} ms" for t in one.timings), end="")
    print(f"; the line misses by up to {100 * cost.residual:.0f} %, runs differ by {100 * cost.spread:.0f} %")
    pictures = tuple(picture(pixels, seed) for seed in range(32))
    rates = {load: load * cost.capacity(LIMITS) for load in (0.1, 0.4, 0.7)}
    return {
        f"load {load}": Played((Stream(net, "embed", rate, cost),), pictures=pictures, net=net)
        for load, rate in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--net", default="")
    given = parser.parse_args()
    scenes = scenes_of(given.net) if given.net else {name: Played(streams) for name, streams in SCENES.items()}
    print(
        "scene                     model, task          predicted   measured   measured / predicted (least, greatest)"
    )
    for name, played in scenes.items():
        rows = compare(played, requests=given.requests, runs=given.runs)
        for stream, (measured, predicted) in zip(played.streams, rows, strict=True):
            ratios = np.array(measured) / np.array(predicted)
            told, real = (1000 * float(np.median(values)) for values in (predicted, measured))
            print(
                f"{name:25} {stream.model + ', ' + stream.task:20} {told:6.1f} ms {real:7.1f} ms   "
                f"{np.median(ratios):.2f} ({ratios.min():.2f}, {ratios.max():.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
