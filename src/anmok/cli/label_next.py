"""``label next``: which images to label next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anmok.cli.console import note, out, plain, print_json, progress_bar
from anmok.errors import BadRequest

TABLE = "label_next.csv"


@dataclass(frozen=True, slots=True)
class Wish:
    """The flags that it takes."""

    folders: tuple[Path, ...]
    head: str
    count: int
    labelled: Path | None
    table: Path
    is_json: bool
    accepted: tuple[str, ...]


def label_next(wish: Wish) -> None:
    """Writes the table, and prints its rows.

    Raises:
        BadRequest: not one folder, no head, or a table that is there already.
    """
    from anmok.cli.outputs import check_file
    from anmok.ladder.dataset import read_table
    from anmok.ladder.next_labels import next_images, write_next
    from anmok.load import load

    if len(wish.folders) != 1 or not wish.head:
        raise BadRequest("want one folder and a head: anmok label next photos/ --head report/best")
    check_file(wish.table, TABLE)
    if wish.table.exists():
        raise BadRequest(f"{wish.table} is there already and may hold labels; give another file by -o")
    labelled = () if wish.labelled is None else {row.image for row in read_table(wish.labelled)}
    source = wish.head if wish.head.startswith((".", "/", "~")) else f"./{wish.head}"
    model = load(source, accept_licences=wish.accepted)
    with progress_bar("look") as report:
        chosen = next_images(wish.folders[0], model, labelled, wish.count, progress=report)
    write_next(chosen, wish.table)
    if wish.is_json:
        print_json([{"image": one.image, "guess": one.guess, "score": one.score} for one in chosen.images])
    else:
        for one in chosen.images:
            out.print(plain(f"{one.image}  {one.guess} {one.score:.3f}"), soft_wrap=True)
    note(f"{len(chosen.images)} of {chosen.unlabelled} images without a label are in {wish.table}: fill in `label`")
    note("they were chosen because they are hard: they teach, and must never estimate an accuracy")
