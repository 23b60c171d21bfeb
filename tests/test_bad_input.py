"""Bad input, row by row: one line that names the thing and says what to do, an exit code, and nothing half-written."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import pytest

from anmok.errors import (
    AnmokError,
    BadData,
    BadMedia,
    BadRequest,
    CannotWrite,
    LicenceRequired,
    UnknownModel,
    Unsupported,
    WrongState,
)
from command_line import BLUE, PHOTOS, RED, Files, anmok, contents, stand, typed, write


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


NAMES = sorted(name.removeprefix("photos/") for name in PHOTOS)
PREDICTED = "\n".join(["image,label,pred", *(f"{name},{name.split('/')[0]},red" for name in NAMES)])
MANY = "\n".join(["image,label", *(f"{NAMES[i % len(NAMES)]},class {i}" for i in range(10_000))])
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HUGE = SIGNATURE + b"".join(
    (
        chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)),
        chunk(b"IDAT", zlib.compress(b"0")),
        chunk(b"IEND", b""),
    )
)
HEAD = 'format = 1\nbase = "fake"\nmaker = "fake@old"\nlabels = ["red", "blue"]\nrung = "0a"\n'
UNREADABLE = Path("/proc/self/mem")  # a file whose first byte nobody can read, not even root
ON_LINUX = pytest.mark.skipif(not UNREADABLE.exists(), reason="other systems have no file that root cannot read")
KOREAN = "image,label,pred\na.png,고양이,개\n".encode("euc-kr")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand(tmp_path, monkeypatch)


def bad(line: str, kind: type[AnmokError], says: tuple[str, str], files: Files | None = None, id: str = "") -> object:
    """One row: what is typed, which error, what its line names and advises, and which files lie there."""
    held = files or {}
    return pytest.param(line, kind, says, held, id=id or line, marks=ON_LINUX if UNREADABLE in held.values() else ())


FOLDERS = [
    bad("ladder holiday", BadData, ("holiday: no such folder", "give one with a sub-folder of images per class")),
    bad(
        "ladder photos.zip",
        BadData,
        ("photos.zip: not a folder", "give one with a sub-folder of images per class"),
        {"photos.zip": b"PK"},
    ),
    bad("ladder empty", BadData, ("empty: no images in it", "give a folder with"), {"empty": None}),
    bad(
        "ladder shelf",
        BadData,
        ("shelf: its sub-folders hold no images", "JPEG, PNG, WEBP"),
        {"shelf/cat": None, "shelf/dog": None},
    ),
    bad("ladder photos/red", BadData, ("photos/red: no sub-folder per class", "--labels labels.csv, or --classes")),
    bad(
        "ladder one",
        BadData,
        ("one: only one class (red)", "a comparison needs at least two"),
        {"one/red/1.png": RED[0], "one/red/2.png": RED[1]},
    ),
    bad(
        "ladder corrupt",
        BadData,
        ("corrupt: not one image can be read", "1.png: not an image that anmok reads (JPEG, PNG"),
        {"corrupt/a/1.png": SIGNATURE, "corrupt/b/2.png": SIGNATURE},
    ),
    bad(
        "ladder corrupt",
        BadData,
        ("corrupt: a comparison needs two classes with usable images", "1 images cannot be read and are left out"),
        {"corrupt/a/1.png": RED[0], "corrupt/b/2.png": b"not a picture"},
        id="one class of two corrupt",
    ),
    bad(
        "ladder twice",
        BadData,
        ("twice: a comparison needs two classes", "the same image under two labels, left out: a/1.png, b/2.png"),
        {"twice/a/1.png": RED[0], "twice/b/2.png": RED[0]},
    ),
    bad(
        f"ladder photos/red --classes {','.join(map(str, range(10_000)))}",
        BadData,
        ("red: 10,000 classes; the ladder compares at most 1,000", "leave some out"),
        id="10,000 classes to choose from",
    ),
    bad("ladder photos --classes blue,red", BadRequest, ("photos has a sub-folder per class", "drop --classes")),
    bad("ladder photos/red --classes a,b --test photos", BadRequest, ("--test needs labels", "drop one of the two")),
    bad("ladder photos --test holiday", BadData, ("holiday: no such folder", "give one with a sub-folder")),
    bad(
        "ladder photos --test other",
        BadData,
        ("--test: classes that only one of the folders has", "blue, green"),
        {"other/red/1.png": RED[0], "other/green/2.png": BLUE[0]},
    ),
    bad("ladder photos --test photos", BadData, ("--test: every training image", "nothing is left to learn from")),
]

LABELS = "ladder photos --labels labels.csv"
TABLES = [
    bad(LABELS, BadData, ("labels.csv: no such file", "columns image,label"), id="labels missing"),
    bad(LABELS, BadData, ("labels.csv: the first line", "image,label[,group]"), {"labels.csv": ""}, id="labels empty"),
    bad(
        LABELS,
        BadData,
        ("labels.csv: no rows below the header", "write one per image"),
        {"labels.csv": "image,label\n"},
        id="labels without rows",
    ),
    bad(
        LABELS,
        BadData,
        ("labels.csv: the first line must name the columns image,label[,group]", "it says 'image,colour'"),
        {"labels.csv": "image,colour\na.png,red\n"},
        id="labels without their column",
    ),
    bad(
        LABELS,
        BadData,
        ("labels.csv: line 3 lacks its image or label", "fill it in or delete the line"),
        {"labels.csv": "image,label\na.png,red\nb.png\n"},
        id="a line without its label",
    ),
    bad(
        LABELS,
        BadData,
        ("labels.csv: line 2 lacks its image or label", "fill it in"),
        {"labels.csv": "image,label\n,red\n"},
        id="a line without its image",
    ),
    bad(
        LABELS, BadData, ("labels.csv: not UTF-8", "save it as CSV UTF-8"), {"labels.csv": KOREAN}, id="labels in CP949"
    ),
    bad(
        LABELS,
        BadData,
        ("labels.csv: cannot be read (Input/output error)", "are you allowed to?"),
        {"labels.csv": UNREADABLE},
        id="labels that the disk does not give",
    ),
    bad(
        LABELS,
        BadData,
        ("labels.csv: none of its 2 images is in photos (the first is 'ghost.png')", "relative to that folder"),
        {"labels.csv": "image,label\nghost.png,red\nx.png,blue\n"},
        id="labels of absent files alone",
    ),
    bad(
        LABELS,
        BadData,
        ("labels.csv: 05.png may be blue/05.png or another file", "write its path below the folder"),
        {"labels.csv": "image,label\n05.png,red\n15.png,blue\n"},
        id="labels that fit two files",
    ),
    bad(
        LABELS,
        BadData,
        ("photos: 10,000 classes; the ladder compares at most 1,000", "put kindred classes together"),
        {"labels.csv": MANY},
        id="10,000 classes",
    ),
    bad(f"{LABELS} --classes a,b", BadRequest, ("--labels or --classes, not both", "--classes is for images without")),
    bad("ladder photos --descriptions d.csv", BadData, ("d.csv: no such file", "label,sentence")),
    bad(
        "ladder photos --descriptions d.csv",
        BadData,
        ("d.csv: not UTF-8", "save it as CSV UTF-8"),
        {"d.csv": KOREAN},
        id="descriptions in CP949",
    ),
    bad(
        "ladder photos --descriptions d.csv",
        BadData,
        ("d.csv: line 1 is not label,sentence", "put a sentence with commas in quotes"),
        {"d.csv": "red,warm, like fire\n"},
        id="a sentence with a bare comma",
    ),
    bad(
        "ladder photos --descriptions d.csv",
        BadData,
        ("d.csv: no such class: purple", "there are blue, red"),
        {"d.csv": "label,sentence\npurple,a plum\n"},
        id="descriptions of another class",
    ),
    bad(
        "ladder photos --descriptions d.csv",
        BadData,
        ("d.csv: no sentences in it", "write one per line"),
        {"d.csv": "label,sentence\n"},
        id="descriptions without rows",
    ),
]

WANTED = "want columns image, label, pred"
PREDICTIONS = [
    bad("audit photos p.csv", BadData, ("p.csv: no such file", WANTED), id="predictions missing"),
    bad(
        "audit photos p.csv",
        BadData,
        ("2 of 2 predicted images are not in photos (ghost.png, x.png)", "give the folder that was predicted"),
        {"p.csv": "image,label,pred\nghost.png,red,red\nx.png,blue,red\n"},
        id="predictions of other images",
    ),
    bad(
        "audit photos p.csv",
        BadData,
        ("p.csv: no column with the prediction among image, label", WANTED),
        {"p.csv": "image,label\na.png,red\n"},
        id="predictions without their column",
    ),
    bad(
        "audit photos p.csv",
        BadData,
        ("p.csv: no image column among label, pred", WANTED),
        {"p.csv": "label,pred\nred,red\n"},
        id="predictions without images",
    ),
    bad("audit photos p.csv", BadData, ("p.csv: not UTF-8", "save it again"), {"p.csv": KOREAN}, id="p.csv in CP949"),
    bad(
        "audit photos p.csv",
        BadData,
        ("p.csv: cannot be read (Input/output error)", "are you allowed to?"),
        {"p.csv": UNREADABLE},
        id="predictions that the disk does not give",
    ),
    bad("audit photos p.txt", BadData, ("p.txt: no rows below the header", WANTED), {"p.txt": ""}),
    bad("audit photos p.pkl", BadData, ("p.pkl: may hold pickled code", "save a .csv"), {"p.pkl": b""}),
    bad("audit holiday p.csv", BadData, ("holiday: no such folder", "the images first"), {"p.csv": PREDICTED}),
    bad(
        'audit p.csv --require "good enough"',
        BadRequest,
        ("--require 'good enough'", "want `accuracy>=0.90`"),
        {"p.csv": PREDICTED},
    ),
    bad("audit p.csv --lang fr", BadRequest, ("--lang fr", "want en or ko"), {"p.csv": PREDICTED}),
    bad("audit p.csv --groups g.csv", BadData, ("g.csv: no such file", "image and group"), {"p.csv": PREDICTED}),
    bad("audit p.csv --out photos", BadRequest, ("photos is a folder", "photos/verdict.json"), {"p.csv": PREDICTED}),
    bad("audit p.csv --out p.csv/v.json", CannotWrite, ("cannot write p.csv", "choose a"), {"p.csv": PREDICTED}),
]

IMAGES = [
    bad(
        "classify huge.png --labels a,b",
        BadMedia,
        ("huge.png: 100000 x 100000 is over the limit of 50,000,000 pixels", "raise ANMOK_MAX_PIXELS"),
        {"huge.png": HUGE},
    ),
    bad("classify cat.jpg --labels a,b", BadMedia, ("cat.jpg", "no such file")),
    bad("classify empty --labels a,b", BadRequest, ("empty: no images there", "JPEG, PNG"), {"empty": None}),
    bad("classify photos", BadRequest, ("give --labels cat,dog", "or --head report/best")),
    bad("classify photos --labels a,b --head best", BadRequest, ("not both", "a head has the labels")),
    bad("classify photos --labels a,a", BadRequest, ("labels: given twice", "a")),
    bad("classify photos --labels a,b --template photo", BadRequest, ("templates", "exactly one {}")),
    bad("classify photos --labels a,b --threshold 7", BadRequest, ("threshold 7.0", "between 0 and 1")),
    bad("classify photos --head photos", BadData, ("photos: no anmok.toml", "`anmok ladder` writes such a folder")),
    bad(
        "classify photos --head best",
        BadData,
        ("best/anmok.toml: not an anmok adapter", "let `anmok ladder` write it again"),
        {"best/anmok.toml": b"\xff\xfe\x00"},
        id="a damaged head",
    ),
    bad(
        "classify photos --head best",
        WrongState,
        ("trained on fake@old", "run `anmok ladder` again"),
        {"best/anmok.toml": HEAD},
        id="a head of another model",
    ),
    bad("classify photos --labels a,b --device tpu", Unsupported, ("device 'tpu'", "want auto, cpu, cuda")),
    bad("classify photos --labels a,b --device cuda:99", Unsupported, ("device 'cuda:99'", "use auto or cpu")),
]

CHOICES = [
    bad(
        "classify photos --labels a,b --model siglip2-b16-265",
        UnknownModel,
        ("no model is called 'siglip2-b16-265'", "did you mean siglip2-b16-256"),
    ),
    bad("ladder photos --model minni", UnknownModel, ("no model is called 'minni'", "did you mean mini")),
    bad("models --task fly", BadRequest, ("no model is for the task 'fly'", "there are chat, classify, depth, detect")),
    bad("info zzzzzz", UnknownModel, ("no model is called 'zzzzzz'", "`anmok models` lists them")),
    bad("pull minni", UnknownModel, ("no model is called 'minni'", "did you mean mini")),
    bad("ladder --demo solr", BadRequest, ("no demo is called 'solr'", "want solar, textile, digits")),
    bad("ladder photos --demo digits", BadRequest, ("photos or --demo digits", "not both")),
    bad("ladder --demo digits --classes a,b", BadRequest, ("--classes is for a folder of images", "drop it")),
    bad("ladder --demo solar", LicenceRequired, ("CC BY-NC-SA 4.0 (ELPV solar cells)", "--accept-licence elpv")),
    bad("ladder", BadRequest, ("give a folder", "anmok ladder photos/")),
    bad("ladder photos --lang fr", BadRequest, ("--lang fr", "want en or ko")),
    bad("ladder photos --margin 2", BadRequest, ("margin 2.0", "such as 0.01")),
    bad("ladder photos --groups some", BadRequest, ("groups 'some'", "want auto, duplicates or none")),
]

PLACES = [
    bad("ladder photos --out r", CannotWrite, ("cannot write r: Not a directory", "--out"), {"r": "mine"}),
    bad("ladder photos --out r/report", CannotWrite, ("cannot write r/report", "--out"), {"r": "mine"}),
    bad("ladder photos --out /proc/report", CannotWrite, ("cannot write /proc/report", "--out")),
    bad("ladder photos --out ./photos", BadRequest, ("--out photos holds the photos", "give another folder")),
    bad("embed photos -o photos", BadRequest, ("photos is a folder", "photos/vectors.parquet")),
    bad("embed photos -o r/v.parquet", CannotWrite, ("cannot write r: Not a directory", "choose a"), {"r": "mine"}),
    bad("embed photos -o v.csv", BadRequest, ("v.csv", "must end in .parquet")),
    bad("embed photos -o v.parquet --space text", BadRequest, ("--space text", "want image or features")),
]


@pytest.mark.parametrize(
    ("line", "kind", "says", "files"), [*FOLDERS, *TABLES, *PREDICTIONS, *IMAGES, *CHOICES, *PLACES]
)
def test_one_line_an_exit_code_and_nothing_left(
    here: Path, line: str, kind: type[AnmokError], says: tuple[str, str], files: Files
) -> None:
    write(here, {**PHOTOS, **files})
    before = contents(here.parent)
    start = time.process_time()
    ran = anmok(*typed(line))
    assert time.process_time() - start < 5
    assert ran.code == kind.exit_code, ran.err
    assert ran.out == ""
    assert len(ran.lines) == 1, ran.err
    assert ran.err.startswith("error: ")
    assert [part for part in says if part not in ran.err] == [], ran.err
    assert contents(here.parent) == before

    told = anmok("--debug", *typed(line))
    assert told.code == ran.code
    assert told.lines[0] == "Traceback (most recent call last):"
    assert told.lines[-1] == ran.lines[0]
    assert kind.__name__ in told.err
