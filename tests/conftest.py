"""No test reaches the network or the user's cache, and tiny coloured pictures for all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image as pillow

COLOURS = {"red": (220, 30, 30), "green": (30, 190, 40), "blue": (40, 50, 220)}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

# Before anything of huggingface_hub or ours is imported: both read some of these once.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody listens there; the tests of the hub bring their own
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# httpx reads the authorities of the whole world for each client, in 30 ms; no test asks anybody they speak for.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
# Several workers with several threads each wait for one another: nets at toy size run four times longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in [name for name in os.environ if name.startswith("ANMOK_") and name != "ANMOK_TEST_DATA"]:
    if name != "ANMOK_CACHE":  # the tests marked `weights` find the weights there
        del os.environ[name]

# No property is judged by the clock: with Hypothesis's own deadline of 0.2 s, one that is kept waiting that long by
# other work fails, and is called flaky when it then passes. The same examples each time, and none kept: a change is
# judged by what it changed, not by another run's finds, and two workers share no folder. `pytest --hypothesis-profile
# searching` looks further.
settings.register_profile("searching", deadline=None, database=None)
settings.register_profile("repeatable", settings.get_profile("searching"), derandomize=True)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever opens a browser says so, and runs apart from the others."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Every socket that leaves this machine is refused, by name and by address."""
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"  # a Unix socket has a path
        if host not in _LOOPBACK:
            raise OSError(f"a test tried to reach {host}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    def guarded_resolve(host: Any, *rest: Any, **named: Any) -> Any:
        if host is not None and host not in _LOOPBACK:
            raise socket.gaierror(socket.EAI_NONAME, f"a test tried to look up {host}")
        return resolve(host, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_resolve)
        yield


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ANMOK_CACHE`` is a folder of this session, but for the tests that need the real weights."""
    if request.node.get_closest_marker("weights") is None:
        monkeypatch.setenv("ANMOK_CACHE", str(session_cache))


@pytest.fixture(autouse=True, scope="session")
def _no_cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nor does a test see the models that the developer has cards of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CARDS", str(tmp_path_factory.mktemp("cards")))
        yield


def coloured(colour: str, rng: np.random.Generator, size_hw: tuple[int, int] = (24, 28)) -> NDArray[np.uint8]:
    """Noise around a colour, (H, W, 3): no two alike, and a plain mean tells the class."""
    noise = rng.normal(0, 40, (*size_hw, 3))
    return np.clip(np.asarray(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)


def write_photos(root: Path, per_class: int, classes: tuple[str, ...] = ("red", "green", "blue")) -> Path:
    """``root/<class>/<random name>.png``: names that say nothing of class or order."""
    rng = np.random.default_rng(7)
    for colour in classes:
        (root / colour).mkdir(parents=True, exist_ok=True)
        for _ in range(per_class):
            name = f"{rng.integers(16**8):08x}.png"
            pillow.fromarray(coloured(colour, rng)).save(root / colour / name)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three colours with twelve pictures each; treat as read-only."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", 12)
