"""Weights in shards, and files that some repositories lack: on the hub of ``test_weights_hub`` and in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import test_weights_hub
from anmok.catalogue.sources import LICENCES, FolderSource, HubSource, needs
from anmok.errors import BadData, BadWeights, WeightsUnavailable
from anmok.weights import fetch, is_fetched, shards
from test_weights_hub import NEW, OLD, Hub, closed_port, locked, point

hub, place = test_weights_hub.hub, test_weights_hub.place  # fixtures
MIT = LICENCES["mit"]
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SOURCE = HubSource("owner/net", ("config.json", "model.safetensors", "chat_template.jinja?"))


def index(*names: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {f"layer.{i}": name for i, name in enumerate(names)}}).encode()


def sharded() -> dict[str, bytes]:
    return {"config.json": b"{}", INDEX: index(SECOND, FIRST, FIRST), FIRST: b"one", SECOND: b"two"}


@pytest.fixture(autouse=True)
def repository(hub: Hub) -> dict[str, bytes]:
    hub.commits[OLD] = sharded()
    return hub.commits[OLD]


def fetched(names: list[str], source: HubSource = SOURCE) -> dict[str, bytes]:
    found = fetch(source, licence=MIT)
    assert list(found) == names
    return {name: path.read_bytes() for name, path in found.items()}


def test_an_index_and_its_shards_stand_for_the_weights(place: Path, hub: Hub) -> None:
    assert not is_fetched(SOURCE)
    seen: list[tuple[str, int, int]] = []
    found = fetch(SOURCE, licence=MIT, progress=lambda *step: seen.append(step))
    assert {name: path.read_bytes() for name, path in found.items()} == sharded()
    assert list(found) == ["config.json", INDEX, FIRST, SECOND]
    assert {path.parent for path in found.values()} == {found["config.json"].parent}
    assert {(FIRST, 3, 3), (SECOND, 3, 3)} <= set(seen)
    entries = locked(place)["entries"]
    assert isinstance(entries, dict)
    assert sorted(entries) == sorted(sharded())
    assert is_fetched(SOURCE)
    hub.asked.clear()
    assert fetch(SOURCE, licence=MIT) == found
    assert hub.asked == []


def test_weights_in_one_file_are_preferred(repository: dict[str, bytes]) -> None:
    repository["model.safetensors"] = b"whole"
    assert fetched(["config.json", "model.safetensors"])["model.safetensors"] == b"whole"


def test_a_repository_with_neither_is_an_error(repository: dict[str, bytes], place: Path) -> None:
    del repository[INDEX]
    with pytest.raises(WeightsUnavailable, match=r"has no model\.safetensors at the wanted revision"):
        fetch(SOURCE, licence=MIT)
    assert not (place / "anmok" / "locks").exists()


def test_no_other_file_may_come_in_shards(repository: dict[str, bytes]) -> None:
    repository["adapter.safetensors.index.json"] = index(FIRST)
    with pytest.raises(WeightsUnavailable, match=r"has no adapter\.safetensors"):
        fetch(HubSource("owner/net", ("adapter.safetensors",)), licence=MIT)


def test_a_shard_that_is_missing_is_an_error(repository: dict[str, bytes], place: Path) -> None:
    del repository[SECOND]
    with pytest.raises(WeightsUnavailable, match=f"has no {SECOND}, which its {INDEX} names"):
        fetch(SOURCE, licence=MIT)
    assert not is_fetched(SOURCE)
    assert not (place / "anmok" / "locks").exists()


def test_a_pull_that_broke_off_goes_on_with_what_it_has(repository: dict[str, bytes], hub: Hub) -> None:
    del repository[SECOND]
    with pytest.raises(WeightsUnavailable):
        fetch(SOURCE, licence=MIT)
    repository[SECOND] = b"two"
    hub.asked.clear()
    assert fetched(["config.json", INDEX, FIRST, SECOND])[SECOND] == b"two"
    gets = [line.rsplit("/", 1)[1] for line in hub.asked if line.startswith("GET")]
    assert gets == [SECOND]


def test_shards_of_two_commits_are_never_mixed(hub: Hub) -> None:
    fetch(HubSource("owner/net", (FIRST,)), licence=MIT)
    hub.commits[NEW] = {**sharded(), FIRST: b"new one", SECOND: b"new two"}
    hub.main = NEW
    source = HubSource("owner/net", ("model.safetensors", "config.json"), NEW)
    assert fetched([INDEX, FIRST, SECOND, "config.json"], source)[FIRST] == b"new one"


def test_a_changed_shard_is_not_the_locked_one() -> None:
    fetch(SOURCE, licence=MIT)[SECOND].resolve().write_bytes(b"2")
    with pytest.raises(BadWeights, match="not the file of the first pull"):
        fetch(SOURCE, licence=MIT)


@pytest.mark.parametrize(
    "name",
    [
        "../up.safetensors",
        "sub/a.safetensors",
        "/a.safetensors",
        "a.bin",
        ".safetensors",
        "a\\b.safetensors",
        "",
        1,
        {},
    ],
)
def test_an_index_names_plain_files_beside_it(repository: dict[str, bytes], hub: Hub, name: object) -> None:
    repository[INDEX] = json.dumps({"weight_map": {"a": FIRST, "b": name}}).encode()
    with pytest.raises(BadWeights) as caught:
        fetch(SOURCE, licence=MIT)
    assert INDEX in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(FIRST in line for line in hub.asked)
    assert not is_fetched(SOURCE)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b"\xff", b"[" * 10**5]
)
def test_an_index_that_is_none_is_refused(repository: dict[str, bytes], content: bytes) -> None:
    repository[INDEX] = content
    with pytest.raises(BadWeights) as caught:
        fetch(SOURCE, licence=MIT)
    assert INDEX in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_index_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / INDEX
    many = [f"model-{i:05}.safetensors" for i in range(1001)]
    file.write_bytes(index(*many))
    with pytest.raises(BadWeights, match="names 1001 shards; want 1 to 1000"):
        shards.shards_of(file)
    file.write_bytes(index(*many[:1000]))
    assert shards.shards_of(file) == tuple(many[:1000])
    monkeypatch.setattr(shards, "_MOST_BYTES", file.stat().st_size - 1)
    with pytest.raises(BadWeights, match="an index of shards has at most"):
        shards.shards_of(file)


def test_a_file_that_may_lack_comes_where_it_is(repository: dict[str, bytes]) -> None:
    repository["chat_template.jinja"] = b"{{ x }}"
    found = fetched(["config.json", INDEX, FIRST, SECOND, "chat_template.jinja"])
    assert found["chat_template.jinja"] == b"{{ x }}"


def test_that_a_file_lacks_is_asked_once_and_kept_with_the_hubs_cache(
    place: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetch(SOURCE, licence=MIT)
    asked = [line for line in hub.asked if "chat_template" in line]
    assert asked == [f"HEAD /owner/net/resolve/{OLD}/chat_template.jinja"]
    (place / "anmok" / "locks" / "owner--net.json").unlink()  # a copy of the hub's cache alone
    point(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    assert list(fetch(SOURCE, licence=MIT)) == ["config.json", INDEX, FIRST, SECOND]
    assert is_fetched(SOURCE)


def test_a_dead_network_is_no_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = HubSource("owner/net", ("config.json", "model.safetensors"))
    fetch(whole, licence=MIT)
    assert is_fetched(whole)
    assert not is_fetched(SOURCE)
    hub.refusal = (503, "")
    with pytest.raises(WeightsUnavailable, match="answers 503"):
        fetch(SOURCE, licence=MIT)
    point(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(
        WeightsUnavailable, match=r"chat_template\.jinja is not on this machine and .* cannot be reached"
    ):
        fetch(SOURCE, licence=MIT)


def test_a_locked_file_cannot_go_missing(repository: dict[str, bytes]) -> None:
    repository["chat_template.jinja"] = b"{{ x }}"
    fetch(SOURCE, licence=MIT)["chat_template.jinja"].unlink()
    del repository["chat_template.jinja"]
    with pytest.raises(WeightsUnavailable, match=r"has no chat_template\.jinja at the wanted revision"):
        fetch(SOURCE, licence=MIT)


def test_a_mark_at_a_name_says_that_it_may_lack() -> None:
    assert needs(("a.json", "b.json?")) == {"a.json": True, "b.json": False}
    assert SOURCE.every_file == ("config.json", "model.safetensors", "chat_template.jinja")
    for files in (("a.json", "a.json?"), ("a.json?",), ("?",), ("a.json", "../b.json?")):
        with pytest.raises(BadData):
            HubSource("owner/net", files)
    with pytest.raises(BadWeights, match="may run code"):
        fetch(HubSource("owner/net", ("config.json", "model.py?")), licence=MIT)


def test_a_folder_may_hold_shards_and_lack_files(tmp_path: Path) -> None:
    for name, content in sharded().items():
        (tmp_path / name).write_bytes(content)
    source = FolderSource(str(tmp_path), SOURCE.files)
    assert set(fetch(source, licence=MIT)) == set(sharded())
    (tmp_path / SECOND).unlink()
    with pytest.raises(WeightsUnavailable, match=f"holds no {SECOND}, which {INDEX} names"):
        fetch(source, licence=MIT)
    (tmp_path / INDEX).unlink()
    with pytest.raises(WeightsUnavailable, match=r"holds no model\.safetensors"):
        fetch(source, licence=MIT)
    (tmp_path / "model.safetensors").write_bytes(b"whole")
    assert "model.safetensors" in fetch(source, licence=MIT)
    with pytest.raises(BadWeights, match="may run code"):
        fetch(FolderSource(str(tmp_path), ("model.py?",)), licence=MIT)
