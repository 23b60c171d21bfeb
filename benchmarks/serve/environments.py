"""A virtual environment for each peer, made once under ``.bench/`` in the checkout, which git passes over."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.serve.peers import ROOT, Peer

HOME = ROOT / ".bench"
_SECONDS = 900  # for one installation
_DONE = "installed.txt"


class NotInstalled(Exception):
    """A peer cannot be had; the message is the last line of what pip said."""


def home() -> Path:
    """The folder, which keeps itself out of git, linters and tests."""
    (HOME / "home").mkdir(parents=True, exist_ok=True)
    (HOME / ".gitignore").write_text("*\n", encoding="utf-8")
    return HOME


def interpreter(peer: Peer) -> Path:
    """The Python of the peer's environment, installed first where it is not there.

    Those that can run on our torch see our packages behind their own, so that the same torch works for all.

    Raises:
        NotInstalled: pip failed, or took too long.
    """
    if not peer.requirements:
        return Path(sys.executable)
    folder = home() / peer.name
    python = folder / "bin" / "python"
    if not (folder / _DONE).is_file():
        venv.create(folder, with_pip=True, clear=True)
        if peer.shares_torch:
            site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
            (site / "zz_ours.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        _install(peer, python)
        (folder / _DONE).write_text(versions(peer, python) + "\n", encoding="utf-8")
    return python


def versions(peer: Peer, python: Path) -> str:
    """``litserve 0.2.19, torch 2.13.0``: of the peer itself, and of what computes."""
    names = [peer.requirements[0].partition("[")[0].partition(">")[0]] if peer.requirements else []
    names += ["torch" if peer.name != "roboflow" else "onnxruntime"]
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, encoding="utf-8", check=True)
    return done.stdout.strip()


def _install(peer: Peer, python: Path) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", *peer.requirements]
    log = HOME / f"{peer.name}.pip.log"
    try:
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip had not finished after {_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("ERROR")]
        raise NotInstalled((lines or ["pip failed"])[-1])
