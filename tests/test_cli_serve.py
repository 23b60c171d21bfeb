"""``anmok serve`` where it does not get as far as serving: one line, and the exit code of the error's class."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from anmok.server.settings import Settings
from command_line import Ran, anmok, stand

SECRET = "a-secret-of-more-than-sixteen-letters"
OPEN = ("--host", "0.0.0.0")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand(tmp_path, monkeypatch)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What the command would run with."""
    found: list[Settings] = []
    monkeypatch.setattr("anmok.server.running.run", lambda settings, announce: found.append(settings))
    return found


def one_line(ran: Ran) -> str:
    [line] = ran.lines
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line


def test_a_port_that_is_taken(here: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        ran = anmok("serve", "fake", "--port", port)
    assert ran.code == 1
    assert one_line(ran) == (
        f"error: 127.0.0.1:{port} cannot be had (Address already in use); --port chooses another one"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("fake", *OPEN), 2, "--host 0.0.0.0 is open to others and needs a key"),
        (("fake", *OPEN, "--api-key", "short"), 2, "an API key needs at least 16 characters"),
        (("fake", "--port", "99999"), 2, "port is 99999: want 0 to 65535"),
        (("fake", "--memory", "much"), 2, "memory 'much': want a size"),
        (("fake", "--workers", "fork"), 2, "workers: want thread or process"),
        (("fake", "--dtype", "float8"), 2, "dtype: want float32 or bfloat16"),
        (("fake", "--allow-origin", "*"), 2, "origins: '*' is no origin"),
        (("fake", "--max-batch-size", "0"), 2, "batch_items is 0: must be at least 1"),
        ((), 2, "name the models to serve"),
        (("minni",), 4, "no model is called 'minni'; did you mean mini"),
        (("./gone",), 3, "./gone: holds no anmok.toml"),
        (("fake", "--config", "gone.toml"), 3, "gone.toml: cannot be read as TOML"),
        (("a=fake", "a=fake-sigmoid", "b c=fake"), 3, "model 'b c': a served name has letters"),
        (("fake", "--host", "300.1.1.1", "--api-key", SECRET), 1, "300.1.1.1:8000 cannot be had"),
    ],
)
def test_what_cannot_be_served(here: Path, words: tuple[str, ...], code: int, said: str) -> None:
    ran = anmok("serve", *words)
    assert (ran.code, said in one_line(ran)) == (code, True), ran.err
    assert SECRET not in ran.err


@pytest.mark.parametrize("name", ["ANMOK_API_KEY", "ANMOK_SERVE_API_KEY"])
def test_the_key_comes_from_the_environment(
    here: Path, served: list[Settings], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, SECRET)
    assert anmok("serve", "fake", *OPEN).code == 0
    [settings] = served
    assert [key.sha256 for key in settings.keys] == [hashlib.sha256(SECRET.encode()).hexdigest()]
    assert SECRET not in repr(settings)
    helped = anmok("serve", "--help")
    assert SECRET not in helped.out + helped.err
    assert "ANMOK_API_KEY" in helped.out


def test_other_flags_come_from_the_environment_as_well(
    here: Path, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"PORT": "8123", "MEMORY": "3GB", "ALLOW_URLS": "1", "LAZY": "true"}
    for name, value in values.items():
        monkeypatch.setenv(f"ANMOK_SERVE_{name}", value)
    assert anmok("serve", "fake").code == 0
    [settings] = served
    assert (settings.port, settings.memory_bytes) == (8123, 3 * 10**9)
    assert (settings.allow_urls, settings.is_lazy) == (True, True)


def test_a_flag_goes_before_the_file(here: Path, served: list[Settings]) -> None:
    (here / "serve.toml").write_text('port = 8123\nmemory = "3GB"\n[[model]]\nname = "fake"\n', encoding="utf-8")
    assert anmok("serve", "fake-places", "--config", "serve.toml", "--port", "9").code == 0
    [settings] = served
    assert (settings.port, settings.memory_bytes) == (9, 3 * 10**9)
    assert [one.name for one in settings.models] == ["fake", "fake-places"]


def test_a_model_that_cannot_be_loaded_at_the_start_ends_it(here: Path) -> None:
    """With the exit code of what went wrong; the hub of the tests is an address where nobody listens."""
    ran = anmok("serve", "fake", "siglip2-b16-256", "--port", "0")
    assert ran.code == 7
    assert [line for line in ran.lines if line.startswith("error: ")] == [ran.lines[-1]]
    assert "Traceback" not in ran.err
