"""``detect``, ``segment``, ``depth``, ``pose``, ``parse``, ``normals`` and ``matte``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anmok.cli.looking import (
    FOUND,
    GROUNDED,
    POINTED,
    AcceptLicence,
    AsJson,
    Crops,
    Device,
    Forms,
    Images,
    Labels,
    ModelName,
    Output,
    Threshold,
    Wanted,
    expanded,
    look,
    opened,
    words,
)

Arrays = Annotated[bool, typer.Option("--save-arrays", help="Each map as a .npy file too.")]


def detect_command(
    images: Images,
    labels: Labels = None,
    model: ModelName = FOUND,
    output: Output = None,
    threshold: Threshold = None,
    nms: Annotated[float | None, typer.Option(help="Boxes of a class that overlap more (IoU) are one.")] = None,
    save_crops: Crops = False,
    to: Forms = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Draw a box around each thing that the labels name, or around all that a model with a closed set knows.

    Example: anmok detect photos/ --labels "traffic light,bus" -o found --to coco
    """
    from anmok.gallery import Kept
    from anmok.tasks import Detect

    paths, kept = expanded(images, output), Kept(crops=save_crops, forms=tuple(to or ()))
    ask = Detect(words(labels), threshold=threshold, nms=nms)
    _check_kept(output, {"--to": to, "--save-crops": save_crops})
    look(opened(model, device, accept_licence), paths, ask, Wanted(output, kept, as_json))


def segment_command(
    images: Images,
    labels: Labels = None,
    point: Annotated[list[str] | None, typer.Option(help="x,y in pixels; x,y,0 for what it is not.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="left,top,right,bottom in pixels; one object each.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture of a first guess: bright where the object is.")] = None,
    candidates: Annotated[int, typer.Option(help="3 gives part, thing and whole of one prompt.")] = 1,
    model: Annotated[str, typer.Option("--model", "-m", help=f"By default {POINTED}, with --labels {GROUNDED}.")] = "",
    output: Output = None,
    threshold: Threshold = None,
    save_crops: Crops = False,
    to: Forms = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Cut out what points or boxes mean, what the labels name (models that read text), or everything.

    Example: anmok segment cat.jpg --point 320,240 -o cut --save-crops
    """
    from anmok.cli.pointing import prompt_of
    from anmok.errors import BadRequest
    from anmok.gallery import Kept
    from anmok.tasks import Segment

    paths, kept = expanded(images, output), Kept(crops=save_crops, forms=tuple(to or ()))
    prompt = prompt_of(paths[0], point or [], box or [], mask)
    if prompt is not None and labels is not None:
        raise BadRequest("--labels says what to look for, --point, --box and --mask say where it is: give one of them")
    ask = Segment(words(labels), threshold=threshold, candidates=candidates)
    _check_kept(output, {"--to": to, "--save-crops": save_crops})
    name = model or (POINTED if labels is None else GROUNDED)
    look(opened(name, device, accept_licence), paths, ask, Wanted(output, kept, as_json, prompt))


def depth_command(
    images: Images,
    model: ModelName = "depth-anything-v2-s",
    output: Output = None,
    cloud: Annotated[str, typer.Option(help="ply or glb: the points in space too (metric models).")] = "",
    focal: Annotated[float | None, typer.Option(help="The camera's focal length in pixels, where it is known.")] = None,
    save_arrays: Arrays = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say how far everything is: relative, or in metres where the model knows.

    Example: anmok depth room.jpg --model depth-anything-v2-s-indoor -o depth --cloud glb
    """
    from anmok.gallery import Kept
    from anmok.tasks import Depth

    ask, kept = Depth(focal), Kept(cloud=f".{cloud}" if cloud else "", focal_px=focal, arrays=save_arrays)
    _check_kept(output, {"--cloud": cloud, "--save-arrays": save_arrays})
    paths = expanded(images, output)
    look(opened(model, device, accept_licence), paths, ask, Wanted(output, kept, as_json))


def pose_command(
    images: Images,
    box: Annotated[list[str] | None, typer.Option(help="left,top,right,bottom of a person.")] = None,
    threshold: Annotated[float, typer.Option(help="How sure a joint must be to be drawn.")] = 0.3,
    person: Annotated[float, typer.Option(help="How sure the detector must be of a person.")] = 0.5,
    model: ModelName = "vitpose-b",
    output: Output = None,
    save_crops: Crops = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Find the joints of every person.

    Example: anmok pose team.jpg -o poses
    """
    from anmok.cli.pointing import prompt_of
    from anmok.gallery import Kept
    from anmok.tasks import Pose

    paths, kept = expanded(images, output), Kept(crops=save_crops)
    ask, prompt = Pose(threshold, person), prompt_of(paths[0], [], box or [], None)
    _check_kept(output, {"--save-crops": save_crops})
    look(opened(model, device, accept_licence), paths, ask, Wanted(output, kept, as_json, prompt))


def parse_command(
    images: Images,
    model: ModelName = "sapiens2-400m-parts",
    output: Output = None,
    save_arrays: Arrays = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say which part of a body or of clothing every pixel is.

    Example: anmok parse person.jpg -o parts --accept-licence sapiens2
    """
    from anmok.gallery import Kept
    from anmok.tasks import Parse

    paths, kept = expanded(images, output), Kept(arrays=save_arrays)
    _check_kept(output, {"--save-arrays": save_arrays})
    look(opened(model, device, accept_licence), paths, Parse(), Wanted(output, kept, as_json))


def normals_command(
    images: Images,
    model: ModelName = "sapiens2-400m-normals",
    output: Output = None,
    save_arrays: Arrays = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say which way every surface faces.

    Example: anmok normals person.jpg -o normals --accept-licence sapiens2
    """
    from anmok.gallery import Kept
    from anmok.tasks import Normals

    paths, kept = expanded(images, output), Kept(arrays=save_arrays)
    _check_kept(output, {"--save-arrays": save_arrays})
    look(opened(model, device, accept_licence), paths, Normals(), Wanted(output, kept, as_json))


def matte_command(
    images: Images,
    model: ModelName = "sapiens2-1b-matting",
    output: Output = None,
    save_arrays: Arrays = False,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Cut out what stands in front, hair and all.

    Example: anmok matte person.jpg -o cut --accept-licence sapiens2
    """
    from anmok.gallery import Kept
    from anmok.tasks import Matting

    paths, kept = expanded(images, output), Kept(arrays=save_arrays)
    _check_kept(output, {"--save-arrays": save_arrays})
    look(opened(model, device, accept_licence), paths, Matting(), Wanted(output, kept, as_json))


def _check_kept(output: Path | None, options: dict[str, object]) -> None:
    """What is to be kept needs a place."""
    from anmok.errors import BadRequest

    asked = [name for name, value in options.items() if value]
    if asked and output is None:
        raise BadRequest(f"{asked[0]} needs a folder to write to: -o found")
