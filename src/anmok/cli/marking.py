"""``point`` and ``gaze``: answers that are places, and nothing around them."""

from __future__ import annotations

from typing import Annotated

import typer

from anmok.cli.looking import (
    MARKED,
    AcceptLicence,
    AsJson,
    Device,
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


def point_command(
    images: Images,
    labels: Labels = None,
    model: ModelName = MARKED,
    output: Output = None,
    threshold: Threshold = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Point at the middle of each thing that the labels name: to count them, or to say where to click.

    Example: anmok point board.jpg --labels "screw,empty hole" -o points
    """
    from anmok.errors import BadRequest
    from anmok.gallery import Kept
    from anmok.tasks import Pointing

    names = words(labels)
    if names is None:
        raise BadRequest('say what to point at: --labels "screw"')
    paths = expanded(images, output)
    look(
        opened(model, device, accept_licence),
        paths,
        Pointing(names, threshold=threshold),
        Wanted(output, Kept(), as_json),
    )


def gaze_command(
    images: Images,
    point: Annotated[list[str] | None, typer.Option(help="x,y of an eye, in pixels.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="left,top,right,bottom of a face; may be repeated.")] = None,
    face: Annotated[float, typer.Option(help="How sure the model must be of a face.")] = 0.5,
    model: ModelName = MARKED,
    output: Output = None,
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Say where each person looks in the picture, or that it is out of it. Without --point and --box of all faces.

    Example: anmok gaze team.jpg --box 40,30,120,140 -o gazes
    """
    from anmok.cli.pointing import prompt_of
    from anmok.gallery import Kept
    from anmok.tasks import Gaze

    paths = expanded(images, output)
    prompt = prompt_of(paths[0], point or [], box or [], None)
    look(opened(model, device, accept_licence), paths, Gaze(face), Wanted(output, Kept(), as_json, prompt))
