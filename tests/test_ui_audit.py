"""The tab ``Audit``: what comes in, what is shown of it, and the commands that do it again."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from anmok.engine import Engine
from anmok.errors import BadData, BadRequest, TooMuch
from anmok.evidence.schema import verdict
from anmok.ui.auditing import commands
from anmok.ui.auditing.answering import Question, answered
from anmok.ui.auditing.showing import shown as shown_html
from anmok.ui.sessions import uploads
from anmok.ui.sources import Folders
from anmok.ui.texts import LANGUAGES, Words
from anmok.ui.unpacking import Allowance, unpack
from command_line import fine
from ui_page import GRADIO, Shown, host_of, line, shown, zip_of, zipped

pytestmark = GRADIO

ROOM = Allowance(entries=50, file_bytes=1000, all_bytes=5000)
PNG = frozenset({".png"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    line(folder)
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(2**30) as found:
        yield found


def question(root: Path, **named: Any) -> Question:
    usual: dict[str, Any] = {
        "folder": "line",
        "zipped": None,
        "predictions": str(root / "told.csv"),
        "claimed": None,
        "tried": 1,
        "margin": 0.03,
        "classes": (),
        "groups": None,
        "required": (),
        "seed": 0,
    }
    return Question(**{**usual, **named})


# What comes in


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"])
def test_a_zip_cannot_name_a_place_outside(tmp_path: Path, name: str) -> None:
    made = zipped(tmp_path / "a.zip", {"in.png": b"1", name: b"2"})
    with pytest.raises(BadData, match="outside of itself"):
        unpack(made, tmp_path / "to", PNG, ROOM)
    assert not list(tmp_path.rglob("out.png"))


def test_a_zip_is_counted_while_it_is_written(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10**6))
    with pytest.raises(TooMuch, match=r"bomb\.zip"):
        unpack(bomb, tmp_path / "a", PNG, ROOM)
    many = zipped(tmp_path / "many.zip", {f"{i}.png": b"1" for i in range(51)})
    with pytest.raises(TooMuch, match="51 files; 50"):
        unpack(many, tmp_path / "b", PNG, ROOM)
    together = zipped(tmp_path / "together.zip", {f"{i}.png": bytes(999) for i in range(6)})
    with pytest.raises(TooMuch):
        unpack(together, tmp_path / "c", PNG, ROOM)


def test_a_link_in_a_zip_is_a_file_like_any_other(tmp_path: Path) -> None:
    made = tmp_path / "link.zip"
    with zipfile.ZipFile(made, "w") as archive:
        entry = zipfile.ZipInfo("a.png")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    folder = unpack(made, tmp_path / "to", PNG, ROOM)
    assert (folder / "a.png").read_bytes() == b"/etc/passwd"
    assert not (folder / "a.png").is_symlink()


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_zip_is_told_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadData, match=r"a\.zip: cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "to", PNG, ROOM)


def test_names_in_an_old_korean_zip_are_read(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("XXXXXXXX/1.png", b"1")
        archive.writestr("YYYYYYYY/2.png", b"2")
    data = (
        raw.getvalue().replace(b"XXXXXXXX", "불량사진".encode("cp949")).replace(b"YYYYYYYY", "양품사진".encode("cp949"))
    )
    (tmp_path / "k.zip").write_bytes(data)
    folder = unpack(tmp_path / "k.zip", tmp_path / "to", PNG, ROOM)
    assert sorted(one.name for one in folder.iterdir()) == ["불량사진", "양품사진"]


def test_a_zip_begins_where_its_folders_do(tmp_path: Path) -> None:
    files = {"photos/red/1.png": b"1", "photos/blue/1.png": b"2", "__MACOSX/photos/._1.png": b"3", "photos/a.exe": b"4"}
    folder = unpack(zipped(tmp_path / "p.zip", files), tmp_path / "to", PNG, ROOM)
    assert folder.name == "photos"
    assert sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*.*")) == ["blue/1.png", "red/1.png"]


def test_nothing_outside_the_folder_can_be_named(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    (inside / "a" / "b").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (inside / "away").symlink_to(tmp_path / "out")
    places = Folders(inside)
    assert places.names() == [".", "a", "a/b"]
    assert places.source("a/b").called == "in/a/b"
    for name in ("..", "../out", "/etc", "away", "a/../../out", "", "nothing", "a\0"):
        with pytest.raises(BadRequest, match="no such folder"):
            places.source(name)
    (inside / "a" / "secret.png").symlink_to("/etc/hostname")
    with pytest.raises(BadData, match=r"secret\.png: a link that leads out"):
        places.source("a")


# What is shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_answer_is_that_of_the_command_with_its_evidence_as_pictures(
    root: Path, engine: Engine, language: str
) -> None:
    with answered(host_of(engine, root), question(root), None) as answer:
        made = shown_html(Words(language), answer.audit, ())
        torn = sum(answer.audit.rows.side[i] != answer.audit.rows.side[j] for i, j, _, _ in answer.audit.copies.pairs)
    # Copies stand at 9, 19 ... and what they were made of at 8, 18 ...; every third is tested.
    assert torn == 4
    assert made.count('<figure class="pair">') == 4
    assert made.count("<img ") >= 8
    assert made.count("data:image/jpeg;base64,") == made.count("<img ")
    assert f"<mark>{'bad'}</mark>_0010.png" in made
    assert 'class="series"' in made
    say = {"en": "Can the label be guessed without looking?", "ko": "사진을 보지 않고도 라벨을 맞힐 수 있나?"}[language]
    assert say in made
    assert str(root) not in made


def test_without_pictures_names_alone_are_judged(root: Path, engine: Engine) -> None:
    with answered(host_of(engine, None), question(root, folder=None), None) as answer:
        made = shown_html(Words("en"), answer.audit, ())
    assert answer.called == ""
    assert "<img" not in made
    assert "<mark>good</mark>" in made


def test_file_names_and_labels_are_text_wherever_they_stand(tmp_path: Path, engine: Engine) -> None:
    rows = ["image,label,pred,split"]
    for i in range(40):
        label = "<b>x" if i % 2 else "<i>y"
        rows.append(f"<script>{label}{i:02d}.png,{label},{label},{'test' if i % 4 < 2 else 'train'}")
    (tmp_path / "told.csv").write_text("\n".join(rows))
    with answered(host_of(engine, None), question(tmp_path, folder=None), None) as answer:
        made = shown_html(Words("en"), answer.audit, ())
    inner = made.partition("</style>")[2]
    assert "<script>" not in inner
    assert "<b>x" not in inner
    assert "&lt;b&gt;x" in inner


def test_a_requirement_is_answered(root: Path, engine: Engine) -> None:
    asked = question(root, required=("accuracy>=0.10", "accuracy>=0.999"))
    with answered(host_of(engine, root), asked, None) as answer:
        made = shown_html(Words("en"), answer.audit, asked.gates)
    assert len(re.findall(r'<p class="(?:stands|falls)">accuracy', made)) == 2
    with (
        pytest.raises(BadRequest, match="--require"),
        answered(host_of(engine, root), question(root, required=("rubbish",)), None),
    ):
        pass


# The commands


def test_the_commands_give_the_same_verdict(root: Path, engine: Engine, tmp_path: Path) -> None:
    (root / "groups.csv").write_text(
        "image,group\n" + "\n".join(f"{one.name},{int(one.stem[-4:]) // 10}" for one in (root / "line").iterdir())
    )
    asked = question(root, claimed=0.95, tried=3, margin=0.05, seed=2, groups=str(root / "groups.csv"))
    with answered(host_of(engine, root), asked, None) as answer:
        told = json.loads(json.dumps(verdict(answer.audit, asked.gates)))
        called = answer.called
    assert called == f"{root.name}/line"
    place = tmp_path / "here"
    place.mkdir()
    (place / root.name).symlink_to(root)
    for name in ("told.csv", "groups.csv"):
        (place / name).symlink_to(root / name)
    with contextlib.chdir(place):
        fine(*shlex.split(commands.shell(asked, called, "ko"))[1:])
        assert json.loads((place / "verdict.json").read_text(encoding="utf-8")) == told
        (place / "verdict.json").unlink()
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(commands.python(asked, called), "copied", "exec"), {})
        assert json.loads((place / "verdict.json").read_text(encoding="utf-8")) == told


# Through the page


def test_a_program_can_ask_for_an_audit(page: Shown, root: Path, tmp_path: Path) -> None:
    client = Client(f"{page.address}en/", verbose=False, download_files=str(tmp_path))
    said, file, shell, python = _asked(client, root / "told.csv", folder="line")
    assert "Near-copies across the split" in said
    assert json.loads(Path(_path(file)).read_text(encoding="utf-8"))["format"] == "anmok.audit/1"
    assert shell.startswith(f"anmok audit {root.name}/line told.csv")
    assert "write_verdict" in python
    folded = zip_of(root / "line", tmp_path / "line.zip")
    again, *_ = _asked(client, root / "told.csv", zipped=folded)
    # Pairs of equal likeness may change places.
    assert sorted(re.findall("<bdi>.*?</bdi>", again)) == sorted(re.findall("<bdi>.*?</bdi>", said))


def test_what_is_wrong_is_one_line(page: Shown, root: Path, tmp_path: Path) -> None:
    client = Client(f"{page.address}ko/", verbose=False, download_files=str(tmp_path))
    for named in ({"folder": "../.."}, {"zipped": root / "told.csv"}):
        with pytest.raises(Exception, match=r"요청을|데이터를|zip") as failed:
            _asked(client, root / "told.csv", **named)
        assert str(root) not in str(failed.value)


def test_eight_visitors_get_their_own(page: Shown, tmp_path: Path) -> None:
    def visit(number: int) -> tuple[int, int]:
        place = tmp_path / str(number)
        folder = line(place, images=30 + 6 * number, seed=number)
        packed = zip_of(folder, place / f"set{number}.zip")
        client = Client(f"{page.address}en/", verbose=False, download_files=str(place / "got"))
        _, file, shell, _ = _asked(client, place / "told.csv", zipped=packed)
        assert f"set{number}" in shell
        found = json.loads(Path(_path(file)).read_text(encoding="utf-8"))
        return number, found["data"]["images"]

    with ThreadPoolExecutor(8) as pool:
        assert dict(pool.map(visit, range(8))) == {number: 30 + 6 * number for number in range(8)}
    assert not list((uploads() / "opened").iterdir())


def _asked(client: Client, told: Path, folder: str = "", zipped: Path | None = None) -> Any:
    return client.predict(
        handle_file(str(told)),
        folder,
        None if zipped is None else handle_file(str(zipped)),
        None,
        1,
        3,
        "",
        "",
        None,
        0,
        api_name="/audit_go",
    )


def _path(file: Any) -> str:
    return str(file["value"] if isinstance(file, dict) else file)
