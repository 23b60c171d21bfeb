"""The first look as it is typed: from photos without labels to the report, and on by the command that it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.ladder.glance import FIRST
from anmok.ladder.report.glance_words import LABEL_ME
from command_line import anmok, answered, fine, stand
from conftest import coloured


class TestCommand:
    """From what is typed to the report, and on to the ladder by the very command that the report prints."""

    @pytest.fixture
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        root = stand(tmp_path, monkeypatch)
        rng = np.random.default_rng(11)
        (root / "my photos").mkdir()
        for index in range(60):
            colour = ("red", "blue")[int(rng.integers(2))]
            pillow.fromarray(coloured(colour, rng)).save(root / "my photos" / f"{index:02d}-{rng.integers(999)}.png")
        return root

    def test_the_printed_command_takes_the_filled_table(self, here: Path) -> None:
        line = "ladder 'my photos' --classes=red,blue --model fake --threshold 0.01 --out first"
        printed = answered(*shlex.split(line))
        assert printed == json.loads((here / "first" / "report.json").read_text(encoding="utf-8"))
        assert printed["reproduce"] == f"anmok {line} --json"
        follow = shlex.split(printed["follow_up"])
        assert follow == shlex.split("anmok ladder 'my photos' --model fake --out first --labels first/label_me.csv")
        refused = anmok(*follow[1:])
        assert (refused.code, "line 2 lacks its image or label" in refused.err) == (3, True)
        said = {one["image"]: one["label"] for one in printed["predictions"]}
        rows = [f"{name},{said[name]}" for name in printed["sample"][:FIRST]]
        (here / "first" / LABEL_ME).write_text("\n".join(["image,label", *rows]), encoding="utf-8")
        fine(*follow[1:])
        outcome = json.loads((here / "first" / "report.json").read_text(encoding="utf-8"))
        assert sum(outcome["data"]["counts"]) == FIRST
        zero_shot = next(step for step in outcome["steps"] if step["key"] == "0b")
        assert zero_shot["accuracy"]["value"] == 1.0  # the labels were its own answers
        assert zero_shot["accuracy"]["n"] == FIRST  # all of them test it, as the page had said

    def test_the_terminal(self, here: Path) -> None:
        ran = fine("ladder", "my photos", "--classes", "red,blue", "--model", "fake")
        assert ran.out.startswith(
            "fake sorted 60 images without labels into 2 classes, going by the class names alone."
        )
        assert "if 75 % were right, they would say 61.5 to 84.9 %." in ran.out
        assert ran.lines == ["note: the report is in report/index.html; the images to label in report/label_me.csv"]
        begun = here / "report" / LABEL_ME
        begun.write_text("image,label\n01.png,red\n", encoding="utf-8")
        again = fine("ladder", "my photos", "--classes", "red,blue", "--model", "fake", "--lang", "ko")
        assert again.lines[0].startswith("warning: report/label_me.csv holds labels already and stays as it is")
        assert begun.read_text(encoding="utf-8") == "image,label\n01.png,red\n"
        assert "fake가 라벨 없는 이미지 60장을" in again.out

    def test_a_threshold_needs_images_without_labels(self, photos: Path, here: Path) -> None:
        ran = anmok("ladder", str(photos), "--model", "fake", "--threshold", "0.3")
        assert (ran.code, ran.err) == (2, "error: --threshold is for images without labels, with --classes; drop it\n")
        ran = anmok("ladder", "my photos", "--classes", "a,b", "--model", "fake", "--threshold", "1.5")
        assert (ran.code, ran.err) == (2, "error: threshold 1.5: must lie between 0 and 1\n")
