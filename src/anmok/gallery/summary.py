"""A result in one line of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Points,
    Result,
    Scores,
    Tracked,
)

_SHOWN = 6  # things named in a line


def summary(result: Result) -> str:
    """What a person wants to know at a glance; the numbers are in ``to_dict``."""
    teller = _TELLERS.get(type(result))
    return teller(result) if teller is not None else type(result).__name__


def _scores(result: Scores) -> str:
    return f"{result.label or '(no label fits)'} {result.score:.3f}"


def _finds(result: Detections | Points) -> str:
    return _counted(result.names, "nothing found")


def _masks(result: Masks) -> str:
    if result.labels:
        return _counted(result.names, "nothing found")
    covered = ", ".join(f"{rle.area:,} px" for rle in result.rles[:_SHOWN])
    more = " ..." if len(result) > _SHOWN else ""
    return f"{len(result)} mask{'s' * (len(result) != 1)}" + (f": {covered}{more}" if covered else "")


def _tracked(result: Tracked) -> str:
    seen = [str(one) for one, rle in zip(result.ids.tolist(), result.masks.rles, strict=True) if rle.counts]
    return f"frame {result.frame}: " + (f"objects {', '.join(seen)}" if seen else "nothing in sight")


def _depth(result: DepthMap) -> str:
    low, high = float(result.depth.min()), float(result.depth.max())
    if result.kind == "metric":
        return f"{low:.2f} to {high:.2f} m"
    return f"relative {result.kind}, {low:.3g} to {high:.3g}"


def _keypoints(result: Keypoints) -> str:
    people = len(result)
    if not people:
        return "nobody found"
    seen = ", ".join(str(int(count)) for count in result.is_visible.sum(1)[:_SHOWN])
    return f"{people} {'person' if people == 1 else 'people'}, joints seen: {seen} of {len(result.names)}"


def _gazes(result: Gazes) -> str:
    people = len(result)
    if not people:
        return "nobody found"
    rows = zip(result.targets.tolist(), result.is_inside.tolist(), strict=True)
    ends = [f"{x:.0f},{y:.0f}" if is_inside else "elsewhere" for (x, y), is_inside in rows]
    more = " ..." if people > _SHOWN else ""
    return f"{people} {'person' if people == 1 else 'people'}, looking at: {'; '.join(ends[:_SHOWN])}{more}"


def _parts(result: PartMap) -> str:
    shares = {name: result.share(name) for name in result.names[1:]}
    largest = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])[:_SHOWN]
    return ", ".join(f"{name} {100 * shares[name]:.1f} %" for name in largest) or "no part found"


def _normals(result: NormalMap) -> str:
    x, y, z = result.normals.reshape(-1, 3).mean(0).tolist()
    return f"mean direction right {x:+.2f}, up {y:+.2f}, near {z:+.2f}"


def _matte(result: Matte) -> str:
    return f"{100 * float(result.alpha.mean()):.1f} % of the picture stands in front"


def _anomaly(result: AnomalyMap) -> str:
    word = {None: "", True: "strange: ", False: "good: "}[result.is_strange]
    share = "" if result.p_value is None else f", p = {result.p_value:.3f}"
    x, y = result.peak_xy
    return f"{word}score {result.score:.4g}{share}, strangest at {x},{y}"


def _counted(names: tuple[str, ...], nothing: str) -> str:
    counts = Counter(names).most_common(_SHOWN)
    return ", ".join(f"{count} {name}" for name, count in counts) or nothing


_TELLERS: Mapping[type[Result], Callable[[Any], str]] = MappingProxyType(
    {
        Scores: _scores,
        Detections: _finds,
        Points: _finds,
        Masks: _masks,
        Tracked: _tracked,
        DepthMap: _depth,
        Keypoints: _keypoints,
        Gazes: _gazes,
        PartMap: _parts,
        NormalMap: _normals,
        Matte: _matte,
        AnomalyMap: _anomaly,
    }
)
