"""Two hundred pictures labelled at human speed in a real Chromium: what a stroke costs, and whether the interval holds.

    python -m benchmarks.labelling [--images 800] [--strokes 200] [--pace 1.2] [--model fake]

The server runs in a process of its own, as it does for its users; the labeller is a script that knows the truth and
takes as long for each picture as people do (log-normal about ``--pace`` seconds). Each stroke is timed in the browser,
from the key's own time stamp: until the next picture has been painted, and until the server has said that the stroke
is on the disk. Afterwards the same head is measured on every measuring picture of the folder, whose truth is known,
and compared with the interval that the page had shown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow
from playwright.sync_api import Page, sync_playwright

from anmok.labelling import LabelSession
from anmok.labelling.photos import Photos

LABELS = ("red", "blue")
_SEED = 11
# Times of each stroke: the key, the picture after it as it is on the screen, and the server's word.
_WATCH = """() => {
  const desk = document.querySelector('.desk');
  const times = (window.strokes = []);
  document.addEventListener('keydown', (event) => {
    if (/^Key[FJ]$/.test(event.code)) times.push({ key: event.timeStamp, shown: desk.dataset.shown });
  }, true);
  new MutationObserver(() => {
    const last = times[times.length - 1];
    if (last && !last.painted && !last.isComing && desk.dataset.shown && desk.dataset.shown !== last.shown) {
      last.isComing = true;
      requestAnimationFrame(() => requestAnimationFrame((at) => { last.painted = performance.now(); }));
    }
    const saved = Number(desk.dataset.saved);
    times.forEach((one, i) => { if (!one.saved && i < saved) one.saved = performance.now(); });
  }).observe(desk, { attributes: true });
}"""


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--images", type=int, default=800)
    flags.add_argument("--strokes", type=int, default=200)
    flags.add_argument("--pace", type=float, default=1.2, help="median seconds of a stroke")
    flags.add_argument("--model", default="fake")
    flags.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.serve:
        serve(int(given.serve[0]), Path(given.serve[1]), given.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        truth = draw(photos, given.images)
        with served(photos, given.model) as address:
            times = label(address, photos, truth, given.strokes, given.pace)
        print(json.dumps(report(times) | compared(photos, truth, given.model), indent=1))


def draw(folder: Path, count: int) -> dict[str, str]:
    """Pictures 1600 x 1200 between red and blue, and which of them are which: some cannot be told by their colour."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(_SEED)
    truth = {}
    for _ in range(count):
        side = int(rng.random() < 0.4)
        shade = np.clip(0.5 + (0.25 if side else -0.25) + rng.normal(0, 0.22), 0, 1)
        colour = (1 - shade) * np.array([220, 30, 30]) + shade * np.array([40, 50, 220])
        small = np.clip(colour + rng.normal(0, 40, (60, 80, 3)), 0, 255).astype(np.uint8)  # (60, 80, 3)
        name = f"{rng.integers(16**8):08x}.jpg"
        pillow.fromarray(small).resize((1600, 1200), pillow.Resampling.BICUBIC).save(folder / name, quality=85)
        truth[name] = LABELS[side]
    return truth


def serve(port: int, folder: Path, model: str) -> None:
    """The page over that folder, until it is killed."""
    import asyncio

    from anmok.server.app import build
    from anmok.server.running import listening
    from anmok.server.running import serve as run
    from anmok.server.settings import Served as One
    from anmok.server.settings import Settings
    from anmok.ui import Host, mount

    server = build(Settings(models=(One.of(model),), port=port))
    models = {name: one.card for name, one in server.desk.models.items()}
    host = Host(server.desk.engine, models, root=folder)
    mount(server.api, host, "/ui")
    with listening("127.0.0.1", port) as socket:
        print(socket.getsockname()[1], flush=True)
        asyncio.run(run(server, socket))


@contextmanager
def served(folder: Path, model: str) -> Iterator[str]:
    """The page's address, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.labelling", "--model", model, "--serve", "0", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/ui/en/"
    finally:
        process.kill()
        process.wait()


def label(address: str, photos: Path, truth: dict[str, str], strokes: int, pace: float) -> list[dict[str, float]]:
    """The session; the times of its strokes in milliseconds."""
    found = Photos(photos)
    answers = {one: truth[name] for one, name in zip(found.ids, found.names, strict=True)}
    rng = np.random.default_rng(_SEED)
    program = shutil.which("chromium")
    assert program is not None, "apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        begin(page, address)
        page.evaluate(_WATCH)
        for _ in range(strokes):
            started = time.perf_counter()
            page.wait_for_function("document.querySelector('.desk').dataset.shown")
            shown = page.evaluate("document.querySelector('.desk').dataset.shown")
            wanted = pace * float(np.exp(rng.normal(0, 0.4))) - (time.perf_counter() - started)
            page.wait_for_timeout(max(wanted, 0.05) * 1000)
            page.keyboard.press("f" if answers[shown] == LABELS[0] else "j")
        page.wait_for_function(f"Number(document.querySelector('.desk').dataset.saved) >= {strokes}")
        page.wait_for_timeout(1000)
        times: list[dict[str, float]] = page.evaluate("window.strokes")
        browser.close()
    return times


def begin(page: Page, address: str) -> None:
    """Opens the folder with our classes."""
    page.goto(address)
    page.wait_for_selector("button[role=tab][data-tab-id=label]")
    page.click("button[role=tab][data-tab-id=label]")
    page.wait_for_timeout(1500)
    page.fill("#label-classes textarea, #label-classes input", ", ".join(LABELS))
    page.wait_for_timeout(500)
    page.click("#label-go")
    page.wait_for_selector(".desk .who input", state="visible")
    page.fill(".desk .who input", "script")
    page.keyboard.press("Enter")
    page.wait_for_selector(".desk[data-shown]:not([data-shown=''])")


def report(times: list[dict[str, float]]) -> dict[str, Any]:
    """Percentiles, in milliseconds. The last stroke of a folder has no picture after it."""
    minutes = (times[-1]["key"] - times[0]["key"]) / 60_000
    told: dict[str, Any] = {"strokes": len(times), "per_minute": round((len(times) - 1) / minutes, 1)}
    for name in ("painted", "saved"):
        found = np.array([one[name] - one["key"] for one in times if name in one])
        p50, p95 = np.quantile(found, [0.5, 0.95])
        told[f"{name}_ms"] = {"p50": round(p50, 1), "p95": round(p95, 1), "most": round(float(found.max()), 1)}
    return told


def compared(photos: Path, truth: dict[str, str], model: str) -> dict[str, Any]:
    """The interval of the session, and the truth: the same head on all measuring pictures of the folder."""
    [strokes] = photos.glob(".anmok/labels-*/strokes.jsonl")
    store = photos.parent / "copy"
    shutil.copytree(strokes.parent, store)
    with LabelSession.open(photos, LABELS, store=store, model=model) as session:
        before = session.verdict(wait=120)
        for task in session.next(len(truth), by="truth"):
            if task.stream == "measure":
                session.answer(task, truth[task.path], by="truth")
        after = session.verdict(wait=120)
    assert before.head.estimate is not None
    assert after.head.estimate is not None
    shown, interval = before.head.estimate, before.head.estimate.interval
    return {
        "shown": {"value": shown.value, "low": interval.low, "high": interval.high, "n": shown.n},
        "truth": {"value": after.head.estimate.value, "n": after.head.estimate.n, "taught": after.taught},
        "holds": interval.low <= after.head.estimate.value <= interval.high,
    }


if __name__ == "__main__":
    main()
