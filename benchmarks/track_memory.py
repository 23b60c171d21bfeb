"""What tracking keeps in memory as a clip gets longer: SAM 2.1, SAMURAI and EdgeTAM at toy size, two objects.

    python benchmarks/track_memory.py [FRAMES]     # 500 by default

Prints, at a tenth of the clip and at its end, the bytes of tensors that the session keeps between frames and the
memory of the process. A session that forgets nothing (transformers' own) would grow with every frame.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.inputs import Cue
from anmok.load import tiny
from anmok.tasks import Track

CARDS = ("sam2.1-tiny", "samurai-tiny", "edgetam")
SIZE_HW = (96, 128)


def stills(count: int) -> Iterator[NDArray[np.uint8]]:
    """Two squares that walk to and fro over grey."""
    for frame in range(count):
        image = np.full((*SIZE_HW, 3), 128, np.uint8)
        step = abs(frame % 80 - 40)
        image[10:40, 10 + step : 40 + step] = (255, 0, 0)
        image[55:85, 60 - step : 90 - step] = (0, 0, 255)
        yield image


def kept(session: Any) -> int:
    """Bytes of the tensors between frames, of whatever holds a stream."""
    stream = next(value for value in vars(session).values() if hasattr(value, "nbytes") and hasattr(value, "step"))
    return int(stream.nbytes)


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    cues = (Cue(0, 1, box=(45, 10, 85, 45)), Cue(0, 2, box=(15, 50, 55, 90)))
    for card in CARDS:
        session = tiny(card).kind.follow(Track())
        for frame, image in enumerate(stills(frames)):
            session.step(frame, frame / 25, image, cues if frame == 0 else ())
            if frame + 1 in (frames // 10, frames):
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(f"{card}: {frame + 1:5d} frames, {kept(session):9,d} bytes kept, process at most {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
