"""``serve.toml`` and what goes wrong in it: one line that names the file, the place and the remedy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from anmok.errors import BadData, BadRequest, UnknownModel
from anmok.server.settings import Key, Served, Settings, changed, read_settings, size_in_bytes

DIGEST = hashlib.sha256(b"a key of sixteen letters").hexdigest()
KEY = f'[[key]]\nname = "a"\nsha256 = "{DIGEST}"\n'
MODEL = '[[model]]\nname = "fake"\n'
WHOLE = f"""
host = "0.0.0.0"
port = 8080
control_port = 8081
hosts = ["parts.factory", "[2001:db8::1]"]
origins = ["https://app.example", "http://[::1]:3000"]
memory = "12GB"
device = "cpu"
dtype = "bfloat16"
workers = "process"
worker_memory = "2GiB"
accept_licences = ["elpv"]
allow_urls = true
lazy = true
wait_for_load = false
flight = 1000
body_seconds = 2
drain_seconds = 0
logs = "json"
[limits]
batch_items = 8
wait_share = 0.5
[intake]
items = 4
[[model]]
name = "fake"
as = "inspector"
pinned = true
priority = -3
share = 0.5
deadline = 2
group = "a"
[[key]]
name = "line-3"
sha256 = "{DIGEST}"
models = ["inspector"]
requests_per_minute = 600
priority = 5
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "serve.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_key_is_read(tmp_path: Path) -> None:
    found = read_settings(written(tmp_path, WHOLE))
    assert (found.host, found.port, found.control_port) == ("0.0.0.0", 8080, 8081)  # it is only read
    assert (found.memory_bytes, found.worker_bytes, found.flight_bytes) == (12 * 10**9, 2 * 2**30, 1000)
    assert (found.device, found.dtype, found.workers, found.logs) == ("cpu", "bfloat16", "process", "json")
    assert (found.allow_urls, found.is_lazy, found.wait_for_load) == (True, True, False)
    assert (found.body_seconds, found.drain_seconds) == (2.0, 0.0)
    assert (found.limits.batch_items, found.limits.wait_share, found.intake.items) == (8, 0.5, 4)
    assert found.models == (Served("fake", "inspector", True, -3, 0.5, 2.0, "a"),)
    assert found.keys == (Key("line-3", DIGEST, ("inspector",), 600, 5),)
    found.check_open()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml", "cannot be read as TOML (Expected '='"),
        ("port = 1\nport = 2", "cannot be read as TOML (Cannot overwrite a value"),
        ("lazzy = true", "unknown key 'lazzy'; did you mean 'lazy'?"),
        ("port = 99999", "port is 99999: want 0 to 65535"),
        ("port = -1", "port is -1: want 0 to 65535"),
        ("port = 3.5", "port: want a whole number, got a fraction"),
        ("port = true", "port: want a whole number, got true or false"),
        ('port = "80"', "port: want a whole number, got a text"),
        ("port = 8000\ncontrol_port = 8000", "the control port must be another one"),
        ("control_port = 70000", "control_port is 70000"),
        ("memory = true", "memory: want a whole number, got true or false"),
        ("memory = -5", "memory is -5: must be above 0"),
        ('memory = "0GB"', "memory is 0: must be above 0"),
        ('memory = "12 parsecs"', "memory '12 parsecs': want a size as 12GB"),
        ("worker_memory = -1", "worker_memory is -1: must not be negative"),
        ("flight = 0", "flight is 0: must be above 0"),
        ("drain_seconds = -1", "drain_seconds is -1: must not be negative"),
        ("drain_seconds = inf", "drain_seconds: want a finite number"),
        ("body_seconds = 0", "body_seconds is 0: must be above 0"),
        ("body_seconds = nan", "body_seconds: want a finite number"),
        ('host = ""', "host is empty"),
        ("host = 5", "host: want a text, got a number"),
        ('hosts = "a"', "hosts: want a list, got a text"),
        ('hosts = ["http://a"]', "hosts: 'http://a' is no host"),
        ('hosts = ["a:80"]', "hosts: 'a:80' is no host"),
        ('origins = ["*"]', "origins: '*' is no origin"),
        ('origins = ["app.example"]', "origins: 'app.example' is no origin"),
        ('origins = ["https://app.example/path"]', "is no origin"),
        ('dtype = "float8"', "dtype: want float32 or bfloat16"),
        ('workers = "fork"', "workers: want thread or process"),
        ('logs = "xml"', "logs: want text or json"),
        ('accept_licences = "mit"', "accept_licences: want a list, got a text"),
        ('model = "mini"', "model: write [[model]] above each"),
        ('[model]\nname = "fake"', "model: write [[model]] above each"),
        ("[[model]]\nname = 5", "model[0]: name is missing"),
        ('[[model]]\nas = "a"', "model[0]: name is missing"),
        (MODEL + "pined = true", "model[0]: unknown key 'pined'; did you mean 'pinned'?"),
        (MODEL + 'pinned = "yes"', "model[0].pinned: want true or false, got a text"),
        (MODEL + "priority = 11", "model fake: want priority in -10..10"),
        (MODEL + "priority = 0.5", "model[0].priority: want a whole number"),
        (MODEL + "share = 0", "model fake: want priority in -10..10 and share above 0"),
        (MODEL + "share = 1.5", "model fake: want priority in -10..10 and share above 0, up to 1"),
        (MODEL + "deadline = 0", "model fake: the deadline must be above 0 seconds"),
        (MODEL + 'as = "a b"', "model 'a b': a served name has letters"),
        (MODEL + 'as = ""', "model '': a served name has letters"),
        (MODEL + 'as = "../x"', "model '../x': a served name has letters"),
        (MODEL + MODEL, "two models are served as 'fake'; give one another name"),
        ('[[model]]\nname = "./gone"', "gone: holds no anmok.toml, so it is no adapter"),
        ("[limits]\nbatch_items = 0", "batch_items is 0: must be at least 1"),
        ("[limits]\nbatch_item = 3", "limits: unknown key 'batch_item'; did you mean 'batch_items'?"),
        ('[limits]\nbatch_items = "3"', "limits.batch_items: want a whole number, got a text"),
        ("limits = 3", "[limits]: want a table"),
        ("[intake]\nfetch = 3", "intake: unknown key 'fetch'"),
        ("[intake]\nitems = 0", "intake.items is 0: must be at least 1"),
        ("[intake]\nbody_bytes = -3", "intake.body_bytes is -3: must be at least 1"),
        ('[[key]]\nname = "a"', "key[0]: sha256 is missing"),
        (f'[[key]]\nsha256 = "{DIGEST}"', "key[0]: name is missing"),
        ('[[key]]\nname = "a"\nsha256 = "abc"', "key a: sha256 must be 64 hexadecimal digits, 0-9 and a-f"),
        (
            f'[[key]]\nname = "a"\nsha256 = "{DIGEST.upper()}"',
            "key a: sha256 must be 64 hexadecimal digits, 0-9 and a-f",
        ),
        (f'[[key]]\nname = ""\nsha256 = "{DIGEST}"', "key '': a key's name has letters"),
        (KEY + "models = []", "key[0].models: is empty; name some, or leave it out for all"),
        (KEY + 'models = "fake"', "key[0].models: want a list, got a text"),
        (KEY + "requests_per_minute = 0", "key a: requests_per_minute must be at least 1"),
        (KEY + "priority = 99", "key a: want priority in -10..10"),
        (KEY + 'secret = "x"', "key[0]: unknown key 'secret'"),
        (KEY + KEY, "two keys are called 'a'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(BadData) as refused:
        read_settings(file)
    message = str(refused.value)
    assert message.startswith(f"{file}: ")
    assert said in message
    assert "\n" not in message


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read as TOML"):
        read_settings(tmp_path / "gone.toml")
    (tmp_path / "serve.toml").write_bytes(b"\xff")
    with pytest.raises(BadData, match="cannot be read as TOML"):
        read_settings(tmp_path / "serve.toml")


def test_a_model_without_a_card_is_told_its_neighbours(tmp_path: Path) -> None:
    [one] = read_settings(written(tmp_path, '[[model]]\nname = "minni"')).models
    with pytest.raises(UnknownModel, match="did you mean mini"):
        one.card  # noqa: B018


@pytest.mark.parametrize(("model", "remedy"), [("fakee", "did you mean 'fake'?"), ("zzz", "it has fake")])
def test_a_key_for_a_model_that_is_not_here(tmp_path: Path, model: str, remedy: str) -> None:
    found = read_settings(written(tmp_path, MODEL + KEY + f'models = ["{model}"]'))
    with pytest.raises(UnknownModel) as refused:
        found.check_open()
    assert str(refused.value) == f"key a: this server has no model called {model!r}; {remedy}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "127.0.0.2", "parts.factory"])
def test_whoever_is_open_to_others_needs_a_key(host: str) -> None:
    with pytest.raises(BadRequest, match="needs a key"):
        Settings(host=host).check_open()
    Settings(host=host, keys=(Key("a", DIGEST),)).check_open()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_alone_needs_none(host: str) -> None:
    Settings(host=host).check_open()


def test_flags_go_over_the_file_and_are_checked_like_it(tmp_path: Path) -> None:
    found = read_settings(written(tmp_path, WHOLE))
    over = changed(found, {"port": 9, "memory": "1KB", "lazy": False}, found.limits, found.keys)
    assert (over.port, over.memory_bytes, over.is_lazy, over.host) == (9, 1000, False, "0.0.0.0")
    with pytest.raises(BadRequest, match="port is 65536"):
        changed(found, {"port": 65536}, found.limits, found.keys)


@pytest.mark.parametrize(
    ("text", "size"), [("12GB", 12 * 10**9), ("512MiB", 2**29), (" 1.5 kb ", 1500), ("7", 7), ("2GiB", 2**31)]
)
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text, "memory") == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "1 TB", "1GB2", "nan", "１GB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(BadRequest, match="want a size as"):
        size_in_bytes(text, "memory")


def test_only_the_digest_of_a_key_is_kept() -> None:
    one = Key.of("a key of sixteen letters\n")  # as a file has it that was read into a variable
    assert one.sha256 == DIGEST
    assert "sixteen" not in repr(one)
    with pytest.raises(BadRequest, match="at least 16 characters"):
        Key.of("short" + " " * 20)
