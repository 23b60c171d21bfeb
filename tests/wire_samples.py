"""Any ask, any result, some of every kind of item, and malformed JSON, for the tests of the wire."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadMedia, UnknownModel
from anmok.geometry import Rle
from anmok.inputs import Clip, Conversation, Cue, Item, Prompted, Text, Turn
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Embedding,
    Failure,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Piece,
    Points,
    Reply,
    Result,
    Scores,
    Tracked,
    Tracks,
)
from anmok.tasks import (
    Ask,
    Chat,
    Classify,
    Depth,
    Detect,
    Embed,
    Everything,
    Gaze,
    Inspect,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)

Floats = NDArray[np.float32]

shares = st.floats(0, 1, width=32)
words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(str.strip)
labels_of = st.lists(words, min_size=1, max_size=5, unique=True).map(tuple)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("AAAA")
json_values: SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)


def values(shape: tuple[int, ...], low: float = 0, high: float = 1) -> SearchStrategy[Floats]:
    return arrays.arrays(np.float32, shape, elements=st.floats(low, high, width=32))


@st.composite
def scores(draw: DrawFn) -> Scores:
    labels = draw(st.lists(words, min_size=1, max_size=5).map(tuple))  # ImageNet has two cranes
    read_as = draw(st.just(()) | st.just(tuple(f"{label}!" for label in labels)))
    scoring = draw(st.sampled_from(("softmax", "sigmoid")))
    return Scores(labels, draw(values((len(labels),))), scoring, draw(shares), None, read_as)


@st.composite
def embeddings(draw: DrawFn) -> Embedding:
    space = draw(st.sampled_from(("image", "features", "text")))
    return Embedding(draw(values((draw(st.integers(1, 9)),), -1e9, 1e9)), space)


@st.composite
def boxes(draw: DrawFn, count: int, size: tuple[int, int]) -> Floats:
    corners = draw(values((count, 2, 2))) * np.asarray([size[1], size[0]], np.float32)  # (N, 2, 2)
    return np.concatenate([corners.min(1), corners.max(1)], 1)


@st.composite
def detections(draw: DrawFn) -> Detections:
    size, count, labels = draw(sizes), draw(st.integers(0, 4)), draw(labels_of)
    ids = draw(arrays.arrays(np.int64, (count,), elements=st.integers(0, len(labels) - 1)))
    read_as = draw(st.just(()) | st.just(tuple(f"{label}!" for label in labels)))
    return Detections(draw(boxes(count, size)), draw(values((count,))), ids, labels, size, read_as)


def places(count: int, size: tuple[int, int]) -> SearchStrategy[Floats]:
    return values((count, 2)).map(lambda shares: shares * np.asarray([size[1], size[0]], np.float32))


@st.composite
def points(draw: DrawFn) -> Points:
    size, count, labels = draw(sizes), draw(st.integers(0, 4)), draw(labels_of)
    ids = draw(arrays.arrays(np.int64, (count,), elements=st.integers(0, len(labels) - 1)))
    read_as = draw(st.just(()) | st.just(tuple(f"{label}!" for label in labels)))
    return Points(draw(places(count, size)), draw(values((count,))), ids, labels, size, read_as)


@st.composite
def gazes(draw: DrawFn) -> Gazes:
    size, count = draw(sizes), draw(st.integers(0, 3))
    is_inside = draw(arrays.arrays(np.bool_, (count,)))
    faces = draw(boxes(count if draw(st.booleans()) else 0, size))
    return Gazes(draw(places(count, size)), draw(places(count, size)), is_inside, draw(values((count,))), faces, size)


@st.composite
def masks(draw: DrawFn) -> Masks:
    size, count, labels = draw(sizes), draw(st.integers(0, 4)), draw(labels_of | st.just(()))
    most = len(labels) - 1
    ids = draw(arrays.arrays(np.int64, (count,), elements=st.integers(min(0, most), most)))
    rles = tuple(Rle.of(draw(arrays.arrays(np.bool_, size))) for _ in range(count))
    return Masks(rles, draw(values((count,))), ids, labels, size)


@st.composite
def tracked(draw: DrawFn) -> Tracked:
    found = draw(masks())
    ids = draw(st.lists(st.integers(0, 99), min_size=len(found), max_size=len(found), unique=True))
    return Tracked(draw(st.integers(0, 10**6)), draw(st.floats(0, 1e5)), np.asarray(ids, np.int64), found)


@st.composite
def depth_maps(draw: DrawFn) -> DepthMap:
    size, kind = draw(sizes), draw(st.sampled_from(("disparity", "depth", "metric")))
    optional = [draw(st.none() | values(shape, -99, 99)) for shape in (size, (3, 3), (*size, 3))]
    return DepthMap(draw(values(size, 0, 1e4)), kind, *optional)


@st.composite
def keypoints(draw: DrawFn) -> Keypoints:
    size, people, names = draw(sizes), draw(st.integers(0, 3)), draw(labels_of)
    ends = st.integers(0, len(names) - 1)
    return Keypoints(
        xy=draw(values((people, len(names), 2))) * np.asarray([size[1], size[0]], np.float32),
        scores=draw(values((people, len(names)))),
        xyxy=draw(boxes(people, size)),
        box_scores=draw(values((people,))),
        names=names,
        edges=tuple(draw(st.lists(st.tuples(ends, ends), max_size=3))),
        size_hw=size,
        threshold=draw(shares),
    )


@st.composite
def part_maps(draw: DrawFn) -> PartMap:
    size, names = draw(sizes), draw(labels_of)
    return PartMap(draw(arrays.arrays(np.int16, size, elements=st.integers(0, len(names) - 1))), names)


@st.composite
def normal_maps(draw: DrawFn) -> NormalMap:
    raw = draw(values((*draw(sizes), 3), -1, 1))
    length = np.linalg.norm(raw, axis=-1, keepdims=True)
    return NormalMap(np.where(length > 0.1, raw / np.maximum(length, 0.1), 0).astype(np.float32))


@st.composite
def anomaly_maps(draw: DrawFn) -> AnomalyMap:
    score, threshold = draw(st.floats(0, 1e4)), draw(st.none() | st.floats(0, 1e4))
    return AnomalyMap(score, draw(values(draw(sizes), 0, 1e4)), threshold, draw(st.none() | shares))


mattes = sizes.flatmap(values).map(Matte)
failures = st.builds(Failure, words, st.builds(BadMedia, words) | st.builds(UnknownModel, words))
tracks = st.builds(
    Tracks, st.lists(tracked(), max_size=2).map(tuple), st.lists(st.integers(0, 9), max_size=2).map(tuple)
)


@st.composite
def replies(draw: DrawFn) -> Reply:
    counts = sorted(draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=2)))
    times = [draw(st.floats(0, 1e5)) for _ in range(2)]
    finish = draw(st.sampled_from(("stop", "length")))
    return Reply(draw(words), finish, counts[1], draw(st.integers(0, 10**6)), counts[0], *times)


RESULTS: dict[str, SearchStrategy[Result]] = {
    "chat": replies() | st.builds(Piece, words, st.none() | replies()),
    "classify": scores(),
    "depth": depth_maps(),
    "detect": detections(),
    "embed": embeddings(),
    "gaze": gazes(),
    "inspect": anomaly_maps(),
    "matte": mattes,
    "normals": normal_maps(),
    "parse": part_maps(),
    "point": points(),
    "pose": keypoints(),
    "segment": masks(),
    "track": tracks | tracked(),
}


counts = st.none() | st.integers(1, 999)
maybe = st.none() | shares
phrased = labels_of.flatmap(
    lambda labels: st.sampled_from([{"labels": labels}, {"labels": labels, "phrases": (("a", "b"),) * len(labels)}])
)

ASKS: dict[str, st.SearchStrategy[Ask[Any, Any]]] = {
    "chat": st.builds(
        Chat,
        max_tokens=st.integers(1, 2**20),
        temperature=st.floats(0, 2),
        top_p=st.floats(0.01, 1),
        seed=st.none() | st.integers(0, 2**53),
        stop=st.lists(words, max_size=3).map(tuple),
        schema=st.none() | st.just('{"type":"object"}'),
    ),
    "classify": st.builds(
        Classify,
        labels=st.none() | labels_of,
        templates=st.sampled_from([None, ("a {}", "{} here")]),
        threshold=shares,
        top_k=counts,
    ),
    "depth": st.builds(Depth, st.none() | st.floats(0.1, 1e5)),
    "detect": st.builds(
        lambda words, **rest: Detect(**words, **rest), phrased, threshold=maybe, nms=maybe, top_k=counts
    ),
    "embed": st.builds(Embed, st.sampled_from(["image", "features"])),
    "gaze": st.builds(Gaze, shares),
    "inspect": st.builds(Inspect, st.none() | st.floats(0, 1e5)),
    "matte": st.just(Matting()),
    "normals": st.just(Normals()),
    "parse": st.just(Parse()),
    "point": st.builds(Pointing, labels_of, maybe, counts),
    "pose": st.builds(Pose, shares, shares),
    "segment": st.builds(
        lambda words, **rest: Segment(**words, **rest),
        phrased,
        candidates=st.sampled_from([1, 3]),
        everything=st.builds(Everything, st.integers(1, 128), shares, shares, shares, st.integers(0, 10**6)),
    ),
    "track": st.builds(lambda words, **rest: Track(**words, **rest), phrased, every=st.integers(1, 99), match=shares),
}


def png(width: int = 3, height: int = 2) -> bytes:
    file = io.BytesIO()
    pillow.new("RGB", (width, height), (9, 200, 30)).save(file, "PNG")
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


PICTURE = png()
CODE = base64_of(PICTURE)
GUESS = Rle.of(np.eye(4, dtype=np.bool_))


ITEMS: list[Item] = [
    PICTURE,
    Text("고양이 한 마리"),
    Prompted(PICTURE, points=((1, 1.5, 1), (0, 0, 0)), boxes=((0, 0, 2, 2),)),
    Prompted(PICTURE, mask=GUESS, exemplars=(((0, 0, 1, 1), 1), ((1, 1, 2, 2), 0))),
    Clip(b"a video", fps=5.0, start=1.0, end=2.5, cues=(Cue(0, 7, box=(0, 0, 1, 1)), Cue(3, mask=GUESS))),
    Clip([PICTURE, PICTURE]),
    Conversation.about(PICTURE, question="이게 뭐예요?", system="Be short.").then("A cat.", "Sure?", PICTURE, PICTURE),
    Conversation((Turn("user", (Text("and"), PICTURE, Text("?"))),)),
]


def corrupted(content: Any, draw: DrawFn) -> Any:
    """The same JSON with one value somewhere in it replaced by anything, or one key gone."""
    if isinstance(content, dict) and content and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(content)))
        rest = {name: value for name, value in content.items() if name != key}
        return rest if draw(st.booleans()) else rest | {key: corrupted(content[key], draw)}
    if isinstance(content, list) and content and draw(st.booleans()):
        index = draw(st.integers(0, len(content) - 1))
        return [corrupted(one, draw) if i == index else one for i, one in enumerate(content)]
    return draw(json_values)


_TYPES: dict[str, Any] = {
    "string": str,
    "number": int | float,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_WORDS = {
    *("anyOf", "enum", "type", "items", "prefixItems", "minItems", "maxItems", "properties", "required"),
    *("additionalProperties", "contentEncoding", "title", "description"),
}


def fits(schema: Any, value: Any) -> bool:
    """JSON Schema 2020-12, as far as the schemas here use it."""
    assert set(schema) <= _WORDS
    if "anyOf" in schema:
        return any(fits(one, value) for one in schema["anyOf"])
    if "enum" in schema:
        return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in schema["enum"])
    if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool) is not (schema["type"] == "boolean"):
        return False
    if isinstance(value, list):
        places = schema.get("prefixItems", [schema.get("items")] * len(value))
        is_long = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return is_long and all(fits(place, one) for place, one in zip(places, value, strict=True))
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema["additionalProperties"]
        has_all = all(key in value for key in schema.get("required", ()))
        return has_all and all(
            fits(known[key], one) if key in known else bool(others) and fits(others, one) for key, one in value.items()
        )
    return True
