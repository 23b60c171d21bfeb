"""``track``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anmok.cli.console import note, print_json, progress_bar, warn
from anmok.cli.looking import AcceptLicence, AsJson, Device, Threshold, opened, words
from anmok.errors import BadRequest

_BY_TEXT, _BY_CUES = "grounded-sam2.1-tiny", "sam2.1-tiny"
_LINES = ".jsonl"


def track_command(
    clip: Annotated[Path, typer.Argument(help="A video file, or a folder of numbered pictures.")],
    text: Annotated[str, typer.Option("--text", "--labels", "-l", help="What to follow, with commas: dog,cat.")] = "",
    point: Annotated[list[str] | None, typer.Option(help="x,y@frame; 2:x,y@frame for a second object.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="left,top,right,bottom@frame; 2:... as with --point.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help="picture.png@frame: bright where the object is.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .mp4 (the .jsonl goes beside it), or a .jsonl alone.")
    ] = Path("tracked.mp4"),
    model: Annotated[str, typer.Option("--model", "-m", help=f"By default {_BY_CUES}, with --text {_BY_TEXT}.")] = "",
    threshold: Threshold = None,
    every: Annotated[int, typer.Option(help="With --text: look anew every so many frames.")] = 20,
    fps: Annotated[float | None, typer.Option(help="Follow at this rate instead of every frame.")] = None,
    start: Annotated[float, typer.Option(help="Seconds.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on with a killed run.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Follow objects through a clip: an annotated video, and a line of ids, boxes and masks per frame.

    Example: anmok track clip.mp4 --text "the dog" -o out.mp4
    """
    from anmok.cli.outputs import check_file
    from anmok.cli.pointing import cues_of
    from anmok.gallery.following import follow, render
    from anmok.inputs import Clip
    from anmok.tasks import Track

    if not clip.exists():
        raise BadRequest(f"{clip}: no such file or folder")
    check_file(output, "tracked.mp4")
    cues = cues_of(point or [], box or [], mask or [])
    labels = words(text)
    if not cues and labels is None:
        raise BadRequest('say what to follow: --text "the dog", --point 320,240@0, --box or --mask')
    lines = output.with_suffix(_LINES)
    asked = Clip(clip, fps, start, end, cues)
    ask = Track(labels, threshold=threshold, every=every)
    loaded = opened(model or (_BY_TEXT if labels else _BY_CUES), device, accept_licence)
    expected = _frames(asked)
    with progress_bar("track") as report:
        done = follow(loaded, asked, ask, lines, is_fresh=fresh, progress=lambda count: report(count, expected))
    if done.resumed_at is not None:
        note(f"went on after frame {done.resumed_at}, from its masks; what the model remembered before is gone")
    if done.broken:
        shown = ", ".join(str(frame) for frame in done.broken[:10])
        warn(f"{len(done.broken)} frames cannot be decoded and were left out: {shown}")
    if output.suffix != _LINES:
        with progress_bar("draw") as report:
            render(lines, asked, output, progress=lambda count: report(count, done.frames))
    if as_json:
        print_json({"frames": done.frames, "objects": list(done.objects), "broken": list(done.broken)})
    objects = len(done.objects)
    note(f"{done.frames} frames, {objects} object{'s' * (objects != 1)}; {output} and {lines.name}")


def _frames(clip: object) -> int:
    """How many to expect, for the bar; 0 where the file does not say."""
    from anmok import clips
    from anmok.inputs import Clip

    assert isinstance(clip, Clip)
    path = Path(str(clip.source))
    if not path.is_file():
        return len(list(path.iterdir()))
    facts = clips.probe(path)
    seconds = min(clip.end or facts.seconds or 0.0, facts.seconds or 0.0) - clip.start
    return max(0, round(seconds * (clip.fps or facts.fps or 0.0)))
