"""The test of the tests: thirty planted faults, each of which some test has to notice. Run by ``make mutants``.

Each fault is put into a copy of ``src`` and meets the few test files that are meant to catch it. At most three may
survive. A fault whose old text no longer stands exactly once in its file is an error, and so are tests that fail
without any fault: then nothing would have been shown.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
MAY_SURVIVE = 3
JOBS = 2
LIMIT_S = 300  # a fault that makes a test run on is caught by it
_PYTEST = ("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:xdist", "-p", "no:cacheprovider")
_MARKS = "not slow and not data and not weights"  # the weights would not be found from a copy's cache

Outcome = Literal["caught", "survived", "broken"]


@dataclass(frozen=True, slots=True)
class Fault:
    """``old`` stands exactly once in ``src/anmok/<file>``; ``tests`` are files below ``tests``."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "EXIF orientation ignored",
        "media.py",
        "upright = _turned(picture)",
        "upright = picture",
        ("test_media.py",),
    ),
    Fault(
        "16-bit grey cut off, not divided",
        "media.py",
        "(grey // _SIXTEEN_BIT_STEP).astype(np.uint8)",
        "np.minimum(grey, 255).astype(np.uint8)",
        ("test_media.py",),
    ),
    Fault(
        "points clipped with x and y swapped",
        "geometry/frames.py",
        "np.clip(scaled, 0, (self.size_hw[1], self.size_hw[0]))",
        "np.clip(scaled, 0, self.size_hw)",
        ("test_geometry.py",),
    ),
    Fault(
        "centre crop one pixel low",
        "geometry/frames.py",
        "top, left = (new_h - pixels.size) // 2,",
        "top, left = min((new_h - pixels.size) // 2 + 1, new_h - pixels.size),",
        ("test_geometry.py",),
    ),
    Fault(
        "red and blue swapped",
        "geometry/frames.py",
        "np.ascontiguousarray(canvas.transpose(2, 0, 1))",
        "np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1))",
        ("test_geometry.py",),
    ),
    Fault(
        "padding counted in the mean of a sentence",
        "nets/bert.py",
        "torch.where(is_token, states, 0.0).sum(1)",
        "states.sum(1)",
        ("parity/test_bert.py",),
    ),
    Fault(
        "softmax where a sigmoid belongs",
        "pairing.py",
        'if scoring == "softmax":',
        "if scoring:",
        ("test_every_model.py",),
    ),
    Fault(
        "temperature dropped",
        "pairing.py",
        "towers.temperature * product(images, texts.T)",
        "product(images, texts.T)",
        ("test_every_model.py",),
    ),
    Fault(
        "only the first prompt read",
        "pairing.py",
        "unit(np.stack([part.mean(0) for part",
        "unit(np.stack([part[0] for part",
        ("test_every_model.py",),
    ),
    Fault(
        "a state of another model accepted",
        "load/states.py",
        "if item.maker != self._maker:",
        "if not item.maker:",
        ("test_every_model.py",),
    ),
    Fault(
        "groups ignored when the test set is sealed",
        "evidence/splits.py",
        "counts, group = _counted(labels, groups)\n    if counts.size.size < 2",
        "counts, group = _counted(labels, None)\n    if counts.size.size < 2",
        ("test_evidence_splits.py",),
    ),
    Fault(
        "copies on both sides of the split",
        "ladder/grouping.py",
        "copies = duplicates.group.astype(np.int64)",
        "copies = alone",
        ("test_ladder.py",),
    ),
    Fault(
        "Wald's interval for Wilson's",
        "evidence/intervals.py",
        "half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2))",
        "centre, half = p, z * float(np.sqrt(p * (1 - p) / n))",
        ("test_evidence_intervals.py",),
    ),
    Fault(
        "Holm without the running maximum",
        "evidence/compare.py",
        "np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))",
        "raw[order] * np.arange(raw.size, 0, -1)",
        ("test_evidence_compare.py",),
    ),
    Fault(
        "TOST on the 95 % interval",
        "evidence/compare.py",
        "return -margin < self.interval90.low and self.interval90.high < margin",
        "return -margin < self.interval.low and self.interval.high < margin",
        ("test_evidence_compare.py", "test_evidence_verdict.py"),
    ),
    Fault(
        "bootstrap without the support draws",
        "evidence/compare.py",
        "self.by_draw * draws**0.5",
        "self.by_draw * 0.0",
        ("test_evidence_compare.py",),
    ),
    Fault(
        "a replay counted as another opening",
        "ladder/ledger.py",
        "Count(len(plans | {plan}), plan in plans)",
        "Count(len(plans) + 1, plan in plans)",
        ("test_ladder.py",),
    ),
    Fault(
        "labels not charged",
        "ladder/evaluate.py",
        "labels = len(supports[0])",
        "labels = 0",
        ("test_ladder.py",),
    ),
    Fault(
        "digest not checked",
        "weights/wheel.py",
        "if job.sha256 and found != job.sha256:",
        "if job.sha256 and not found:",
        ("test_weights_package.py",),
    ),
    Fault(
        "licence gate open",
        "weights/licence.py",
        "if licence.is_accepted_by_default or licence.id in accepted(accept):",
        "if licence.id:",
        ("test_weights_sources.py", "test_weights_package.py"),
    ),
    Fault(
        "runs one pixel off",
        "geometry/runs.py",
        "edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1",
        "edges = np.flatnonzero(flat[1:] != flat[:-1])",
        ("test_runs.py",),
    ),
    Fault(
        "boxes of other classes suppressed",
        "geometry/boxes.py",
        "(overlap <= threshold) | (groups[rest] != groups[best])",
        "overlap <= threshold",
        ("test_boxes.py",),
    ),
    Fault(
        "padding that is not zero",
        "geometry/frames.py",
        "values[:, new_h:] = 0.0",
        "values[:, new_h:] += 0.0",
        ("test_boxes.py",),
    ),
    Fault(
        "answers in the order of shapes",
        "load/states.py",
        "states.update(zip(chunk, self._encode(views), strict=True))",
        "states.update(zip(chunk[::-1], self._encode(views), strict=True))",
        ("test_every_model.py",),
    ),
    Fault(
        "any overlap taken for the same object",
        "models/grounded.py",
        "if overlap[row, column] >= least}",
        "if overlap[row, column] >= 0}",
        ("test_grounded.py",),
    ),
    Fault(
        "an object that returns gets a new number",
        "models/grounded.py",
        "if gone and self.classes[number] == kind]",
        "if gone and self.classes[number] == -1]",
        ("test_grounded.py",),
    ),
    Fault(
        "rays through the corners of pixels",
        "clouds.py",
        "x = (np.arange(width) + 0.5 -",
        "x = (np.arange(width) -",
        ("test_clouds.py",),
    ),
    Fault(
        "disparity shown as depth",
        "results/maps.py",
        'near = self.depth if self.kind == "disparity" else',
        'near = self.depth if self.kind == "metric" else',
        ("test_placed_results.py",),
    ),
    Fault(
        "a metric head read as relative",
        "models/depth_anything.py",
        '"metric" if self._is_metric else "disparity"',
        '"disparity"',
        ("parity/test_depth_anything.py",),
    ),
    Fault(
        "a box outside the picture accepted",
        "load/states.py",
        "if left >= width or top >= height or right <= 0 or bottom <= 0:",
        "if left > width + 99 or top >= height or right <= 0 or bottom <= 0:",
        ("test_pointing.py",),
    ),
)


