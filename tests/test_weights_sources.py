"""What a catalogue row may say of its source, the licence gate, the cache folder and user folders."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from anmok.catalogue.sources import LICENCES, FolderSource, HubSource, NoSource, PackageFile, PackageSource, suffix
from anmok.errors import BadData, BadWeights, LicenceRequired, WeightsUnavailable
from anmok.weights import accepted, cache_dir, fetch, is_fetched, require_licence
from anmok.weights.cache import Entry, Record, measure, read_record, recheck, sweep, write_record

FREE, ELPV = LICENCES["apache-2.0"], LICENCES["elpv"]
DIGEST = "0" * 64


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../b", "a//b", "a\\b", "C:/a", "./a", "a/", "", "a\0b"])
def test_paths_that_leave_their_folder_are_refused(path: str) -> None:
    with pytest.raises(BadData):
        PackageFile(path, "name", DIGEST)
    with pytest.raises(BadData):
        PackageFile("a/b", path, DIGEST)
    with pytest.raises(BadData):
        HubSource("owner/name", (path,))


@pytest.mark.parametrize("name", ["-r", "https://x", "a b", "a[extra]", "a @ b", "", "a;b"])
def test_nothing_reaches_pip_that_is_not_a_plain_name(name: str) -> None:
    file = PackageFile("a", "a", DIGEST)
    with pytest.raises(BadData, match="not the name and version"):
        PackageSource(name, "1.0", (file,))
    with pytest.raises(BadData, match="not the name and version"):
        PackageSource("good-name", name, (file,))


def test_every_file_of_a_package_is_pinned() -> None:
    with pytest.raises(BadData, match=r"nothing pins data/\*\*"):
        PackageSource("name", "1.0", (PackageFile("data/**", "images"),))
    with pytest.raises(BadData, match=r"nothing pins a\.csv"):
        PackageSource("name", "1.0", (PackageFile("a.csv", "a.csv"),))
    with pytest.raises(BadData, match="64 hexadecimal"):
        PackageFile("a.csv", "a.csv", "abc")
    with pytest.raises(BadData, match="64 hexadecimal"):
        PackageSource("name", "1.0", (PackageFile("a.csv", "a.csv"),), wheel_sha256="ABC")
    good = PackageSource("name", "1.0.post1", (PackageFile("data/**", "images"),), wheel_sha256=DIGEST)
    assert good.files[0].is_folder
    assert good.files[0].folder == "data/"
    assert good.revision_key == "1.0.post1"


def test_two_files_of_one_name_are_refused() -> None:
    twice = (PackageFile("a/x", "x", DIGEST), PackageFile("b/x", "x", DIGEST))
    with pytest.raises(BadData, match="its own name"):
        PackageSource("name", "1.0", twice)
    with pytest.raises(BadData, match="its own name"):
        PackageSource("name", "1.0", ())


@pytest.mark.parametrize("repo", ["name", "a/b/c", "../x", "a/..", "a/b--c", "-a/b", "a/b.", "a b/c", "a/b\n"])
def test_a_hub_repository_is_owner_and_name(repo: str) -> None:
    with pytest.raises(BadData, match="want owner/name"):
        HubSource(repo, ("model.safetensors",))


def test_a_hub_revision_is_a_commit_or_not() -> None:
    assert HubSource("a/b", ("x.json",), "0123456789" * 4).is_commit
    assert not HubSource("a/b", ("x.json",), "refs/pr/1").is_commit
    assert not HubSource("a/b", ("x.json",)).is_commit
    for revision in ("../up", "a b", "main?x"):
        with pytest.raises(BadData, match="not a commit"):
            HubSource("a/b", ("x.json",), revision)
    with pytest.raises(BadData, match="one or more files"):
        HubSource("a/b", ())


def test_a_repository_beside_another_has_other_files() -> None:
    beside = HubSource("c/d", ("tokenizer.json",))
    assert HubSource("a/b", ("config.json",), beside=beside).every_file == ("config.json", "tokenizer.json")
    with pytest.raises(BadData, match="have one name"):
        HubSource("a/b", ("config.json", "tokenizer.json"), beside=beside)


def test_a_suffix_is_what_says_the_kind() -> None:
    assert [suffix(one) for one in ("a/B.SafeTensors", "x.mf.gz", "x.tar.gz", "x.gz", "x")] == [
        ".safetensors",
        ".mf.gz",
        ".gz",
        ".gz",
        "",
    ]


def test_licences_name_themselves_and_restricted_ones_are_asked_for() -> None:
    assert all(key == licence.id for key, licence in LICENCES.items())
    asked = {key for key, licence in LICENCES.items() if not licence.is_accepted_by_default}
    assert {"elpv", "cc-by-nc-4.0", "unknown"} <= asked
    assert asked.isdisjoint({"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"})


def test_the_gate_names_terms_flag_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANMOK_ACCEPT_LICENCES", raising=False)
    require_licence(FREE)
    with pytest.raises(LicenceRequired) as caught:
        require_licence(ELPV, accept=("apache-2.0", "elp"))
    message = str(caught.value)
    assert "non-commercial" in message
    assert "https://creativecommons.org/licenses/by-nc-sa/4.0/" in message
    assert "--accept-licence elpv" in message
    assert "ANMOK_ACCEPT_LICENCES=elpv" in message
    assert "\n" not in message
    require_licence(ELPV, accept=("elpv",))


def test_the_environment_accepts_too_and_a_bare_string_is_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_ACCEPT_LICENCES", " elpv , ,sam")
    assert accepted(("dinov3",)) == {"elpv", "sam", "dinov3"}
    assert accepted("gemma") == {"elpv", "sam", "gemma"}
    require_licence(ELPV)
    monkeypatch.delenv("ANMOK_ACCEPT_LICENCES")
    assert accepted() == frozenset()


def test_the_gate_stands_before_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANMOK_ACCEPT_LICENCES", raising=False)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(LicenceRequired):
        fetch(FolderSource(str(tmp_path)), licence=ELPV)
    assert list(tmp_path.iterdir()) == [tmp_path / "model.safetensors"]  # nothing about consent is stored


def test_the_cache_folder_is_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("ANMOK_CACHE", "~/mine")
    assert cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("ANMOK_CACHE")
    assert cache_dir().name.lower() in ("anmok", "cache")
    assert cache_dir().is_absolute()


def test_nothing_to_fetch_is_an_empty_mapping() -> None:
    assert fetch(NoSource(), licence=FREE) == {}
    assert is_fetched(NoSource())


def test_a_folder_gives_its_safe_files(tmp_path: Path) -> None:
    for name in ("model.safetensors", "sub/config.json", "pytorch_model.bin", ".git/config.json", "net.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = FolderSource(str(tmp_path), ("sub/config.json",))
    found = fetch(source, licence=FREE)
    assert found == {name: tmp_path / name for name in ("model.safetensors", "sub/config.json")}
    assert is_fetched(source)


def test_a_folder_that_lacks_something_says_what(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="is no folder"):
        fetch(FolderSource(str(tmp_path / "absent")), licence=FREE)
    assert not is_fetched(FolderSource(str(tmp_path / "absent")))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(BadWeights, match="no weights of a safe kind"):
        fetch(FolderSource(str(tmp_path)), licence=FREE)
    with pytest.raises(WeightsUnavailable, match=r"holds no model\.safetensors"):
        fetch(FolderSource(str(tmp_path), ("model.safetensors",)), licence=FREE)
    with pytest.raises(BadWeights, match="may run code"):
        fetch(FolderSource(str(tmp_path), ("pytorch_model.bin",)), licence=FREE)


def test_a_file_is_read_again_only_when_its_time_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"anmok")
    entry = measure(file)
    assert entry.size == 5
    assert entry.sha256 == "80d3877e3d6ce0c668d5d7172bafa21420857dd8e9169dc33a5c8090d9229aeb"
    assert recheck(file, entry) is entry
    os.utime(file, ns=(1, 1))
    assert recheck(file, entry) == Entry(5, entry.sha256, 1)
    file.write_bytes(b"AnmoK")
    with pytest.raises(BadWeights, match="not the recorded"):
        recheck(file, entry)
    file.write_bytes(b"anmok!")
    with pytest.raises(BadWeights, match="has 6 bytes, not the recorded 5"):
        recheck(file, entry)
    file.unlink()
    with pytest.raises(BadWeights, match="is gone"):
        recheck(file, entry)


def test_a_record_comes_back_as_it_was_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert read_record(file) is None
    record = Record("owner/name", "abc", {"a/b.json": Entry(3, DIGEST, 5)})
    write_record(file, record)
    assert read_record(file) == record
    for content in ("", "[]", '{"origin": "x"}', '{"origin":"x","revision":"y","entries":{"a":{"size":1}}}'):
        file.write_text(content)
        with pytest.raises(BadWeights, match="delete it and pull again"):
            read_record(file)


def test_only_old_leftovers_are_swept(tmp_path: Path) -> None:
    old, new, kept = tmp_path / ".pip-a.part", tmp_path / ".b.123.part.json", tmp_path / "model.part"
    old.mkdir()
    (old / "half.whl").write_bytes(b"x")
    new.write_text("x")
    kept.write_text("x")
    four_days_ago = time.time() - 4 * 24 * 3600
    os.utime(old, (four_days_ago, four_days_ago))
    os.utime(kept, (four_days_ago, four_days_ago))
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.123.part.json", "model.part"]
