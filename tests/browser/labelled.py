"""The page over a folder, in this process or as a program that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from anmok.server.app import Server, build
from anmok.server.running import listening, serve
from anmok.server.settings import Settings
from anmok.ui import Host, mount
from serving import FAKES, Running, running


@contextlib.contextmanager
def labelled(root: Path, changed: Callable[[Host], Host] = lambda host: host, path: str = "/ui") -> Iterator[Running]:
    """A server of this process with the fakes, and the page at ``path``."""
    with running() as found:
        assert found.server is not None
        mount(found.server.api, changed(host_of(found.server, root, found.port)), path)
        yield found


def host_of(server: Server, root: Path, port: int) -> Host:
    models = {name: one.card for name, one in server.desk.models.items()}
    return Host(server.desk.engine, models, root=root, address=f"http://127.0.0.1:{port}")


def main() -> None:
    """The same as a program, which can be killed: ``python -m browser.labelled PORT FOLDER``."""
    port, root = int(sys.argv[1]), Path(sys.argv[2])
    server = build(Settings(models=FAKES, port=port))
    mount(server.api, host_of(server, root, port), "/ui")
    with listening("127.0.0.1", port) as socket:
        print("listening", flush=True)
        asyncio.run(serve(server, socket))


if __name__ == "__main__":
    main()
