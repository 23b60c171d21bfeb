"""What a session ends in: a zip of its files, and the command that goes on with them."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

from anmok.ui.labelling.rooms import Room


def command(room: Room) -> str:
    """The ladder on these labels, as it is typed beside the root, or beside the unpacked zips."""
    if room.place.is_upload:
        photos, export = "photos", "labels"
    else:
        photos = room.place.called
        export = f"{photos}/{room.store.relative_to(room.place.photos).as_posix()}/export"
    words = ["anmok", "ladder", photos, "--labels", f"{export}/teach.csv", "--test", f"{export}/test"]
    return shlex.join(words) + "\n"


def pack(folder: Path, archive: Path, name: str) -> None:
    """All files of ``folder`` under ``name``, links followed."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, Path(name, file.relative_to(folder)).as_posix())
