"""Draws ``docs/img/places.png``: one made-up scene, and what each task says of it, by the model without weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw

from anmok import draw
from anmok.inputs import Clip, Prompted
from anmok.load import tiny
from anmok.tasks import Depth, Detect, Matting, Normals, Parse, Pose, Segment, Track

SIZE = (480, 340)  # width, height
CELL = 300  # pixels


def scene(shift: int = 0) -> pillow.Image:
    """A red figure and a blue ball on a lawn, a yellow sun; ``shift`` moves the ball to the right."""
    width, height = SIZE
    shade = np.linspace(150, 100, height)[:, None, None] * np.ones((1, width, 3))  # a grey sky
    picture = pillow.fromarray(shade.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 250, width, height), fill=(20, 230, 20))
    pen.ellipse((380, 20, 450, 90), fill=(255, 240, 0))
    pen.ellipse((105, 85, 155, 135), fill=(250, 10, 10))
    pen.polygon(((100, 132), (160, 132), (172, 300), (142, 300), (130, 220), (118, 300), (88, 300)), fill=(230, 0, 0))
    for radius in range(45, 0, -1):  # brighter towards its middle, as a ball is
        light = max(0, 90 - 2 * radius)
        left, top = 270 + shift - radius, 250 - radius
        pen.ellipse((left, top, left + 2 * radius, top + 2 * radius), fill=(light, light, 200 + light // 2))
    return picture


def main() -> None:
    model = tiny("fake-places")
    image = np.asarray(scene())
    asks = {
        'detect --labels "red figure,blue ball"': Detect(("red figure", "blue ball")),
        "depth": Depth(),
        "pose": Pose(),
        "parse": Parse(),
        "normals": Normals(),
        "matte": Matting(),
    }
    cells = [("the picture", scene())]
    cells += [(title, draw.plot(model.run([image], ask)[0], image)) for title, ask in asks.items()]
    pointed = Prompted(image, points=((270.0, 250.0, 1),))
    cells.insert(2, ("segment --point 270,250", draw.plot(model.run([pointed], Segment())[0], image)))
    frames = [np.asarray(scene(4 * step)) for step in range(30)]
    last = list(model.stream(Clip(frames), Track(("red figure", "blue ball"))))[-1]
    cells.insert(3, ('track --text "red figure,blue ball"', draw.plot(last, frames[-1])))
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "img" / "places.png"
    draw.contact_sheet(cells, CELL).quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main()
