"""Which codec a clip is written in: none under the GPL unless it is asked for, and one that browsers play."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anmok import clips
from anmok.errors import BadRequest

WRITTEN = {".mp4": "vp9", ".m4v": "vp9", ".mkv": "vp9", ".webm": "vp9", ".mov": "mpeg4"}
HELD = [(suffix, codec) for suffix in clips.SUFFIXES for codec in clips.CODECS]


def test_every_container_has_a_default_that_is_free_of_the_gpl() -> None:
    assert set(WRITTEN) == set(clips.SUFFIXES)
    chosen = {suffix: clips.Writer(f"w{suffix}", (64, 64), 30).codec for suffix in clips.SUFFIXES}
    assert chosen == WRITTEN
    assert [codec for codec in chosen.values() if "x26" in clips.CODECS[codec]] == []


@pytest.mark.parametrize(("suffix", "codec"), HELD)
def test_a_container_holds_its_codecs_and_refuses_the_others(suffix: str, codec: str, tmp_path: Path) -> None:
    """Refused before the work, or written and read."""
    path = tmp_path / f"w{suffix}"
    image = np.full((48, 64, 3), (230, 159, 0), np.uint8)
    image[10:20, 10:30] = (0, 114, 178)
    if (suffix, codec) in ((".mov", "vp9"), (".webm", "mpeg4"), (".webm", "h264")):
        with pytest.raises(BadRequest, match=f"{codec} does not go into a {suffix} file"):
            clips.Writer(path, (48, 64), 30, codec=codec)
        return
    with clips.Writer(path, (48, 64), 30, codec=codec) as writer:
        for _ in range(5):
            writer.write(image)
    stills = list(clips.frames(path))
    assert len(stills) == 5
    assert clips.probe(path).codec == {"h264": "h264", "vp9": "vp9", "mpeg4": "mpeg4"}[codec]
    # Away from the edges, which 4:2:0 smears, a flat colour comes back within a few levels of 256.
    for y, x in ((30, 50), (15, 20)):
        assert np.abs(stills[4].image[y, x].astype(int) - image[y, x]).max() <= 6
