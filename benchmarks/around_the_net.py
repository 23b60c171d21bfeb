"""What is done around the net for one 1080p picture and one 1080p frame of H.264: milliseconds of each step.

    python benchmarks/around_the_net.py                                # every step, on made-up answers
    python benchmarks/around_the_net.py --model sam2.1-tiny            # and its share of the whole
    python benchmarks/around_the_net.py --model depth-anything-v2-s
    python benchmarks/around_the_net.py --model grounding-dino-tiny

With ``--model`` the net has the published size and random weights: times are real, answers are not. What is spent
inside torch modules counts as the net, everything else as around it. The median of the rounds is printed; writing is
to the temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import clips, draw, geometry, media
from anmok.catalogue import card
from anmok.geometry import Pixels, Rle
from anmok.inputs import Encoded, Prompted
from anmok.results import DepthMap, Detections, Masks
from anmok.tasks import Depth, Detect, Segment

SIZE = (1080, 1920)  # height, width
CANVAS = Pixels(1024, "squash", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Picture = NDArray[np.uint8]


def photo(shift: int = 0) -> Picture:
    """Something between a flat colour and noise, as photos are."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [np.sin((columns + shift) / 90 + k) * 60 + np.cos(rows / (50 + 20 * k)) * 50 + 128 for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 8, (*SIZE, 3))
    return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def blobs(count: int) -> list[NDArray[np.bool_]]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rng = np.random.default_rng(1)
    places = rng.uniform((200, 300, 80, 80), (880, 1600, 260, 260), (count, 4))
    return [((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1 for y, x, a, b in places]


def milliseconds(action: Callable[[], Any], rounds: int) -> float:
    spent = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        action()
        spent.append(time.perf_counter() - start)
    return 1000 * statistics.median(spent[1:])


def line(what: str, spent: float) -> None:
    print(f"  {what:<42s}{spent:8.1f} ms", flush=True)


def jpeg(image: Picture) -> bytes:
    buffer = io.BytesIO()
    pillow.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def kept(picture: pillow.Image, folder: Path) -> None:
    """As a folder of answers keeps what is drawn."""
    picture.save(folder / "a.jpg", quality=90, subsampling=0)


def filmed(path: Path, count: int) -> Path:
    with clips.Writer(path, SIZE, 30, codec="h264") as writer:
        for index in range(count):
            writer.write(photo(4 * index))
    return path


def per_frame(path: Path) -> float:
    """Milliseconds to decode a frame, of a whole clip."""
    start, count = time.perf_counter(), sum(1 for _ in clips.frames(path))
    return 1000 * (time.perf_counter() - start) / count


def written(path: Path, image: Picture, count: int = 20) -> float:
    start = time.perf_counter()
    with clips.Writer(path, SIZE, 30) as writer:
        for _ in range(count):
            writer.write(image)
    return 1000 * (time.perf_counter() - start) / count


def steps(folder: Path, rounds: int) -> None:
    """Each step by itself, on five made-up masks."""
    image, found = photo(), blobs(5)
    data, clip = jpeg(image), filmed(folder / "clip.mp4", 30)
    rles = tuple(Rle.of(mask) for mask in found)
    masks = Masks(rles, np.full(5, 0.9), np.arange(5), ("a", "b", "c", "d", "e"), SIZE)
    depth = DepthMap(np.asarray(image[..., 0], np.float32) + 1, "metric")
    drawn = draw.plot(masks, image)
    print("a 1080p picture")
    line("decode a JPEG", milliseconds(lambda: media.read(data), rounds))
    line("decode a frame of H.264", per_frame(clip))
    line("prepare: to 1024 x 1024, normalised", milliseconds(lambda: geometry.view(image, CANVAS), rounds))
    line("five masks to runs", milliseconds(lambda: [Rle.of(mask) for mask in found], rounds))
    line("five masks to JSON (COCO RLE)", milliseconds(masks.to_json, rounds))
    line("five masks drawn", milliseconds(lambda: draw.plot(masks, image), rounds))
    line("depth drawn", milliseconds(lambda: draw.plot(depth, image), rounds))
    line("depth to JSON (zlib of float32)", milliseconds(depth.to_json, rounds))
    line("picture to JPEG (quality 90, 4:4:4)", milliseconds(lambda: kept(drawn, folder), rounds))
    line("frame to VP9", written(folder / "out.mp4", np.asarray(drawn)))


class Clock:
    """Seconds spent inside torch modules, however they are nested."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._start = 0.0, 0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        from torch.nn.modules import module

        before = module.register_module_forward_pre_hook(self._enter)
        after = module.register_module_forward_hook(self._leave)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, *_: object) -> None:
        self._depth += 1
        if self._depth == 1:
            self._start = time.perf_counter()

    def _leave(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._start


def random_net(name: str) -> Any:
    """The card's model file around a net of the published size with random weights."""
    import torch

    from anmok.load.loading import _setup

    torch.manual_seed(0)
    setup = _setup(card(name), "cpu", "float32", {})
    if name == "sam2.1-tiny":
        from transformers import Sam2VideoConfig, Sam2VideoModel

        from anmok.models.sam2 import Sam2

        return Sam2(setup, Sam2VideoModel(Sam2VideoConfig()))
    if name == "depth-anything-v2-s":
        from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

        from anmok.models.depth_anything import DepthAnything

        backbone = {"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
        taken = {
            "patch_size": 14,
            "out_indices": [3, 6, 9, 12],
            "reshape_hidden_states": False,
            "apply_layernorm": True,
        }
        necks = {"neck_hidden_sizes": [48, 96, 192, 384], "reassemble_hidden_size": 384, "fusion_hidden_size": 64}
        config = DepthAnythingConfig(backbone_config={**backbone, **taken}, **necks)
        return DepthAnything(setup, DepthAnythingForDepthEstimation(config))
    if name == "grounding-dino-tiny":
        from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

        from anmok.models.grounding_dino import GroundingDino, tiny_tokenizer

        return GroundingDino(setup, GroundingDinoForObjectDetection(GroundingDinoConfig()), tiny_tokenizer())
    raise SystemExit(f"{name}: want sam2.1-tiny, depth-anything-v2-s or grounding-dino-tiny")


def answer(kind: Any, state: Encoded) -> Any:
    """Five objects by their boxes, two labels, or the depth."""
    if hasattr(kind, "segment"):
        boxes = tuple((200.0 + 250 * k, 300.0, 500.0 + 250 * k, 700.0) for k in range(5))
        return kind.segment([Prompted(state, boxes=boxes)], Segment())[0]
    if hasattr(kind, "depth"):
        return kind.depth([state], Depth())[0]
    found: Detections = kind.detect([state], Detect(("cat", "traffic light"), threshold=0.0, top_k=20))[0]
    return found


def share(name: str, folder: Path, rounds: int) -> None:
    """The whole way of a picture and of a frame, and how much of it is not the net."""
    kind, image = random_net(name), photo()
    data, clip = jpeg(image), filmed(folder / "clip.mp4", 20)
    print(f"{name}, {kind.nbytes / 4e6:.0f} M parameters (random)")
    clock, net, rest = Clock(), [], []
    for _ in range(rounds + 1):
        clock.seconds = 0.0
        start = time.perf_counter()
        with clock.running():
            view = kind.prepare(media.read(data))
            maps = {key: array[0] for key, array in kind.encode(view.pixels[None]).items()}
            result = answer(kind, Encoded("", maps, view.frame))
        net.append(clock.seconds)
        rest.append(time.perf_counter() - start - clock.seconds)
    bare, around = (1000 * statistics.median(spent[1:]) for spent in (net, rest))
    drawn = draw.plot(result, image)
    plot = milliseconds(lambda: draw.plot(result, image), rounds)
    text = milliseconds(lambda: json.dumps(result.to_dict()), rounds)
    saved = milliseconds(lambda: kept(drawn, folder), rounds)
    before = milliseconds(lambda: kind.prepare(media.read(data)), rounds)
    line("the net", bare)
    line("decode a JPEG and prepare", before)
    line("from the net's numbers to the answer", max(0.0, around - before))
    line("draw", plot)
    line("JSON", text)
    line("JPEG", saved)
    frame, vp9 = per_frame(clip), written(folder / "out.mp4", np.asarray(drawn))
    decode = milliseconds(lambda: media.read(data), rounds)
    whole = around + plot + text + saved
    print(f"  picture: {whole:.0f} ms around {bare:.0f} ms of net: {100 * whole / (whole + bare):.1f} % of the whole")
    print(f"           without pictures to look at: {100 * (around + text) / (around + text + bare):.1f} %")
    video = around - decode + frame + plot + text + vp9
    print(f"  frame:   {video:.0f} ms around {bare:.0f} ms of net: {100 * video / (video + bare):.1f} % of the whole")


@dataclasses.dataclass
class Words:
    model: str
    rounds: int
    threads: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes")
    words = Words(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as name:
        if not words.model:
            steps(Path(name), words.rounds)
            return
        import torch

        if words.threads:
            torch.set_num_threads(words.threads)
        share(words.model, Path(name), words.rounds)


if __name__ == "__main__":
    main()
