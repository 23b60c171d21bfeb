"""``anmok doctor``: each finding with its remedy. Nothing is changed and nothing is sent but one HEAD request."""

from __future__ import annotations

import os
import platform
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from anmok import catalogue
from anmok.cli.outputs import check_folder
from anmok.draw import hangul_font
from anmok.errors import CannotWrite
from anmok.weights import accepted, cache_dir, is_fetched

PACKAGES = {
    "torch": "pip install torch",
    "scikit-learn": "pip install scikit-learn",
    "tokenizers": "pip install tokenizers",
    "transformers": "for every model but mini: pip install 'anmok[models]'",
    "datasets": "for hf: data sets: pip install 'anmok[datasets]'",
    "av": "for clips: pip install 'anmok[video]'",
    "trimesh": "for clouds of points: pip install 'anmok[spatial]'",
}
_HUB_TIMEOUT = 3.0  # seconds
_ROOM = 2 * 1024**3  # bytes that a few models need


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    found: str
    is_ok: bool = True
    remedy: str = ""


def examine() -> list[Check]:
    """All checks, in the order in which they matter."""
    system = Check("system", f"Python {platform.python_version()} on {platform.platform()}")
    checks = [system, *(_package(name, remedy) for name, remedy in PACKAGES.items())]
    return [*checks, *_torchvision(), _devices(), _cache(), _mini(), _hub(), _licences(), _font()]


def _package(name: str, remedy: str) -> Check:
    try:
        return Check(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "not installed", False, remedy)


def _torchvision() -> list[Check]:
    """anmok does without it, but one that does not fit torch breaks transformers, whose models import it."""
    try:
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return []
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # what a build for another torch raises
        reason = " ".join(str(error).split())[:120]
        remedy = "not needed here: pip uninstall torchvision; or install the build that fits your torch"
        return [Check("torchvision", f"{version} does not load ({reason})", False, remedy)]
    return [Check("torchvision", version)]


def _devices() -> Check:
    try:
        import torch
    except ImportError:
        return Check("devices", "unknown without torch", False, PACKAGES["torch"])
    found = [f"CPU with {torch.get_num_threads()} threads"]
    found += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("Apple GPU (mps)")
    return Check("devices", ", ".join(found))


def _cache() -> Check:
    folder = cache_dir()
    try:
        check_folder(folder)
    except CannotWrite as error:
        return Check("cache", str(error), False, "set ANMOK_CACHE to a folder of yours")
    standing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(standing).free
    found = f"{folder} ({free / 1e9:.0f} GB free)"
    if free < _ROOM:
        return Check("cache", found, False, "nearly full: free space there or set ANMOK_CACHE")
    return Check("cache", found)


def _mini() -> Check:
    is_here = all(is_fetched(catalogue.card(part).source) for part in catalogue.card("mini").parts.values())
    return Check(
        "mini",
        "its weights are here" if is_here else "not here yet",
        is_here,
        "" if is_here else "anmok pull mini",
    )


def _hub() -> Check:
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("hub", "offline, as HF_HUB_OFFLINE says")
    if not address.startswith(("http://", "https://")):
        return Check("hub", f"HF_ENDPOINT is {address!r}", False, "it must begin with https://")
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=_HUB_TIMEOUT)
    except urllib.error.HTTPError as error:
        return Check("hub", f"{address} answers ({error.code})")
    except OSError as error:
        reason = getattr(error, "reason", error)
        remedy = "`mini` works without it; or set HF_ENDPOINT to a mirror, or copy the cache from another machine"
        return Check("hub", f"{address} cannot be reached ({reason})", False, remedy)
    return Check("hub", f"{address} answers")


def _licences() -> Check:
    named = sorted(accepted())
    return Check("licences accepted", ", ".join(named) if named else "none beyond the open ones")


def _font() -> Check:
    path: Path | None = hangul_font()
    if path is None:
        return Check("Hangul font", "none found", False, "install Noto Sans CJK or Nanum Gothic, or set ANMOK_FONT")
    if not path.is_file():
        return Check("Hangul font", f"ANMOK_FONT is {path}, which is no file", False, "set it to a .ttf or .otf file")
    return Check("Hangul font", str(path))
