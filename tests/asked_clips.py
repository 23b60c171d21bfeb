"""Short clips that a toy model is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Conversation, clips
from serving import png

WATCHES = "fake-talk-video"
RED, GREEN, BLUE = (np.full((48, 64, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def filmed(path: Path, *images: NDArray[np.uint8], each: int = 20, fps: float = 10) -> Path:
    with clips.Writer(path, images[0].shape[:2], fps) as out:
        for image in images:
            for _ in range(each):
                out.write(image)
    return path


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``: red, green and blue, two seconds each; ``odd.webm``: one frame; ``stills``: blue, then red."""
    found = tmp_path_factory.mktemp("clips")
    filmed(found / "clip.mp4", RED, GREEN, BLUE)
    filmed(found / "odd.webm", GREEN, each=1, fps=7)
    (found / "red.png").write_bytes(png(RED))
    (found / "stills").mkdir()
    for number, image in enumerate((BLUE, BLUE, RED)):
        (found / "stills" / f"frame_{number}.png").write_bytes(png(image))
    (found / "broken.mp4").write_bytes((found / "clip.mp4").read_bytes()[:300])
    return found


@pytest.fixture(name="film", scope="module")
def film_fixture(folder: Path) -> bytes:
    return (folder / "clip.mp4").read_bytes()


def seconds(*times: float) -> Any:
    return pytest.approx(list(times))


def about(*shown: Any, question: str = "?") -> Conversation:
    return Conversation.about(*shown, question=question)