def misplaced() -> list[str]:
    """What is wrong with the list itself: texts that moved, tests that are gone."""
    wrong = []
    for fault in FAULTS:
        count = (ROOT / "src" / "anmok" / fault.file).read_text(encoding="utf-8").count(fault.old)
        if count != 1:
            wrong.append(f"{fault.what}: its old text stands {count} times in {fault.file}, want once")
        wrong += [f"{fault.what}: no tests/{test}" for test in fault.tests if not (ROOT / "tests" / test).is_file()]
    return wrong


def outcome(tests: tuple[str, ...], fault: Fault | None = None) -> tuple[Outcome, str]:
    """What the tests say of a copy of ``src`` with the fault in it, or of the copy as it is; and which test."""
    with tempfile.TemporaryDirectory(prefix="anmok-mutant-") as name:
        source = Path(name) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        if fault is not None:
            file = source / "anmok" / fault.file
            file.write_text(file.read_text(encoding="utf-8").replace(fault.old, fault.new), encoding="utf-8")
        settings = {
            **os.environ,
            "PYTHONPATH": str(source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(name) / "hypothesis"),  # its notes on a faulty source
        }
        paths = [str(ROOT / "tests" / test) for test in tests]
        command = [sys.executable, *_PYTEST, "-m", _MARKS, *paths]
        try:
            run = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return "caught", "ran out of time"
    if run.returncode == 0:
        return "survived", ""
    failed = re.search(r"^FAILED \S+::(\w+)", run.stdout, re.MULTILINE)
    if run.returncode == 1 and failed is not None:
        return "caught", failed[1]
    return "broken", run.stdout.strip().rpartition("\n")[2]


def main() -> int:
    wrong = misplaced()
    if wrong:
        print("\n".join(wrong))
        return 1
    start = time.perf_counter()
    said, by = outcome(tuple(sorted({test for fault in FAULTS for test in fault.tests})))
    if said != "survived":
        print(f"the tests do not pass without a fault, mend them first: {by}")
        return 1
    print(f"without a fault all tests pass ({time.perf_counter() - start:.0f} s)")
    with ThreadPoolExecutor(JOBS) as pool:
        found = list(pool.map(lambda fault: outcome(fault.tests, fault), FAULTS))
    for fault, (said, by) in zip(FAULTS, found, strict=True):
        print(f"{said:9} {fault.what:46} {fault.file:24} {by}")
    words = [said for said, _ in found]
    caught = words.count("caught")
    print(f"{caught} of {len(FAULTS)} caught in {time.perf_counter() - start:.0f} s")
    return 0 if caught >= len(FAULTS) - MAY_SURVIVE and "broken" not in words else 1


if __name__ == "__main__":
    sys.exit(main())
