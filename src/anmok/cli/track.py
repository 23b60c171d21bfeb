"""``track``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anmok.cli.console import note, print_json, progress_bar, warn
from anmok.cli.looking import GROUNDED, POINTED, AcceptLicence, AsJson, Device, Threshold, opened, translated, words
from anmok.errors import BadMedia, BadRequest

if TYPE_CHECKING:
    from anmok.gallery.following import Followed
    from anmok.inputs import Clip

_LINES = ".jsonl"


def track_command(
    clip: Annotated[Path, typer.Argument(help="A video file, or a folder of numbered pictures.")],
    text: Annotated[
        str | None, typer.Option("--text", "--labels", "-l", help="What to follow, with commas: dog,cat (개,고양이).")
    ] = None,
    point: Annotated[list[str] | None, typer.Option(help="x,y@frame; 2:x,y@frame for a second object.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="left,top,right,bottom@frame; 2:... as with --point.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help="picture.png@frame: bright where the object is.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .mp4 (the .jsonl goes beside it), or a .jsonl alone.")
    ] = Path("tracked.mp4"),
    model: Annotated[str, typer.Option("--model", "-m", help=f"By default {POINTED}, with --text {GROUNDED}.")] = "",
    threshold: Threshold = None,
    every: Annotated[int, typer.Option(help="With --text: look anew every so many frames.")] = 20,
    fps: Annotated[float | None, typer.Option(help="Follow at this rate instead of every frame.")] = None,
    start: Annotated[float, typer.Option(help="Seconds.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    codec: Annotated[str | None, typer.Option(help="vp9 (the usual one), mpeg4, or h264 (by x264, GPL).")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on with a killed run.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Follow objects through a clip: an annotated video, and a line of ids, boxes and masks per frame.

    Example: anmok track clip.mp4 --text "the dog" -o out.mp4
    """
    from anmok.cli.pointing import cues_of
    from anmok.gallery.following import follow, render
    from anmok.inputs import Clip
    from anmok.tasks import Track

    if not clip.exists():
        raise BadRequest(f"{clip}: no such file or folder")
    _check_output(clip, output, codec)
    cues = cues_of(point or [], box or [], mask or [])
    labels = words(text, "--text")
    if not cues and labels is None:
        raise BadRequest('say what to follow: --text "the dog", --point 320,240@0, --box or --mask')
    lines = output.with_suffix(_LINES)
    asked = Clip(clip, fps, start, end, cues)
    ask = Track(labels, threshold=threshold, every=every)
    expected = _frames(asked)
    loaded = opened(model or (GROUNDED if labels else POINTED), device, accept_licence)
    with progress_bar("track") as report:
        done = follow(loaded, asked, ask, lines, is_fresh=fresh, progress=lambda count: report(count, expected))
    _tell(done, lines)
    if output.suffix != _LINES:
        with progress_bar("draw") as report:
            render(lines, asked, output, codec=codec, progress=lambda count: report(count, done.frames))
    if as_json:
        facts = {"frames": done.frames, "objects": list(done.objects), "broken": list(done.broken)}
        print_json({**facts, "lines": str(lines), "video": None if output.suffix == _LINES else str(output)})
    objects = len(done.objects)
    written = f"{output} and {lines.name}" if output != lines else str(lines)
    note(f"{done.frames} frames, {objects} object{'s' * (objects != 1)}; {written}")


def _check_output(clip: Path, output: Path, codec: str | None) -> None:
    """What would fail after all the work, or write over the clip itself."""
    from anmok import clips
    from anmok.cli.outputs import check_file

    check_file(output, "tracked.mp4")
    if output.suffix == _LINES:
        return
    if output.suffix.lower() not in clips.SUFFIXES:
        raise BadRequest(f"-o {output}: clips are written as {', '.join(clips.SUFFIXES)}, or lines alone as {_LINES}")
    if output.absolute() == clip.absolute() or (output.exists() and output.samefile(clip)):
        raise BadRequest(f"-o {output} is the clip itself; give another name")
    clips.Writer(output, (2, 2), 1, codec=codec)  # writes nothing yet, and refuses what it cannot write


def _tell(done: Followed, lines: Path) -> None:
    if done.is_old:
        note(f"{lines} holds the whole clip already; --fresh follows it anew")
    if done.resumed_at is not None:
        note(f"went on after frame {done.resumed_at}, from its masks; what the model remembered before is gone")
    translated({a: b for a, b in zip(done.labels, done.read_as, strict=False) if a != b})
    if done.broken:
        shown = ", ".join(str(frame) for frame in done.broken[:10]) + (" ..." if len(done.broken) > 10 else "")
        warn(f"{len(done.broken)} of the frames cannot be decoded and are left out: {shown}")


def _frames(clip: Clip) -> int:
    """How many to expect, for the bar.

    Raises:
        BadMedia: the clip is over before the start.
    """
    from anmok import clips

    path = Path(str(clip.source))
    facts = clips.probe(path, fps=clip.fps)
    if clip.start >= facts.seconds:
        raise BadMedia(f"{path}: no frame in it from {clip.start:g} s on; it lasts {facts.seconds:g} s")
    seconds = facts.seconds if clip.end is None else min(clip.end, facts.seconds)
    return max(0, round((seconds - clip.start) * (clip.fps or facts.fps)))
