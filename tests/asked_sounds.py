"""Sounds that a toy model is asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving import png
from sound_files import filmed, tone, wav

HEARS, AV = "fake-talk-sound", "videollama2.1-7b-av"
A, LOW, HIGH = tone(440), wav(tone(300)), wav(tone(1000))
RED = np.full((48, 64, 3), (255, 0, 0), np.uint8)


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``: red for two seconds, with a tone of 700 Hz; ``low.wav``: a second of 300 Hz."""
    found = tmp_path_factory.mktemp("sounds")
    filmed(found / "clip.mp4", [RED] * 20, tone(700, 2, 48_000))
    (found / "low.wav").write_bytes(LOW)
    (found / "red.png").write_bytes(png(RED))
    return found
