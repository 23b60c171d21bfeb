"""``search``: the photos of a folder that fit words, or another photo, best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from anmok.cli.console import note, out, plain, print_json, progress_bar, warn
from anmok.cli.looking import AcceptLicence, AsJson, Device, ModelName, opened
from anmok.errors import BadRequest


def search_command(
    folder: Annotated[Path, typer.Argument(help="The folder with the photos.")],
    words: Annotated[str, typer.Argument(help='What to look for: "a red car". Or give --image.')] = "",
    image: Annotated[Path | None, typer.Option("--image", "-i", help="A photo to find the like of.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many photos to show.")] = 24,
    model: ModelName = "mini",
    device: Device = "auto",
    as_json: AsJson = False,
    accept_licence: AcceptLicence = None,
) -> None:
    """Find the photos that fit some words, or another photo, best. The first search looks at every photo once; later
    ones find what was seen in the cache.

    Example: anmok search photos/ "a red car"
    """
    from anmok import index

    if bool(words.strip()) == (image is not None):
        raise BadRequest('say what to look for: words, "a red car", or a photo, --image car.jpg')
    if count < 1:
        raise BadRequest(f"--count {count}: want 1 or more")
    loaded = opened(model, device, accept_licence)
    # First, since a question that makes no sense should not wait for the folder.
    vector = index.by_words(loaded, words) if image is None else index.by_photo(loaded, image)
    with progress_bar("look at the photos") as report:
        photos = index.build(folder, loaded, progress=report)
    for failure in photos.failures:
        warn(failure.error)
    hits = photos.search(vector, count)
    if as_json:
        print_json([hit.to_dict() for hit in hits])
        return
    for hit in hits:
        out.print(Text.assemble(plain(f"{hit.cosine:6.3f}", "bold"), "  ", plain(hit.path)), soft_wrap=True)
    note(f"the best {len(hits)} of {len(photos):,} photos; {photos.computed:,} of them were looked at now")
